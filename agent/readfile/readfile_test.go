package readfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	file, pipe := filepath.Join(dir, "file"), filepath.Join(dir, "pipe")
	if err := os.WriteFile(file, []byte("1234"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, read := range map[string]func(string, int64) ([]byte, error){"any": Any, "regular": Regular} {
		if got, err := read(file, 4); err != nil || string(got) != "1234" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if _, err := read(file, 3); err == nil || !strings.Contains(err.Error(), "larger than 3 bytes") {
			t.Errorf("%s: a file that is too large: %v", name, err)
		}
		if _, err := read(file+"x", 4); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a file that is not there: %v", name, err)
		}
	}
	if _, err := Regular(pipe, 4); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a pipe: %v", err)
	}
	if _, err := Regular(dir, 4); err == nil {
		t.Error("a directory was read")
	}
}
