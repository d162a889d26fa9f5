package dirwatch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatcher(t *testing.T) {
	w, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	one, two := t.TempDir(), t.TempDir()
	for _, row := range []struct {
		dirs  []string
		added bool
	}{
		{[]string{one, one + "/missing", "/etc/passwd/below"}, true},
		{[]string{one}, false},
		{[]string{one, two}, true},
		{[]string{two}, false},
	} {
		if added, err := w.Only(row.dirs...); added != row.added || err != nil {
			t.Errorf("%v: added %v, %v", row.dirs, added, err)
		}
	}
	if err := os.RemoveAll(two); err != nil {
		t.Fatal(err)
	}
	if !w.Wait(t.Context(), time.Hour, time.Millisecond) {
		t.Fatal("the removal of a directory was not noticed")
	}
	if err := os.Mkdir(two, 0o700); err != nil {
		t.Fatal(err)
	}
	if added, err := w.Only(two); !added || err != nil {
		t.Errorf("a directory that was replaced: added %v, %v", added, err)
	}
	write := func(dir string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(two)
	if start := time.Now(); !w.Wait(t.Context(), time.Hour, time.Millisecond) || time.Since(start) > time.Minute {
		t.Error("a change was not noticed")
	}
	write(one)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if w.Wait(ctx, time.Hour, time.Millisecond) {
		t.Error("a directory that is not watched any more gave a sign")
	}
}

func TestFollow(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"/a/b", "/c"} {
		if err := os.MkdirAll(dir+d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for at, to := range map[string]string{"/c/b": "../a/b", "/a/b/up": "..", "/a/abs": dir + "/c/b", "/loop": "loop", "/c/dangling": "../none/x"} {
		if err := os.Symlink(to, dir+at); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]struct {
		real  string
		links []string
	}{
		"/a/b/x":       {"/a/b/x", nil},
		"/c/b":         {"/a/b", []string{"/c"}},
		"/a/abs/up/b/": {"/a/b", []string{"/a", "/c", "/a/b"}},
		"/c/dangling":  {"/none/x", []string{"/c"}},
		"/none/x":      {"/none/x", nil},
	} {
		real, links := Follow(dir + path)
		for i := range links {
			links[i] = strings.TrimPrefix(links[i], dir)
		}
		if strings.TrimPrefix(real, dir) != want.real || !slices.Equal(links, want.links) {
			t.Errorf("%s: %s, %q", path, real, links)
		}
	}
	if _, links := Follow(dir + "/loop/x"); len(links) != mostLinks {
		t.Errorf("a loop has %d links", len(links))
	}
}

func TestARelativePathIsThatOfTheWorkingDirectory(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for path, want := range map[string]string{".": dir, "x/y": dir + "/x/y"} {
		if real, _ := Follow(path); real != want {
			t.Errorf("%s: %s, want %s", path, real, want)
		}
	}
}

// A directory that a link leads to is watched once, also beside itself; and so is the link.
func TestLinks(t *testing.T) {
	w, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	one, two, at := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(one, at); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		if added, err := w.Only(one, at); added != want || err != nil {
			t.Errorf("added %v, %v", added, err)
		}
	}
	if err := errors.Join(os.Symlink(two, at+"2"), os.Rename(at+"2", at)); err != nil {
		t.Fatal(err)
	}
	if start := time.Now(); !w.Wait(t.Context(), time.Minute, time.Millisecond) || time.Since(start) >= time.Minute {
		t.Error("another link was not noticed")
	}
	if added, err := w.Only(one, at); !added || err != nil {
		t.Errorf("the new directory: added %v, %v", added, err)
	}
}

func TestADirectoryThatIsNeverQuiet(t *testing.T) {
	w, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	dir := t.TempDir()
	if _, err := w.Only(dir); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = os.WriteFile(filepath.Join(dir, "x"), nil, 0o600)
			}
		}
	}()
	if !w.Wait(t.Context(), time.Hour, 100*time.Millisecond) {
		t.Error("the wait ended with its context")
	}
}

func TestWithoutInotify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &Watcher{}
		defer w.Close()
		if added, err := w.Only("/"); added || err != nil {
			t.Errorf("added %v, %v", added, err)
		}
		if start := time.Now(); !w.Wait(t.Context(), time.Minute, time.Second) || time.Since(start) != time.Minute {
			t.Error("did not wait for a minute")
		}
	})
}
