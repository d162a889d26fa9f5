package static

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

func TestDirectoryThatCannotBeReadFromTheStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "routes.d")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got := make(chan tasks.Containers, 10)
	go func() {
		_ = Watch(t.Context(), Options{Dir: dir, Recheck: 10 * time.Millisecond, Settle: time.Millisecond}, func(v tasks.Containers) { got <- v })
	}()
	v := <-got
	if v.Complete || v.Origin != tasks.File || len(v.Problems) != 1 || v.Problems[0].Code != "routes-unreadable" {
		t.Fatalf("%+v", v)
	}
	if s := tasks.Merge(tasks.Containers{Complete: true}, tasks.Agent{Heard: true}, v); !s.Complete {
		t.Error("Docker's containers are not served because the directory of routes cannot be read")
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	for v = range got {
		if v.Complete {
			break
		}
	}
	if s := tasks.Merge(tasks.Containers{Complete: true}, tasks.Agent{Heard: true}, v); len(s.Silent) > 0 {
		t.Errorf("the directory is not there, and silent: %+v", s)
	}
}
