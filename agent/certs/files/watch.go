// Package files finds certificates in a directory, checks them, and notices
// when they change.
package files

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Options say where the certificates are.
type Options struct {
	// Dir holds <name>.crt and <name>.key, <name>.pem and <name>.key, one <name>.pem
	// with both, or <name>/fullchain.pem and <name>/privkey.pem. Symbolic links
	// are followed. Empty means that there are no certificates.
	Dir string
	// Log receives one line for every new inventory; nil discards.
	Log *slog.Logger
	// Recheck is how often the files are read without a sign of change, for
	// expiry and for file systems that give no signs. Zero means 1 h.
	Recheck time.Duration
	// Settle is how long the directory must be quiet before it is read, so that a
	// certificate and its key are seen together. Zero means 200 ms.
	Settle time.Duration
	// Poll is how often a directory that is not there is looked for. Zero means 2 s.
	Poll time.Duration
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Recheck <= 0 {
		o.Recheck = time.Hour
	}
	if o.Settle <= 0 {
		o.Settle = 200 * time.Millisecond
	}
	if o.Poll <= 0 {
		o.Poll = 2 * time.Second
	}
	return o
}

// maxSettle is how often Settle may be waited for in a row: a directory that is
// written to without pause is read all the same.
const maxSettle = 10

// Watch puts the inventory at once and whenever it changed, until ctx ends; then
// it returns nil. A directory that is not there is an empty, complete inventory.
// One that cannot be read leaves the last inventory in force, with the problem
// cert-unreadable. It returns an error when Dir cannot be made absolute.
func Watch(ctx context.Context, o Options, put func(certs.Inventory)) error {
	o = o.withDefaults()
	if o.Dir == "" {
		put(certs.Inventory{At: time.Now(), Complete: true, Pairs: []certs.Pair{}})
		<-ctx.Done()
		return nil
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return fmt.Errorf("certificate directory %q: %w", o.Dir, err)
	}
	o.Dir = dir
	w := &watch{Options: o, put: put}
	w.notify, err = fsnotify.NewWatcher()
	if err != nil {
		// Without inotify (its instances are limited) changes are found by Recheck.
		w.blind = fmt.Errorf("watching files: %w", err)
	} else {
		defer w.notify.Close()
	}
	for {
		w.look()
		if !w.wait(ctx) {
			return nil
		}
	}
}

type watch struct {
	Options
	put    func(certs.Inventory)
	notify *fsnotify.Watcher // nil when blind
	blind  error
	last   certs.Inventory
	asked  bool
}

// look reads the directory and puts the inventory if it differs from the last.
func (w *watch) look() {
	inv, dirs, err := scan(w.Dir, time.Now())
	if w.watchOnly(dirs) {
		// What changed before the watch began gave no sign.
		inv, _, err = scan(w.Dir, time.Now())
	}
	switch {
	case err != nil:
		inv = w.last
		inv.Problems = []problem.Problem{unreadable(w.Dir, err.Error(), "let the agent's user read the directory; until then the certificates known so far are used")}
	case w.blind != nil:
		inv.Problems = append(slices.Clone(inv.Problems), problem.Problem{
			Code: "cert-watch", Severity: problem.Warning, Subject: "certificate " + w.Dir,
			Text: fmt.Sprintf("changes are noticed only every %s (%q)", w.Recheck, w.blind),
			Hint: "raise fs.inotify.max_user_instances and fs.inotify.max_user_watches",
		})
	}
	if w.asked && same(inv, w.last) {
		return
	}
	w.asked, w.last = true, inv
	w.Log.Info("certificates read", event.Key, event.CertificatesRead, "dir", w.Dir, "pairs", len(inv.Pairs), "problems", len(inv.Problems), "complete", inv.Complete)
	w.put(inv)
}

func same(a, b certs.Inventory) bool {
	return a.Complete == b.Complete && slices.Equal(a.Problems, b.Problems) &&
		slices.EqualFunc(a.Pairs, b.Pairs, func(p, q certs.Pair) bool {
			return p.Name == q.Name && p.Fingerprint == q.Fingerprint && p.CertFile == q.CertFile && p.KeyFile == q.KeyFile
		})
}

// watchOnly watches dirs and nothing else; added is true when one is new.
func (w *watch) watchOnly(dirs []string) (added bool) {
	if w.notify == nil {
		return false
	}
	now := w.notify.WatchList()
	for _, d := range now {
		if !slices.Contains(dirs, d) {
			// It may be gone already; then there is nothing to remove.
			_ = w.notify.Remove(d)
		}
	}
	w.blind = nil
	for _, d := range dirs {
		if slices.Contains(now, d) {
			continue
		}
		if err := w.notify.Add(d); err != nil && !errors.Is(err, os.ErrNotExist) {
			w.blind = fmt.Errorf("watching %s: %w", d, err)
		} else {
			added = true
		}
	}
	return added
}

// wait returns when the directory should be read again; false when ctx ended.
func (w *watch) wait(ctx context.Context) bool {
	pause := w.Recheck
	if _, err := os.Stat(w.Dir); err != nil {
		pause = w.Poll
	}
	recheck := time.NewTimer(pause)
	defer recheck.Stop()
	var events <-chan fsnotify.Event
	var errs <-chan error
	if w.notify != nil {
		events, errs = w.notify.Events, w.notify.Errors
	}
	select {
	case <-ctx.Done():
		return false
	case <-recheck.C:
		return true
	case <-errs: // an overflow: something changed
	case <-events:
	}
	return w.settle(ctx, events)
}

func (w *watch) settle(ctx context.Context, events <-chan fsnotify.Event) bool {
	quiet := time.NewTimer(w.Settle)
	defer quiet.Stop()
	end := time.NewTimer(maxSettle * w.Settle)
	defer end.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-events:
			quiet.Reset(w.Settle)
		case <-quiet.C:
			return true
		case <-end.C:
			return true
		}
	}
}
