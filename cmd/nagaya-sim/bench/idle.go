// Package bench measures what nagaya costs, on a stage, beside peers that are measured
// in the same run.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

// IdleOptions say how the idle agent is measured.
type IdleOptions struct {
	// Bin is the directory of the programs.
	Bin string
	// Peers is the directory of the programs that nagaya is compared with; empty
	// measures nagaya alone.
	Peers string
	// Containers is the number of routed containers.
	Containers int
	// Settle is how long the agent is left alone before, Span how long it is measured.
	Settle, Span time.Duration
	// JSON prints the rows as JSON instead of the table.
	JSON bool
	// Out gets the result, Progress one line for each step.
	Out, Progress io.Writer
}

// What an idle agent may cost.
const (
	maxRSS   = 25 << 20 // bytes
	maxShare = 0.001    // of one core
)

const mib = 1 << 20

// Idle measures the memory and CPU time of an agent with nothing to do, with the
// default intervals and every part switched on, and of its nginx and the peers beside.
// It prints what it found, and returns an error that wraps ErrMissed if the agent costs
// more than it may.
func Idle(ctx context.Context, o IdleOptions) error {
	b := &bench{o: RoutesOptions{Bin: o.Bin, Peers: o.Peers, JSON: o.JSON, Out: o.Out, Progress: o.Progress}}
	return b.measure(ctx, []part{{"a", "an idle agent", func(b *bench, ctx context.Context) error { return b.idle(ctx, o) }}})
}

func (b *bench) idle(ctx context.Context, o IdleOptions) (err error) {
	hosts := names("h%02d.test", o.Containers)
	c, err := b.compare(ctx, stage.Options{Hosts: hosts, Config: "address: {claim: 'tag:Name=nagaya'}\n"})
	if err != nil {
		return err
	}
	defer closeInto(c, &err)
	for _, host := range hosts {
		site := c.container(c.proxies[0], "idle", host)
		for _, x := range c.proxies[1:] {
			maps.Copy(site.Labels, x.labels(host))
		}
		if _, err := c.Run(ctx, site); err != nil {
			return err
		}
	}
	// An agent that starts when the containers run, as after an upgrade.
	if err := errors.Join(c.StopAgent(), c.StartAgent()); err != nil {
		return err
	}
	c.proxies[0].pid = c.AgentPID()
	if err := c.waitForRoutes(ctx, len(hosts)+1); err != nil { // and the resident
		return err
	}
	for _, x := range c.proxies[1:] {
		for _, host := range hosts {
			if _, err := c.firstAnswer(ctx, x, host, "idle"); err != nil {
				return err
			}
		}
	}
	b.progress("%d containers are served; settling for %s, measuring for %s", o.Containers, o.Settle, o.Span)
	if err := pause(ctx, o.Settle); err != nil {
		return err
	}
	costs, err := c.idleCosts(ctx, o.Span)
	if err != nil {
		return err
	}
	agent, whole := costs[0], costs[1]
	memory := Row{
		What: "resident memory of the idle agent", Got: agent.memory(),
		Bound: fmt.Sprintf("≤ %d MiB", maxRSS/mib), Missed: agent.rss > maxRSS,
		Figures: map[string]float64{"rss": float64(agent.rss), "private": float64(agent.anon)},
	}
	share := Row{
		What: "CPU time of the idle agent", Got: fmt.Sprintf("%s; %.2f credits a day", agent.cpu(), agent.share*24*60),
		Bound: fmt.Sprintf("≤ %.2f %% of a core", 100*maxShare), Missed: agent.share > maxShare,
		Figures: map[string]float64{"share": agent.share},
	}
	wholeMemory := Row{What: "resident memory of the agent and its nginx", Got: whole.memory(), Figures: map[string]float64{"rss": float64(whole.rss), "private": float64(whole.anon)}}
	wholeShare := Row{What: "CPU time of the agent and its nginx", Got: whole.cpu(), Figures: map[string]float64{"share": whole.share}}
	for _, x := range costs[2:] {
		wholeMemory.peer(x.name+" "+x.memory(), fmt.Sprintf("%.2f", float64(whole.rss)/float64(x.rss)))
		wholeShare.peer(x.name+" "+x.cpu(), fmt.Sprintf("%.2f", whole.share/x.share))
		wholeMemory.Figures[x.name+" rss"], wholeShare.Figures[x.name+" share"] = float64(x.rss), x.share
	}
	for _, r := range []Row{memory, share, wholeMemory, wholeShare} {
		b.add(r)
	}
	return nil
}

// idleCost is what some processes cost that have nothing to do: memory in bytes, CPU
// time as a share of one core.
type idleCost struct {
	name      string
	rss, anon uint64
	share     float64
}

func (c idleCost) memory() string {
	return fmt.Sprintf("%.1f MiB, %.1f of it private", float64(c.rss)/mib, float64(c.anon)/mib)
}

func (c idleCost) cpu() string { return fmt.Sprintf("%.3f %% of a core", 100*c.share) }

// idleCosts measures the agent, then each proxy with its nginx, for so long.
func (c *comparison) idleCosts(ctx context.Context, span time.Duration) (all []idleCost, err error) {
	groups := [][]int{{c.AgentPID()}}
	all = []idleCost{{name: "agent"}}
	for _, x := range c.proxies {
		groups = append(groups, x.processes())
		all = append(all, idleCost{name: x.name})
	}
	begun := time.Now()
	for i, pids := range groups {
		all[i].share = -cpu(pids)
	}
	if err := pause(ctx, span); err != nil {
		return nil, err
	}
	span = time.Since(begun)
	for i, pids := range groups {
		all[i].share = (all[i].share + cpu(pids)) / span.Seconds()
		all[i].rss, all[i].anon = memory(pids)
	}
	return all, nil
}

// pause waits so long, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
