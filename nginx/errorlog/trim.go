// Package errorlog keeps nginx's error log short where no log rotation does.
package errorlog

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/nginx"
)

const (
	// maxSize is the size in bytes above which the log is emptied.
	maxSize = 4 << 20
	// every is how often the size is checked.
	every = 10 * time.Minute
)

// Trim empties the error log in a directory when it has grown to 4 MiB, until ctx ends.
// nginx appends to the file, so it goes on at the beginning of an emptied one.
func Trim(ctx context.Context, dir string, log *slog.Logger) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		file := nginx.ErrorLog(dir)
		if info, err := os.Stat(file); err == nil && info.Size() > maxSize {
			if err := os.Truncate(file, 0); err != nil {
				log.Warn("nginx's error log grows", event.Key, event.ErrorLogGrows, "file", file, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
