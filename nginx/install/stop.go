package install

import (
	"context"
	"errors"
	"fmt"
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
	held, err := lockStore(o.StateDir)
	if errors.Is(err, ErrLocked) {
		return fmt.Errorf("nginx stop: %w", err)
	}
	if err == nil {
		defer held.unlock()
	}
	w, err := newWay(o)
	if err != nil {
		return fmt.Errorf("nginx stop: %w", err)
	}
	defer w.close()
	return w.stop(ctx)
}
