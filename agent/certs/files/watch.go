// Package files finds certificates in a directory, checks them, and notices
// when they change.
package files

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/dirwatch"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Options say where the certificates are.
type Options struct {
	// Dir holds <name>.crt and <name>.key, <name>.pem and <name>.key, one <name>.pem
	// with both, or <name>/fullchain.pem and <name>/privkey.pem. Symbolic links
	// are followed. Empty means that there are no certificates.
	Dir string
	// Copies is where the copies are that nginx reads (type copies): of pairs in certs, of the
	// authorities for clients' certificates in clients. Empty makes none: nginx then reads the
	// files in Dir. With ReadOnly none is made or removed.
	Copies   string
	ReadOnly bool
	// Waiting makes Inventory.Waiting, which is kept beside the copies.
	Waiting bool
	// Issued is true where the files are those of certificates that were ordered: when they are renewed,
	// and what is wrong with that, is reported with the orders, and one that has expired may go.
	Issued bool
	// Used gives the names of the certificates of all sites. Without it no copy is removed
	// because its pair has gone.
	Used <-chan []string
	// Log receives one line for every new inventory; nil discards.
	Log *slog.Logger
	// Settle is how long the directory must be quiet before it is read, so that a
	// certificate and its key are seen together. Zero means 200 ms.
	Settle time.Duration
	// Poll is how often a directory that is not there, or cannot be read, is looked at.
	// Zero means 2 s.
	Poll time.Duration
}

// recheck is how often the files are read without a sign of change, for expiry and for file systems without
// notifications.
const recheck = time.Hour

// copyAgain is how often it is tried to make a copy that could not be made: that there is space gives no sign.
const copyAgain = time.Minute

// Watch puts the inventory at once and whenever it changed, until ctx ends; then
// it returns nil. A directory that is not there is an empty, complete inventory.
// One that cannot be read leaves the last inventory in force, with the problem
// cert-unreadable. It returns an error when Dir cannot be made absolute.
func Watch(ctx context.Context, o Options, put func(certs.Inventory)) error {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.Settle, o.Poll = cmp.Or(o.Settle, 200*time.Millisecond), cmp.Or(o.Poll, 2*time.Second)
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
	w := &watch{Options: o, kept: keptIn(o.Copies, o.ReadOnly), put: put}
	w.kept.pairs.issued = o.Issued
	w.notify, w.blind = dirwatch.New()
	defer w.notify.Close()
	for {
		if !w.notify.Wait(ctx, w.update(), w.Settle) {
			return nil
		}
	}
}

// kept are the copies that are made.
type kept struct{ pairs, clients copies }

func keptIn(dir string, readOnly bool) kept {
	k := kept{
		copies{what: "certificate", giveUp: "to give it up (nagaya.tls=off opens its hosts over plain HTTP)", readOnly: readOnly},
		copies{what: "client authority", giveUp: "to ask clients for certificates no more", readOnly: readOnly},
	}
	if dir != "" {
		k.pairs.dir, k.clients.dir = filepath.Join(dir, "certs"), filepath.Join(dir, "clients")
	}
	return k
}

type watch struct {
	Options
	kept   kept
	put    func(certs.Inventory)
	notify *dirwatch.Watcher
	blind  error // why there is no inotify, whose instances are limited
	last   certs.Inventory
	asked  bool
}

// maxReads is how often one update reads the directory.
const maxReads = 3

// update reads the directory and puts the inventory if it differs from the last. It returns when to read again without a
// sign: soon, unless the directory was read and nothing watched is new.
func (w *watch) update() (pause time.Duration) {
	pause = w.Poll
	select {
	case w.kept.pairs.used = <-w.Used:
	default:
	}
	var inv certs.Inventory
	var err, blind error
	for range maxReads {
		var dirs []string
		var added bool
		inv, dirs, err = scan(w.Dir, w.kept, time.Now())
		if added, blind = w.notify.Only(dirs...); !added {
			if slices.Contains(dirs, w.Dir) {
				pause = recheck
			}
			break
		}
		// What changed before a watch began gave no sign.
	}
	if w.Waiting && w.Copies != "" {
		var p *problem.Problem
		if inv.Waiting, p = waiting(w.Copies, w.ReadOnly, time.Now()); p != nil {
			inv.Problems = append(inv.Problems, *p)
		}
	}
	if err == nil && w.isUncopied(inv) {
		pause = min(pause, copyAgain)
	}
	blind = cmp.Or(w.blind, blind)
	switch {
	case err != nil:
		inv = w.last
		inv.Problems = []problem.Problem{*unreadable(w.Dir, err.Error(), "let the agent's user read the directory; until then the certificates known so far are used")}
	case blind != nil:
		const hint = "raise fs.inotify.max_user_instances and fs.inotify.max_user_watches"
		p := problem.Of("certificate "+w.Dir, "cert-watch", hint, "changes are noticed only every %s (%q)", recheck, blind)
		inv.Problems = append(slices.Clone(inv.Problems), p.AsWarning())
	}
	if w.asked && same(inv, w.last) {
		return pause
	}
	w.asked, w.last = true, inv
	w.Log.Info("certificates read", event.Key, event.CertificatesRead, "dir", w.Dir, "pairs", len(inv.Pairs), "problems", len(inv.Problems), "complete", inv.Complete)
	w.put(inv)
	return pause
}

// isUncopied reports whether there is something without the copy that it should have.
func (w *watch) isUncopied(inv certs.Inventory) bool {
	isOriginal := func(file string) bool { return file != "" && !strings.HasPrefix(file, w.Copies+"/") }
	return w.Copies != "" && !w.ReadOnly && (w.Waiting && inv.Waiting.CertFile == "" ||
		slices.ContainsFunc(inv.Pairs, func(p certs.Pair) bool { return isOriginal(p.CertFile) }) ||
		slices.ContainsFunc(inv.Authorities, func(a certs.Authority) bool { return isOriginal(a.CAFile) }))
}

// same reports whether two inventories differ by their times alone.
func same(a, b certs.Inventory) bool {
	a.At = b.At
	return reflect.DeepEqual(a, b)
}
