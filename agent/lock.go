package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/config"
)

// errTaken is wrapped by the error of a state directory that another agent works in.
var errTaken = errors.New("another agent works in this state directory")

// lockState keeps a second agent from what is kept here, and from telling anybody
// the contrary of what the first one tells. The kernel lets go when the process
// ends, however it ends. A directory that cannot be locked for another reason
// keeps nothing, which is reported by those who would keep something.
func lockState(c config.Config) (unlock func(), err error) {
	name := filepath.Join(c.StateDir, "lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if errors.Is(err, unix.EROFS) {
		f, err = os.Open(name)
	}
	if err != nil {
		return func() {}, nil
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		defer f.Close()
		holder := make([]byte, 32)
		n, _ := f.ReadAt(holder, 0)
		return nil, fmt.Errorf("%w: %s is locked by process %q; stop it, or set state-dir", errTaken, name, strings.TrimSpace(string(holder[:n])))
	}
	// Who holds it is for people only, so a full disk does not matter here.
	if f.Truncate(0) == nil {
		fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return func() { f.Close() }, nil
}
