package apply

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/nagaya-ecs/nagaya/agent/lock"
)

// ErrLocked is wrapped by the error of Run and Stop when another nagaya works in the
// state directory.
var ErrLocked = errors.New("another nagaya works in this state directory")

// lockDir takes the lock of a state directory, so that two agents never write the same
// nginx's files.
func lockDir(dir string) (*lock.Lock, error) {
	l, err := lock.Take(filepath.Join(dir, "lock"))
	if held, ok := errors.AsType[*lock.HeldError](err); ok {
		return nil, fmt.Errorf("%w: %w; stop it first, or give this one a directory of its own", ErrLocked, held)
	}
	return l, diskFault("locking "+dir, dir, err)
}

// relock takes the lock again when its file was removed.
func (s *store) relock() error {
	if s.lock == nil || s.lock.InPlace() {
		return nil
	}
	fresh, err := lockDir(s.dir)
	if err != nil {
		return err
	}
	s.lock.Release()
	s.lock = fresh
	return nil
}
