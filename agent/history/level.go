package history

import (
	"slices"
	"time"
)

// Level is a resolution that is kept for some time: a ring of places, of which each span of time has one.
type Level struct {
	Name   string // of its file
	Step   time.Duration
	Places int
}

// Levels are the resolutions, the finest first: each step is a multiple of the one before. They take 1.1 MB.
var Levels = []Level{
	{"minutes", time.Minute, 2 * 24 * 60},
	{"five-minutes", 5 * time.Minute, 14 * 24 * 12},
	{"hours", time.Hour, 366 * 24},
}

// Span is how long the level is kept.
func (l Level) Span() time.Duration { return l.Step * time.Duration(l.Places) }

// Start is when the span begins that has t in it.
func (l Level) Start(t time.Time) time.Time {
	return time.Unix(t.Unix()-t.Unix()%int64(l.Step/time.Second), 0).UTC()
}

// Place is where in its ring the span is that begins at start.
func (l Level) Place(start time.Time) int {
	return int(start.Unix() / int64(l.Step/time.Second) % int64(l.Places))
}

// For is the finest level that reaches back as far as from.
func For(from, now time.Time) Level {
	i := slices.IndexFunc(Levels, func(l Level) bool { return now.Sub(from) <= l.Span() })
	if i < 0 {
		i = len(Levels) - 1
	}
	return Levels[i]
}

// Between returns the records of a ring that are of a time from from up to to, the oldest first. What a
// clock that was wrong has left there is not among them.
func (l Level) Between(ring []byte, from, to time.Time) (all []Record) {
	for b := range slices.Chunk(ring, Size) {
		if r, ok := Decode(b); ok && !r.Start.Before(from) && r.Start.Before(to) && l.Start(r.Start).Equal(r.Start) {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b Record) int { return a.Start.Compare(b.Start) })
	return slices.CompactFunc(all, func(a, b Record) bool { return a.Start.Equal(b.Start) })
}
