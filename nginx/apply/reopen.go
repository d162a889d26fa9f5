package apply

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

// reopenSockets makes nginx open its unix sockets anew where their files have been
// removed: nginx would keep the nameless ones, and could not be asked what it serves, nor
// reach the sites behind them, until it is started again. It is told to load
// the current generation with other names for them, and then the generation itself:
// only names differ from what it has accepted already. Sites that need none of
// these sockets lose no request over it; those that do had been cut off, and the
// second reload may still cost them one.
func (a *applier) reopenSockets(ctx context.Context) error {
	gen := a.store.current()
	if a.master.pid == 0 || gen == "" {
		return nil
	}
	tree, err := a.treeOf(gen)
	if err != nil {
		return nil // of that the guard takes care
	}
	lost := lostSockets(tree)
	if len(lost) == 0 {
		return nil
	}
	a.log.Warn("sockets of nginx were removed; it is told to open them again", event.Key, event.FilesRestored, "first", lost[0], "files", len(lost))
	aside := tree.Aside(lost...)
	if err := a.store.stage(aside); err != nil {
		return err
	}
	if err := a.store.commit(aside.Generation); err != nil {
		return err
	}
	client := a.client
	if s := nginx.Socket(a.o.Dirs.Run); slices.Contains(lost, s) {
		a.client = newStatusClient(nginx.AsideSocket(s))
	}
	err = a.swapAndReload(ctx, aside)
	a.client = client
	if err != nil {
		return errors.Join(err, a.store.swap(gen))
	}
	if err := a.swapAndReload(ctx, tree); err != nil {
		return err
	}
	a.store.sweep(gen)
	return nil
}

// swapAndReload makes nginx load a generation that is on the disk.
func (a *applier) swapAndReload(ctx context.Context, tree nginx.Tree) error {
	if err := a.store.swap(tree.Generation); err != nil {
		return err
	}
	return a.reload(ctx, tree)
}
