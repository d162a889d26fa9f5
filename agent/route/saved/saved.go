// Package saved keeps who holds which host and port, so that a restart of the agent
// takes none of them from its holder.
package saved

import (
	"context"
	"log/slog"
	"reflect"
	"time"

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

// retryPause is the pause after a table could not be saved.
const retryPause = 30 * time.Second

// Run saves tables until ctx ends, and then returns nil. One that could not be saved is tried
// again until there is a newer one; that is logged once.
func Run(ctx context.Context, file string, log *slog.Logger, tables <-chan route.Table) error {
	var (
		last, newest route.Table
		again        <-chan time.Time // nil while everything is saved
	)
	save := func() {
		if !newest.Complete || reflect.DeepEqual(newest.Shape, last.Shape) && reflect.DeepEqual(newest.Pools, last.Pools) {
			return
		}
		failed := again != nil
		again = nil
		if err := atomicfile.WriteJSON(file, route.Table{Shape: newest.Shape, Pools: newest.Pools}); err != nil {
			if !failed {
				log.Warn("the holders of hosts could not be saved", event.Key, event.MemoryUnkept, "file", file, "err", err)
			}
			again = time.After(retryPause)
			return
		}
		last = newest
	}
	for {
		select {
		case <-ctx.Done():
			select {
			case newest = <-tables:
			default:
			}
			save()
			return nil
		case newest = <-tables:
		case <-again:
		}
		save()
	}
}
