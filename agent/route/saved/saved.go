// Package saved keeps who holds which host and port, so that a restart of the agent
// takes none of them from its holder.
package saved

import (
	"context"
	"log/slog"
	"reflect"

	"github.com/nagaya-ecs/nagaya/agent/atomicfile"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// FileName is the name of the file in the state directory.
const FileName = "routes.json"

// Read returns the table that was saved last, without anything that the next one does
// not depend on. A file that is missing or cannot be read is an empty table.
func Read(file string, log *slog.Logger) (t route.Table) {
	var before route.Table
	if err := atomicfile.ReadJSON(file, &before); err != nil {
		log.Warn("the holders of hosts are lost; the oldest container gets each", event.Key, event.MemoryLost, "file", file, "err", err)
		return t
	}
	t.Shape, t.Pools = before.Shape, before.Pools
	return t
}

// Run saves tables until ctx ends, and then returns nil.
func Run(ctx context.Context, file string, log *slog.Logger, tables <-chan route.Table) error {
	var last route.Table
	save := func(t route.Table) {
		if !t.Complete || reflect.DeepEqual(t.Shape, last.Shape) && reflect.DeepEqual(t.Pools, last.Pools) {
			return
		}
		if err := atomicfile.WriteJSON(file, route.Table{Shape: t.Shape, Pools: t.Pools}); err != nil {
			log.Warn("the holders of hosts could not be saved", event.Key, event.MemoryUnkept, "file", file, "err", err)
			return
		}
		last = t
	}
	for {
		select {
		case <-ctx.Done():
			select {
			case t := <-tables:
				save(t)
			default:
			}
			return nil
		case t := <-tables:
			save(t)
		}
	}
}
