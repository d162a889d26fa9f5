package bench

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

// Hostile measures what one hostile family costs others, prints it, and returns an error that
// wraps ErrMissed if it costs more than it may.
func Hostile(ctx context.Context, o RoutesOptions) error {
	b := &bench{o: o}
	return b.measure(ctx, []part{{"a", "one hostile family beside fifty sites", (*bench).hostileFamily}})
}

const (
	othersSites   = 50
	othersEach    = 4           // requests a second to each
	hostileSlows  = time.Second // how much later another's change may be live
	hostileRounds = 2           // how often quiet and attack follow each other
)

// period is what was seen while the hostile family was quiet, or attacked.
type period struct {
	span                  time.Duration
	changes               spans
	agentCPU, nginxCPU    float64 // seconds
	agentMemory, nginxMem uint64  // the most, in bytes
	reloads, problems     int
	// slowest says during which attacks the slowest change was.
	slowest string
}

// String tells of CPU time and memory.
func (d period) String() string {
	const mib = 1 << 20
	return fmt.Sprintf("agent %.1f %% of a core, %d MiB; nginx %.1f %%, %d MiB; %.1f reloads a minute", 100*d.agentCPU/d.span.Seconds(), d.agentMemory/mib,
		100*d.nginxCPU/d.span.Seconds(), d.nginxMem/mib, float64(d.reloads)/d.span.Minutes())
}

func (d period) figures() map[string]float64 {
	return map[string]float64{
		"span": millis(d.span), "agent_cpu": 1000 * d.agentCPU, "nginx_cpu": 1000 * d.nginxCPU, "agent_memory": float64(d.agentMemory),
		"nginx_memory": float64(d.nginxMem), "reloads": float64(d.reloads), "problems": float64(d.problems),
	}
}

// hostileFamily lets one family do all that a family can do, beside fifty sites of others that are
// asked all the time and a site that is deployed and replaced.
func (b *bench) hostileFamily(ctx context.Context) (err error) {
	hosts := names("site%02d.test", othersSites)
	p, err := b.startStage(ctx, stage.Options{Hosts: append(slices.Clone(hosts), hostileHost), Config: "metrics: {listen: '127.0.0.1:9646'}\n"})
	if err != nil {
		return err
	}
	defer closeInto(p, &err)
	for i, h := range hosts {
		l := map[string]string{"nagaya.host": h}
		switch i % compositeEvery {
		case 1:
			l["com.docker.compose.project"], l["com.docker.compose.service"] = victimProject, siteName(i)
		case 2:
			l["com.amazonaws.ecs.task-definition-family"] = p.familyName(siteName(i))
		}
		if _, err := p.Run(ctx, p.named(siteName(i), l)); err != nil {
			return err
		}
	}
	if err := p.waitForRoutes(ctx, len(hosts)); err != nil {
		return err
	}
	var loads []*stage.Load
	for _, h := range hosts {
		l, err := p.StartLoad(ctx, h, othersEach)
		if err != nil {
			return err
		}
		defer l.Stop()
		loads = append(loads, l)
	}
	w := &hostileRun{p: p, all: attacks(p, hosts), hold: b.span(3*time.Second, time.Second)}
	var quiet, attack period
	for range hostileRounds {
		if err := w.measure(ctx, &quiet, b.span(time.Minute, 10*time.Second), false); err != nil {
			return err
		}
		if err := w.measure(ctx, &attack, b.span(4*time.Minute, 25*time.Second), true); err != nil {
			return err
		}
	}
	if err := p.waitForRoutes(ctx, len(hosts)); err != nil {
		return fmt.Errorf("after the attack: %w", err)
	}
	requests, failed, foreign, first := 0, 0, 0, ""
	for i, l := range loads {
		r := l.Stop()
		requests, failed = requests+r.Requests, failed+r.Failed
		for by, n := range r.By {
			if by != siteName(i) && by != "nobody" && by != "nginx" {
				foreign += n
				first = fmt.Sprintf(", the first: %s by %s", hosts[i], by)
			}
		}
		if r.First != "" && first == "" {
			first = fmt.Sprintf(", the first: %s: %s", hosts[i], r.First)
		}
	}
	b.addHostile(w, quiet, attack, requests, failed, foreign, first)
	return nil
}

// addHostile adds the rows.
func (b *bench) addHostile(w *hostileRun, quiet, attack period, requests, failed, foreign int, first string) {
	kinds := min(w.next, len(w.all))
	b.add(Row{
		What: fmt.Sprintf("%d sites asked %d times a second in all; one hostile family deployed %d times", othersSites, othersSites*othersEach, w.next),
		Got: fmt.Sprintf("%d of %d requests failed, %d answered by another's container%s; %d of %d kinds of attack, %d refused by Docker; at most %d problems",
			failed, requests, foreign, first, kinds, len(w.all), w.refused, attack.problems),
		Bound: "0 failed, 0 by another's; all kinds", Missed: failed+foreign > 0 || kinds < len(w.all),
		Figures: map[string]float64{"requests": float64(requests), "failed": float64(failed), "foreign": float64(foreign), "deployed": float64(w.next), "kinds": float64(kinds), "refused": float64(w.refused)},
	})
	slower := max(attack.changes.at(0.5)-quiet.changes.at(0.5), attack.changes.at(1)-quiet.changes.at(1))
	figures := attack.changes.figures()
	for k, v := range quiet.changes.figures() {
		figures["quiet_"+k] = v
	}
	b.add(Row{
		What: "one more site: docker start returned → first 200 of its first, then of its second container",
		Got: fmt.Sprintf("without the attack p50 %s, worst %s, %d changes; with it p50 %s, worst %s, %d changes", ms(quiet.changes.at(0.5)), ms(quiet.changes.at(1)), len(quiet.changes),
			ms(attack.changes.at(0.5)), ms(attack.changes.at(1)), len(attack.changes)) + "; the worst during: " + attack.slowest,
		Bound: "p50 and worst ≤ " + ms(hostileSlows) + " later", Missed: slower > hostileSlows || len(quiet.changes) == 0 || len(attack.changes) == 0, Figures: figures,
	})
	b.add(Row{What: "CPU time and most memory without the attack", Got: quiet.String(), Figures: quiet.figures()})
	b.add(Row{What: "CPU time and most memory with the attack", Got: attack.String(), Figures: attack.figures()})
}

// hostileRun is the hostile family and what is deployed beside it.
type hostileRun struct {
	p    *agentStage
	all  []attack
	hold time.Duration // how long a deployment is there
	// next is how many deployments there were, refused how many of them Docker did not take.
	next, refused  int
	now            atomic.Int64 // the one that is there, as next counts
	turns, changes int
}

// measure adds what is seen in that time, with the attack or without it.
func (w *hostileRun) measure(ctx context.Context, d *period, span time.Duration, attack bool) (err error) {
	p := w.p
	before, err := p.reloads(ctx)
	if err != nil {
		return err
	}
	agent, all, began := cpuWithChildren(p.AgentPID()), p.spent(), time.Now()
	round, end := context.WithCancel(ctx)
	if !attack {
		round, end = context.WithDeadline(ctx, began.Add(span))
	}
	var beside sync.WaitGroup
	defer beside.Wait()
	defer end()
	over := round.Done()
	if attack {
		attacked, done := context.WithCancel(ctx)
		over = attacked.Done()
		w.turns += (len(w.all) + 1) / hostileRounds
		beside.Go(func() {
			defer done()
			w.attack(round, began.Add(span))
		})
		beside.Go(func() { p.askRepeatedly(round, p.URL(hostileHost, "/", false)) })
	}
	beside.Go(func() { p.watchMemory(round, d) })
	for going := true; going; {
		if err := w.change(ctx, d); err != nil {
			return err
		}
		st, err := p.Board(ctx)
		if err != nil {
			return err
		}
		d.problems = max(d.problems, len(st.Problems))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over:
			going = false
		case <-time.After(2 * w.hold):
		}
	}
	end()
	beside.Wait()
	took := time.Since(began)
	after, err := p.reloads(ctx)
	if err != nil {
		return err
	}
	spent := cpuWithChildren(p.AgentPID()) - agent
	d.span, d.reloads = d.span+took, d.reloads+after-before
	d.agentCPU, d.nginxCPU = d.agentCPU+spent, d.nginxCPU+p.spent()-all-spent
	return nil
}

// attack deploys one after the other until that time, and until there were as many turns as
// there should be, however slow the machine.
func (w *hostileRun) attack(ctx context.Context, until time.Time) {
	for ; ctx.Err() == nil && (time.Now().Before(until) || w.next < w.turns); w.next++ {
		w.now.Store(int64(w.next))
		if !w.all[w.next%len(w.all)].deploy(ctx, w.p, w.hold) && ctx.Err() == nil {
			w.refused++
		}
	}
}

// change deploys another's site of two containers, one after the other, and removes it.
func (w *hostileRun) change(ctx context.Context, d *period) error {
	c, err := w.p.Client()
	if err != nil {
		return err
	}
	defer c.CloseIdleConnections()
	url := w.p.URL("new.test", "/", false)
	w.changes++
	var all []string
	defer func() {
		for _, name := range all {
			_ = w.p.Remove(context.WithoutCancel(ctx), name)
		}
	}()
	for _, name := range []string{"first", "second"} {
		household := fmt.Sprintf("%s%d", name, w.changes)
		one := w.p.named(household, map[string]string{"nagaya.host": "new.test", "com.docker.compose.project": "others", "com.docker.compose.service": "new"})
		all = append(all, one.Name)
		if _, err := w.p.Run(ctx, one); err != nil {
			return err
		}
		began, first := time.Now(), w.now.Load()
		err := stage.Until(ctx, 2*patience, household+" answers", func() error {
			a := visitor{c: c, fresh: true}.ask(ctx, url)
			if a.status != http.StatusOK || a.by != household {
				return fmt.Errorf("%s by %q", a, a.by)
			}
			return nil
		})
		if err != nil {
			return err
		}
		took := time.Since(began)
		if took > d.changes.at(1) {
			var names []string
			for i := max(0, first-1); i <= w.now.Load(); i++ {
				names = append(names, w.all[i%int64(len(w.all))].name)
			}
			d.slowest = strings.Join(names, ", ")
		}
		d.changes = append(d.changes, took)
	}
	return nil
}

// watchMemory notes the most memory of the agent and of nginx.
func (p *agentStage) watchMemory(ctx context.Context, d *period) {
	for ctx.Err() == nil {
		agent, _ := memory([]int{p.AgentPID()})
		_, nginx := memory(withChildren(p.NginxPID()))
		d.agentMemory, d.nginxMem = max(d.agentMemory, agent), max(d.nginxMem, nginx)
		_ = pause(ctx, 500*time.Millisecond)
	}
}
