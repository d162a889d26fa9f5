// Package load reads the configuration and follows its changes.
package load

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/dirwatch"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/problem"
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

// Watch calls changed at the start, because the file may have changed since it was read, and whenever the file at path
// may have changed, until ctx ends. Where its directory does not exist or cannot be watched, the file is checked once
// every poll instead.
func Watch(ctx context.Context, path string, poll time.Duration, log *slog.Logger, changed func()) error {
	w, err := dirwatch.New()
	if err != nil {
		log.Warn("configuration is polled", event.Key, event.ConfigPolled, "file", path, "every", poll, "err", err)
	}
	defer w.Close()
	for seen := ""; ; {
		if _, err := w.Only(filepath.Dir(path)); err != nil {
			log.Debug("configuration is polled", "file", path, "every", poll, "err", err)
		}
		if now := stamp(path); now != seen { // after the watch has begun: what comes later gives a sign
			seen = now
			changed()
		}
		if !w.Wait(ctx, poll, settle) {
			return nil
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

// Sources are what a configuration is read from, besides instance tags. Flags win over
// the environment, that over the file, and that over the tags.
type Sources struct {
	// File is the path of the configuration file; it may be missing unless Required.
	File     string
	Required bool
	// Env and Flags are the settings that were given there.
	Env, Flags []config.Value
	// Overlay lays values over the defaults, as config.Resolve does, which nil means.
	Overlay func(layers ...[]config.Value) (config.Resolved, error)
	// OtherTags are keys of instance tags that look like settings and are none.
	OtherTags []string
	// Check checks what only other parts of the program can; nil checks nothing. The place
	// of the value is added to a *config.Error of it.
	Check func(config.Config) error
}

// Resolve reads all sources as they are now. A bad tag is ignored, and reported in tagErr:
// who can tag an instance may not be able to log in to it. The result is not to be used
// where err is not nil.
func (s Sources) Resolve(tags map[string]string) (r config.Resolved, tagErr, err error) {
	file, err := File(s.File, s.Required)
	if err != nil {
		return r, nil, err
	}
	tags = maps.Clone(tags)
	maps.DeleteFunc(tags, func(key, _ string) bool { return slices.Contains(s.OtherTags, key) })
	fromTags, unknown := config.FromTags(tags)
	fromTags, invalid := config.Usable(fromTags)
	tagErr = errors.Join(unknown, invalid)
	r, err = s.Layers(fromTags, file, s.Env, s.Flags)
	if err != nil {
		// Tags that are wrong only together with the rest are ignored too.
		without, other := s.Layers(file, s.Env, s.Flags)
		if other != nil {
			return r, tagErr, err
		}
		r, tagErr = without, errors.Join(tagErr, err)
	}
	return r, tagErr, nil
}

// Layers lays the values over the defaults, the weakest first, and checks the outcome.
func (s Sources) Layers(layers ...[]config.Value) (config.Resolved, error) {
	overlay := s.Overlay
	if overlay == nil {
		overlay = config.Resolve
	}
	r, err := overlay(layers...)
	if err != nil || s.Check == nil {
		return r, err
	}
	err = s.Check(r.Config)
	if wrong, ok := errors.AsType[*config.Error](err); ok {
		wrong.Where = r.From[wrong.Field]
	}
	return r, err
}

// Usable is what can be used of sources of which some are wrong; what cannot has its default.
func (s Sources) Usable() config.Config {
	file, _ := File(s.File, s.Required)
	r, _ := s.Layers(file, s.Env, s.Flags)
	return r.Config
}

// Live is the configuration in force. Its methods may be called from any goroutine.
type Live struct {
	sources Sources
	reading sync.Mutex // held while the sources are read, so that what was read last is in force

	mu          sync.Mutex
	tags        map[string]string
	inForce     config.Resolved
	loadedAt    time.Time
	fileInvalid []problem.Problem
	tagsInvalid []problem.Problem
}

// Start reads the sources for the first time.
func Start(s Sources) (*Live, error) {
	l := &Live{sources: s}
	_, err := l.Reload()
	return l, err
}

// Config returns the configuration in force.
func (l *Live) Config() config.Config {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inForce.Config
}

// Status returns since when the configuration is in force, and what is wrong with its
// sources.
func (l *Live) Status() (loadedAt time.Time, all []problem.Problem) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.loadedAt, slices.Concat(l.fileInvalid, l.tagsInvalid, l.inForce.Problems)
}

// TagProblems returns what is wrong with the instance tags.
func (l *Live) TagProblems() []problem.Problem {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tagsInvalid
}

// SetTags takes instance tags, which count from the next Reload on, and reports whether
// they differ from those of before.
func (l *Live) SetTags(tags map[string]string) (changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	changed = !reflect.DeepEqual(l.tags, tags)
	l.tags = tags
	return changed
}

// Reload reads all sources again and puts the outcome in force if it is right and differs.
// After an error the configuration of before stays in force.
func (l *Live) Reload() (changed bool, err error) {
	l.reading.Lock()
	defer l.reading.Unlock()
	l.mu.Lock()
	tags := l.tags
	l.mu.Unlock()
	r, tagErr, err := l.sources.Resolve(tags)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fileInvalid = problem.Each(problem.Problem{
		Code: "config-invalid", Severity: problem.Error, Subject: "configuration",
		Hint: "correct it; until then the configuration from before is in force",
	}, err)
	if err != nil {
		return false, err
	}
	l.tagsInvalid = problem.Each(problem.Problem{
		Code: "tag-invalid", Severity: problem.Error, Subject: "instance tags",
		Hint: "correct or remove the tag; it is ignored until then",
	}, tagErr)
	changed = l.loadedAt.IsZero() || !reflect.DeepEqual(r.Config, l.inForce.Config)
	if changed {
		l.inForce, l.loadedAt = r, time.Now()
	}
	return changed, nil
}
