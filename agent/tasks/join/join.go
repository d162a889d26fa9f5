// Package join makes one snapshot of what the sources of tasks say.
package join

import (
	"context"
	"log/slog"
	"reflect"

	"github.com/nagaya-ecs/nagaya/agent/atomicfile"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// FileName is the name of the file in the state directory that keeps what the ECS agent said.
const FileName = "ecs.json"

// Inputs are what the sources say, the newest of each.
type Inputs struct {
	Lists <-chan []tasks.Containers // of all sources, the local Docker Engine's first
	Agent <-chan tasks.Agent        // nil where there is no ECS agent
}

// Options are the options of Run.
type Options struct {
	// File keeps what the ECS agent said for the next start; ReadOnly only reads it.
	File     string
	ReadOnly bool
	// TrustLabels is true where the labels of ECS count without the ECS agent's word.
	TrustLabels bool
	// Unlisted is called with the ids of containers that the agent does not list although
	// their labels say so, when they change: it may have started them since it was asked.
	Unlisted func([]string)
	Log      *slog.Logger
}

// Run puts a snapshot whenever a source says something, until ctx ends; then it returns nil.
func Run(ctx context.Context, o Options, in Inputs, put func(tasks.Snapshot)) error {
	var (
		lists    = make([]tasks.Containers, 1)
		agent    tasks.Agent
		heard    = in.Agent == nil
		known    tasks.Known
		kept     tasks.Known // what is in the file
		unkept   bool        // that it could not be written is logged
		unlisted = latest.Distinct(o.Unlisted)
	)
	if err := atomicfile.ReadJSON(o.File, &known); err != nil {
		o.Log.Warn("what the ECS agent said before is lost; it is asked again", event.Key, event.MemoryLost, "file", o.File, "err", err)
		known = tasks.Known{}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case lists = <-in.Lists:
		case agent = <-in.Agent:
			heard = true
		}
		known = known.Next(lists[0], agent)
		now := agent
		now.Heard, now.Answered, now.TrustLabels, now.Containers = heard, known.Answered, o.TrustLabels, known.Containers
		s := tasks.Merge(lists[0], now, lists[1:]...)
		put(s)
		if known.Answered && !o.ReadOnly && !reflect.DeepEqual(known, kept) {
			err := atomicfile.WriteJSON(o.File, known)
			switch {
			case err == nil:
				kept = known
			case !unkept: // it is tried again with what a source says next
				o.Log.Warn("what the ECS agent says could not be saved", event.Key, event.MemoryUnkept, "file", o.File, "err", err)
			}
			unkept = err != nil
		}
		ids := []string{}
		for _, c := range s.Containers {
			if c.Unlisted {
				ids = append(ids, c.ID)
			}
		}
		unlisted(ids)
	}
}
