package dirwatch

import (
	"context"
	"os"
	"path/filepath"
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
		{[]string{one, one + "/missing"}, true},
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
