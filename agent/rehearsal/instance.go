package rehearsal

import (
	"math"
	"slices"
	"sort"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
)

// instance is an instance with services and jobs, and what can be seen of it from outside.
type instance struct {
	o     Options
	tick  time.Duration
	start time.Time
	now   time.Time
	bank  credit.Bank
	runs  []Run
	next  int   // the first run that is not due yet
	due   []int // runs that are due, until the policy has seen their end

	sums      Result          // of services, jobs, steps and decisions
	throttled float64         // credits that the services wanted and did not get
	rates     []float64       // of due
	slowed    map[int]float64 // the most vCPUs of each run that the gate holds back
	cpu       credit.CPU

	balances, surpluses, usages []credit.Measure // CloudWatch's points
	usageSoFar                  float64
	lastPoint                   time.Time
	services                    []service // per tick, for the bound
	plot                        []Column
}

// service is what services wanted and what they were given, in credits.
type service struct{ wanted, given float64 }

func newInstance(o Options, runs []Run) *instance {
	b := credit.Open(o.Spec, o.Mode)
	b.Balance = o.Balance
	w := &instance{
		o: o, tick: o.tick(), start: o.Trace.Start, now: o.Trace.Start, bank: b, runs: runs,
		slowed: map[int]float64{}, cpu: credit.CPU{Known: true, Boot: "boot", Meter: "meter", Online: o.Spec.VCPUs},
	}
	w.point()
	return w
}

// play runs to the end. At every step start may start or refuse runs that are due.
func (w *instance) play(start func(*instance)) {
	end := w.start.Add(w.o.Length)
	for w.now.Before(end) {
		if w.o.Progress != nil {
			w.o.Progress(float64(w.now.Sub(w.start)) / float64(w.o.Length))
		}
		for w.next < len(w.runs) && !w.runs[w.next].Due.After(w.now) {
			w.due = append(w.due, w.next)
			w.next++
		}
		start(w)
		at := w.now.Sub(w.start)
		wanted := min(w.o.Trace.mean(at, at+w.tick)/100*w.o.TraceVCPUs, float64(w.o.Spec.VCPUs))
		w.work(wanted)
	}
}

// work lets a step pass in which the services want so many vCPUs.
func (w *instance) work(wanted float64) {
	var services, jobs float64 // credits
	lowest, before := math.Inf(1), w.throttled
	for left := w.tick; left > 0; {
		serviceRate, jobRate := w.share(wanted)
		dt := min(left, w.steady(serviceRate+jobRate))
		minutes := dt.Minutes()
		var a credit.Account
		w.bank, a = w.bank.Advance(dt, serviceRate+jobRate)
		w.sums.Account = w.sums.Account.Add(a)
		services += serviceRate * minutes
		jobs += jobRate * minutes
		w.throttled += (wanted - serviceRate) * minutes
		w.cpu.Steal += w.withheld(wanted, serviceRate+jobRate) * minutes
		w.now, left = w.now.Add(dt), left-dt
		lowest = min(lowest, w.bank.Position())
		w.spend(minutes)
	}
	w.note(lowest, jobs, w.throttled-before)
	w.sums.Services += services
	w.sums.Jobs += jobs
	w.usageSoFar += services + jobs
	w.cpu.Busy += (services + jobs) * w.o.Guest
	w.cpu.Batch += jobs * w.o.Guest
	w.services = append(w.services, service{wanted * w.tick.Minutes(), services})
	if w.now.Sub(w.lastPoint) >= credit.Period {
		w.point()
	}
	if m := w.tick.Minutes(); w.o.Steps {
		w.sums.Steps = append(w.sums.Steps, Step{At: w.now, Balance: w.bank.Position(), Services: services / m, Jobs: jobs / m})
	}
}

// share divides the processors: the services first, then the jobs in equal parts up to
// their cores. An empty bank gives no more than the baseline.
func (w *instance) share(wanted float64) (services, jobs float64) {
	services = wanted
	jobs = w.pour(float64(w.o.Spec.VCPUs) - wanted)
	base := w.o.Spec.Baseline()
	if w.bank.Mode == credit.Unlimited || w.bank.Position() > 1e-9 || services+jobs <= base {
		return services, jobs
	}
	services = min(wanted, base)
	return services, w.pour(base - services)
}

// withheld is what an empty bank keeps from services and jobs that want to run, in vCPUs: the guest counts it as steal.
func (w *instance) withheld(wanted, given float64) float64 {
	for _, i := range w.due {
		if w.runs[i].State == gate.Running {
			wanted += w.rate(i)
		}
	}
	return max(0, min(wanted, float64(w.o.Spec.VCPUs))-given)
}

// rate is the most vCPUs that a run may use at present.
func (w *instance) rate(run int) float64 {
	if most, slowed := w.slowed[run]; slowed {
		return min(most, w.runs[run].Cores)
	}
	return w.runs[run].Cores
}

// pour gives the running jobs their parts of what is free.
func (w *instance) pour(free float64) (given float64) {
	w.rates = w.rates[:0]
	unfilled := 0
	for _, i := range w.due {
		w.rates = append(w.rates, 0)
		if w.runs[i].State == gate.Running {
			unfilled++
		}
	}
	free = max(free, 0)
	// Until each has taken its whole part.
	for before := 0; unfilled > 0 && unfilled != before && free > 1e-12; {
		part := free / float64(unfilled)
		before, unfilled = unfilled, 0
		for k, i := range w.due {
			r := &w.runs[i]
			if r.State != gate.Running || w.rates[k] >= w.rate(i) {
				continue
			}
			add := min(part, w.rate(i)-w.rates[k])
			w.rates[k] += add
			given += add
			free -= add
			if w.rates[k] < w.rate(i) {
				unfilled++
			}
		}
	}
	return given
}

// steady is how long the present rates last: until a job ends or the bank is empty.
func (w *instance) steady(demand float64) time.Duration {
	minutes := math.Inf(1)
	for k, i := range w.due {
		if rate := w.rates[k]; rate > 0 {
			minutes = min(minutes, (w.runs[i].Need-w.runs[i].Spent)/rate)
		}
	}
	if net := demand - w.o.Spec.Baseline(); w.bank.Mode != credit.Unlimited && net > 0 {
		switch {
		case w.bank.Launch > 0:
			minutes = min(minutes, w.bank.Launch/demand)
		case w.bank.Balance > 0:
			minutes = min(minutes, w.bank.Balance/net)
		}
	}
	if minutes > 1e6 {
		return math.MaxInt64
	}
	return max(time.Duration(math.Ceil(minutes*float64(time.Minute))), time.Millisecond)
}

// spend adds what the jobs spent, and ends those that are done.
func (w *instance) spend(minutes float64) {
	for k, i := range w.due {
		r := &w.runs[i]
		if r.State != gate.Running {
			continue
		}
		r.Spent = min(r.Need, r.Spent+w.rates[k]*minutes)
		if r.Need-r.Spent < 1e-6 {
			r.State, r.Ended = gate.Done, w.now
			r.InTime = r.Deadline.IsZero() || !w.now.After(r.Deadline)
		}
	}
}

// dropEnded drops the runs whose end the policy has seen.
func (w *instance) dropEnded() {
	w.due = slices.DeleteFunc(w.due, func(i int) bool { return w.runs[i].State == gate.Done || w.runs[i].State == gate.Refused })
}

// point adds CloudWatch's points, as every five minutes.
func (w *instance) point() {
	from, spent := w.lastPoint, w.usageSoFar
	w.lastPoint, w.usageSoFar = w.now, 0
	if w.o.Lost != nil && w.o.Lost(int(w.now.Sub(w.start)/credit.Period)) {
		return
	}
	w.balances = append(w.balances, credit.Measure{At: w.now, Value: w.bank.Balance + w.bank.Launch})
	w.surpluses = append(w.surpluses, credit.Measure{At: w.now, Value: w.bank.Surplus})
	if !from.IsZero() {
		w.usages = append(w.usages, credit.Measure{At: from, Value: spent})
	}
}

// usageKept is how many points of CPUCreditUsage the meter reads at a time.
const usageKept = 12

// reading is what the meter would read now.
func (w *instance) reading() credit.Reading {
	r := credit.Reading{
		At: w.now, InstanceID: "i-rehearsal", Type: w.o.Spec.Type, StartedAt: w.start,
		Mode: w.o.Mode, ModeKnown: true, CPU: w.cpu,
	}
	seen := w.now.Add(-w.o.Lag)
	if n := sort.Search(len(w.balances), func(i int) bool { return w.balances[i].At.After(seen) }); n > 0 {
		r.Cloud.Balance = credit.Metric{Known: true, Measure: w.balances[n-1]}
		if w.o.Mode == credit.Unlimited {
			r.Cloud.Surplus = credit.Metric{Known: true, Measure: w.surpluses[n-1]}
		}
	}
	n := sort.Search(len(w.usages), func(i int) bool { return w.usages[i].At.Add(credit.Period).After(seen) })
	r.Cloud.Usage = w.usages[max(0, n-usageKept):n]
	return r
}

// result returns the sums. idle is the same instance without jobs, nil for that one itself.
func (w *instance) result(p Policy, idle *instance) Result {
	r := w.sums
	r.Plot = w.plot
	r.Policy, r.Runs, r.Account.Throttled, r.Throttled = p, append([]Run{}, w.runs...), w.throttled, 60*w.throttled
	r.ChargedDollars = w.o.Settings.For(w.o.Spec).Dollars(r.Account.Charged)
	var taken float64
	if idle != nil {
		taken = max(0, w.throttled-idle.throttled)
		r.ThrottledByJobs = 60 * taken
		r.ChargedForJobs = max(0, r.Account.Charged-idle.sums.Account.Charged)
	}
	for _, x := range w.runs {
		switch {
		case x.InTime:
			r.InTime++
			continue
		case x.State == gate.Refused:
			r.Refused++
		default:
			r.Late++
		}
		r.Missed += x.Need
	}
	r.Score = gate.ServicesWeight*(taken+r.ChargedForJobs) + r.Missed
	return r
}
