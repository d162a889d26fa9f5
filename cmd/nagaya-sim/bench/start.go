package bench

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

// What a start may take.
const (
	startP50     = 80 * time.Millisecond
	startP90     = 130 * time.Millisecond
	startFullP50 = 150 * time.Millisecond
)

// starts measures the time from the return of 'docker start' until the first 200.
func (b *bench) starts(ctx context.Context) error {
	alone, err := b.startsBeside(ctx, 0)
	if err != nil {
		return err
	}
	b.add(Row{
		What: "docker start returned → first 200; nothing else there, plain HTTP", Got: alone.String(), Figures: alone.figures(),
		Bound: fmt.Sprintf("p50 ≤ %s; p90 ≤ %s", ms(startP50), ms(startP90)), Missed: alone.at(0.5) > startP50 || alone.at(0.9) > startP90,
	})
	beside, err := b.startsBeside(ctx, 20)
	if err != nil {
		return err
	}
	b.add(Row{
		What: "the same over TLS; beside 20 TLS sites", Got: beside.String(), Figures: beside.figures(),
		Bound: "p50 ≤ " + ms(startFullP50), Missed: beside.at(0.5) > startFullP50,
	})
	return nil
}

func (b *bench) startsBeside(ctx context.Context, sites int) (took spans, err error) {
	hosts := names("h%02d.test", sites)
	secure := sites > 0
	if secure {
		hosts = append(hosts, "new.test")
	}
	p, err := b.startStage(ctx, stage.Options{Hosts: hosts})
	if err != nil {
		return nil, err
	}
	defer closeInto(p, &err)
	for i := range sites {
		if _, err := p.Run(ctx, p.container("beside", hosts[i])); err != nil {
			return nil, err
		}
	}
	if sites > 0 {
		if err := p.waitForRoutes(ctx, sites); err != nil {
			return nil, err
		}
	}
	url := p.URL("new.test", "/", secure)
	for range b.count(16, 8) {
		if err := p.waitInSync(ctx); err != nil {
			return nil, err
		}
		c := p.container("new", "new.test")
		if _, err := p.Run(ctx, c); err != nil {
			return nil, err
		}
		started := time.Now()
		at, err := p.waitForAnswer(ctx, url)
		if err != nil {
			return nil, err
		}
		took = append(took, at.Sub(started))
		if err := p.Remove(ctx, c.Name); err != nil {
			return nil, err
		}
		if err := p.waitForRoutes(ctx, sites); err != nil {
			return nil, err
		}
	}
	return took, nil
}

// waitForRoutes waits until so many hosts have containers behind them, and nginx serves that.
func (p *agentStage) waitForRoutes(ctx context.Context, n int) error {
	return stage.Until(ctx, patience, fmt.Sprintf("%d hosts are live", n), func() error {
		st, err := p.Board(ctx)
		if live := len(st.Routes.LiveHosts()); err == nil && (live != n || !st.Nginx.Settled) {
			err = fmt.Errorf("%d are, nginx %+v", live, st.Nginx)
		}
		return err
	})
}

// names makes n names of a form with one number in it.
func names(form string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf(form, i))
	}
	return all
}

// closeInto closes what is measured and keeps the error of that if there is no other.
func closeInto(p io.Closer, err *error) {
	if cerr := p.Close(); *err == nil {
		*err = cerr
	}
}
