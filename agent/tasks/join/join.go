// Package join makes one snapshot of what the sources of tasks say.
package join

import (
	"context"

	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// Inputs are what the sources say, the newest of each.
type Inputs struct {
	Lists <-chan []tasks.Containers // of all sources, the local Docker Engine's first
	Agent <-chan tasks.Agent        // nil where there is no ECS agent
}

// Run puts a snapshot whenever a source says something, until ctx ends; then it returns nil.
func Run(ctx context.Context, in Inputs, put func(tasks.Snapshot)) error {
	var (
		lists = make([]tasks.Containers, 1)
		agent tasks.Agent
		heard = in.Agent == nil
	)
	for {
		select {
		case <-ctx.Done():
			return nil
		case lists = <-in.Lists:
		case agent = <-in.Agent:
			heard = true
		}
		s := tasks.Merge(lists[0], agent, lists[1:]...)
		s.Heard, s.ECSAgent = heard, agent.Complete
		put(s)
	}
}
