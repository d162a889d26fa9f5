// Package load reads the configuration file and says when it changed.
package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/event"
)

// File reads the configuration file at path. A file that does not exist is an
// empty one unless required.
func File(path string, required bool) ([]config.Value, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && !required {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, config.MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	return config.ParseYAML(path, text)
}

// settle is how long the file must have been left alone before it is read: an
// editor writes in several steps.
const settle = 100 * time.Millisecond

// Watch calls changed whenever the file at path may have changed, until ctx
// ends. It watches the directory, because editors and packages replace the file
// rather than write into it. Where the directory does not exist or cannot be
// watched, the file is looked at once every poll instead.
func Watch(ctx context.Context, path string, poll time.Duration, log *slog.Logger, changed func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("configuration is polled", event.Key, event.ConfigPolled, "file", path, "every", poll, "err", err)
		return look(ctx, path, poll, nil, nil, changed)
	}
	defer w.Close()
	if err := w.Add(filepath.Dir(path)); err != nil {
		log.Debug("configuration is polled", "file", path, "every", poll, "err", err)
	}
	return look(ctx, path, poll, w.Events, w.Errors, changed)
}

func look(ctx context.Context, path string, poll time.Duration, events <-chan fsnotify.Event, errs <-chan error, changed func()) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	var settled <-chan time.Time
	seen := stamp(path)
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-events:
			if filepath.Clean(e.Name) == filepath.Clean(path) {
				settled = time.After(settle)
			}
		case <-errs:
			// An overflow of the queue: what was missed is unknown, so look.
			settled = time.After(settle)
		case <-tick.C:
			if settled == nil && stamp(path) != seen {
				settled = time.After(settle)
			}
		case <-settled:
			settled = nil
			seen = stamp(path)
			changed()
		}
	}
}

// stamp tells two states of a file apart without reading it.
func stamp(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return "absent"
	}
	return fmt.Sprint(info.Size(), info.ModTime().UnixNano())
}
