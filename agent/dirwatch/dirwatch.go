// Package dirwatch waits until files in directories may have changed. It watches
// directories rather than files, because editors and packages replace a file rather than
// write into it.
package dirwatch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// maxSettle is how often the quiet time of Wait may begin again: a directory that is
// written to without pause is read all the same.
const maxSettle = 10

// Watcher watches directories by inotify, or nothing where the kernel has no instance of
// it left: then only the time-out of Wait finds changes.
type Watcher struct{ notify *fsnotify.Watcher }

// New returns a Watcher of no directory. The error says why nothing can be watched; the
// Watcher may be used all the same.
func New() (*Watcher, error) {
	n, err := fsnotify.NewWatcher()
	if err != nil {
		return &Watcher{}, fmt.Errorf("watching files: %w", err)
	}
	return &Watcher{n}, nil
}

// Close ends the watching.
func (w *Watcher) Close() {
	if w.notify != nil {
		w.notify.Close()
	}
}

// Only watches these directories and no others, wherever links lead to them, and those links; added is true when a
// directory is new, whose changes until now gave no sign. One that does not exist, or cannot below a file, is no error.
func (w *Watcher) Only(dirs ...string) (added bool, err error) {
	if w.notify == nil {
		return false, nil
	}
	var wanted []string
	for _, d := range dirs {
		real, links := Follow(d)
		wanted = append(append(wanted, links...), real)
	}
	slices.Sort(wanted)
	wanted = slices.Compact(wanted) // inotify has one watch for a directory
	watched := w.notify.WatchList()
	for _, d := range watched {
		if !slices.Contains(wanted, d) {
			_ = w.notify.Remove(d) // it may be gone already
		}
	}
	for _, d := range wanted {
		if e := w.notify.Add(d); e == nil { // again, as it may be another one by now
			added = added || !slices.Contains(watched, d)
		} else if !errors.Is(e, fs.ErrNotExist) && !errors.Is(e, syscall.ENOTDIR) {
			err = fmt.Errorf("watching %s: %w", d, e)
		}
	}
	return added, err
}

// mostLinks is how many links a path may lead through, as for the kernel (path_resolution(7)).
const mostLinks = 40

// Follow returns where a path leads, and the directories of the symbolic links on the way. What is not there is as if it
// were no link.
func Follow(path string) (real string, links []string) {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	rest := strings.Split(path, "/")
	real = "/"
	for len(rest) > 0 {
		next := filepath.Join(real, rest[0])
		rest = rest[1:]
		to, err := os.Readlink(next)
		if err != nil || len(links) == mostLinks {
			real = next
			continue
		}
		links = append(links, real)
		if filepath.IsAbs(to) {
			real = "/"
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
	return real, links
}

// Wait returns true when something may have changed: after a sign of that, once the
// directories were quiet for settle, or without one after limit. It returns false when
// ctx has ended.
func (w *Watcher) Wait(ctx context.Context, limit, settle time.Duration) bool {
	var events <-chan fsnotify.Event
	var lost <-chan error
	if w.notify != nil {
		events, lost = w.notify.Events, w.notify.Errors
	}
	due := time.NewTimer(limit)
	defer due.Stop()
	var end <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return false
		case <-due.C:
			return true
		case <-end:
			return true
		case <-events:
		case <-lost: // a full queue has lost events
		}
		if end == nil {
			end = time.After(maxSettle * settle)
		}
		due.Reset(settle)
	}
}
