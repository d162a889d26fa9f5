package install

import (
	"context"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// ahead tests a tree before it is wanted. While a container starts it is known what
// will be served, but for its address; once it is ready, nginx -t has accepted that
// already and only the reload is left to wait for. A test ahead decides nothing: one
// that refuses, or is too late, costs what it cost, and the tree is tested as any other.
type ahead struct {
	tester   tester
	budget   budget // for tests; containers that are made and never start cost no more
	trying   nginx.Tree
	cancel   context.CancelFunc
	done     chan error // gets what came of trying; nil while nothing is
	accepted accepted
}

// accepted are the last trees that nginx has accepted, in a test or when it loaded them,
// the newest last. A container that comes and goes, or is replaced by one after the
// other, makes the same few again and again.
type accepted []nginx.Tree

const mostAccepted = 4

func (a *accepted) add(tree nginx.Tree) {
	a.forget(tree)
	*a = append((*a)[max(0, len(*a)+1-mostAccepted):], tree)
}

func (a *accepted) forget(tree nginx.Tree) { *a = slices.DeleteFunc(*a, tree.SameButServers) }

// has reports whether nginx has accepted that tree, but for servers.
func (a accepted) has(tree nginx.Tree) bool { return slices.ContainsFunc(a, tree.SameButServers) }

// newAhead makes one with a way of its own: it runs beside whatever the other does.
func newAhead(o Options) (*ahead, error) {
	w, err := newWay(o)
	if err != nil {
		return nil, err
	}
	return &ahead{
		tester: tester{way: w, store: &store{dir: o.StateDir, staging: aheadDir}, limit: o.TestTimeout},
		budget: budget{burst: o.ReloadBurst, every: o.ReloadEvery},
	}, nil
}

// begin tests a tree in the place of what is being tested, if that is affordable.
func (a *ahead) begin(ctx context.Context, tree nginx.Tree) {
	now := time.Now()
	if a.budget.wait(now) > 0 {
		return
	}
	a.budget.take(now)
	a.abandon()
	ctx, a.cancel = context.WithCancel(ctx)
	done := make(chan error, 1)
	a.trying, a.done = tree, done
	go func() {
		err := a.tester.try(ctx, tree)
		a.tester.store.unstage()
		done <- err
	}()
}

func (a *ahead) ended(err error) {
	a.cancel()
	if a.done = nil; err == nil {
		a.accepted.add(a.trying)
	}
}

func (a *ahead) abandon() {
	if a.done != nil {
		a.cancel()
		a.ended(<-a.done)
	}
}

// settle waits for a test that tells of that tree too, and ends any other.
func (a *ahead) settle(tree nginx.Tree) {
	if a.done != nil && tree.SameButServers(a.trying) {
		a.ended(<-a.done)
	}
	a.abandon()
}

// knows reports whether that tree was accepted or is being tested, but for servers.
func (a *ahead) knows(tree nginx.Tree) bool {
	return a.accepted.has(tree) || a.done != nil && tree.SameButServers(a.trying)
}

func (a *ahead) close() {
	a.abandon()
	a.tester.way.close()
}

// foresee takes note of what will probably be wanted. While reloads are being saved
// up no test is spent on it: there will be another before its turn comes.
func (r *runner) foresee(ctx context.Context, o Outlook) {
	tree := o.Tree
	if r.budget.coming = o.More; tree.Generation == "" || r.pid == 0 || r.guard.kept == nil || len(r.quarantine) > 0 {
		return
	}
	if !r.ahead.knows(tree) && r.budget.wait(time.Now()) == 0 {
		r.ahead.begin(ctx, tree)
	}
}
