package proc

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Protect closes this process's memory, environment and files to other processes of its
// user (PR_SET_DUMPABLE(2const)). nginx is one: it faces the Internet, while the agent may
// use Docker. Children are not protected, and root needs no permission.
func Protect() error {
	if os.Geteuid() == 0 {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("closing the process to others of its user: %w", err)
	}
	return nil
}
