package systemd

import (
	"cmp"
	"context"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Repeated is the key of the attribute that counts how many equal lines one line
// stands for, itself included.
const Repeated = "repeated"

const (
	defaultRepeatEvery = time.Minute
	defaultRepeatLines = 256
	// maxKept bounds what is kept of one value of a held-back line, in bytes.
	maxKept = 1 << 10
)

// RepeatOptions are which lines count as the same, and for how long.
type RepeatOptions struct {
	// Every is how often the same line may appear; zero means a minute.
	Every time.Duration
	// Lines is how many different lines are remembered at most; zero means 256.
	// What is forgotten appears again at once.
	Lines int
	// Volatile are keys whose values do not make a line a different one; nil
	// means attempt, retry_in and took.
	Volatile []string
	// About are the only keys whose values make a line a different one that names
	// its event: what it is about. Its message and its other values do not.
	About []string
}

// Repeats is a handler that lets a line through once per interval. Lines are the
// same when level, message and attributes are; those that name an event, when the
// event and what it is about are. Those held back are counted, and
// the last of them appears at the end of the interval with repeated=N.
// There is no goroutine, and no timer while nothing is held back.
type Repeats struct {
	next  slog.Handler
	attrs attrs
	seen  *seen // shared by all handlers made from one
}

// seen is the memory that all loggers derived from one handler share.
type seen struct {
	every    time.Duration
	max      int
	volatile []string
	about    []string
	seed     maphash.Seed

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

// NewRepeats puts the limit before next.
func NewRepeats(next slog.Handler, o RepeatOptions) *Repeats {
	o.Every = cmp.Or(o.Every, defaultRepeatEvery)
	o.Lines = cmp.Or(o.Lines, defaultRepeatLines)
	if o.Volatile == nil {
		o.Volatile = []string{"attempt", "retry_in", "took"}
	}
	return &Repeats{next: next, seen: &seen{
		every: o.Every, max: o.Lines, volatile: o.Volatile, about: o.About,
		seed: maphash.MakeSeed(), lines: map[uint64]*seenLine{},
	}}
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
	if !h.seen.admit(h.key(r), h.next, r) {
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
		fs = slices.DeleteFunc(fs, func(f field) bool { return slices.Contains(h.seen.volatile, f.key) })
	}
	return maphash.String(h.seen.seed, line(r.Level.String()+" "+msg, fs))
}

// admit reports whether the line may appear now; if not, it is counted.
func (s *seen) admit(key uint64, next slog.Handler, r slog.Record) bool {
	now := time.Now()
	s.mu.Lock()
	l, known := s.lines[key]
	if known && (l.held > 0 || now.Sub(l.since) < s.every) {
		defer s.mu.Unlock()
		l.held++
		l.last, l.next = keep(r), next
		if l.timer == nil {
			l.timer = time.AfterFunc(l.since.Add(s.every).Sub(now), func() { s.due(key, l) })
		}
		return false
	}
	evicted := s.makeRoom(now)
	s.lines[key] = &seenLine{since: now}
	s.mu.Unlock()
	evicted.emit()
	return true
}

// makeRoom forgets, where the memory is full, every line whose interval is
// over, else the oldest, which it returns because it may have lines held back.
func (s *seen) makeRoom(now time.Time) *seenLine {
	if len(s.lines) < s.max {
		return nil
	}
	var oldest uint64
	for key, l := range s.lines {
		if l.held == 0 && now.Sub(l.since) >= s.every {
			delete(s.lines, key)
			continue
		}
		if o, ok := s.lines[oldest]; !ok || l.since.Before(o.since) {
			oldest = key
		}
	}
	if len(s.lines) < s.max {
		return nil
	}
	l := s.lines[oldest]
	delete(s.lines, oldest)
	return l
}

// due ends the interval of a line with others held back behind it, and begins the next.
func (s *seen) due(key uint64, l *seenLine) {
	s.mu.Lock()
	if s.lines[key] != l {
		s.mu.Unlock()
		return // flushed or forgotten, and written out then
	}
	s.lines[key] = &seenLine{since: time.Now()}
	s.mu.Unlock()
	l.emit()
}

// emit writes the last line held back, with the count. Nobody else holds l any more.
func (l *seenLine) emit() {
	if l == nil || l.held == 0 {
		return
	}
	l.timer.Stop()
	l.last.AddAttrs(slog.Int(Repeated, l.held))
	// A log line that cannot be written cannot be reported either.
	_ = l.next.Handle(context.Background(), l.last)
}

// keep copies r with its values written out and cut, so that a held-back line
// neither changes afterwards nor holds on to large things.
func keep(r slog.Record) slog.Record {
	c := slog.NewRecord(r.Time, r.Level, cut(r.Message, maxKept), r.PC)
	for _, f := range (attrs{}).record(r) {
		c.AddAttrs(slog.String(f.key, cut(f.value, maxKept)))
	}
	return c
}
