// Package agent is the program: it reads the configuration, wires the stages
// together (flow.go is the picture of that), and runs until its context ends.
// Everything that a stage decides is in the packages beneath; nothing imports
// this one but the command.
package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/awsclient"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/config/load"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/history/keep"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/proc"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/report/board"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/stages"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/agent/traffic/accesslog"
	"github.com/nagaya-ecs/nagaya/systemd"
)

// Options are those of the command line and the environment.
type Options struct {
	// Config is what the configuration is read from.
	Config  load.Sources
	Version string
	// Notify reports to systemd; nil reports nothing.
	Notify *systemd.Notifier
	// Sockets are what systemd has opened; the status socket may be among them.
	Sockets systemd.Sockets
	Log     *slog.Logger
	// Notes are the lines of Log that the history is to have; nil for none.
	Notes *keep.Notes
	// Fields are what every entry of the journal carries; nil where there is none.
	Fields *systemd.Fields
	// Level is set to that of the configuration.
	Level *slog.LevelVar
	// Reload delivers requests to read the configuration again. May be nil.
	Reload <-chan os.Signal
}

// ErrConfig is wrapped by the error of a configuration that is wrong at start.
var ErrConfig = errors.New("the configuration is wrong")

// agent is what outlives a change of the configuration.
type agent struct {
	o     Options
	board *board.Board
	cloud *awsclient.Clients

	config *load.Live

	mu      sync.Mutex
	restart func() // ends the running flow, so that the next one begins

	// reopen asks nginx to open its logs again.
	reopen *latest.Slot[struct{}]
	// relist has the operator's files for nginx listed at once.
	relist *latest.Slot[struct{}]
	// reread has the store of certificates read at once.
	reread *latest.Slot[struct{}]
	// containers are what runs here, for the chronicle.
	containers *latest.Slot[[]tasks.Container]

	// traffic is what nginx has served; it counts on through all flows.
	traffic *accesslog.Logs

	// table is the newest one of a flow. The next flow begins with it, so that the holder of a host name
	// keeps it across a change of the configuration.
	table route.Table
}

// Run is the agent. It returns nil when ctx ends, and an error that wraps
// ErrConfig, or one of a resource that only this process can have, at start.
func Run(ctx context.Context, o Options) error {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.Level = cmp.Or(o.Level, new(slog.LevelVar))
	o.Notes = cmp.Or(o.Notes, keep.NewNotes())
	if err := proc.Protect(); err != nil {
		return err
	}
	a := &agent{o: o, board: board.New(o.Version), traffic: accesslog.New(), restart: func() {}, containers: latest.New[[]tasks.Container](), reopen: latest.New[struct{}](), relist: latest.New[struct{}](), reread: latest.New[struct{}]()}
	var err error
	if a.config, err = startConfig(o); err != nil {
		return err
	}
	if a.cloud, err = awsclient.New(ctx); err != nil {
		return err
	}
	g := stages.New(ctx)
	a.board.Beat()
	g.Run("watchdog", func(ctx context.Context) error {
		o.Notify.Watchdog(ctx, a.board.Alive)
		return nil
	})
	if os.Getpid() == 1 {
		g.Run("reap zombies", func(ctx context.Context) error { return proc.ReapZombies(ctx, proc.ReapAge) })
	}
	g.Run("configuration", a.watchConfig)
	g.Run("systemd", func(ctx context.Context) error { return a.board.NotifySystemd(ctx, o.Notify, o.Log) })
	g.Run("journal", func(ctx context.Context) error {
		return a.board.LogChanges(ctx, o.Log, o.Fields, a.containers.C())
	})
	g.Run("flow", a.flows)
	err = g.Wait()
	a.notify(o.Notify.Stopping())
	return err
}

// startConfig reads the configuration for the first time; the error wraps ErrConfig, and its status says what is wrong.
func startConfig(o Options) (*load.Live, error) {
	o.Config.OtherTags = []string{address.TagKey} // which an instance that leaves has from the agent itself
	o.Config.Check = checkConfig
	live, err := load.Start(o.Config)
	if err != nil {
		err = fmt.Errorf("%w:\n%w", ErrConfig, err)
	}
	return live, err
}

// checkConfig checks what only a part of the program that is downstream of the
// configuration can.
func checkConfig(c config.Config) error {
	if _, err := address.ParseClaims(c.Address.Claim); err != nil {
		return &config.Error{Field: "address.claim", Reason: err.Error()}
	}
	_, err := gate.NewSettings(c.Gate, time.LoadLocation)
	return err
}

// problems makes one problem of each error that is joined in err.
func problems(code string, err error, hint string) []problem.Problem {
	return problem.Each(problem.Problem{Code: code, Severity: problem.Error, Subject: "agent", Hint: hint}, err)
}

// flows runs one flow after the other, each with the configuration in force.
// nginx outlives each of them, and the last one too unless the agent was stopped and nginx.stop-on-exit is true.
func (a *agent) flows(ctx context.Context) error {
	var before *config.Config
	for {
		flowCtx, restart := context.WithCancel(ctx)
		a.mu.Lock()
		a.restart = restart // first, so that a change after the next line ends this flow
		a.mu.Unlock()
		c := a.config.Config()
		if before != nil && (before.StateDir != c.StateDir || before.RunDir != c.RunDir || toStdout(*before) != toStdout(c)) {
			a.stopNginx(*before) // the next one is another nginx, for the same ports
		}
		before = &c
		if err := a.o.Level.UnmarshalText([]byte(c.LogLevel)); err != nil {
			a.o.Log.Error("log level", event.Key, event.ConfigRefused, "file", a.o.Config.File, "err", err)
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

const configPoll = 30 * time.Second

// watchConfig follows the configuration file and the operator's signal.
func (a *agent) watchConfig(ctx context.Context) error {
	g := stages.New(ctx)
	again := latest.New[struct{}]()
	g.Run("file", func(ctx context.Context) error {
		return load.Watch(ctx, a.o.Config.File, configPoll, a.o.Log, func() { again.Put(struct{}{}) })
	})
	g.Run("apply", func(ctx context.Context) error {
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
	return g.Wait()
}

func (a *agent) notify(err error) {
	if err != nil {
		a.o.Log.Debug("systemd was not notified", "err", err)
	}
}

// reload is reconfigure with notifications for systemd, after which nginx opens its logs again.
func (a *agent) reload() error {
	a.reopen.Put(struct{}{})
	a.relist.Put(struct{}{})
	a.reread.Put(struct{}{})
	a.notify(a.o.Notify.Reloading())
	defer func() { a.notify(a.o.Notify.Ready()) }()
	return a.reconfigure()
}

// reconfigure reads the configuration again and begins a new flow if it is right and
// differs. Otherwise it reports what is wrong, and the old one stays in force.
func (a *agent) reconfigure() error {
	changed, err := a.config.Reload()
	a.writeConfigPart()
	switch {
	case err != nil:
		a.o.Log.Error("configuration not taken", event.Key, event.ConfigRefused, "file", a.o.Config.File, "err", err)
	case changed:
		a.o.Log.Info("configuration taken", event.Key, event.ConfigTaken, "file", a.o.Config.File)
		a.mu.Lock()
		restart := a.restart
		a.mu.Unlock()
		restart()
	}
	return err
}

// sawIdentity follows the instance tags, which are a source of the configuration.
func (a *agent) sawIdentity(id identity.Identity) {
	if id.Instance.TagsKnown && a.config.SetTags(id.Instance.Tags) {
		_ = a.reconfigure() // it is logged, and a problem
	}
}

// status is the board's, with what nginx has served up to now.
func (a *agent) status() report.Status {
	s := a.board.Status()
	s.Traffic = a.traffic.Report()
	return s
}

func (a *agent) writeConfigPart() {
	part := report.Config{File: a.o.Config.File}
	part.LoadedAt, part.Problems = a.config.Status()
	a.board.SetConfig(part)
}

// statePath returns the path of a kept file.
func statePath(c config.Config, name string) string { return filepath.Join(c.StateDir, name) }
