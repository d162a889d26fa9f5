// Package load reads the configuration and follows its changes.
package load

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/dirwatch"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/readfile"
)

// File reads the configuration file at path. A file that does not exist is an
// empty one unless required.
func File(path string, required bool) ([]config.Value, error) {
	text, err := readfile.Any(path, config.MaxFile)
	if errors.Is(err, fs.ErrNotExist) && !required {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	return config.ParseYAML(path, text)
}

// settle is how long the file must be unchanged before it is read: an editor
// writes in several steps.
const settle = 100 * time.Millisecond

// Watch calls changed whenever the file at path may have changed, until ctx ends. Where its
// directory does not exist or cannot be watched, the file is checked once every poll instead.
func Watch(ctx context.Context, path string, poll time.Duration, log *slog.Logger, changed func()) error {
	w, err := dirwatch.New()
	if err != nil {
		log.Warn("configuration is polled", event.Key, event.ConfigPolled, "file", path, "every", poll, "err", err)
	}
	defer w.Close()
	for seen := stamp(path); ; {
		if _, err := w.Only(filepath.Dir(path)); err != nil {
			log.Debug("configuration is polled", "file", path, "every", poll, "err", err)
		}
		if !w.Wait(ctx, poll, settle) {
			return nil
		}
		if now := stamp(path); now != seen {
			seen = now
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
	text := fmt.Sprint(info.Size(), info.ModTime().UnixNano())
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		text += fmt.Sprint(" ", s.Dev, s.Ino, s.Ctim)
	}
	return text
}
