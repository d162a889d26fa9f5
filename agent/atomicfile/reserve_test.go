package atomicfile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// On a full file system one write has the space of the reserve.
func TestReserve(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	testenv.Need(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"))
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	below := filepath.Join(dir, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second changes nothing
		if err := KeepReserve(dir, 128<<10); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the file system: %v", err)
	}
	if err := KeepReserve(dir, 256<<10); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a larger reserve: %v", err)
	}
	if err := KeepReserve(dir, 128<<10); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(below, "x.json")
	text := bytes.Repeat([]byte("x"), 100<<10)
	if err := Write(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, text) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	if err := Write(path, text, 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("without a reserve: %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, text) {
		t.Errorf("the file from before has %d bytes, %v", len(got), err)
	}
}

// Another error costs no reserve, and what is no reserve is left alone.
func TestReserveIsForLackOfSpace(t *testing.T) {
	dir := t.TempDir()
	if err := KeepReserve(dir, 4096); err != nil {
		testenv.Need(t, err)
	}
	calls := 0
	err := WithReserve(dir, func() error { calls++; return syscall.EROFS })
	if !errors.Is(err, syscall.EROFS) || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
	if _, err := os.Stat(filepath.Join(dir, reserveName)); err != nil {
		t.Error(err)
	}
}
