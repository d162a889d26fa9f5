package proc

import (
	"fmt"
	"os"
	"syscall"
)

// AsOwnerOf does something as root in the name of the user and group that have a directory, so that
// what it writes is theirs, and what it may read is what they may. Who is not root does it as itself; so does
// root where the directory is not there, or its own. Nothing else may run meanwhile: it is for the whole process.
func AsOwnerOf(dir string, do func() error) (err error) {
	info, err := os.Stat(dir)
	if os.Geteuid() != 0 || err != nil {
		return do()
	}
	owner := info.Sys().(*syscall.Stat_t)
	if owner.Uid == 0 {
		return do()
	}
	// The real ids stay, by which root comes back.
	if err := syscall.Setregid(-1, int(owner.Gid)); err != nil {
		return fmt.Errorf("acting as the group of %s: %w", dir, err)
	}
	if err := syscall.Setreuid(-1, int(owner.Uid)); err != nil {
		return fmt.Errorf("acting as the owner of %s: %w", dir, err)
	}
	defer func() {
		again := syscall.Setreuid(-1, 0)
		if again == nil {
			again = syscall.Setregid(-1, 0)
		}
		if err == nil && again != nil {
			err = fmt.Errorf("being root again: %w", again)
		}
	}()
	return do()
}
