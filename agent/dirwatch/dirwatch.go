// Package dirwatch waits until files in directories may have changed. It watches
// directories rather than files, because editors and packages replace a file rather than
// write into it.
package dirwatch

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// maxSettle is how often the quiet time of Wait may begin again: a directory that is
// written to without pause is read all the same.
const maxSettle = 10

// Watcher watches directories by inotify(7), or nothing where the kernel has no instance of
// it left: then only the time-out of Wait finds changes.
type Watcher struct {
	queue   *os.File
	watched map[string]int // the number of each directory's watch; another directory of that path gets another one
	signs   chan struct{}
}

// signs of a change in a directory, or of the directory itself.
const signs = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF

// New returns a Watcher of no directory. The error says why nothing can be watched; the
// Watcher may be used all the same.
func New() (*Watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return &Watcher{}, fmt.Errorf("watching files: %w", err)
	}
	w := &Watcher{queue: os.NewFile(uintptr(fd), "inotify"), signs: make(chan struct{}, 1)}
	go w.read()
	return w, nil
}

// Close ends the watching.
func (w *Watcher) Close() { w.queue.Close() } // of a nil file does nothing

// read turns events into signs until the queue is closed. A library would have the names of files too, with a
// buffer of 64 KiB on the stack of each watcher.
func (w *Watcher) read() {
	buf := make([]byte, 4<<10)
	for {
		n, err := w.queue.Read(buf)
		if err != nil {
			return
		}
		changed := false
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			mask, name := binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint32(b[12:])
			changed = changed || mask != unix.IN_IGNORED // the end of a watch; a full queue has lost events
			b = b[unix.SizeofInotifyEvent+name:]
		}
		if changed {
			select {
			case w.signs <- struct{}{}:
			default:
			}
		}
	}
}

// Only watches these directories and no others; added is true when one is new, whose
// changes until now gave no sign. One that does not exist is no error. One goroutine calls it.
func (w *Watcher) Only(dirs ...string) (added bool, err error) {
	if w.queue == nil {
		return false, nil
	}
	raw, err := w.queue.SyscallConn()
	if err != nil {
		return false, fmt.Errorf("watching files: %w", err)
	}
	before := w.watched
	w.watched = map[string]int{}
	failed := raw.Control(func(fd uintptr) {
		for _, d := range dirs {
			number, e := unix.InotifyAddWatch(int(fd), d, signs)
			if e == nil {
				old, was := before[d]
				added = added || !was || old != number
				w.watched[d] = number
			} else if !errors.Is(e, fs.ErrNotExist) {
				err = fmt.Errorf("watching %s: %w", d, e)
			}
		}
		kept := slices.Collect(maps.Values(w.watched))
		for _, number := range before {
			if !slices.Contains(kept, number) {
				_, _ = unix.InotifyRmWatch(int(fd), uint32(number)) // it may be gone already
			}
		}
	})
	return added, cmp.Or(err, failed)
}

// Wait returns true when something may have changed: after a sign of that, once the
// directories were quiet for settle, or without one after limit. It returns false when
// ctx has ended.
func (w *Watcher) Wait(ctx context.Context, limit, settle time.Duration) bool {
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
		case <-w.signs:
		}
		if end == nil {
			end = time.After(maxSettle * settle)
		}
		due.Reset(settle)
	}
}
