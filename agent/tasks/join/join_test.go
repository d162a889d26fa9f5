package join

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

func TestASnapshotForEachWord(t *testing.T) {
	for name, withAgent := range map[string]bool{"with an ECS agent": true, "without one": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lists, agent := latest.New[[]tasks.Containers](), latest.New[tasks.Agent]()
				in := Inputs{Lists: lists.C()}
				docker := tasks.Containers{Complete: true, List: []tasks.Container{{ID: "a"}}}
				if withAgent {
					in.Agent = agent.C()
				}
				var got []tasks.Snapshot
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- Run(ctx, in, func(s tasks.Snapshot) { got = append(got, s) }) }()
				say := func(put func()) tasks.Snapshot {
					put()
					synctest.Wait()
					return got[len(got)-1]
				}
				if s := say(func() { lists.Put([]tasks.Containers{docker, {}}) }); s.Complete || len(s.Containers) != 1 || s.Heard == withAgent {
					t.Errorf("Docker alone: %+v", s)
				}
				if s := say(func() { lists.Put([]tasks.Containers{docker, {Complete: true}}) }); !s.Complete {
					t.Errorf("and the files: %+v", s)
				}
				if withAgent {
					if s := say(func() { agent.Put(tasks.Agent{}) }); !s.Heard || !s.Complete {
						t.Errorf("and the agent, which does not answer: %+v", s)
					}
				}
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
