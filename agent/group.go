package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// group runs the stages of a flow. The first that returns an error ends all;
// none outlives wait.
type group struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
}

func newGroup(ctx context.Context) *group {
	ctx, cancel := context.WithCancelCause(ctx)
	return &group{ctx: ctx, cancel: cancel}
}

// run starts a stage. A stage ends when the context does; that is no error.
func (g *group) run(name string, stage func(context.Context) error) {
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

// wait returns when every stage has ended, with the error that ended them.
func (g *group) wait() error {
	g.wg.Wait()
	err := context.Cause(g.ctx)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
