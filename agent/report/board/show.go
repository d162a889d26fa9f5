package board

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/systemd"
)

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
