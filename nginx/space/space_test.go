package space

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// smallDisk mounts a file system of 8 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	testenv.NeedRoot(t)
	dir := t.TempDir()
	testenv.Need(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"))
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill writes a file of that many bytes.
func fill(t *testing.T, file string, size int) {
	t.Helper()
	if err := os.WriteFile(file, make([]byte, size), 0o600); err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

func reserveOf(t *testing.T, dir string) (size int64) {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, "nagaya-reserve"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err == nil {
		size = info.Size()
	}
	return size
}

// What is low is put once, and again when it changes, after a minute at the earliest. A reserve is made
// while there is room.
func TestWatch(t *testing.T) {
	dir, other := smallDisk(t), smallDisk(t)
	ballast := filepath.Join(dir, "ballast")
	synctest.Test(t, func(t *testing.T) {
		var (
			mu  sync.Mutex // virtual time alone orders nothing for the race detector
			got [][2]bool
		)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- Watch(ctx, Options{Logs: dir, Temp: other, State: dir}, func(s nginx.Spaces) {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, [2]bool{s.Logs.Low, s.Temp.Low})
			})
		}()
		pass := func(d time.Duration, when string, want ...[2]bool) {
			t.Helper()
			time.Sleep(d) // virtual: in a bubble
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(got, want) {
				t.Fatalf("%s: %v, want %v", when, got, want)
			}
		}
		pass(time.Second, "at first")
		if got := reserveOf(t, dir); got != 8<<20/20/4 {
			t.Errorf("a reserve of %d bytes", got)
		}
		fill(t, ballast, 8<<20)
		logs := [2]bool{true, false}
		pass(10*time.Second, "full", logs)
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		pass(50*time.Second, "less than a minute later", logs)
		pass(10*time.Second, "a minute later", logs, [2]bool{})
		if err := os.Remove(filepath.Join(dir, "nagaya-reserve")); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute, "it was given up", logs, [2]bool{})
		if reserveOf(t, dir) == 0 {
			t.Error("there is no other reserve")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// What cannot be looked at is not low, and where nothing may be changed no reserve is made.
func TestWatchWithoutDirectories(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		here, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		if err := Watch(ctx, Options{Temp: "/nowhere/at/all"}, func(s nginx.Spaces) { t.Errorf("put %+v", s) }); err != nil {
			t.Error(err)
		}
		if reserveOf(t, here) != 0 {
			t.Error("a reserve in the working directory")
		}
	})
}
