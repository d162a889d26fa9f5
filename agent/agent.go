// Package agent is the program: it reads the configuration, wires the stages
// together (flow.go is the picture of that), and lives until it is told to end.
// Everything that a stage decides is in the packages beneath; nothing imports
// this one but the command.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/config/load"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/proc"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/systemd"
)

// Options are what the command line and the environment say.
type Options struct {
	// ConfigFile is the path of the configuration file; it may be missing unless
	// ConfigRequired.
	ConfigFile     string
	ConfigRequired bool
	// Env and Flags are the settings that were given there.
	Env, Flags []config.Value
	// Environ is the whole environment, in which nginx-proxy's words are looked for
	// where they count.
	Environ []string
	Version string
	// Notify speaks to systemd; nil speaks to nobody.
	Notify *systemd.Notifier
	// Sockets are what systemd has opened; the status socket may be among them.
	Sockets systemd.Sockets
	Log     *slog.Logger
	// Fields are what every entry of the journal carries; nil where there is none.
	Fields *systemd.Fields
	// Level is set to what the configuration says.
	Level *slog.LevelVar
	// Reload delivers an operator's wish to read the configuration again. May be nil.
	Reload <-chan os.Signal
}

// ErrConfig is wrapped by the error of a configuration that is wrong at start.
var ErrConfig = errors.New("the configuration is wrong")

// agent is what outlives a change of the configuration.
type agent struct {
	o     Options
	board *board
	cloud *cloud

	// reading is held while the configuration is read and put in force, so that what
	// was read last is in force.
	reading sync.Mutex

	mu       sync.Mutex
	tags     map[string]string
	tagsBad  []problem.Problem
	fileBad  []problem.Problem
	inForce  config.Resolved
	restart  func() // ends the running flow, so that the next one begins
	loadedAt time.Time
	keeping  map[string][]problem.Problem
	identity identity.Identity

	// containers are what runs here, for the chronicle.
	containers *latest.Slot[[]tasks.Container]

	// table is the planner's; it outlives a flow, so that who holds a host name
	// keeps it across a change of the configuration.
	table route.Table
}

// Run is the agent. It returns nil when ctx ends, and an error that wraps
// ErrConfig, or one of a resource that only this process can have, at start.
func Run(ctx context.Context, o Options) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Level == nil {
		o.Level = new(slog.LevelVar)
	}
	if err := keepPeersOut(); err != nil {
		return err
	}
	a := &agent{o: o, board: newBoard(o.Version, time.Now()), restart: func() {}, containers: latest.New[[]tasks.Container]()}
	resolved, err := a.resolve()
	if err != nil {
		return fmt.Errorf("%w:\n%w", ErrConfig, err)
	}
	a.inForce, a.loadedAt = resolved, time.Now()
	if a.cloud, err = newCloud(ctx); err != nil {
		return fmt.Errorf("reading the settings of the AWS SDK: %w", err)
	}
	g := newGroup(ctx)
	a.board.beat()
	g.run("watchdog", func(ctx context.Context) error {
		o.Notify.Watchdog(ctx, a.board.isAlive)
		<-ctx.Done()
		return nil
	})
	if os.Getpid() == 1 {
		g.run("orphans", func(ctx context.Context) error { return proc.ReapZombies(ctx, proc.ReapAge) })
	}
	g.run("configuration", a.watchConfig)
	g.run("systemd", a.tellSystemd)
	g.run("chronicle", a.chronicle)
	g.run("flow", a.flows)
	err = g.wait()
	if nerr := o.Notify.Stopping(); nerr != nil {
		o.Log.Debug("systemd was not told", "err", nerr)
	}
	return err
}

// flows runs one flow after the other, each with the configuration in force.
// nginx outlives each of them, and the last one too unless the agent was told to end.
func (a *agent) flows(ctx context.Context) error {
	var before *config.Config
	for {
		flowCtx, restart := context.WithCancel(ctx)
		a.mu.Lock()
		c := a.inForce.Config
		a.restart = restart
		a.mu.Unlock()
		if before != nil && (before.StateDir != c.StateDir || before.RunDir != c.RunDir || toStdout(*before) != toStdout(c)) {
			a.stopNginx(*before) // the next one is another nginx, for the same ports
		}
		before = &c
		if err := a.o.Level.UnmarshalText([]byte(c.LogLevel)); err != nil {
			a.o.Log.Error("log level", event.Key, event.ConfigRefused, "file", a.o.ConfigFile, "err", err)
		}
		a.writeConfigPart()
		err := a.flow(flowCtx, c)
		restart()
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			if c.Nginx.StopOnExit {
				a.stopNginx(c)
			}
			return nil
		}
	}
}

// resolve reads all sources of the configuration as they are now.
func (a *agent) resolve() (config.Resolved, error) {
	file, err := load.File(a.o.ConfigFile, a.o.ConfigRequired)
	if err != nil {
		return config.Resolved{}, err
	}
	a.mu.Lock()
	tags := maps.Clone(a.tags)
	a.mu.Unlock()
	delete(tags, address.TagKey) // which an instance that leaves has from the agent itself
	fromTags, unknown := config.FromTags(tags)
	fromTags, wrong := config.Usable(fromTags)
	tagErr := errors.Join(unknown, wrong)
	r, err := a.resolveAll(fromTags, file, a.o.Env, a.o.Flags)
	if err != nil {
		// A bad tag must not keep the agent from running: whoever can tag the
		// instance may not be able to log in to it. Without its tags it must be right.
		without, werr := a.resolveAll(file, a.o.Env, a.o.Flags)
		if werr != nil {
			return r, err
		}
		r, tagErr = without, errors.Join(tagErr, err)
	}
	a.mu.Lock()
	a.tagsBad = problems("tag-invalid", "instance tags", tagErr, "correct or remove the tag; it is ignored until then")
	a.mu.Unlock()
	return r, nil
}

// resolveAll lays the layers over each other, and checks what only a part of the
// program that is downstream of the configuration can.
func (a *agent) resolveAll(layers ...[]config.Value) (config.Resolved, error) {
	r, err := config.ResolveIn(a.o.Environ, layers...)
	if err != nil {
		return r, err
	}
	if _, err := address.ParseClaims(r.Config.Address.Claim); err != nil {
		return r, &config.Error{Where: r.From["address.claim"], Field: "address.claim", Reason: err.Error()}
	}
	if _, err := gate.NewSettings(r.Config.Gate, time.LoadLocation); err != nil {
		return r, from(r, err)
	}
	return r, nil
}

// from adds to an error of a setting where its value is from.
func from(r config.Resolved, err error) error {
	var wrong *config.Error
	if errors.As(err, &wrong) {
		wrong.Where = r.From[wrong.Field]
	}
	return err
}

// problems makes one problem of each error that is joined in err. One about a
// setting has that in its subject.
func problems(code, subject string, err error, hint string) []problem.Problem {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []problem.Problem
		for _, e := range joined.Unwrap() {
			all = append(all, problems(code, subject, e, hint)...)
		}
		return all
	}
	var wrong *config.Error
	if errors.As(err, &wrong) {
		if s, ok := config.Find(wrong.Field); ok {
			subject += " " + s.Path
		}
	}
	// A parser shows the place in further lines.
	text, _, _ := strings.Cut(err.Error(), "\n")
	return []problem.Problem{{Code: code, Severity: problem.Error, Subject: subject, Text: text, Hint: hint}}
}

const configPoll = 30 * time.Second

// watchConfig follows the configuration file and the operator's signal.
func (a *agent) watchConfig(ctx context.Context) error {
	g := newGroup(ctx)
	again := latest.New[struct{}]()
	g.run("file", func(ctx context.Context) error {
		return load.Watch(ctx, a.o.ConfigFile, configPoll, a.o.Log, func() { again.Put(struct{}{}) })
	})
	g.run("apply", func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-a.o.Reload:
				_ = a.reload() // it is logged, and a problem
			case <-again.C():
				_ = a.reconfigure()
			}
		}
	})
	return g.wait()
}

func (a *agent) notify(err error) {
	if err != nil {
		a.o.Log.Debug("systemd was not told", "err", err)
	}
}

// reload is reconfigure, of which systemd is told.
func (a *agent) reload() error {
	a.notify(a.o.Notify.Reloading())
	defer func() { a.notify(a.o.Notify.Ready()) }()
	return a.reconfigure()
}

// reconfigure puts the configuration in force if it is right and differs, and
// otherwise says what is wrong with it and keeps the old one.
func (a *agent) reconfigure() error {
	a.reading.Lock()
	defer a.reading.Unlock()
	r, err := a.resolve()
	a.mu.Lock()
	a.fileBad = problems("config-invalid", "configuration", err, "correct it; until then the configuration from before is in force")
	changed := err == nil && !reflect.DeepEqual(r.Config, a.inForce.Config)
	if changed {
		a.inForce, a.loadedAt = r, time.Now()
	}
	restart := a.restart
	a.mu.Unlock()
	a.writeConfigPart()
	switch {
	case err != nil:
		a.o.Log.Error("configuration not taken", event.Key, event.ConfigRefused, "file", a.o.ConfigFile, "err", err)
	case changed:
		a.o.Log.Info("configuration taken", event.Key, event.ConfigTaken, "file", a.o.ConfigFile)
		restart()
	}
	return err
}

// sawIdentity follows the instance tags, which are a source of the configuration.
func (a *agent) sawIdentity(id identity.Identity) {
	a.mu.Lock()
	a.identity = id
	changed := id.Instance.TagsKnown && !reflect.DeepEqual(a.tags, id.Instance.Tags)
	if changed {
		a.tags = id.Instance.Tags
	}
	a.mu.Unlock()
	if changed {
		_ = a.reconfigure()
	}
}

// who returns the identity as it was seen last.
func (a *agent) who() identity.Identity {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.identity
}

func (a *agent) writeConfigPart() {
	a.mu.Lock()
	part := report.Config{File: a.o.ConfigFile, LoadedAt: a.loadedAt}
	part.Problems = append(part.Problems, a.fileBad...)
	part.Problems = append(part.Problems, a.tagsBad...)
	part.Problems = append(part.Problems, a.inForce.Problems...)
	a.mu.Unlock()
	a.board.write(func(s *report.Status) { s.Config = part })
}

// tellSystemd keeps the one line that 'systemctl status' shows, and says READY
// once the first flow has something to show.
func (a *agent) tellSystemd(ctx context.Context) error {
	patience := time.NewTimer(readyPatience)
	defer patience.Stop()
	ready, last := false, ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-patience.C:
		case <-a.board.changed.C():
		}
		s := a.board.read()
		if !ready && a.settled(s) {
			ready = true
			a.notify(a.o.Notify.Ready())
		}
		if line := s.Line(); line != last {
			last = line
			a.notify(a.o.Notify.Status(line))
		}
	}
}

// readyPatience bounds how long the units that are ordered after this one wait:
// the ECS agent must start even where nothing here works.
const readyPatience = 15 * time.Second

// settled reports whether a first answer about the address and the routes is
// there, or has been waited for long enough.
func (a *agent) settled(s report.Status) bool {
	if time.Since(s.StartedAt) >= readyPatience {
		return true
	}
	for _, c := range s.Address.Claims {
		if !c.Held() && (!c.Known || c.Decision.Action == address.Take) {
			return false
		}
	}
	return s.Nginx.Running || s.Tasks.Complete
}

// statePath returns the path of a kept file.
func statePath(c config.Config, name string) string { return filepath.Join(c.StateDir, name) }
