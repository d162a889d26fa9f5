package keep

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/history"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/systemd"
)

// mostWaiting bounds the events that wait to be written; more are dropped.
const mostWaiting = 256

// Notes are the events that have been logged and not yet written.
type Notes struct {
	some *latest.Slot[struct{}]

	mu      sync.Mutex
	waiting []history.Event

	// These are for Run and Flush, one after the other.
	dir   string
	rings []numbered    // those of dir, once they have been read
	seen  report.Status // the last look of a Run
}

// numbered is how far a ring of events is.
type numbered struct {
	next  uint64 // the number of the next event
	sieve history.Sieve
}

// NewNotes returns notes without any event.
func NewNotes() *Notes { return &Notes{some: latest.New[struct{}]()} }

// Handler returns a handler of log lines that notes what is remembered of them, at any level of the log but debug, and gives all to next.
func (n *Notes) Handler(next slog.Handler) slog.Handler { return handler{Handler: next, notes: n} }

type handler struct {
	slog.Handler
	notes *Notes
	attrs []slog.Attr
}

func (h handler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= event.Quiet || h.Handler.Enabled(ctx, l)
}

func (h handler) WithAttrs(more []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(more), h.notes, append(slices.Clip(h.attrs), more...)}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.notes, h.attrs}
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	h.notes.note(r, h.attrs)
	if !h.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// note remembers the line of a log if it is of a kind that is. Of most lines nothing but the kind is read.
func (n *Notes) note(r slog.Record, attrs []slog.Attr) {
	each := func(do func(slog.Attr)) {
		for _, a := range attrs {
			do(a)
		}
		r.Attrs(func(a slog.Attr) bool { do(a); return true })
	}
	kind := ""
	each(func(a slog.Attr) {
		if a.Key == event.Key {
			kind = a.Value.String()
		}
	})
	if !history.Remembers(kind) {
		return
	}
	fields := map[string]string{}
	each(func(a slog.Attr) {
		if v := a.Value.Resolve(); v.Any() != nil {
			fields[a.Key] = systemd.Text(v)
		}
	})
	e, _ := history.NewEvent(r.Time, kind, fields)
	n.mu.Lock()
	if len(n.waiting) < mostWaiting {
		n.waiting = append(n.waiting, e)
	}
	n.mu.Unlock()
	n.some.Put(struct{}{})
}

// Flush writes the events that wait, where Run writes or wrote; without one before it does nothing. Those that it cannot
// write go on waiting.
func (n *Notes) Flush() (err error) {
	if n.dir == "" {
		return nil
	}
	if n.rings == nil {
		if n.rings, err = readNumbers(n.dir); err != nil {
			return err
		}
	}
	n.mu.Lock()
	waiting := slices.Clone(n.waiting)
	n.mu.Unlock()
	for _, e := range waiting {
		if err := n.writeOne(e); err != nil {
			return err
		}
		n.mu.Lock()
		n.waiting = n.waiting[1:]
		n.mu.Unlock()
	}
	return nil
}

func (n *Notes) writeOne(e history.Event) error {
	r, to := history.Rings[e.Ring()], &n.rings[e.Ring()]
	g, err := open(n.dir, eventsFile(r))
	if err != nil {
		return err
	}
	defer g.Close()
	e, keeps := to.sieve.Keeps(r, e)
	if !keeps {
		return nil
	}
	e.Number = to.next
	if err := g.write(int(e.Number%uint64(r.Places)), e.Encode()); err != nil {
		return err
	}
	to.next++
	return nil
}

// readNumbers reads how far the rings are.
func readNumbers(dir string) ([]numbered, error) {
	all := make([]numbered, len(history.Rings))
	for i, r := range history.Rings {
		all[i].next = 1
		events, err := readRing(dir, r, func(e history.Event) bool {
			all[i].next = max(all[i].next, e.Number+1)
			return time.Since(e.At) < time.Duration(r.Burst)*time.Hour // older ones count no more
		})
		if err != nil {
			return nil, err
		}
		for _, e := range events {
			all[i].sieve.Keeps(r, e)
		}
	}
	return all, nil
}

// readRing reads those events of a ring that are wanted, in the order in which they were written.
func readRing(dir string, r history.Ring, wanted func(history.Event) bool) (all []history.Event, err error) {
	err = each(dir, eventsFile(r), func(part []byte) {
		for b := range slices.Chunk(part, history.EventSize) {
			if e, ok := history.DecodeEvent(b); ok && wanted(e) {
				all = append(all, e)
			}
		}
	})
	slices.SortFunc(all, func(a, b history.Event) int { return cmp.Compare(a.Number, b.Number) })
	return all, err
}

// ReadEvents returns the events from from up to to, the oldest first; none where nothing was recorded.
func ReadEvents(dir string, from, to time.Time) ([]history.Event, error) {
	all := []history.Event{}
	for _, r := range history.Rings {
		of, err := readRing(dir, r, func(e history.Event) bool { return !e.At.Before(from) && e.At.Before(to) })
		if err != nil {
			return nil, err
		}
		all = append(all, of...)
	}
	slices.SortStableFunc(all, func(a, b history.Event) int { return a.At.Compare(b.At) })
	return all, nil
}
