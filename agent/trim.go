package agent

import (
	"context"
	"os"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/nginx"
)

const (
	// maxLog is the size in bytes at which nginx's own error log is emptied where its
	// lines go to stderr too. Only package install reads it, for what nginx said last.
	maxLog = 4 << 20
	// trimEvery is how often it is looked at.
	trimEvery = 10 * time.Minute
)

// trimLog keeps nginx's error log short where nobody rotates it: nginx appends, so
// it goes on at the beginning of an emptied file.
func (a *agent) trimLog(ctx context.Context, dir string) error {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		file := nginx.ErrorLog(dir)
		if info, err := os.Stat(file); err == nil && info.Size() > maxLog {
			if err := os.Truncate(file, 0); err != nil {
				a.o.Log.Warn("nginx's error log grows", event.Key, event.ErrorLogGrows, "file", file, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
