package install

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrLocked is wrapped by Run's error when another nagaya holds the state directory.
var ErrLocked = errors.New("another nagaya works in this state directory")

// lock is the lock of a state directory, so that two agents never write the same
// nginx's files. The kernel lets go of it when the process ends, however it ends.
type lock struct{ f *os.File }

func (l *lock) unlock() { l.f.Close() }

// holds reports whether the lock's file is still where others look for it.
func (l *lock) holds() bool {
	ours, err := l.f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(l.f.Name())
	return err == nil && os.SameFile(ours, there)
}

// lockStore takes the lock of a state directory. On a read-only file system the lock
// of before is taken.
func lockStore(dir string) (*lock, error) {
	name := filepath.Join(dir, "lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if errors.Is(err, unix.EROFS) {
		f, err = os.Open(name)
	}
	if err != nil {
		return nil, diskTrouble("opening "+name, dir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			holder := make([]byte, 32)
			n, _ := f.ReadAt(holder, 0)
			return nil, fmt.Errorf("%w: %s is locked by process %q; stop it first, or give this one a directory of its own", ErrLocked, name, strings.TrimSpace(string(holder[:n])))
		}
		return nil, diskTrouble("locking "+name, dir, err)
	}
	// Who holds it is for people only, so a full disk does not matter here.
	if f.Truncate(0) == nil {
		fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return &lock{f}, nil
}
