package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

// What one container that comes and goes may cost: the reloads of a burst that is
// paid for later, one more each second, and a share of one core for the agent and nginx.
const (
	flapBurst = 6
	flapShare = 0.5
	flapEvery = 200 * time.Millisecond
)

// flap is a way in which a container comes and goes.
type flap struct {
	name     string
	up, down func(ctx context.Context, p *agentStage, id string) error
}

// flaps are a container that is killed as soon as it runs, which a new process and
// network each time make slow, and one that Docker freezes, which it does at any pace.
func flaps() []flap {
	return []flap{
		{
			name: "killed and started",
			up: func(ctx context.Context, p *agentStage, id string) error {
				_, err := p.Docker.ContainerStart(ctx, id, client.ContainerStartOptions{})
				return err
			},
			down: func(ctx context.Context, p *agentStage, id string) error {
				_, err := p.Docker.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "KILL"})
				return err
			},
		},
		{
			name: "paused and unpaused",
			up: func(ctx context.Context, p *agentStage, id string) error {
				_, err := p.Docker.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{})
				return err
			},
			down: func(ctx context.Context, p *agentStage, id string) error {
				_, err := p.Docker.ContainerPause(ctx, id, client.ContainerPauseOptions{})
				return err
			},
		},
	}
}

// flapping lets one container come and go beside a good site, and asks that.
func (b *bench) flapping(ctx context.Context) error {
	for _, f := range flaps() {
		if err := b.flap(ctx, f); err != nil {
			return fmt.Errorf("a container %s: %w", f.name, err)
		}
	}
	return nil
}

func (b *bench) flap(ctx context.Context, f flap) (err error) {
	p, err := b.startStage(ctx, stage.Options{Hosts: []string{"good.test"}})
	if err != nil {
		return err
	}
	defer closeInto(p, &err)
	if _, err := p.Run(ctx, p.container("good", "good.test")); err != nil {
		return err
	}
	id, err := p.Run(ctx, p.container("flapper", "flapper.test"))
	if err != nil {
		return err
	}
	if err := errors.Join(p.waitForRoutes(ctx, 2), p.waitInSync(ctx)); err != nil {
		return err
	}
	c, err := p.Client()
	if err != nil {
		return err
	}
	l := startLoad(ctx, visitor{c: c, fresh: true}, p.URL("good.test", "/", true), 20)
	defer l.stop()
	before, err := p.reloads(ctx)
	if err != nil {
		return err
	}
	agent, nginx := cpuWithChildren(p.AgentPID()), p.spent()-cpuWithChildren(p.AgentPID())
	began := time.Now()
	span := b.span(time.Minute, 10*time.Second)
	lives, err := p.stopAndStart(ctx, f, id, span)
	if err != nil {
		return err
	}
	took := time.Since(began)
	agent, nginx = cpuWithChildren(p.AgentPID())-agent, p.spent()-cpuWithChildren(p.AgentPID())-nginx
	after, err := p.reloads(ctx)
	if err != nil {
		return err
	}
	// It stays at last, and is served like everybody else.
	if err := p.waitForRoutes(ctx, 2); err != nil {
		return err
	}
	l.stop()
	reloads, most := after-before, flapBurst+int(took/time.Second)+1
	share := (agent + nginx) / took.Seconds()
	b.add(Row{
		What: fmt.Sprintf("one container %s every %s, or as often as Docker can; a TLS site beside it asked 20 times a second", f.name, ms(flapEvery)),
		Got: fmt.Sprintf("%d lives in %s: %d reloads; %.1f s of CPU for the agent, %.1f s for nginx; %d of %d requests of the other site failed%s",
			lives, took.Round(time.Second), reloads, agent, nginx, len(l.bad), l.requests, l.first()),
		Bound:  fmt.Sprintf("≤ %d reloads; ≤ %.0f %% of a core; 0 failed", most, 100*flapShare),
		Missed: len(l.bad) > 0 || reloads > most || share > flapShare,
		Figures: map[string]float64{
			"lives": float64(lives), "span": millis(took), "reloads": float64(reloads), "agent_cpu": 1000 * agent, "nginx_cpu": 1000 * nginx,
			"failed": float64(len(l.bad)), "requests": float64(l.requests),
		},
	})
	return nil
}

// stopAndStart takes the container down and up again for so long, and leaves it up. It
// returns how often it came.
func (p *agentStage) stopAndStart(ctx context.Context, f flap, id string, span time.Duration) (lives int, err error) {
	tick := time.NewTicker(flapEvery / 2)
	defer tick.Stop()
	for end := time.Now().Add(span); time.Now().Before(end); {
		// For a moment Docker may believe the event of the turn before, and refuse.
		var refused error
		for _, turn := range []func(context.Context, *agentStage, string) error{f.down, f.up} {
			refused = errors.Join(refused, turn(ctx, p, id))
			select {
			case <-ctx.Done():
				return lives, ctx.Err()
			case <-tick.C:
			}
		}
		if err = refused; err == nil {
			lives++
		}
	}
	if lives == 0 {
		return 0, err
	}
	return lives, f.waitUntilUp(ctx, p, id)
}

// waitUntilUp leaves the container up.
func (f flap) waitUntilUp(ctx context.Context, p *agentStage, id string) error {
	return stage.Until(ctx, patience, "the container stays", func() error {
		got, err := p.Docker.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
		if err != nil || got.Container.State.Running && !got.Container.State.Paused {
			return err
		}
		return errors.Join(fmt.Errorf("it is %s", got.Container.State.Status), f.up(ctx, p, id))
	})
}
