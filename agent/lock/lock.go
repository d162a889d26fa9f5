// Package lock keeps a second process from what only one can do. The kernel releases a
// lock when the process ends, however it ends.
package lock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

// HeldError is the error of a lock that another process holds.
type HeldError struct {
	File   string // the lock's file
	Holder string // the number of the process that holds it, as it says itself
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("%s is locked by process %q", e.File, e.Holder)
}

// Lock is a file that this process has locked.
type Lock struct{ f *flock.Flock }

// Take locks a file, which it makes where there is none and closes to other users, and
// writes the number of this process into it. On a read-only file system an existing file is
// locked. The error is a *HeldError where another process holds the lock, else that of the
// file system.
func Take(file string) (*Lock, error) {
	f := flock.New(file, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	locked, err := f.TryLock()
	if errors.Is(err, unix.EROFS) {
		f = flock.New(file, flock.SetFlag(os.O_RDONLY))
		locked, err = f.TryLock()
	}
	if err != nil {
		return nil, err
	}
	if !locked {
		holder, _ := os.ReadFile(file)
		return nil, &HeldError{file, strings.TrimSpace(string(holder[:min(len(holder), 32)]))}
	}
	// Another user who can open the file can lock it. It may be an older version's.
	_ = os.Chmod(file, 0o600)
	// The number is for people only, so a full disk does not matter here.
	_ = os.WriteFile(file, fmt.Appendln(nil, os.Getpid()), 0o600)
	return &Lock{f}, nil
}

// InPlace reports whether the locked file is still the one that others would lock: not
// if it was removed or replaced.
func (l *Lock) InPlace() bool {
	locked, err := l.f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(l.f.Path())
	return err == nil && os.SameFile(locked, there)
}

// Release unlocks the file and leaves it where it is.
func (l *Lock) Release() { _ = l.f.Close() }

// State keeps a second agent from a state directory, and from reporting the contrary of what the
// first one reports. A directory that cannot be locked for another reason keeps nothing, which is
// reported by the parts that would keep something there.
func State(dir string) (unlock func(), err error) {
	l, err := Take(filepath.Join(dir, "lock"))
	if held, ok := errors.AsType[*HeldError](err); ok {
		return nil, fmt.Errorf("another agent works in this state directory: %w; stop it, or set state-dir", held)
	}
	if err != nil {
		return func() {}, nil
	}
	return l.Release, nil
}
