package proc

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Protect closes this process's memory, environment and files to other processes of its
// user (PR_SET_DUMPABLE(2const)), such as an nginx that is its child and faces the Internet,
// while the agent may use Docker. Children are not protected; they do not get the right to
// signal other users' processes (PR_CAP_AMBIENT(2const)). Root needs no permission.
func Protect() error {
	if os.Geteuid() == 0 {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("closing the process to others of its user: %w", err)
	}
	// Each thread has capabilities of its own. With cgo, as tests may be built, this is not
	// possible; the binary is built without.
	_, _, err := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_LOWER, unix.CAP_KILL, 0, 0, 0)
	if err != 0 && err != syscall.ENOTSUP {
		return fmt.Errorf("keeping CAP_KILL from children: %w", err)
	}
	return nil
}
