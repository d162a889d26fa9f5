// Package atomicfile replaces files as a whole: after a crash at any moment a file is
// either the old or the new one. A reserve is space for that on a full file system.
package atomicfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
)

// maxJSON bounds the JSON of a file, in bytes. The longest is the table of routes, whose words are those of containers: 2,048
// routes with the longest path and 64 networks each have some 8 MiB, and each of their containers adds to that.
const maxJSON = 32 << 20

// Write gives path this text and exactly these permissions. It uses the reserve of its
// directory, if need be.
func Write(path string, text []byte, perm fs.FileMode) error {
	return WithReserve(filepath.Dir(path), func() error { return replace(path, text, perm) })
}

func replace(path string, text []byte, perm fs.FileMode) error {
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(perm))
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// WriteJSON gives path the JSON of v, for its owner alone. What ReadJSON would not read is an error.
func WriteJSON(path string, v any) error {
	text, err := json.Marshal(v)
	if err == nil && len(text) > maxJSON {
		err = fmt.Errorf("it would have %d bytes, and %d are read", len(text), maxJSON)
	}
	if err != nil {
		return err
	}
	return Write(path, text, 0o600)
}

// ReadJSON reads the JSON in path into v, up to 32 MiB, and removes what a killed writer
// left beside it a minute ago or longer. A file that is missing leaves v as it is and is no error. After an error
// v may be half filled.
func ReadJSON(path string, v any) error {
	removeLeftovers(path)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxJSON))
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return nil
}

// leftAfter is how old a temporary file is whose writer was killed.
const leftAfter = time.Minute

// removeLeftovers removes the temporary files of path. Their names end in a number; those
// of nagaya 0.1 have a dot before it.
func removeLeftovers(path string) {
	hidden := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	for _, pattern := range []string{"[0-9]*", ".[0-9]*"} {
		left, _ := filepath.Glob(hidden + pattern) // a path that is no pattern has none
		for _, file := range left {
			// One that reads may not be the one that writes.
			if info, err := os.Lstat(file); err == nil && time.Since(info.ModTime()) > leftAfter {
				_ = os.Remove(file) // tried again at the next read
			}
		}
	}
}

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
