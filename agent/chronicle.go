package agent

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// chronicle writes into the journal what changes on the board, and keeps the fields
// that every entry carries.
func (a *agent) chronicle(ctx context.Context) error {
	var seen report.Chronicle
	var containers []tasks.Container
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.board.news.C():
		case <-due.C:
		}
		select { // the containers are put before the routes that lead to them
		case containers = <-a.containers.C():
		default:
		}
		s := a.board.read()
		a.stamp(s)
		entries, again := seen.Changes(s, containers)
		for _, e := range entries {
			level := slog.LevelInfo
			switch {
			case e.Error:
				level = slog.LevelError
			case e.Warning:
				level = slog.LevelWarn
			}
			a.o.Log.Log(ctx, level, e.Message, e.Fields...)
		}
		if !again.IsZero() {
			due.Reset(time.Until(again))
		}
	}
}

// stamp sets the fields of every entry: who this is, and what it holds and serves.
func (a *agent) stamp(s status) {
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
	a.o.Fields.Set("instance", s.Identity.Instance.ID)
	a.o.Fields.Set("address", strings.Join(held, ","))
	a.o.Fields.Set("generation", s.Nginx.Generation)
	a.o.Fields.Set("credits", credits)
}
