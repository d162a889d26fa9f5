package static

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	if v.Complete || !slices.Equal(v.Silent, []string{tasks.FileIDs}) || len(v.Problems) != 1 || v.Problems[0].Code != "routes-unreadable" {
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

// What stands in a file that is broken when the agent starts is not gone: it is not known, and the other files are.
func TestAFileThatIsBrokenFromTheStart(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	watch := func() tasks.Containers {
		got := make(chan tasks.Containers, 10)
		go func() { _ = Watch(t.Context(), Options{Dir: dir}, func(v tasks.Containers) { got <- v }) }()
		return <-got
	}
	write("a.yaml", "one: {to: '10.0.0.1:80', host: a.test}")
	write("b.yaml", "two: {to: '10.0.0.2:80', host: b.test}")
	before := watch()
	if len(before.List) != 2 || len(before.Silent) != 0 {
		t.Fatalf("before: %+v", before)
	}
	write("a.yaml", "one: {to: '10.0.0.1:80', host")
	v := watch()
	if !v.Complete || len(v.List) != 1 || v.List[0].Name != "two" || len(v.Problems) != 1 || len(v.Silent) != 1 {
		t.Fatalf("after another start: %+v", v)
	}
	for _, c := range before.List {
		if silent := strings.HasPrefix(c.ID, v.Silent[0]); silent != (c.File == "a.yaml") {
			t.Errorf("silent about %s of %s: %v", c.Name, c.File, silent)
		}
	}
}
