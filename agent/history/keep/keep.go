// Package keep writes the history into the state directory and reads it.
package keep

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/history"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

// Dir is the name of its directory in the state directory.
const Dir = "history"

// Run writes a record of every whole minute in which it runs, and the events of notes as they come, until ctx ends. The
// files have their full size from the beginning, so a full disk stops nothing. put gets what keeps it from writing, nil
// for nothing.
func Run(ctx context.Context, dir string, status func() report.Status, notes *Notes, put func(error)) error {
	minute := history.Records.Levels[0]
	start, seen := minute.Start(time.Now()), status()
	if notes.dir != dir || notes.seen.At.Before(start) || notes.seen.At.After(seen.At) {
		notes.seen = seen // else what was in this minute until the Run before has ended is not lost
	}
	if notes.dir != dir {
		notes.dir, notes.rings = dir, nil
	}
	w := writer{dir: dir, before: notes.seen, fresh: true}
	var written, noted error
	defer func() {
		notes.seen = w.before
		_ = notes.Flush() // what is left waits for the next Run, or for Flush
	}()
	due := time.NewTimer(time.Until(start.Add(minute.Step)))
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-notes.some.C():
		case <-due.C:
			written = w.minute(start, status())
			start = minute.Start(time.Now())
			due.Reset(time.Until(start.Add(minute.Step)))
		}
		noted = notes.Flush()
		put(cmp.Or(written, noted)) // mostly for the same reason
	}
}

// writer writes the records of minutes.
type writer struct {
	dir    string
	before report.Status
	// fresh is set until what the agent of before did not merge is merged.
	fresh bool
	hosts *history.Hosts // nil until they have been read
}

// minute writes what was between the look before and this one, of which the span begins at start.
func (w *writer) minute(start time.Time, seen report.Status) error {
	before := w.before
	w.before = seen
	w.before.Traffic.Hosts = slices.Clone(seen.Traffic.Hosts)
	for i := range w.before.Traffic.Hosts { // which may be many, and are kept for a minute
		w.before.Traffic.Hosts[i].Paths = nil
	}
	var err error
	if w.fresh {
		err = makeFiles(w.dir)
	}
	err = cmp.Or(err,
		write(history.Records, w.dir, history.Between(before, seen, start), true, w.fresh),
		w.served(start, before, seen),
	)
	w.fresh = w.fresh && err != nil
	return err
}

// served writes what the hosts have served.
func (w *writer) served(start time.Time, before, seen report.Status) error {
	if w.hosts == nil {
		hosts, err := readHosts(w.dir)
		if err != nil {
			return err
		}
		w.hosts = hosts
	}
	served, changed := w.hosts.Between(before.Traffic, seen.Traffic, start)
	for _, i := range changed {
		if err := writePlace(w.dir, i, w.hosts[i]); err != nil {
			return err
		}
	}
	return write(history.OfServed(w.hosts), w.dir, served, served.Places != [history.MostHosts]history.Counts{}, w.fresh)
}

// write writes what is of one span, if there is something, and merges it with others to that of the coarser levels that end with it; or, if
// all is set, to that of all that are kept.
func write[T any](form history.Form[T], dir string, r T, some, all bool) error {
	end := form.Start(r).Add(form.Levels[0].Step)
	if some {
		if err := put(form, dir, 0, r); err != nil {
			return err
		}
	}
	for i := 1; i < len(form.Levels); i++ {
		of, into := form.Levels[i-1], form.Levels[i]
		from := into.Start(end).Add(-into.Step)
		if all {
			from = into.Start(end.Add(-of.Span())).Add(into.Step)
		}
		if !all && !from.Add(into.Step).Equal(end) {
			return nil // nor does a coarser one end now
		}
		parts, err := between(form, dir, i-1, from, into.Start(end))
		if err != nil {
			return err
		}
		for _, r := range form.Merged(i, parts) {
			if err := put(form, dir, i, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// put writes into a place of a level. What is of the same time and there already stays: a clock that was put
// back has not happened twice.
func put[T any](form history.Form[T], dir string, level int, r T) error {
	l := form.Levels[level]
	g, err := open(dir, levelFile(form, l))
	if err != nil {
		return err
	}
	defer g.Close()
	at, b := l.Place(form.Start(r)), make([]byte, form.Size)
	if err := g.read(at, b); err != nil {
		return err
	}
	if was, ok := form.Decode(b); ok && form.Start(was).Equal(form.Start(r)) {
		return nil
	}
	return g.write(at, form.Encode(r))
}

// between reads what a level has of a time; nothing where it has no file.
func between[T any](form history.Form[T], dir string, level int, from, to time.Time) ([]T, error) {
	l, all := form.Levels[level], []T{}
	err := each(dir, levelFile(form, l), func(part []byte) {
		all = append(all, form.Between(l, part, from, to)...)
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b T) int { return form.Start(a).Compare(form.Start(b)) }) // each part is sorted already
	return all, nil
}

// kept is what was kept of a time, at the finest level that reaches back as far, and that level's step. What the level does not have yet
// is merged from the finer ones.
func kept[T any](form history.Form[T], dir string, from, now time.Time) ([]T, time.Duration, error) {
	level := form.Level(from, now)
	all, err := upTo(form, dir, level, from, now)
	return all, form.Levels[level].Step, err
}

func upTo[T any](form history.Form[T], dir string, level int, from, now time.Time) ([]T, error) {
	all, err := between(form, dir, level, from, now)
	if level == 0 || err != nil {
		return all, err
	}
	of, into := form.Levels[level-1], form.Levels[level]
	next := into.Start(now.Add(-of.Span())).Add(into.Step)
	if n := len(all); n > 0 && !form.Start(all[n-1]).Before(next) {
		next = form.Start(all[n-1]).Add(into.Step)
	}
	if next.Before(from) {
		next = into.Start(from.Add(into.Step - 1))
	}
	parts, err := upTo(form, dir, level-1, next, now)
	return append(all, form.Merged(level, parts)...), err
}

// Read returns what was recorded between from and now, in the finest resolution that reaches back as far.
func Read(dir string, from, now time.Time) ([]history.Record, error) {
	all, _, err := kept(history.Records, dir, from, now)
	return all, err
}

// ReadHosts returns what hosts have served between from and now, in the finest resolution that reaches back as far. It
// is empty where nothing was recorded.
func ReadHosts(dir string, from, now time.Time) (history.Traffic, error) {
	hosts, all, step, err := readServed(dir, from, now)
	return hosts.Traffic(step, all), err
}

// readServed reads what was served in a time, in steps of how long, and whose the places are.
func readServed(dir string, from, now time.Time) (hosts *history.Hosts, all []*history.Served, step time.Duration, err error) {
	if hosts, err = readHosts(dir); err == nil {
		all, step, err = kept(history.OfServed(hosts), dir, from, now)
	}
	return hosts, all, step, err
}
