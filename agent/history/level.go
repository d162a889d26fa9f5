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

// Form is how what is kept of one kind is written, and how that of several spans become one.
type Form[T any] struct {
	// Levels are the resolutions, the finest first: each step is a multiple of the one before.
	Levels []Level
	// Size is how many bytes one takes in a file.
	Size   int
	Encode func(T) []byte
	Decode func([]byte) (T, bool)
	Start  func(T) time.Time
	// Merge makes one of those of the spans in it, each of the length step, the oldest first.
	Merge func(step time.Duration, start time.Time, parts []T) T
}

// Records is the form of records: a minute at a time for two days, five minutes for two weeks and an hour for a year.
// They take 1.1 MB.
var Records = Form[Record]{
	Levels: []Level{
		{"minutes", time.Minute, 2 * 24 * 60},
		{"five-minutes", 5 * time.Minute, 14 * 24 * 12},
		{"hours", time.Hour, 366 * 24},
	},
	Size: Size, Encode: Encode, Decode: Decode,
	Merge: func(_ time.Duration, start time.Time, parts []Record) Record { return Merge(start, parts) },
	Start: func(r Record) time.Time { return r.Start },
}

// Level is the place in Levels of the finest level that reaches back as far as from.
func (f Form[T]) Level(from, now time.Time) int {
	i := slices.IndexFunc(f.Levels, func(l Level) bool { return now.Sub(from) <= l.Span() })
	if i < 0 {
		i = len(f.Levels) - 1
	}
	return i
}

// Between returns what of a ring, or a part of one, is of a time from from up to to, the oldest first. What a
// clock that was wrong has left there is not among it.
func (f Form[T]) Between(l Level, ring []byte, from, to time.Time) (all []T) {
	for b := range slices.Chunk(ring, f.Size) {
		r, ok := f.Decode(b)
		if !ok {
			continue
		}
		if at := f.Start(r); !at.Before(from) && at.Before(to) && l.Start(at).Equal(at) {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b T) int { return f.Start(a).Compare(f.Start(b)) })
	return slices.CompactFunc(all, func(a, b T) bool { return f.Start(a).Equal(f.Start(b)) })
}

// Merged is what Levels[level] has of what the level before it has, the oldest first.
func (f Form[T]) Merged(level int, parts []T) (all []T) {
	of, into := f.Levels[level-1], f.Levels[level]
	for len(parts) > 0 {
		start, n := into.Start(f.Start(parts[0])), 1
		for n < len(parts) && into.Start(f.Start(parts[n])).Equal(start) {
			n++
		}
		all = append(all, f.Merge(of.Step, start, parts[:n]))
		parts = parts[n:]
	}
	return all
}
