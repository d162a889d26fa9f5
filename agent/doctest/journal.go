package doctest

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/systemd"
)

// Journal is a journald that keeps what it is told.
type Journal struct {
	// Log writes to it as the program does.
	Log  *slog.Logger
	t    testing.TB
	conn *net.UnixConn

	mu      sync.Mutex
	entries []entry
}

type entry struct{ event, line string }

// NewJournal starts one that ends with the test.
func NewJournal(t testing.TB) *Journal {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	h, err := systemd.NewJournal(systemd.JournalOptions{Path: path, Level: slog.LevelDebug})
	if err != nil {
		t.Fatal(err)
	}
	j := &Journal{t: t, conn: conn}
	j.Log = slog.New(handler{h, j})
	return j
}

// handler takes each entry from the socket as soon as it is there.
type handler struct {
	slog.Handler
	j *Journal
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	h.j.mu.Lock()
	defer h.j.mu.Unlock()
	if err := h.Handler.Handle(ctx, r); err != nil {
		return err
	}
	b := make([]byte, 1<<20)
	n, err := h.j.conn.Read(b)
	if err != nil {
		return err
	}
	fields := parse(b[:n])
	h.j.entries = append(h.j.entries, entry{fields["NAGAYA_EVENT"], fields["MESSAGE"]})
	return nil
}

func (h handler) WithAttrs(more []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(more), h.j}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.j}
}

// parse reads journald's native protocol.
func parse(b []byte) map[string]string {
	fields := map[string]string{}
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			break
		}
		key, value, plain := strings.Cut(string(b[:end]), "=")
		b = b[end+1:]
		if !plain { // the length, then the value
			n := int(binary.LittleEndian.Uint64(b))
			value, b = string(b[8:8+n]), b[8+n+1:]
		}
		fields[key] = value
	}
	return fields
}

// Lines are the lines that were logged for the event.
func (j *Journal) Lines(event string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []string
	for _, e := range j.entries {
		if e.event == event {
			all = append(all, e.line)
		}
	}
	return all
}

// Await waits for a line of the event that has all of these words, and returns it.
func (j *Journal) Await(event string, words ...string) string {
	j.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		for _, line := range j.Lines(event) {
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
				return line
			}
		}
		if time.Now().After(end) {
			j.t.Fatalf("nothing was logged for %s with %q; all there is:\n%+v", event, words, j.entries)
		}
	}
}

// Problem is the line that is logged for a problem. The containers are those that run.
func Problem(t testing.TB, p problem.Problem, containers ...tasks.Container) string {
	t.Helper()
	now := time.Now()
	p.Since = now.Add(-time.Minute)
	var c report.Chronicle
	entries, _ := c.Changes(report.Status{At: now, Problems: []problem.Problem{p}}, containers)
	if len(entries) != 1 {
		t.Fatalf("%d entries for %+v", len(entries), p)
	}
	j := NewJournal(t)
	j.Log.Info(entries[0].Message, entries[0].Fields...)
	return j.Lines(p.Code)[0]
}
