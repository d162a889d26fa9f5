package join

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// running is a join that runs, in a bubble.
type running struct {
	t        *testing.T
	lists    *latest.Slot[[]tasks.Containers]
	agent    *latest.Slot[tasks.Agent]
	got      []tasks.Snapshot
	unlisted [][]string
}

// run runs a join while f does.
func run(t *testing.T, o Options, withAgent bool, f func(*running)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &running{t: t, lists: latest.New[[]tasks.Containers](), agent: latest.New[tasks.Agent]()}
		in := Inputs{Lists: r.lists.C()}
		if withAgent {
			in.Agent = r.agent.C()
		}
		o.Log = slog.New(slog.DiscardHandler)
		o.Unlisted = func(ids []string) { r.unlisted = append(r.unlisted, ids) }
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Run(ctx, o, in, func(s tasks.Snapshot) { r.got = append(r.got, s) }) }()
		f(r)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// say returns the snapshot after a source has said something.
func (r *running) say(put func()) tasks.Snapshot {
	put()
	synctest.Wait()
	return r.got[len(r.got)-1]
}

func TestASnapshotForEachWord(t *testing.T) {
	for name, withAgent := range map[string]bool{"with an ECS agent": true, "without one": false} {
		t.Run(name, func(t *testing.T) {
			run(t, Options{File: filepath.Join(t.TempDir(), FileName)}, withAgent, func(r *running) {
				docker := tasks.Containers{Complete: true, List: []tasks.Container{{ID: "a"}}}
				if s := r.say(func() { r.lists.Put([]tasks.Containers{docker, {}}) }); s.Complete || len(s.Containers) != 1 || s.Heard == withAgent {
					t.Errorf("Docker alone: %+v", s)
				}
				// Before the agent was asked, no container is of a family by its name alone.
				if s := r.say(func() { r.lists.Put([]tasks.Containers{docker, {Complete: true}}) }); s.Complete == withAgent {
					t.Errorf("and the files: %+v", s)
				}
				if withAgent {
					if s := r.say(func() { r.agent.Put(tasks.Agent{}) }); !s.Heard || !s.Complete {
						t.Errorf("and the agent, which does not answer: %+v", s)
					}
				}
			})
		})
	}
}

// What the ECS agent said holds after a restart in which it is silent.
func TestWhatTheECSAgentSaidIsKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), FileName)
	task := tasks.TaskRef{Family: "shop", ContainerName: "web"}
	docker := []tasks.Containers{{Complete: true, List: []tasks.Container{{ID: "a", Task: task}, {ID: "b", Task: task}}}}
	check := func(name string, s tasks.Snapshot, known bool) {
		t.Helper()
		for _, c := range s.Containers {
			listed := known && c.ID == "a"
			if (c.Task == task) != listed || c.Unlisted == listed {
				t.Errorf("%s: %+v", name, c)
			}
		}
	}
	run(t, Options{File: file}, true, func(r *running) {
		r.say(func() {
			r.agent.Put(tasks.Agent{Complete: true, Containers: map[string]tasks.AgentContainer{"a": {Task: task}}})
		})
		check("at first", r.say(func() { r.lists.Put(docker) }), true)
		if want := []string{"b"}; !slices.Equal(r.unlisted[len(r.unlisted)-1], want) {
			t.Errorf("not listed are %v, want %v", r.unlisted, want)
		}
	})
	run(t, Options{File: file}, true, func(r *running) {
		r.say(func() { r.lists.Put(docker) })
		check("after a restart", r.say(func() { r.agent.Put(tasks.Agent{}) }), true)
	})
	if err := os.WriteFile(file, []byte(`{"answered": true, "containers": {"a": {`), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, Options{File: file, ReadOnly: true}, true, func(r *running) {
		r.say(func() { r.lists.Put(docker) })
		if s := r.say(func() { r.agent.Put(tasks.Agent{}) }); s.Containers[0].Task != (tasks.TaskRef{}) || s.Containers[0].Unlisted {
			t.Errorf("with half a file: %+v", s.Containers[0])
		}
		r.say(func() { r.agent.Put(tasks.Agent{Complete: true}) })
	})
	if text, err := os.ReadFile(file); err != nil || len(text) > 40 {
		t.Errorf("a preview wrote %s (%v)", text, err)
	}
}

// What cannot be kept is kept later, when a source says something, also if it says nothing new.
func TestWhatTheECSAgentSaidIsKeptLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	file := filepath.Join(dir, FileName)
	docker := []tasks.Containers{{Complete: true, List: []tasks.Container{{ID: "a"}}}}
	run(t, Options{File: file}, true, func(r *running) {
		r.say(func() {
			r.agent.Put(tasks.Agent{Complete: true, Containers: map[string]tasks.AgentContainer{"a": {}}})
		})
		r.say(func() { r.lists.Put(docker) })
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		r.say(func() { r.lists.Put(docker) })
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	})
}
