// Package keep writes the history into the state directory and reads it.
package keep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/history"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

// Dir is the name of its directory in the state directory.
const Dir = "history"

// Run writes a record of every whole minute in which it runs, until ctx ends. The files have their full size
// from the beginning, so a full disk stops nothing. put gets what keeps it from writing, nil for nothing.
func Run(ctx context.Context, dir string, status func() report.Status, put func(error)) error {
	minute := history.Levels[0]
	before := status()
	fresh := true // what the agent of before did not merge is merged
	for {
		now := time.Now()
		start := minute.Start(now)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(start.Add(minute.Step).Sub(now)):
		}
		seen := status()
		err := write(dir, history.Between(before, seen, start), fresh)
		fresh = fresh && err != nil
		before = seen
		put(err)
	}
}

// write writes a record, and merges it with others to those of the coarser levels that end with it.
func write(dir string, r history.Record, all bool) error {
	rings := make([]*ring, len(history.Levels))
	for i, l := range history.Levels {
		g, err := open(dir, l)
		if err != nil {
			return err
		}
		defer g.file.Close()
		rings[i] = g
	}
	if err := rings[0].put(r); err != nil {
		return err
	}
	end := r.Start.Add(rings[0].Step)
	for i := 1; i < len(rings); i++ {
		of, into := rings[i-1], rings[i]
		from := into.Start(end).Add(-into.Step)
		if all {
			from = into.Start(end.Add(-of.Span())).Add(into.Step)
		}
		for ; !from.Add(into.Step).After(end) && (all || from.Add(into.Step).Equal(end)); from = from.Add(into.Step) {
			parts, err := of.read(from, from.Add(into.Step))
			if err == nil && len(parts) > 0 {
				err = into.put(history.Merge(from, parts))
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// ring is the file of a level.
type ring struct {
	history.Level
	file *os.File
}

// open opens the file, and makes it in its full size.
func open(dir string, l history.Level) (*ring, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, l.Name), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	size := int64(l.Places) * history.Size
	if info, err := f.Stat(); err != nil || info.Size() != size {
		if err == nil {
			// What is there stays: a file of an interrupted start is completed with zeros.
			_, err = f.WriteAt(make([]byte, max(size-info.Size(), 0)), min(info.Size(), size))
		}
		if err == nil {
			err = f.Truncate(size)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return &ring{l, f}, nil
}

// put writes a record into its place. One of the same time that is there stays: a clock that was put
// back has not happened twice.
func (g *ring) put(r history.Record) error {
	at := int64(g.Place(r.Start)) * history.Size
	var b [history.Size]byte
	if _, err := g.file.ReadAt(b[:], at); err != nil {
		return fmt.Errorf("%s: %w", g.file.Name(), err)
	}
	if was, ok := history.Decode(b[:]); ok && was.Start.Equal(r.Start) {
		return nil
	}
	b = history.Encode(r)
	_, err := g.file.WriteAt(b[:], at)
	return err
}

// read returns the records from from up to to, which are at most the whole ring.
func (g *ring) read(from, to time.Time) ([]history.Record, error) {
	text := make([]byte, 0, history.Size)
	for at := g.Start(from); at.Before(to); at = at.Add(g.Step) {
		var b [history.Size]byte
		if _, err := g.file.ReadAt(b[:], int64(g.Place(at))*history.Size); err != nil {
			return nil, fmt.Errorf("%s: %w", g.file.Name(), err)
		}
		text = append(text, b[:]...)
	}
	return g.Between(text, from, to), nil
}

// Read returns what was recorded between from and now, in the finest resolution that reaches back as far.
func Read(dir string, from, now time.Time) ([]history.Record, error) {
	l := history.For(from, now)
	f, err := os.Open(filepath.Join(dir, l.Name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, int64(l.Places)*history.Size))
	if err != nil {
		return nil, err
	}
	return l.Between(text[:len(text)/history.Size*history.Size], from, now), nil
}
