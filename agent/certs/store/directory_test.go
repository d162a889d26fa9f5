package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/lock"
	"golang.org/x/sys/unix"
)

// Keys are in the files: nobody else may read them.
func TestModesOfFiles(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a", "store")
	s := Open(Options{Setting: root + "/"})
	_, err := s.Put(t.Context(), "certs/a.json", []byte("x"), "")
	must(t, err)
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		must(t, err)
		info, err := d.Info()
		must(t, err)
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s: mode %o, want %o", path, got, want)
		}
		return nil
	}))
}

// What is no file is unusable by itself alone, and is never waited for.
func TestForeignFiles(t *testing.T) {
	root := t.TempDir()
	s := Open(Options{Setting: root})
	_, err := s.Put(t.Context(), "certs/good", []byte("x"), "")
	must(t, err)
	must(t, unix.Mkfifo(filepath.Join(root, "certs/pipe"), 0o600))
	must(t, os.Mkdir(filepath.Join(root, "certs/dir"), 0o700))
	must(t, os.Symlink("nowhere", filepath.Join(root, "certs/link")))
	must(t, os.WriteFile(filepath.Join(root, "file"), nil, 0o600))
	all, err := s.List(t.Context(), "")
	must(t, err)
	if all["certs/good"] == "" || all["certs/pipe"] == "" {
		t.Errorf("objects: %v", all)
	}
	_, version, err := s.Get(t.Context(), "certs/pipe")
	if !errors.Is(err, certs.ErrUnusable) {
		t.Errorf("a pipe: %v", err)
	}
	_, err = s.Put(t.Context(), "certs/pipe", []byte("y"), version)
	must(t, err)
	if _, err = s.Put(t.Context(), "certs/dir", []byte("y"), all["certs/dir"]); err == nil || errors.Is(err, certs.ErrConflict) {
		t.Errorf("in place of a directory: %v", err)
	}
}

// A lock that another holds, or a file system that hangs, holds nothing up for longer than patience.
func TestDirectoryThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := t.TempDir()
		d := newDirectory(root)
		s := &Store{d}
		held, err := lock.Take(filepath.Join(root, lockName))
		must(t, err)
		started := time.Now()
		_, err = s.Put(t.Context(), "certs/a", []byte("x"), "")
		if e, ok := errors.AsType[*certs.StoreError](err); !ok || time.Since(started) != patience || !strings.Contains(e.Remedy, lockName) {
			t.Errorf("after %s: %v", time.Since(started), err)
		}
		time.Sleep(time.Second)
		held.Release()
		_, err = s.Put(t.Context(), "certs/a", []byte("x"), "")
		must(t, err)

		d.busy <- struct{}{} // an operation that never ends
		started = time.Now()
		if _, err := s.List(t.Context(), ""); err == nil || time.Since(started) != patience {
			t.Errorf("after %s: %v", time.Since(started), err)
		}
	})
}

func TestMain(m *testing.M) {
	if root := os.Getenv("TEST_STORE_WRITER"); root != "" {
		writeOn(root)
		return
	}
	os.Exit(m.Run())
}

// writeOn writes one object until it is killed, and says so each time that it has.
func writeOn(root string) {
	s := Open(Options{Setting: root})
	version := ""
	for n := 1; ; n++ {
		body := strings.Repeat(strconv.Itoa(n)+"\n", 2000)
		next, err := s.Put(context.Background(), "certs/a", []byte(body), version)
		if err != nil {
			fmt.Println(err)
			return
		}
		version = next
		fmt.Println(n)
	}
}

// A writer that is killed at any moment leaves a whole object that is not older than what it was told,
// and no lock.
func TestKilledWriter(t *testing.T) {
	exe, err := os.Executable()
	must(t, err)
	for kills := range 8 {
		root := t.TempDir()
		c := exec.CommandContext(t.Context(), exe)
		c.Env = append(os.Environ(), "TEST_STORE_WRITER="+root)
		out, err := c.StdoutPipe()
		must(t, err)
		must(t, c.Start())
		lines, told := bufio.NewScanner(out), 0
		for lines.Scan() {
			told, err = strconv.Atoi(lines.Text())
			must(t, err)
			if told == 3+kills {
				must(t, c.Process.Kill())
			}
		}
		_ = c.Wait()
		s := Open(Options{Setting: root})
		body, version, err := s.Get(t.Context(), "certs/a")
		must(t, err)
		first, _, _ := strings.Cut(string(body), "\n")
		if n, _ := strconv.Atoi(first); n < told || string(body) != strings.Repeat(first+"\n", 2000) {
			t.Errorf("after write %d there is a part of write %s", told, first)
		}
		_, err = s.Put(t.Context(), "certs/a", []byte("after"), version)
		must(t, err)
		if left, _ := os.ReadDir(filepath.Join(root, "certs")); len(left) != 1 {
			t.Errorf("files: %v", left)
		}
	}
}
