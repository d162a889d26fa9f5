package rehearsal

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
)

// drawnSettings are as many as are played in each mode, and with -full.
const drawnSettings, drawnSettingsFull = 6, 100

func draw[T any](r *rand.Rand, xs ...T) T { return xs[r.IntN(len(xs))] }

// drawnLoad is a load whose busy hours, weekends, noise and bursts are drawn, or a recorded one.
func drawnLoad(r *rand.Rand, recorded []namedTrace) Trace {
	if len(recorded) > 0 && r.IntN(3) == 0 {
		return draw(r, recorded...).trace
	}
	tr := Trace{Start: start, Step: credit.Period}
	busyFrom, busyHours, busy := r.IntN(24), draw(r, 1, 2, 3, 6, 8, 12, 16), draw(r, 1.0, 2, 4, 8, 20, 100)
	weekends, noise, bursts := draw(r, 1, 1, 0.2, 3), draw(r, 0, 0, 0.2, 0.6), draw(r, 0, 0, 0, 0.01, 0.03)
	burst := 0 // steps that are left of it
	for i := range draw(r, 5, 8, 12, 21) * 288 {
		v := math.Exp(noise * r.NormFloat64())
		if (i%288/12-busyFrom+24)%24 < busyHours {
			v *= busy
		}
		if weekend(i / 288) {
			v *= weekends
		}
		if burst > 0 {
			burst--
			v = 100
		} else if i%12 == 0 && r.Float64() < bursts {
			burst = r.IntN(24)
		}
		tr.Values = append(tr.Values, v)
	}
	return tr
}

// drawnJobs are up to six jobs, daily, weekly or each few hours, that need a part of what is spare a day and can be done in time on an idle
// instance. What they declare is right, nothing, half or twice.
func drawnJobs(t *testing.T, r *rand.Rand, o Options, perDay float64) (all []Job) {
	part, n := draw(r, 0.1, 0.4, 0.6, 0.9, 1, 1.5, 2.5), draw(r, 1, 1, 2, 3, 6)
	for k := range n {
		line, aDay := fmt.Sprintf("%d %d * * *", draw(r, 0, 7, 30), r.IntN(24)), 1.0
		switch r.IntN(5) {
		case 0:
			each := draw(r, 1, 2, 4)
			line, aDay = fmt.Sprintf("0 */%d * * *", each), 24/float64(each)
		case 1:
			line, aDay = fmt.Sprintf("0 %d * * %d", r.IntN(24), r.IntN(7)), 1.0/7
		}
		j := Job{Name: string(rune('a' + k)), Cores: draw(r, 0.5, 1, 2), Late: draw(r, gate.LateRun, gate.LateRun, gate.LateRefuse)}
		need := min(perDay*part/float64(n)/aDay, o.Spec.Max)
		alone := need / min(j.Cores, float64(o.Spec.VCPUs))
		most := time.Duration(24/max(aDay, 1)*60-5) * time.Minute
		within := min(max(draw[time.Duration](r, 2, 6, 8, 12, 23)*time.Hour, minutes(1.4*alone+8)), most)
		need = min(need, (within-5*time.Minute).Minutes()/1.3*min(j.Cores, float64(o.Spec.VCPUs)))
		spread, declared := draw(r, 0, 0, 0, 0.25, 0.5), draw(r, 1.0, 1, 1, 0, 0.5, 2)
		for _, at := range every(t, line, j, 0).Starts(o.Trace.Start, o.Trace.Start.Add(o.Length)) {
			all = append(all, once(share{j.Name, at, within, 0, j.Cores}, need*math.Exp(spread*r.NormFloat64()), need*declared, j.Late))
		}
	}
	return all
}

// drawn is a setting of which everything is drawn but the mode: type, load, balance, what CloudWatch and the meter miss, what
// may be billed, and jobs.
func drawn(t *testing.T, seed uint64, mode credit.Mode, recorded []namedTrace) Options {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 77))
	s := spec(t, draw(r, "t3.nano", "t3.micro", "t3.small", "t3.medium", "t3.large", "t3.2xlarge", "t4g.small", "t8i.micro", "t2.micro", "t2.xlarge"))
	o := Options{Spec: s, Mode: mode, Balance: s.Max * draw(r, 0.5, 0.5, 1), Guest: draw(r, 1, 1, 0.97, 1.03)}
	o.Trace = drawnLoad(r, recorded).scaled(s, draw(r, 0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9))
	o.Length = o.Trace.Length()
	o.Trace.Values = slices.Concat(o.Trace.Values, o.Trace.Values)
	if r.IntN(14) == 0 {
		o.Lost = func(n int) bool { h := n / 12 % 24; return h >= 20 || h < 8 }
	}
	if mode == credit.Unlimited && r.IntN(6) == 0 {
		o.Settings.SurplusLimit = draw(r, 5.0, 50, 500)
	}
	idle, o, err := withoutJobs(o)
	if err != nil {
		t.Fatal(err)
	}
	o.Jobs = drawnJobs(t, r, o, max(idle.sums.Account.Discarded, idle.sums.Account.Earned/10)/(o.Length.Hours()/24))
	return o
}

// TestTheGateInDrawnSettings plays settings that nobody chose. In sum the gate is better than cron and threshold.
func TestTheGateInDrawnSettings(t *testing.T) {
	policies := []Policy{Gate, Cron, Timeout, Threshold, Script}
	n := drawnSettings
	if *full {
		n = drawnSettingsFull
	}
	recorded, all := recordedTraces(t), map[Policy]float64{}
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "mode\tsettings\tlost\tcharged\tgate\tcron\ttimeout\tthreshold\tscript\t")
	for _, mode := range []credit.Mode{credit.Standard, credit.Unlimited} {
		lost, charged, sums := 0, 0.0, map[Policy]float64{}
		for seed := range uint64(n) {
			o := drawn(t, seed, mode, recorded)
			rep, err := Play(o, policies...)
			if err != nil {
				t.Fatal(err)
			}
			if rep.Needed == 0 {
				continue
			}
			for _, r := range rep.Results {
				// Sums are in shares of the jobs' credits, or the largest instance would decide.
				sums[r.Policy] += r.Score / rep.Needed
				all[r.Policy] += r.Score / rep.Needed
			}
			if over := resultOf(rep, Gate).ChargedForJobs - o.Settings.SurplusLimit; over > 0.05 {
				charged += over
				t.Logf("%s, seed %d: %.1f credits were charged that were not allowed", mode, seed, over)
			}
			if e := excess(rep); e > mostExcess {
				lost++
				t.Logf("%s, seed %d: worse than the better of cron and threshold by %.1f %% of the jobs' credits", mode, seed, 100*e)
			}
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%.0f\t", mode, n, lost, charged)
		for _, p := range policies {
			fmt.Fprintf(w, "%.2f\t", sums[p])
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	t.Logf("\n%s", out.String())
	if best := min(all[Cron], all[Threshold]); all[Gate] > best {
		t.Errorf("the gate's sum is %.2f, that of the better of cron and threshold %.2f", all[Gate], best)
	}
}
