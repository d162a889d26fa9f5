package apply

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// converge makes nginx run and serve the wanted tree.
func (a *applier) converge(ctx context.Context) error {
	if a.master.pid != 0 && !a.o.Runtime.Workers(a.master.pid).Alive {
		a.master.forget()
	}
	if err := a.store.prepare(a.o.Dirs.Run, a.o.Dirs.Log); err != nil {
		return err
	}
	if err := unreadPipe(a.o.Dirs.Log); err != nil {
		return err
	}
	if a.master.pid == 0 {
		a.master.find(ctx)
		a.restoreBeforeStart()
		if gen := a.store.current(); gen != "" {
			if done, err := a.resume(ctx, gen); done {
				return err
			}
		}
	}
	if err := a.reopenSockets(ctx); err != nil {
		return err
	}
	if a.wanted == nil {
		if a.stale && a.master.pid != 0 && a.known() {
			return a.reload(ctx, a.live)
		}
		return nil
	}
	return a.apply(ctx, *a.wanted)
}

// resume starts nginx with the generation on the disk, so that services are
// served before it is known what runs. done is true when there is nothing
// more to try in this pass.
func (a *applier) resume(ctx context.Context, gen string) (done bool, err error) {
	err = a.start(ctx, gen)
	if err == nil {
		a.readLive(gen)
		return false, nil
	}
	if ctx.Err() != nil { // the agent ends, and nothing is wrong with the generation
		return true, err
	}
	a.log.Log(ctx, a.report.fail(err), "nginx did not start with the generation on the disk", event.Key, event.NginxResumeFailed, "generation", gen, "err", err)
	tree, readErr := a.store.read(gen)
	inUse := errors.Is(err, errPortInUse)
	if inUse && readErr == nil && len(a.blocked(tree, false)) > 0 {
		inUse = false // it is the port of some sites; the others need not wait for it
	}
	if a.wanted != nil {
		return inUse && a.wanted.Generation == gen, err
	}
	if inUse {
		return true, err
	}
	if readErr == nil {
		// A file outside, such as a certificate, may be missing: serve the other sites.
		if err = a.apply(ctx, tree); err == nil || ctx.Err() != nil {
			return true, err
		}
	}
	for _, older := range a.store.readable(gen) {
		a.log.Warn("nginx is started with an older generation", event.Key, event.NginxRolledBack, "generation", older, "err", err)
		if err := a.store.swap(older); err != nil {
			return true, err
		}
		if a.start(ctx, older) == nil {
			a.readLive(older)
			return true, nil
		}
	}
	return true, errors.Join(err, a.store.swap(gen))
}

// apply makes nginx serve a tree, or as much of it as nginx accepts.
//
// nginx's master reads a configuration whole before it changes anything, and goes on
// with the one before if it refuses it. So a tree is loaded without nginx -t before,
// which would read the same twice, unless the operator's own files in it have
// changed, whose directives may do anything. A tree that is refused is tested then, to
// find what is at fault.
func (a *applier) apply(ctx context.Context, wanted nginx.Tree) error {
	a.quarantine.forget(time.Now(), a.o.Limits.RetryQuarantine)
	wanted = a.heldSnippets(wanted)
	tree := a.withoutBlocked(a.held(wanted))
	serving := ""
	if a.master.pid != 0 {
		serving = a.client.generation(ctx)
	}
	if a.serves(serving, tree) {
		return nil
	}
	defer a.store.unstage()
	var no *refusal
	if a.mayLoad(serving, tree) {
		err := a.load(ctx, tree)
		var refused bool
		if no, refused = errors.AsType[*refusal](err); !refused {
			return err
		}
	}
	tree, err := a.accepted(ctx, wanted, tree, no)
	if no, ok := errors.AsType[*refusal](err); ok {
		return refusalFault(no.reason, a.o.Dirs.State)
	}
	if err != nil {
		return err
	}
	if a.serves(serving, tree) {
		a.log.Info("nginx keeps what it serves", event.Key, event.NginxKept, "generation", serving, "quarantined", len(a.quarantine.sites))
		return nil
	}
	err = a.load(ctx, tree)
	if errors.Is(err, errNotLoaded) && a.known() {
		// What nginx -t cannot see, as a zone of another size: only a start of nginx would take it.
		for _, q := range changedFiles(a.live, tree) {
			a.refuseSnippet(*q.file, ProblemOf(err).Text)
		}
	}
	return err
}

// mayLoad reports whether a tree may be loaded without a test: the master runs and serves
// the live tree, which has the same snippets of the operator.
func (a *applier) mayLoad(serving string, tree nginx.Tree) bool {
	same := func(a, b nginx.Snippet) bool { return a.File == b.File }
	return serving != "" && !a.stale && a.live.Generation == serving && slices.EqualFunc(a.live.Snippets(), tree.Snippets(), same)
}

// serves reports whether nginx serves that tree, by the generation that it answers, and
// would still serve it after it read its files again: then all is as it is wanted.
func (a *applier) serves(serving string, tree nginx.Tree) bool {
	if serving != tree.Generation || a.stale {
		return false
	}
	if a.live.Generation != serving { // else the guard checks its files
		if a.store.current() != serving {
			return false
		}
		a.store.addManifest(tree)
		a.setLive(tree)
		if a.stale = a.checkFiles(time.Now()); a.stale {
			return false
		}
	}
	a.forgetGone(tree.Pools())
	a.report.status.Settled = true
	return true
}

// load makes a tree the current generation and has nginx load it. If nginx does
// not, the generation before is the current one again.
func (a *applier) load(ctx context.Context, tree nginx.Tree) (err error) {
	defer func() { a.report.status.Settled = err == nil }()
	before := a.store.current()
	if before != tree.Generation {
		if err := a.store.install(tree); err != nil {
			return err
		}
	}
	if a.master.pid == 0 {
		err = a.start(ctx, tree.Generation)
	} else {
		err = a.reload(ctx, tree)
	}
	if err != nil {
		// When the agent ends, nginx may be reading the files at this moment,
		// and a swap would give it half of each. The next agent looks again.
		if before != tree.Generation && ctx.Err() == nil {
			err = errors.Join(err, a.rollBack(ctx, before))
		}
		return err
	}
	a.setLive(tree)
	if err := a.store.sync(tree.Generation); err != nil {
		return err
	}
	a.store.sweep(tree.Generation, before)
	return nil
}

// rollBack makes the generation before the current one again. An nginx that has not
// refused may still load the new one, or has loaded it and does not answer: it is
// signalled to load the one before, and its answer is not waited for.
func (a *applier) rollBack(ctx context.Context, before string) error {
	if err := a.store.swap(before); err != nil {
		return err
	}
	if before == "" || a.master.pid == 0 || !a.o.Runtime.Workers(a.master.pid).Alive {
		return nil
	}
	a.master.unconfirmed = true
	return a.o.Runtime.Signal(ctx, a.master.pid, nginx.Reload)
}

// treeOf returns the tree of a generation. It reads it from the disk only where it is not
// the live one, because every pass calls this.
func (a *applier) treeOf(gen string) (nginx.Tree, error) {
	if a.live.Generation == gen {
		return a.live, nil
	}
	return a.store.read(gen)
}
