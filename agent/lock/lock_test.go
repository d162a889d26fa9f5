package lock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestLock(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	first, err := Take(file)
	if err != nil {
		t.Fatal(err)
	}
	if !first.InPlace() {
		t.Error("a new lock is not in place")
	}
	_, err = Take(file)
	if held, ok := errors.AsType[*HeldError](err); !ok || *held != (HeldError{file, strconv.Itoa(os.Getpid())}) {
		t.Errorf("a second one: %v", err)
	}
	first.Release()
	again, err := Take(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if again.InPlace() {
		t.Error("a removed lock is in place")
	}
	other, err := Take(file)
	if err != nil {
		t.Fatal(err)
	}
	if again.InPlace() || !other.InPlace() {
		t.Error("a replaced lock is in place, or the one that replaced it is not")
	}
	again.Release()
	other.Release()
	if _, err := Take(file + "/beneath"); err == nil {
		t.Error("a file beneath a file was locked")
	} else if _, held := errors.AsType[*HeldError](err); held {
		t.Errorf("it is held by somebody: %v", err)
	}
}

// Whoever can open a file can lock it, and would keep the agent from starting again.
func TestLockIsClosedToOthers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	for _, as := range []string{"new", "of an older version"} {
		l, err := Take(file)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", as, info.Mode(), err)
		}
		l.Release()
		if err := os.Chmod(file, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestState(t *testing.T) {
	dir := t.TempDir()
	unlock, err := State(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := State(dir); err == nil || !strings.Contains(err.Error(), "another agent") || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("got %v, want an error with the process that holds it", err)
	}
	unlock()
	again, err := State(dir)
	if err != nil {
		t.Fatal(err)
	}
	again()
	dir += "/missing"
	if unlock, err := State(dir); err != nil {
		t.Errorf("a directory that cannot be locked: %v", err)
	} else {
		unlock()
	}
}
