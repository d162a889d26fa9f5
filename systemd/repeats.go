package systemd

import (
	"context"
	"hash/maphash"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// The keys of the attributes of a line that stands for equal ones: how many there are, itself included, and when the
// last of them came. Lines that say the opposite may have been written since.
const (
	Repeated = "repeated"
	LastAt   = "last_at"
)

const (
	// repeatEvery is how often the same line may appear.
	repeatEvery = time.Minute
	// repeatLines is how many different lines are remembered; more appear as they come.
	repeatLines = 256
)

// volatile are keys whose values do not make a line a different one.
var volatile = []string{"attempt", "retry_in", "took"}

// Repeats is a handler that lets a line through once a minute. Lines are the same when level,
// message and attributes are; those that name an event, when the event and what it is about
// are. Those held back are counted, and the last of them appears at the end of the minute with
// repeated=N and its time. There is no goroutine, and no timer while nothing is held back.
type Repeats struct {
	next  slog.Handler
	attrs attrs
	seen  *seen // shared by all handlers made from one
}

// seen is the memory that all loggers derived from one handler share.
type seen struct {
	about []string
	seed  maphash.Seed

	mu    sync.Mutex
	lines map[uint64]*seenLine
}

// seenLine is one line that appeared lately.
type seenLine struct {
	since time.Time // when it last appeared
	held  int       // equal lines held back since then
	last  slog.Record
	next  slog.Handler
	timer *time.Timer // runs while held > 0
}

// NewRepeats puts the limit before next. about are the only keys whose values make a line a
// different one that names its event.
func NewRepeats(next slog.Handler, about []string) *Repeats {
	return &Repeats{next: next, seen: &seen{about: about, seed: maphash.MakeSeed(), lines: map[uint64]*seenLine{}}}
}

// Enabled implements slog.Handler.
func (h *Repeats) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

// WithAttrs implements slog.Handler.
func (h *Repeats) WithAttrs(more []slog.Attr) slog.Handler {
	return &Repeats{next: h.next.WithAttrs(more), attrs: h.attrs.with(more), seen: h.seen}
}

// WithGroup implements slog.Handler.
func (h *Repeats) WithGroup(name string) slog.Handler {
	return &Repeats{next: h.next.WithGroup(name), attrs: h.attrs.group(name), seen: h.seen}
}

// Handle implements slog.Handler.
func (h *Repeats) Handle(ctx context.Context, r slog.Record) error {
	if h.seen.holdBack(h.key(r), h.next, r) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

// Flush writes out what is held back, for the end of the process.
func (h *Repeats) Flush() {
	s := h.seen
	s.mu.Lock()
	lines := s.lines
	s.lines = map[uint64]*seenLine{}
	s.mu.Unlock()
	for _, l := range lines {
		l.emit()
	}
}

func (h *Repeats) key(r slog.Record) uint64 {
	msg, fs := r.Message, h.attrs.record(r)
	if slices.ContainsFunc(fs, func(f field) bool { return f.key == Event }) {
		msg = ""
		fs = slices.DeleteFunc(fs, func(f field) bool { return f.key != Event && !slices.Contains(h.seen.about, f.key) })
	} else {
		fs = slices.DeleteFunc(fs, func(f field) bool { return slices.Contains(volatile, f.key) })
	}
	return maphash.String(h.seen.seed, line(r.Level.String()+" "+msg, fs))
}

// holdBack counts a line that appeared lately, and reports whether it is one.
func (s *seen) holdBack(key uint64, next slog.Handler, r slog.Record) bool {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lines[key]; l != nil && (l.held > 0 || now.Sub(l.since) < repeatEvery) {
		l.held++
		l.last, l.next = r.Clone(), next
		if l.timer == nil {
			l.timer = time.AfterFunc(l.since.Add(repeatEvery).Sub(now), func() { s.due(key, l) })
		}
		return true
	}
	if len(s.lines) >= repeatLines {
		maps.DeleteFunc(s.lines, func(_ uint64, l *seenLine) bool { return l.held == 0 && now.Sub(l.since) >= repeatEvery })
	}
	if len(s.lines) < repeatLines {
		s.lines[key] = &seenLine{since: now}
	}
	return false
}

// due ends the minute of a line with others held back behind it, and begins the next.
func (s *seen) due(key uint64, l *seenLine) {
	s.mu.Lock()
	current := s.lines[key] == l // else flushed, and written out then
	if current {
		s.lines[key] = &seenLine{since: time.Now()}
	}
	s.mu.Unlock()
	if current {
		l.emit()
	}
}

// emit writes the last line held back, with the count. Nobody else holds l any more.
func (l *seenLine) emit() {
	if l.held == 0 {
		return
	}
	l.timer.Stop()
	l.last.AddAttrs(slog.Int(Repeated, l.held), slog.String(LastAt, l.last.Time.UTC().Format(time.RFC3339)))
	// A log line that cannot be written cannot be reported either.
	_ = l.next.Handle(context.Background(), l.last)
}
