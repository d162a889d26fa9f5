// Package static reads the operator's files about what does not run in Docker:
// another machine, or a program of this host. Such a file is YAML:
//
//	legacy:                     # a name; it stands for the task family
//	  to: [10.0.0.5:8080, 10.0.0.6:8080]
//	  host: legacy.example.com
//	  path: /api                # and every other word of the labels nagaya.*
package static

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/dirwatch"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/readfile"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// Options say where the files are.
type Options struct {
	// Dir holds *.yaml and *.yml; others, and directories, are passed over. Empty
	// means that there are no files.
	Dir string
	// Own is what the agent itself serves beside them.
	Own []tasks.Container
	// Recheck is how often the files are read without a sign of change, and a missing
	// directory is looked for. Zero means a minute.
	Recheck time.Duration
	// Settle is how long a changed directory must be quiet before it is read, so that
	// editors are done with it. Zero means 100 ms.
	Settle time.Duration
	// Log gets one line for every change; nil discards.
	Log *slog.Logger
}

// maxFiles bounds the files that are read.
const maxFiles = 200

// Watch puts what stands in the files at once and whenever it changed, until ctx
// ends; then it returns nil. A directory that is not there holds nothing. A file that
// cannot be used leaves what stood in it before in force, or is silent where that is not known, and is a problem.
func Watch(ctx context.Context, o Options, put func(tasks.Containers)) error {
	o.Recheck = cmp.Or(o.Recheck, time.Minute)
	o.Settle = cmp.Or(o.Settle, 100*time.Millisecond)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Dir == "" {
		put(tasks.Containers{Complete: true, List: o.Own})
		<-ctx.Done()
		return nil
	}
	// Without inotify, whose instances are limited, Recheck finds the changes.
	notify, _ := dirwatch.New()
	defer notify.Close()
	told := false
	w := &watch{Options: o, good: map[string][]tasks.Container{}, last: tasks.Containers{List: o.Own, Silent: []string{tasks.FileIDs}}}
	w.put = latest.Distinct(func(now tasks.Containers) {
		if told || len(now.List) > 0 || len(now.Problems) > 0 {
			o.Log.Info("routes from files", event.Key, event.RoutesRead, "dir", o.Dir, "upstreams", len(now.List), "problems", len(now.Problems))
		}
		told = true
		put(now)
	})
	for {
		_, _ = notify.Only(w.Dir)
		w.update()
		if !notify.Wait(ctx, w.Recheck, w.Settle) {
			return nil
		}
	}
}

type watch struct {
	Options
	put  func(tasks.Containers)
	good map[string][]tasks.Container
	last tasks.Containers
}

// update reads the directory and puts what stands there.
func (w *watch) update() {
	now := tasks.Containers{Complete: true, List: slices.Clone(w.Own)}
	if err := w.read(&now); err != nil {
		now = w.last
		now.Problems = []problem.Problem{problem.Of("routes "+w.Dir, "routes-unreadable", "let the agent's user read it; until then what was known of it stays in force",
			"the directory of routes cannot be read: %s", problem.Printable(err.Error(), 200))}
	}
	problem.Sort(now.Problems)
	w.last = now
	w.put(now)
}

// read fills in what stands in the files. Its error is that of the directory.
func (w *watch) read(now *tasks.Containers) error {
	entries, err := os.ReadDir(w.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	seen := map[string]bool{}
	for _, e := range entries {
		name := e.Name()
		if ext := filepath.Ext(name); e.IsDir() || strings.HasPrefix(name, ".") || ext != ".yaml" && ext != ".yml" {
			continue
		}
		if len(seen) == maxFiles {
			now.Problems = append(now.Problems, w.broken(name, fmt.Errorf("there are more than %d files, and this and those behind it are not read", maxFiles)))
			break
		}
		seen[name] = true
		text, err := readfile.Regular(filepath.Join(w.Dir, name), maxFile)
		var list []tasks.Container
		if err == nil {
			list, err = parse(name, text)
		}
		if err != nil {
			now.Problems = append(now.Problems, w.broken(name, err))
			if _, had := w.good[name]; !had {
				now.Silent = append(now.Silent, idsOf(name))
			}
			continue
		}
		w.good[name] = list
	}
	maps.DeleteFunc(w.good, func(name string, _ []tasks.Container) bool { return !seen[name] })
	for _, name := range slices.Sorted(maps.Keys(w.good)) {
		now.List = append(now.List, w.good[name]...)
	}
	return nil
}

func (w *watch) broken(name string, err error) problem.Problem {
	hint := "correct it; the other files are not affected, and what it says is served as it was before the agent's start"
	if _, had := w.good[name]; had {
		hint = "correct it; what stood in it before stays in force"
	}
	return problem.Of("routes "+problem.Printable(name, 100), "routes-file-invalid", hint,
		"the file cannot be used: %s", problem.Printable(strings.ReplaceAll(err.Error(), "\n", "; "), 400))
}
