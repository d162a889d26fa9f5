package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

// seenAgain is how long after the engine is back a new container may be unknown.
const seenAgain = 2 * time.Second

// outages takes the Docker API away: by cutting the line to an engine that goes on,
// and by restarting an engine.
func (b *bench) outages(ctx context.Context) error {
	if err := b.cut(ctx); err != nil {
		return err
	}
	return b.restart(ctx)
}

// restart restarts an engine whose containers live on.
func (b *bench) restart(ctx context.Context) (err error) {
	e, err := stage.StartEngine(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	p, err := b.startStage(ctx, stage.Options{Engine: e.Host(), Config: "local-address: 127.0.0.1\n"})
	if err != nil {
		return err
	}
	p.hostNetwork = true
	defer closeInto(p, &err)
	return b.outage(ctx, p, "dockerd restarted with live-restore", func(newcomer stage.Container) (back time.Time, err error) {
		if err := e.Restart(ctx); err != nil {
			return back, err
		}
		back = time.Now()
		_, err = p.Run(ctx, newcomer)
		return back, err
	})
}

// cut cuts the line between the agent and the engine.
func (b *bench) cut(ctx context.Context) (err error) {
	line, err := stage.NewRelay()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, line.Close()) }()
	if err := line.Join(); err != nil {
		return err
	}
	p, err := b.startStage(ctx, stage.Options{DockerHost: line.Host()})
	if err != nil {
		return err
	}
	defer closeInto(p, &err)
	away := b.span(time.Minute, 5*time.Second)
	return b.outage(ctx, p, "Docker API cut for "+away.String(), func(newcomer stage.Container) (back time.Time, err error) {
		line.Cut()
		if err := pause(ctx, away/2); err != nil {
			return back, err
		}
		if _, err := p.Run(ctx, newcomer); err != nil {
			return back, err
		}
		if err := pause(ctx, away/2); err != nil {
			return back, err
		}
		return time.Now(), line.Join()
	})
}

// outage asks a live route all the time while interrupt takes the engine away and
// brings it back with one more container.
func (b *bench) outage(ctx context.Context, p *agentStage, what string, interrupt func(newcomer stage.Container) (back time.Time, err error)) error {
	if _, err := p.Run(ctx, p.container("app", "a.test")); err != nil {
		return err
	}
	url := p.URL("a.test", "/", false)
	if _, err := p.waitForAnswer(ctx, url); err != nil {
		return err
	}
	if err := p.waitInSync(ctx); err != nil {
		return err
	}
	c, err := p.Client()
	if err != nil {
		return err
	}
	l := startLoad(ctx, visitor{c: c, fresh: true}, url, 50)
	defer l.stop()
	back, err := interrupt(p.container("new", "new.test"))
	if err != nil {
		return err
	}
	at, err := p.waitForAnswer(ctx, p.URL("new.test", "/", false))
	if err != nil {
		return err
	}
	// The list that comes after the outage must not take anything away either.
	if err := p.waitForRoutes(ctx, 2); err != nil {
		return err
	}
	l.stop()
	seen := at.Sub(back)
	b.add(Row{
		What:  what + "; a live route asked 50 times a second",
		Got:   fmt.Sprintf("%d of %d requests failed%s; new container served %s after the API was back", len(l.bad), l.requests, l.first(), ms(seen)),
		Bound: "no route lost; new ones ≤ " + ms(seenAgain), Missed: len(l.bad) > 0 || seen > seenAgain,
		Figures: map[string]float64{"failed": float64(len(l.bad)), "requests": float64(l.requests), "seen": millis(seen)},
	})
	return nil
}
