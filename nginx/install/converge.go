package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// converge makes nginx run and serve what is wanted. Everything that can fail
// comes before the swap, and the swap is undone if nginx does not take it.
func (r *runner) converge(ctx context.Context) error {
	if r.pid != 0 && !r.way.isMaster(r.pid) {
		r.forget()
	}
	if err := r.prepare(); err != nil {
		return err
	}
	if r.pid == 0 {
		r.readyToStart()
	}
	if gen := r.store.current(); r.pid == 0 && gen != "" {
		if done, err := r.resume(ctx, gen); done {
			return err
		}
	}
	if err := r.reopen(ctx); err != nil {
		return err
	}
	if r.wanted == nil {
		if k := r.guard.kept; r.stale && r.pid != 0 && k != nil {
			return r.reload(ctx, k.Generation)
		}
		return nil
	}
	return r.apply(ctx, *r.wanted)
}

// recall has a generation guarded that a former agent had made, if it still is what
// it was.
func (r *runner) recall(gen string) bool {
	tree, err := r.store.readKept(gen)
	if err == nil {
		r.keep(tree)
	}
	return err == nil
}

// keep takes note of the tree that nginx serves and has therefore accepted.
func (r *runner) keep(tree nginx.Tree) {
	r.guard.keep(tree)
	r.ahead.accepted.add(tree)
}

// prepare makes the directories that nginx needs.
func (r *runner) prepare() error {
	return r.store.prepare(slices.DeleteFunc([]string{r.o.RunDir, r.o.LogDir}, func(d string) bool { return d == "" })...)
}

// resume starts nginx with the generation on the disk, so that services are
// served before anybody knows what runs. done is true when there is nothing
// more to be tried in this pass.
func (r *runner) resume(ctx context.Context, gen string) (done bool, err error) {
	err = r.launch(ctx, gen)
	if err == nil {
		r.recall(gen)
		return false, nil
	}
	level := slog.LevelWarn
	if r.status.LastError == bounded(err.Error()) {
		level = slog.LevelDebug // a standing problem is in the status
	}
	r.log.Log(ctx, level, "nginx did not start with the generation on the disk", event.Key, event.NginxResumeFailed, "generation", gen, "err", err)
	var t *trouble
	blocked := errors.As(err, &t) && t.code == "port-in-use"
	if tree, readErr := r.store.read(gen); blocked && readErr == nil && len(r.blocked(tree)) > 0 {
		blocked = false // the port is one site's; the others need not wait for it
	}
	if r.wanted != nil {
		return blocked && r.wanted.Generation == gen, err
	}
	if blocked {
		return true, err
	}
	// A file outside, such as a certificate, may have gone: save the other sites.
	tree, readErr := r.store.read(gen)
	if readErr != nil {
		return true, err
	}
	if err = r.apply(ctx, tree); err == nil || ctx.Err() != nil {
		return true, err
	}
	for _, older := range r.store.whole(gen) {
		r.log.Warn("nginx is started with an older generation", event.Key, event.NginxRolledBack, "generation", older, "err", err)
		if err := r.store.swap(older); err != nil {
			return true, err
		}
		if r.launch(ctx, older) == nil {
			r.recall(older)
			return true, nil
		}
	}
	return true, errors.Join(err, r.store.swap(gen))
}

// apply makes nginx serve a tree, or as much of it as nginx accepts.
func (r *runner) apply(ctx context.Context, wanted nginx.Tree) error {
	if len(r.quarantine) > 0 && !time.Now().Before(r.retryAt) {
		r.log.Info("sites in quarantine are tried again", event.Key, event.QuarantineRetried, "sites", len(r.quarantine))
		clear(r.quarantine)
	}
	tree := r.unblocked(r.withoutRefused(wanted))
	live := ""
	if r.pid != 0 {
		live = r.door.generation(ctx)
	}
	if r.serves(live, tree) {
		r.log.Debug("nginx serves what is wanted", "generation", live)
		r.status.Settled = true
		return nil
	}
	defer r.store.unstage()
	r.ahead.settle(tree)
	if r.accepts(live, tree) {
		if err := r.install(ctx, tree); err != nil {
			r.ahead.accepted.forget(tree)
			return err
		}
		r.status.Settled = true
		return nil
	}
	tester := tester{way: r.way, store: r.store, limit: r.o.TestTimeout, meanwhile: r.store.sync}
	proved, err := prover{try: tester.try, lastGood: r.store.lastGood}.prove(ctx, tree)
	var no *refusal
	switch {
	case errors.As(err, &no):
		return refusalTrouble(no.text, r.o.StateDir)
	case err != nil:
		return err
	}
	if len(proved.refused) > 0 {
		r.ahead.accepted.forget(tree)
	}
	r.remember(proved.refused)
	tree = proved.tree
	if r.serves(live, tree) {
		r.log.Info("nginx keeps what it serves", event.Key, event.NginxKept, "generation", live, "quarantined", len(r.quarantine))
		r.status.Settled = true
		return nil
	}
	if err := r.install(ctx, tree); err != nil {
		return err
	}
	r.status.Settled = true
	return nil
}

// accepts reports whether nginx, of which live is what it says of itself, has accepted
// that tree already but for the addresses of servers, which were checked when they were
// rendered. Then nginx -t would read for a second time what the master is about to read: a
// rolling deployment costs half as much without it. The master refuses by itself what it
// cannot use (a certificate that is gone, say) and goes on with what it has; such a tree
// is tested from then on, and the site at fault found.
func (r *runner) accepts(live string, tree nginx.Tree) bool {
	k := r.guard.kept
	return r.pid != 0 && !r.stale && k != nil && k.Generation == live && r.ahead.accepted.has(tree)
}

// serves reports whether nginx serves that tree, of which live is what it says of
// itself, and will go on with it when it reads its files again.
func (r *runner) serves(live string, tree nginx.Tree) bool {
	if live != tree.Generation || r.stale {
		return false
	}
	if k := r.guard.kept; k != nil && k.Generation == live {
		return true // whatever happens to its files is the guard's
	}
	if r.store.current() != live {
		return false
	}
	r.keep(tree)
	r.stale = r.look(time.Now())
	return !r.stale
}

// install makes a proved tree the current generation and nginx load it.
func (r *runner) install(ctx context.Context, tree nginx.Tree) error {
	before := r.store.current()
	if before != tree.Generation {
		if err := r.store.stage(tree); err != nil {
			return err
		}
		if err := r.store.commit(tree.Generation); err != nil {
			return err
		}
		if err := r.store.swap(tree.Generation); err != nil {
			return err
		}
	}
	load := r.reload
	if r.pid == 0 {
		load = r.launch
	}
	if err := load(ctx, tree.Generation); err != nil {
		// When we are told to end, nginx may be reading the files at this moment,
		// and going back would give it half of each. The next agent looks again.
		if before != tree.Generation && ctx.Err() == nil {
			err = errors.Join(err, r.back(ctx, before))
		}
		return err
	}
	r.keep(tree)
	r.served = tree.Servers()
	r.store.sweep(tree.Generation, before)
	return nil
}

// back makes the generation of before the current one again. An nginx that has not
// said no may still load what it was told to, or has loaded what never answers: it is
// told to load the one of before, and nobody waits for that.
func (r *runner) back(ctx context.Context, before string) error {
	if err := r.store.swap(before); err != nil {
		return err
	}
	if before == "" || r.pid == 0 || !r.way.isMaster(r.pid) {
		return nil
	}
	r.unanswered = true
	return r.way.reload(ctx, r.pid)
}

// launch starts nginx with the current generation and waits for its answer.
func (r *runner) launch(ctx context.Context, gen string) error {
	began := time.Now()
	mark := logEnd(r.o.LogDir)
	pid, err := r.way.start(ctx)
	if err != nil {
		return r.blamePort(gen, err)
	}
	r.follow(pid, began)
	if err := r.confirm(ctx, confirmation{gen: gen, mark: mark}); err != nil {
		return err
	}
	r.loaded("nginx started", event.NginxStarted, gen, began)
	return nil
}

// blamePort looks for a taken port when nginx could not tell why it did not
// start, because its words went to stderr.
func (r *runner) blamePort(gen string, err error) error {
	if r.o.LogDir != "" {
		return err
	}
	tree, readErr := r.store.read(gen)
	if readErr != nil {
		return err
	}
	for _, l := range tree.Listens() {
		if net := r.way.net(); held(net, l) {
			return portInUse(l, portHolders(net, l))
		}
	}
	return err
}

// reload lets the running nginx load the current generation and waits until it
// answers and no old worker takes new connections.
func (r *runner) reload(ctx context.Context, gen string) error {
	began := time.Now()
	r.budget.take(began)
	unborn := r.way.unborn(r.pid) // nginx may have started a moment ago
	active, _ := r.way.workers(r.pid)
	old := append(active, slices.DeleteFunc(slices.Clone(unborn), func(pid int) bool { return slices.Contains(active, pid) })...)
	if !r.unanswered {
		r.crew = len(old)
	}
	mark := logEnd(r.o.LogDir)
	if err := r.way.reload(ctx, r.pid); err != nil {
		return err
	}
	if err := r.confirm(ctx, confirmation{gen: gen, mark: mark, old: old, unborn: unborn}); err != nil {
		r.unanswered = true
		return err
	}
	r.unanswered = false
	r.loaded("nginx reloaded", event.NginxReloaded, gen, began)
	return nil
}

func (r *runner) loaded(what, kind, gen string, began time.Time) {
	r.status.Reloads++
	r.status.LoadedAt = time.Now()
	r.stale = false
	active, _ := r.way.workers(r.pid)
	r.guard.loaded(gen, active)
	r.enclose()
	r.log.Info(what, event.Key, kind, "generation", gen, "pid", r.pid, "took", time.Since(began).Round(time.Millisecond).String(), "quarantined", len(r.quarantine))
}

// confirmation is what must be seen before a generation counts as live.
type confirmation struct {
	gen  string
	mark int64 // where the error log ended before
	old  []int // workers that must stop accepting
	// unborn are those of old that had been on their way to become workers.
	unborn []int
	fresh  time.Time // when the first new worker was seen
}

const (
	// pollEvery is how often nginx is asked once a reload may be over. Until then
	// it needs the processor itself.
	pollEvery = 5 * time.Millisecond
	// masterWaits is how long the master waits before it retires the old workers by
	// itself (ngx_process_cycle.c).
	masterWaits = 100 * time.Millisecond
)

// confirm waits until nginx serves the generation, or has refused it. A signal
// has no answer, and a master that refuses goes on with what it has: only its
// error log says so.
func (r *runner) confirm(ctx context.Context, c confirmation) error {
	began := time.Now()
	limit := time.NewTimer(r.o.ConfirmTimeout)
	defer limit.Stop()
	look := time.NewTimer(r.usual / 2)
	defer look.Stop()
	var answered time.Time
	for {
		select {
		case <-r.gone:
			return &trouble{
				code: "nginx-died", text: fmt.Sprintf("nginx (process %d) ended while it loaded generation %s", r.pid, c.gen),
				hint: "read nginx's error log; it is started again",
			}
		case <-limit.C:
			return r.refusedReload(emergSince(r.o.LogDir, c.mark))
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
			look.Reset(pollEvery)
		}
		if !r.anyAccepting(&c) && r.door.generation(ctx) == c.gen {
			if answered.IsZero() {
				answered = time.Now()
			}
			if !r.unanswered || r.onlyOnce() || time.Since(answered) > onlyOnceWithin {
				r.usual = min(time.Since(began), time.Second)
				return nil
			}
		}
		if text := emergSince(r.o.LogDir, c.mark); refusedFor(text) {
			return r.refusedReload(text)
		}
	}
}

// anyAccepting says whether one of the old workers still takes new connections, and
// lets them stop as soon as a new one does. Left to itself, the master waits for
// masterWaits, and the kernel wakes the oldest waiting worker first, so that the new
// generation is there and nobody sees it. The reload is not over before as many new ones
// accept: one that is not born yet when the next reload begins would be taken for one
// of that. The master takes no notice of a worker that ends before it has told it to: it holds
// back the signals of its children until then.
func (r *runner) anyAccepting(c *confirmation) bool {
	if len(c.old) == 0 {
		return false
	}
	isOld := func(pid int) bool { return slices.Contains(c.old, pid) }
	unborn := c.unborn
	if len(unborn) > 0 { // asked before the workers, so that nobody is missed who becomes one meanwhile
		unborn = r.way.unborn(r.pid)
	}
	active, _ := r.way.workers(r.pid)
	left, fresh := split(active, isOld)
	waiting := len(left) > 0 || slices.ContainsFunc(unborn, isOld)
	if len(fresh) == 0 {
		return waiting
	}
	if c.fresh.IsZero() {
		c.fresh = time.Now()
	}
	for _, pid := range left {
		if err := r.way.retire(pid); err != nil {
			r.log.Debug("old worker left to the master", "pid", pid, "err", err)
		}
	}
	return waiting || len(fresh) < len(c.old) && time.Since(c.fresh) < masterWaits
}

// split returns those that are so, and the others.
func split(pids []int, is func(int) bool) (these, others []int) {
	for _, pid := range pids {
		if is(pid) {
			these = append(these, pid)
		} else {
			others = append(others, pid)
		}
	}
	return these, others
}

// onlyOnceWithin is how long a master that was told to reload more than once
// has to retire what it made of the times before; it does so after masterWaits.
const onlyOnceWithin = 300 * time.Millisecond

// onlyOnce reports whether no more workers accept than did while all was well. A
// master that wakes with an older reload to do makes workers of that one too, which
// nobody knows as old ones and which answer until the master retires them.
func (r *runner) onlyOnce() bool {
	active, _ := r.way.workers(r.pid)
	return len(active) <= r.crew
}

// refusedFor says whether the log's text is a final no: while nginx waits for a
// busy port it says so up to five times, and it calls it an emergency when a socket
// that it closes is gone already.
func refusedFor(text string) bool {
	for _, m := range emergLine.FindAllStringSubmatch(text, -1) {
		if !strings.HasPrefix(m[1], "bind() to ") && !strings.HasPrefix(m[1], "unlink() ") {
			return true
		}
	}
	return false
}

func (r *runner) refusedReload(text string) error {
	if t := portTrouble(r.way.net(), text); t != nil {
		return t
	}
	reason := lastEmerg(text)
	if reason == "" {
		reason = fmt.Sprintf("the new generation did not answer within %v", r.o.ConfirmTimeout)
	}
	return &trouble{
		code: "reload-refused", text: "nginx did not load the new configuration: " + reason,
		hint: "nginx goes on with the one before; if the message is about a changed zone or key, restart nginx (nagaya starts it again by itself when it is stopped)",
	}
}

// logEnd returns the size of the error log.
func logEnd(logDir string) int64 {
	if logDir == "" {
		return 0
	}
	info, err := os.Stat(nginx.ErrorLog(logDir))
	if err != nil {
		return 0
	}
	return info.Size()
}

// emergSince returns what the error log got since mark, at most 64 KiB of it.
func emergSince(logDir string, mark int64) string {
	if logDir == "" {
		return ""
	}
	f, err := os.Open(filepath.Clean(nginx.ErrorLog(logDir)))
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() == mark {
		return ""
	} else if info.Size() < mark {
		mark = 0 // it was rotated
	}
	b, err := io.ReadAll(io.NewSectionReader(f, mark, 64<<10))
	if err != nil {
		return ""
	}
	return string(b)
}

// withoutRefused returns the tree with every site that is in quarantine, and
// has not changed, replaced by its last good file or left out. It forgets those
// that changed or are not wanted any more.
func (r *runner) withoutRefused(wanted nginx.Tree) nginx.Tree {
	tree := wanted
	for host, q := range r.quarantine {
		site, ok := wanted.Site(host)
		switch {
		case !ok || site != q.site:
			delete(r.quarantine, host)
		case q.good.Host != "":
			tree = tree.With(q.good)
		default:
			tree = tree.Without(host)
		}
	}
	return tree
}

// remember puts sites into quarantine.
func (r *runner) remember(sites []refused) {
	for _, q := range sites {
		if was, ok := r.quarantine[q.site.Host]; ok {
			q.site = was.site // the refused file was already its last good one
		}
		r.quarantine[q.site.Host] = q
		r.log.Warn("site refused by nginx", event.Key, event.SiteRefused, "host", q.site.Host, "err", q.reason, "last_good", q.good.Host != "")
	}
	if len(sites) > 0 {
		r.retryAt = time.Now().Add(r.o.RetryQuarantine)
	}
}
