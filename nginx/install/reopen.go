package install

import (
	"context"
	"errors"
	"os"
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// lostSockets returns the sockets of a tree whose files are gone.
func lostSockets(t nginx.Tree) []string {
	return slices.DeleteFunc(t.Sockets(), func(s string) bool {
		_, err := os.Lstat(s)
		return !missing(err)
	})
}

// reopen makes nginx open its unix sockets anew where somebody has removed their
// files: nginx would keep the nameless ones, and nobody could ask what it serves, or
// get through to the sites behind them, until it is started again. It is told to load
// the current generation with other names for them, and then the generation itself:
// nothing but names differs from what it has accepted already. Sites that need none of
// these sockets lose no request over it; those that do had been cut off, and the
// second reload may still cost them one.
func (r *runner) reopen(ctx context.Context) error {
	gen := r.store.current()
	if r.pid == 0 || gen == "" {
		return nil
	}
	tree, err := r.known(gen)
	if err != nil {
		return nil // the guard's
	}
	lost := lostSockets(tree)
	if len(lost) == 0 {
		return nil
	}
	r.log.Warn("sockets of nginx were removed by somebody; it is told to open them again", event.Key, event.FilesRestored, "first", lost[0], "files", len(lost))
	aside := tree.Aside(lost...)
	if err := r.store.stage(aside); err != nil {
		return err
	}
	if err := r.store.commit(aside.Generation); err != nil {
		return err
	}
	door := r.door
	if s := nginx.Socket(r.o.RunDir); slices.Contains(lost, s) {
		r.door = newDoor(nginx.AsideSocket(s))
	}
	err = r.step(ctx, aside.Generation)
	r.door = door
	if err != nil {
		return errors.Join(err, r.store.swap(gen))
	}
	if err := r.step(ctx, gen); err != nil {
		return err
	}
	r.store.sweep(gen)
	return nil
}

// known returns the tree of a generation, from the disk only where it is not the one
// that is guarded: this is asked in every pass.
func (r *runner) known(gen string) (nginx.Tree, error) {
	if k := r.guard.kept; k != nil && k.Generation == gen {
		return *k, nil
	}
	return r.store.readKept(gen)
}

// step makes nginx load a generation that is on the disk.
func (r *runner) step(ctx context.Context, gen string) error {
	if err := r.store.swap(gen); err != nil {
		return err
	}
	return r.reload(ctx, gen)
}
