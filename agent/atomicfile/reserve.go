package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// reserveName is the name of a file that only occupies space.
const reserveName = "nagaya-reserve"

// KeepReserve makes sure that a directory has a reserve of that size, in bytes. The error wraps
// that of fallocate(2), which not every file system has.
func KeepReserve(dir string, size int64) error {
	path := filepath.Join(dir, reserveName)
	if info, err := os.Lstat(path); err == nil && info.Size() >= size {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	err = syscall.Fallocate(int(f.Fd()), 0, 0, size)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(path)
	}
	return err
}

// WithReserve calls write, and once more if there was no space for it and a reserve in dir, or
// in a directory above it, can be given up.
func WithReserve(dir string, write func() error) error {
	err := write()
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return err
	}
	for ; ; dir = filepath.Dir(dir) {
		if os.Remove(filepath.Join(dir, reserveName)) == nil {
			return write()
		}
		if dir == filepath.Dir(dir) {
			return err
		}
	}
}
