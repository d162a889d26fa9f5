package agent

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/lock"
)

// errTaken is wrapped by the error of a state directory that another agent works in.
var errTaken = errors.New("another agent works in this state directory")

// lockState keeps a second agent from the state directory, and from reporting the contrary of
// what the first one reports. A directory that cannot be locked for another reason
// keeps nothing, which is reported by the parts that would keep something there.
func lockState(c config.Config) (unlock func(), err error) {
	l, err := lock.Take(filepath.Join(c.StateDir, "lock"))
	if held, ok := errors.AsType[*lock.HeldError](err); ok {
		return nil, fmt.Errorf("%w: %w; stop it, or set state-dir", errTaken, held)
	}
	if err != nil {
		return func() {}, nil
	}
	return l.Release, nil
}
