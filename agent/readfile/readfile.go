// Package readfile reads whole files within bounds.
package readfile

import (
	"fmt"
	"io"
	"os"
)

// Any returns what a file, pipe or device holds. More than most bytes are an error.
func Any(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return text, err
}

// Regular is Any for regular files alone: opening a pipe would block.
func Regular(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return Any(path, most)
}
