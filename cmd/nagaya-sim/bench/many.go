package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

// manyLive is how long one change may take beside many TLS sites.
const manyLive = 700 * time.Millisecond

// many measures one change among many sites: how long it takes, and what CPU time
// the agent, nginx and its test of the configuration take for it.
func (b *bench) many(ctx context.Context) (err error) {
	const perContainer = 20
	hosts := names("h%03d.test", b.count(200, 40))
	p, err := b.startStage(ctx, stage.Options{Hosts: append(hosts, "new.test")})
	if err != nil {
		return err
	}
	defer closeInto(p, &err)
	for i := 0; i < len(hosts); i += perContainer {
		if _, err := p.Run(ctx, p.container("beside", hosts[i:i+perContainer]...)); err != nil {
			return err
		}
	}
	if err := p.waitForRoutes(ctx, len(hosts)); err != nil {
		return err
	}
	var (
		url     = p.URL("new.test", "/", true)
		took    spans
		seconds float64
		changes int
	)
	for range b.count(7, 3) {
		if err := p.waitInSync(ctx); err != nil {
			return err
		}
		c := p.container("new", "new.test")
		if _, err := p.Run(ctx, c); err != nil {
			return err
		}
		started := time.Now()
		at, err := p.waitForAnswer(ctx, url)
		if err != nil {
			return err
		}
		took = append(took, at.Sub(started))
		if err := p.waitInSync(ctx); err != nil {
			return err
		}
		s, n, err := p.measureChange(ctx, func() error { return p.Remove(ctx, c.Name) })
		if err != nil {
			return err
		}
		seconds, changes = seconds+s, changes+n
		if err := p.waitForRoutes(ctx, len(hosts)); err != nil {
			return err
		}
	}
	if changes == 0 {
		return fmt.Errorf("no change was seen")
	}
	each := 1000 * seconds / float64(changes)
	figures := took.figures()
	figures["cpu_each"], figures["sites"] = each, float64(len(hosts))
	b.add(Row{
		What:  fmt.Sprintf("%d TLS sites; docker start returned → first 200 of one more", len(hosts)),
		Got:   fmt.Sprintf("%s; %.0f ms of CPU for each change", took, each),
		Bound: "p50 ≤ " + ms(manyLive), Missed: took.at(0.5) > manyLive, Figures: figures,
	})
	return nil
}

// measureChange makes a change and returns the CPU time in seconds that the agent, nginx
// and the children of both took for it, and how many reloads it was. Nobody asks
// them anything meanwhile.
func (p *agentStage) measureChange(ctx context.Context, change func() error) (seconds float64, reloads int, err error) {
	first, err := p.reloads(ctx)
	if err != nil {
		return 0, 0, err
	}
	before := p.spent()
	if err := change(); err != nil {
		return 0, 0, err
	}
	if err := pause(ctx, 2*time.Second); err != nil {
		return 0, 0, err
	}
	seconds = p.spent() - before
	last, err := p.reloads(ctx)
	return seconds, last - first, err
}

// spent is the CPU time of the agent and of nginx so far, with that of their
// children that have ended, in seconds.
func (p *agentStage) spent() float64 {
	total := 0.0
	for _, pid := range append(withChildren(p.NginxPID()), p.AgentPID()) {
		total += cpuWithChildren(pid)
	}
	return total
}
