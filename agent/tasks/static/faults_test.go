package static

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// The kernel forgets events when nobody takes them: what stands in the files at the end
// is read all the same.
func TestFaultInotifyQueueOverflow(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Fatal(err)
	}
	var most int
	if _, err := fmt.Sscan(string(text), &most); err != nil || most > 1<<20 {
		testenv.Need(t, fmt.Errorf("a short queue of inotify, and it holds %s events", text))
	}
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("a.yaml", "first: {to: '10.0.0.5:80', host: a.test}\n")
	ctx, cancel := context.WithCancel(t.Context())
	seen, free, ended := make(chan tasks.Containers), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- Watch(ctx, Options{Dir: dir, Recheck: time.Hour}, func(c tasks.Containers) {
			seen <- c
			<-free
		})
	}()
	<-seen
	var noise [2]*os.File
	for i := range noise {
		if noise[i], err = os.Create(filepath.Join(dir, fmt.Sprint("noise", i))); err != nil {
			t.Fatal(err)
		}
		defer noise[i].Close()
	}
	for i := range most + 5000 { // equal events in a row are one
		if _, err := noise[i%2].WriteAt([]byte{'x'}, 0); err != nil {
			t.Fatal(err)
		}
	}
	write("a.yaml", "second: {to: '10.0.0.5:80', host: a.test}\n")
	close(free)
	for limit := time.After(20 * time.Second); ; {
		select {
		case c := <-seen:
			if len(c.List) == 1 && c.List[0].Name == "second" {
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
				return
			}
		case <-limit:
			t.Fatal("the change was never seen")
		}
	}
}
