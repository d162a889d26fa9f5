// Package stages runs the stages of a flow together: the first that fails ends all.
package stages

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Group runs the stages of a flow. The first that returns an error ends all;
// none outlives Wait.
type Group struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
}

// New returns a group without stages.
func New(ctx context.Context) *Group {
	ctx, cancel := context.WithCancelCause(ctx)
	return &Group{ctx: ctx, cancel: cancel}
}

// Run starts a stage. A stage ends when the context does; that is no error.
func (g *Group) Run(name string, stage func(context.Context) error) {
	g.wg.Go(func() {
		err := stage(g.ctx)
		switch {
		case err != nil:
			g.cancel(fmt.Errorf("%s: %w", name, err))
		case g.ctx.Err() == nil:
			g.cancel(fmt.Errorf("%s: ended by itself", name))
		}
	})
}

// Wait returns when every stage has ended, with the error that ended them.
func (g *Group) Wait() error {
	g.wg.Wait()
	err := context.Cause(g.ctx)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
