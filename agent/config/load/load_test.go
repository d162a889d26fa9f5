package load

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "nagaya.yaml")
	if values, err := File(path, false); err != nil || values != nil {
		t.Errorf("absent and not required: %v, %v", values, err)
	}
	if _, err := File(path, true); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("absent and required: %v; want an error with the path", err)
	}
	if err := os.WriteFile(path, []byte("log-level: warn\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	values, err := File(path, true)
	if err != nil || len(values) != 1 || values[0].Where != path+":1" {
		t.Errorf("got %v, %v", values, err)
	}
}

// The file may have changed between the reading and the watch, so it is read again when that has begun.
func TestWatchSeesEveryWayToChangeAFile(t *testing.T) {
	for name, poll := range map[string]time.Duration{"by inotify": time.Hour, "by polling": 20 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if name == "by polling" {
				dir = filepath.Join(dir, "later") // does not exist when the watch begins
			}
			path := filepath.Join(dir, "nagaya.yaml")
			ctx, cancel := context.WithCancel(t.Context())
			changed := make(chan string, 100)
			done := make(chan error, 1)
			go func() {
				done <- Watch(ctx, path, poll, slog.New(slog.DiscardHandler), func() {
					text, _ := os.ReadFile(path)
					changed <- string(text)
				})
			}()
			for i, step := range []struct {
				do   func() error
				text string
			}{
				{func() error { return nil }, ""},
				{func() error { _ = os.MkdirAll(dir, 0o755); return os.WriteFile(path, []byte("a: 1"), 0o600) }, "a: 1"},
				{func() error { return os.WriteFile(path, []byte("a: 22"), 0o600) }, "a: 22"},
				{func() error {
					return errors.Join(os.WriteFile(path+".new", []byte("a: 333"), 0o600), os.Rename(path+".new", path))
				}, "a: 333"},
				{func() error { return os.Remove(path) }, ""},
			} {
				if err := step.do(); err != nil {
					t.Fatal(err)
				}
				for late, seen := time.After(20*time.Second), false; !seen; {
					select {
					case text := <-changed:
						seen = text == step.text
					case <-late:
						t.Fatalf("step %d was not seen", i)
					}
				}
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}
