// Package board holds the one status of the program, and shows its changes to the journal and
// to systemd.
package board

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/systemd"
)

// Board is the status. Every stage writes its own part, from any goroutine; no stage reads
// it.
type Board struct {
	mu       sync.Mutex
	status   report.Status
	standing []problem.Problem
	upkeep   map[string][]problem.Problem
	alive    time.Time

	// Each holds one unread "something was written", for one reader.
	forJournal, forSystemd *latest.Slot[struct{}]
}

// New returns the board of an agent that starts now.
func New(version string) *Board {
	return &Board{
		status:     report.Status{Version: version, PID: os.Getpid(), StartedAt: time.Now()},
		upkeep:     map[string][]problem.Problem{},
		forJournal: latest.New[struct{}](), forSystemd: latest.New[struct{}](),
	}
}

// write changes the status.
func (b *Board) write(change func(*report.Status)) {
	b.mu.Lock()
	change(&b.status)
	b.standing = b.status.Standing(b.standing, time.Now())
	b.mu.Unlock()
	b.forJournal.Put(struct{}{})
	b.forSystemd.Put(struct{}{})
}

// Status returns the status as of now. What it points to is never changed.
func (b *Board) Status() report.Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.status
	s.At, s.Problems = time.Now(), b.standing
	return s
}

// SetConfig replaces where the configuration in force came from.
func (b *Board) SetConfig(v report.Config) { b.write(func(s *report.Status) { s.Config = v }) }

// SetTasks replaces what is known about the containers.
func (b *Board) SetTasks(v report.Tasks) { b.write(func(s *report.Status) { s.Tasks = v }) }

// SetIdentity replaces who this machine is.
func (b *Board) SetIdentity(v identity.Identity) { b.write(func(s *report.Status) { s.Identity = v }) }

// SetAddress replaces the state of the claimed addresses.
func (b *Board) SetAddress(v address.Report) { b.write(func(s *report.Status) { s.Address = v }) }

// SetCerts replaces the certificates.
func (b *Board) SetCerts(v certs.Inventory) { b.write(func(s *report.Status) { s.Certs = v }) }

// SetOrders replaces how it stands with the certificates that are ordered.
func (b *Board) SetOrders(v certs.Report) { b.write(func(s *report.Status) { s.Orders = v }) }

// SetRoutes replaces the table of routes.
func (b *Board) SetRoutes(v route.Table) { b.write(func(s *report.Status) { s.Routes = v }) }

// SetNginx replaces the state of nginx.
func (b *Board) SetNginx(v nginx.Status) { b.write(func(s *report.Status) { s.Nginx = v }) }

// SetCredit replaces the state of the CPU credits.
func (b *Board) SetCredit(v credit.Report) { b.write(func(s *report.Status) { s.Credit = v }) }

// SetDecision replaces the decision of the gate.
func (b *Board) SetDecision(v gate.Decision) { b.write(func(s *report.Status) { s.Gate.Decision = v }) }

// SetPublished replaces where the gate is published.
func (b *Board) SetPublished(v gate.Published) {
	b.write(func(s *report.Status) { s.Gate.Published = v })
}

// SetUpkeep replaces the problems of one kind of upkeep.
func (b *Board) SetUpkeep(kind string, ps []problem.Problem) {
	b.write(func(s *report.Status) {
		b.upkeep[kind] = ps
		s.Upkeep = slices.Concat(slices.Collect(maps.Values(b.upkeep))...)
		problem.Sort(s.Upkeep)
	})
}

// ResetUpkeep drops the problems of all kinds of upkeep: those of a former flow, whose stages
// may not be among those of the next.
func (b *Board) ResetUpkeep() {
	b.write(func(s *report.Status) {
		clear(b.upkeep)
		s.Upkeep = nil
	})
}

// Beat notes that the stage plan is alive, which calls it every 15 s. The watchdog is pinged only while it does.
func (b *Board) Beat() {
	b.mu.Lock()
	b.alive = time.Now()
	b.mu.Unlock()
}

// alivePatience is how long the stage plan may be silent before the watchdog is no longer pinged,
// and systemd restarts the agent. Other stages do not beat.
const alivePatience = 45 * time.Second

// Alive reports whether plan has beaten lately.
func (b *Board) Alive() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Since(b.alive) < alivePatience
}

// LogChanges writes the changes of the status into the journal until ctx ends, and keeps the
// fields that every entry carries. containers are what runs here.
func (b *Board) LogChanges(ctx context.Context, log *slog.Logger, fields *systemd.Fields, containers <-chan []tasks.Container) error {
	var seen report.Chronicle
	var running []tasks.Container
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.forJournal.C():
		case <-due.C:
		}
		select { // the containers are put before the routes that lead to them
		case running = <-containers:
		default:
		}
		s := b.Status()
		setFields(fields, s)
		entries, again := seen.Changes(s, running)
		for _, e := range entries {
			level := slog.LevelInfo
			switch {
			case e.Error:
				level = slog.LevelError
			case e.Warning:
				level = slog.LevelWarn
			case e.Quiet:
				level = event.Quiet
			}
			log.Log(ctx, level, e.Message, e.Fields...)
		}
		if !again.IsZero() {
			due.Reset(time.Until(again))
		}
	}
}

// setFields sets the fields of every entry: who this is, and what it holds and serves.
func setFields(fields *systemd.Fields, s report.Status) {
	var held []string
	for _, c := range s.Address.Claims {
		if c.Held() {
			held = append(held, c.Address.PublicIP.String())
		}
	}
	credits := ""
	if s.Credit.Known {
		credits = strconv.FormatFloat(s.Credit.Balance, 'f', 1, 64)
	}
	fields.Set("instance", s.Identity.Instance.ID)
	fields.Set("address", strings.Join(held, ","))
	fields.Set("generation", s.Nginx.Generation)
	fields.Set("credits", credits)
}

// NotifySystemd keeps the one line that 'systemctl status' shows, and reports READY once the
// first flow has something to show, until ctx ends.
func (b *Board) NotifySystemd(ctx context.Context, n *systemd.Notifier, log *slog.Logger) error {
	patience := time.NewTimer(readyPatience)
	defer patience.Stop()
	ready, last := false, ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-patience.C:
		case <-b.forSystemd.C():
		}
		s := b.Status()
		var err error
		if !ready && settled(s) {
			ready = true
			err = n.Ready()
		}
		if line := s.Line(); line != last && err == nil {
			last = line
			err = n.Status(line)
		}
		if err != nil {
			log.Debug("systemd was not notified", "err", err)
		}
	}
}

// readyPatience bounds how long the units that are ordered after this one wait: the ECS agent
// must start even where nothing here works.
const readyPatience = 15 * time.Second

// settled reports whether a first answer about the address and the routes is there, or has
// been waited for long enough.
func settled(s report.Status) bool {
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
