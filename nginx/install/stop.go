package install

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Stop ends the nginx of these Options, if one runs: it may finish what it has
// begun for at most StopTimeout or until ctx ends, and is then ended at once. It
// is for after the last Run. The error wraps ErrLocked when another agent works
// with that nginx, which is then left alone.
func Stop(ctx context.Context, o Options) error {
	o, err := o.withDefaults()
	if err != nil {
		return fmt.Errorf("nginx stop: %w", err)
	}
	// A directory that cannot be locked for another reason has no other agent in it.
	unlock, err := lockStore(o.StateDir)
	if errors.Is(err, ErrLocked) {
		return fmt.Errorf("nginx stop: %w", err)
	}
	if err == nil {
		defer unlock()
	}
	p := newProcess(o)
	pid := p.find()
	if pid == 0 {
		return nil
	}
	gone, unwatch := watch(pid)
	defer unwatch()
	for _, step := range []struct {
		sig   unix.Signal
		limit time.Duration
		ctx   context.Context
	}{
		{unix.SIGQUIT, o.StopTimeout, ctx},
		{unix.SIGTERM, 3 * time.Second, context.WithoutCancel(ctx)},
		{unix.SIGKILL, time.Second, context.WithoutCancel(ctx)},
	} {
		if !p.isMaster(pid) {
			return nil
		}
		o.Log.Info("stopping nginx", "pid", pid, "signal", step.sig.String())
		if err := unix.Kill(pid, step.sig); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("stopping nginx (%d): %w", pid, err)
		}
		limit := time.NewTimer(step.limit)
		select {
		case <-gone:
			limit.Stop()
			return nil
		case <-step.ctx.Done():
			limit.Stop()
		case <-limit.C:
		}
	}
	return fmt.Errorf("nginx (%d) did not end within a second of SIGKILL", pid)
}
