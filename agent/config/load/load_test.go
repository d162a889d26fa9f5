package load

import (
	"context"
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

func TestWatchSeesEveryWayToChangeAFile(t *testing.T) {
	for name, poll := range map[string]time.Duration{"by inotify": time.Hour, "by polling": 20 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if name == "by polling" {
				dir = filepath.Join(dir, "later") // does not exist when the watch begins
			}
			path := filepath.Join(dir, "nagaya.yaml")
			ctx, cancel := context.WithCancel(t.Context())
			changed := make(chan struct{}, 100)
			done := make(chan error, 1)
			go func() {
				done <- Watch(ctx, path, poll, slog.New(slog.DiscardHandler), func() { changed <- struct{}{} })
			}()
			steps := []func() error{
				func() error { _ = os.MkdirAll(dir, 0o755); return os.WriteFile(path, []byte("a: 1"), 0o600) },
				func() error { return os.WriteFile(path, []byte("a: 22"), 0o600) },
				func() error {
					if err := os.WriteFile(path+".new", []byte("a: 333"), 0o600); err != nil {
						return err
					}
					return os.Rename(path+".new", path)
				},
				func() error { return os.Remove(path) },
			}
			for i, step := range steps {
				// The watch begins at its own time: the first step is repeated until it was seen.
				patience := 20 * time.Second
				if i == 0 {
					patience = 500 * time.Millisecond
				}
				for seen := false; !seen; {
					if err := step(); err != nil {
						t.Fatal(err)
					}
					select {
					case <-changed:
						seen = true
					case <-time.After(patience):
						if i > 0 {
							t.Fatalf("step %d was not seen", i)
						}
						_ = os.Remove(path)
					}
				}
				for len(changed) > 0 {
					<-changed
				}
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}
