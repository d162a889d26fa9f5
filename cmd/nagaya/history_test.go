package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/history/keep"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/traffic"
)

// What the agent records is what the command shows, without an agent.
func TestCreditsSince(t *testing.T) {
	state := t.TempDir()
	t.Setenv("NAGAYA_STATE_DIR", state)
	if got := nagaya(t, "credits", "--since", "1h"); got.code != 0 || !strings.Contains(got.out, "Nothing was recorded") || !strings.Contains(got.out, " in "+state) {
		t.Errorf("before anything: %+v", got)
	}
	now := time.Now()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(now.Add(-10 * time.Minute))) // synctest's clock begins in the year 2000
		ctx, cancel := context.WithTimeout(t.Context(), 9*time.Minute)
		defer cancel()
		err := keep.Run(ctx, filepath.Join(state, keep.Dir), func() report.Status {
			return report.Status{At: time.Now(), Credit: credit.Report{Known: true, Balance: 123}}
		}, keep.NewNotes(), func(err error) {
			if err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Error(err)
		}
	})
	if got := nagaya(t, "credits", "--since", "1h"); got.code != 0 || !strings.Contains(got.out, "        123 |") {
		t.Errorf("%+v", got)
	}
	if got := nagaya(t, "credits", "--since", "2d", "--json"); got.code != 0 || strings.Count(got.out, `"balance": 123`) < 8 {
		t.Errorf("%+v", got)
	}
	for _, wrong := range []string{"1", "d", "-1d", "0h", "367d", "1y", "99999999999h"} {
		if got := nagaya(t, "credits", "--since="+wrong); got.code != 2 || !strings.Contains(got.errs, "7d") {
			t.Errorf("--since=%s: %+v", wrong, got)
		}
	}
}

// What the agent's log says is what the command lists, without an agent.
func TestHistory(t *testing.T) {
	state := t.TempDir()
	t.Setenv("NAGAYA_STATE_DIR", state)
	if got := nagaya(t, "history"); got.code != 0 || !strings.Contains(got.out, "No event was recorded") || !strings.Contains(got.out, " in "+state) {
		t.Errorf("before anything: %+v", got)
	}
	if got := nagaya(t, "history", "--json"); got.code != 0 || got.out != "[]\n" {
		t.Errorf("before anything: %+v", got)
	}
	notes := keep.NewNotes()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	slog.New(notes.Handler(slog.DiscardHandler)).Info("", event.Key, event.AddressLost, "address", "203.0.113.10", "holder", "another instance", "holder_id", "i-0fed")
	if err := keep.Run(ctx, filepath.Join(state, keep.Dir), func() report.Status { return report.Status{} }, notes, func(error) {}); err != nil {
		t.Fatal(err)
	}
	if got := nagaya(t, "history", "--since", "1h"); got.code != 0 || !strings.Contains(got.out, "  address-lost  203.0.113.10  now with another instance i-0fed\n") {
		t.Errorf("%+v", got)
	}
	if got := nagaya(t, "history", "--json"); got.code != 0 || !strings.Contains(got.out, `"journal": "journalctl -u nagaya NAGAYA_EVENT=address-lost NAGAYA_ADDRESS=203.0.113.10 --since`) {
		t.Errorf("%+v", got)
	}
	if got := nagaya(t, "history", "--since", "x"); got.code != 2 {
		t.Errorf("%+v", got)
	}
}

// What the agent counts is what the command shows, without an agent.
func TestTrafficSince(t *testing.T) {
	state := t.TempDir()
	t.Setenv("NAGAYA_STATE_DIR", state)
	if got := nagaya(t, "routes", "--traffic", "--since", "1h"); got.code != 0 || !strings.Contains(got.out, "Nothing was served") || !strings.Contains(got.out, " in "+state) {
		t.Errorf("before anything: %+v", got)
	}
	now := time.Now()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(now.Add(-10 * time.Minute)))
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
		defer cancel()
		began := time.Now()
		err := keep.Run(ctx, filepath.Join(state, keep.Dir), func() report.Status {
			n := uint64(time.Since(began) / time.Minute)
			return report.Status{At: time.Now(), Traffic: traffic.Report{Since: began, Hosts: []traffic.Host{
				{Host: "idle.test", Counts: traffic.Counts{Requests: traffic.Classes{1: min(n, 1)}}},
				{Host: "busy.test", Counts: traffic.Counts{Requests: traffic.Classes{1: 10 * n, 4: n}, Bytes: 1024 * n}},
			}}}
		}, keep.NewNotes(), func(err error) {
			if err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Error(err)
		}
	})
	got := nagaya(t, "routes", "--traffic", "--since", "1h")
	text := strings.Split(got.out, "\n")
	if got.code != 0 || len(text) < 5 || !strings.HasPrefix(text[3], "busy.test  ") || !strings.HasPrefix(text[4], "idle.test  1 ") {
		t.Errorf("%+v", got)
	}
	if got := nagaya(t, "routes", "--traffic", "--since", "1w", "--json"); got.code != 0 || !strings.Contains(got.out, `"step_seconds": 3600`) || !strings.Contains(got.out, `"host": "busy.test"`) {
		t.Errorf("%+v", got)
	}
	if got := nagaya(t, "routes", "--since", "1h"); got.code != 2 {
		t.Errorf("%+v", got)
	}
}
