package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

// What many containers at once may cost.
const (
	burstReloads = 10
	burstLate    = 1500 * time.Millisecond
)

// burst starts many containers, each with a host of its own, as fast as Docker can.
func (b *bench) burst(ctx context.Context) (err error) {
	p, err := b.startStage(ctx, stage.Options{})
	if err != nil {
		return err
	}
	defer closeInto(p, &err)
	hosts := names("h%02d.test", b.count(50, 20))
	ids := make([]string, len(hosts))
	for i, h := range hosts {
		if ids[i], err = p.Create(ctx, p.container(fmt.Sprintf("%02dapp", i), h)); err != nil {
			return err
		}
	}
	if err := p.waitInSync(ctx); err != nil {
		return err
	}
	before, err := p.reloads(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	looking, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		if err := p.startAll(ctx, ids); err != nil {
			stop(err)
		}
	}()
	ready, routed, err := p.waitForAll(looking, hosts)
	if err != nil {
		return errors.Join(context.Cause(looking), err)
	}
	if err := p.waitForRoutes(ctx, len(hosts)); err != nil {
		return err
	}
	after, err := p.reloads(ctx)
	if err != nil {
		return err
	}
	late := routed.Sub(ready)
	b.add(Row{
		What: fmt.Sprintf("%d containers started as fast as Docker can; each with its own host", len(hosts)),
		Got: fmt.Sprintf("%d reloads; all routed %s after the last is ready; Docker took %s",
			after-before, ms(late), ready.Sub(began).Round(100*time.Millisecond)),
		Bound: fmt.Sprintf("≤ %d reloads; ≤ %s", burstReloads, ms(burstLate)), Missed: after-before > burstReloads || late > burstLate,
		Figures: map[string]float64{"reloads": float64(after - before), "late": millis(late), "docker": millis(ready.Sub(began)), "n": float64(len(hosts))},
	})
	return nil
}

// startAll starts containers, several at a time.
func (p *agentStage) startAll(ctx context.Context, ids []string) error {
	return inParallel(ids, func(id string) error {
		if _, err := p.Docker.ContainerStart(ctx, id, client.ContainerStartOptions{}); err != nil {
			return fmt.Errorf("starting %s: %w", id, err)
		}
		return nil
	})
}

// inParallel calls do for each of all, eight at a time: more make Docker no faster.
func inParallel[T any](all []T, do func(T) error) error {
	var (
		next    = make(chan T)
		errs    = make(chan error, len(all))
		workers sync.WaitGroup
	)
	for range 8 {
		workers.Go(func() {
			for x := range next {
				errs <- do(x)
			}
		})
	}
	for _, x := range all {
		next <- x
	}
	close(next)
	workers.Wait()
	close(errs)
	var failed []error
	for err := range errs {
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// waitForAll waits until every host answers, and returns when the last container
// began to listen and when the last host answered.
func (p *agentStage) waitForAll(ctx context.Context, hosts []string) (ready, routed time.Time, err error) {
	c, err := p.Client()
	if err != nil {
		return ready, routed, err
	}
	v := visitor{c: c, fresh: true}
	left := slices.Clone(hosts)
	err = stage.Until(ctx, 2*time.Minute, "every host answers", func() error {
		left = slices.DeleteFunc(left, func(h string) bool {
			a := v.ask(ctx, p.URL(h, "/", false))
			if a.status != 200 {
				return false
			}
			routed = time.Now()
			if a.listened.After(ready) {
				ready = a.listened
			}
			return true
		})
		if len(left) > 0 {
			return fmt.Errorf("%d do not", len(left))
		}
		return nil
	})
	return ready, routed, err
}
