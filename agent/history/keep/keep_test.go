package keep

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/history"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

// run keeps the history for a time, then ends as by SIGKILL: nothing is written at the end.
func run(t *testing.T, dir string, length time.Duration, reloads *int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	status := func() report.Status {
		s := report.Status{At: time.Now()}
		*reloads++
		s.Nginx.Reloads = *reloads
		return s
	}
	if err := Run(ctx, dir, status, func(err error) {
		if err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Error(err)
	}
}

func read(t *testing.T, dir string, span time.Duration) []history.Record {
	t.Helper()
	all, err := Read(dir, time.Now().Add(-span), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func sum(all []history.Record) (reloads history.Value) {
	for _, r := range all {
		reloads += r.Reloads
	}
	return reloads
}

// Each level has what the finer one has, over restarts, but the minute in which the agent ends.
func TestRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, reloads := filepath.Join(t.TempDir(), Dir), 0
		time.Sleep(30 * time.Second) // synctest's clock: it begins at a whole hour
		for range 100 {
			run(t, dir, 7*time.Minute+11*time.Second, &reloads)
		}
		length := 100 * (7*time.Minute + 11*time.Second)
		minutes := read(t, dir, length+time.Hour)
		if n, least := len(minutes), int(length/time.Minute)-100; n < least || n > int(length/time.Minute)+1 {
			t.Errorf("%d minutes of %s in which the agent was killed 100 times; at least %d", n, length, least)
		}
		fine := minutes[:0:0]
		closed := history.Levels[2].Start(time.Now()).Add(-time.Hour)
		for _, r := range minutes {
			if r.Start.Before(closed) {
				fine = append(fine, r)
			}
		}
		for _, l := range history.Levels[1:] {
			text, err := os.ReadFile(filepath.Join(dir, l.Name))
			if err != nil {
				t.Fatal(err)
			}
			if got := sum(l.Between(text, time.Now().Add(-24*time.Hour), closed)); got != sum(fine) {
				t.Errorf("%s: %v reloads, the minutes have %v", l.Name, got, sum(fine))
			}
		}
	})
}

// A clock that is put back a day does not overwrite what was.
func TestTheClockGoesBack(t *testing.T) {
	dir, now := t.TempDir(), time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	record := func(at time.Time, reloads history.Value) {
		r := history.Merge(at, nil)
		r.Reloads, r.Watched = reloads, 60
		if err := write(dir, r, false); err != nil {
			t.Fatal(err)
		}
	}
	for m := range 25 * 60 {
		record(now.Add(time.Duration(m)*time.Minute), 1)
	}
	for m := range 120 {
		record(now.Add(time.Duration(m)*time.Minute), 100)
	}
	end := now.Add(25 * time.Hour)
	for _, span := range []time.Duration{25 * time.Hour, 3 * 24 * time.Hour, 30 * 24 * time.Hour} {
		all, err := Read(dir, end.Add(-span), end)
		if err != nil || sum(all) != 25*60 {
			t.Errorf("%s: %v reloads, want %d; %v", span, sum(all), 25*60, err)
		}
	}
}

// Neither a torn record nor a file that is cut off or of another kind keeps the rest from being read and written.
func TestDamagedFiles(t *testing.T) {
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for name, damage := range map[string]func([]byte) []byte{
		"torn":      func(b []byte) []byte { b[history.Levels[0].Place(start)*history.Size+20] ^= 1; return b },
		"cut off":   func(b []byte) []byte { return b[:1000] },
		"too long":  func(b []byte) []byte { return append(b, make([]byte, 99)...) },
		"something": func([]byte) []byte { return []byte("something") },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, history.Levels[0].Name)
			r := history.Merge(start, nil)
			for i := range 2 {
				if r.Start = start.Add(time.Duration(i) * time.Minute); write(dir, r, false) != nil {
					t.Fatal("not written")
				}
			}
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, damage(b), 0o644); err != nil {
				t.Fatal(err)
			}
			r.Start = start.Add(2 * time.Minute)
			if err := write(dir, r, true); err != nil {
				t.Fatal(err)
			}
			all, err := Read(dir, start, start.Add(time.Hour))
			if err != nil || len(all) == 0 || !all[len(all)-1].Start.Equal(r.Start) {
				t.Errorf("%+v, %v", all, err)
			}
		})
	}
}

// The disk space is taken at once.
func TestTheFilesAreWhole(t *testing.T) {
	dir := t.TempDir()
	if err := write(dir, history.Merge(time.Unix(3600, 0), nil), false); err != nil {
		t.Fatal(err)
	}
	for _, l := range history.Levels {
		info, err := os.Stat(filepath.Join(dir, l.Name))
		if err != nil {
			t.Fatal(err)
		}
		if taken := info.Sys().(*syscall.Stat_t).Blocks * 512; info.Size() != int64(l.Places)*history.Size || taken < info.Size() {
			t.Errorf("%s: %d bytes, of which %d are on the disk", l.Name, info.Size(), taken)
		}
	}
}
