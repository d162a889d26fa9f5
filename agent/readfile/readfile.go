// Package readfile reads whole files within bounds.
package readfile

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

// Any returns what a file, pipe or device holds. More than most bytes are an error.
func Any(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return all(f, most)
}

// Regular is Any for regular files alone.
func Regular(path string, most int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return all(f, most)
}

// Open opens a regular file. A pipe would block whoever opens it, and a device may have no end:
// who can write to the directory could put one in the file's place.
func Open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func all(f *os.File, most int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s is larger than %d bytes", f.Name(), most)
	}
	return text, err
}
