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
	"github.com/nagaya-ecs/nagaya/agent/traffic"
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
	if err := Run(ctx, dir, status, NewNotes(), func(err error) {
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
		closed := history.Records.Levels[2].Start(time.Now()).Add(-time.Hour)
		for _, r := range minutes {
			if r.Start.Before(closed) {
				fine = append(fine, r)
			}
		}
		for _, l := range history.Records.Levels[1:] {
			text, err := os.ReadFile(filepath.Join(dir, l.Name))
			if err != nil {
				t.Fatal(err)
			}
			if got := sum(history.Records.Between(l, text, time.Now().Add(-24*time.Hour), closed)); got != sum(fine) {
				t.Errorf("%s: %v reloads, the minutes have %v", l.Name, got, sum(fine))
			}
		}
	})
}

// A reload of the configuration ends a Run, and another one goes on in the same minute: nothing of that minute is lost.
func TestReloadsOfTheConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, notes := filepath.Join(t.TempDir(), Dir), NewNotes()
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), 17*time.Second)
			if err := Run(ctx, dir, func() report.Status { return report.Status{At: time.Now()} }, notes, func(error) {}); err != nil {
				t.Error(err)
			}
			cancel()
		}
		all := read(t, dir, time.Hour)
		if len(all) != 5 {
			t.Errorf("%d minutes of 5m40s", len(all))
		}
		for _, r := range all {
			if r.Watched != 60 {
				t.Errorf("%s: the agent ran for %v s", r.Start, r.Watched)
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
		if err := write(history.Records, dir, r, true, false); err != nil {
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
		"torn":      func(b []byte) []byte { b[history.Records.Levels[0].Place(start)*history.Size+20] ^= 1; return b },
		"cut off":   func(b []byte) []byte { return b[:1000] },
		"too long":  func(b []byte) []byte { return append(b, make([]byte, 99)...) },
		"something": func([]byte) []byte { return []byte("something") },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, history.Records.Levels[0].Name)
			r := history.Merge(start, nil)
			for i := range 2 {
				if r.Start = start.Add(time.Duration(i) * time.Minute); write(history.Records, dir, r, true, false) != nil {
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
			if err := write(history.Records, dir, r, true, true); err != nil {
				t.Fatal(err)
			}
			all, err := Read(dir, start, start.Add(time.Hour))
			if err != nil || len(all) == 0 || !all[len(all)-1].Start.Equal(r.Start) {
				t.Errorf("%+v, %v", all, err)
			}
		})
	}
}

// The disk space is taken at once, and is what it is said to be.
func TestTheFilesAreWhole(t *testing.T) {
	dir := t.TempDir()
	if err := makeFiles(dir); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var taken int64
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if on := info.Sys().(*syscall.Stat_t).Blocks * 512; info.Size() == 0 || on < info.Size() {
			t.Errorf("%s: %d bytes, of which %d are on the disk", f.Name(), info.Size(), on)
		}
		taken += info.Size()
	}
	if taken > 8_000_000 || len(files) != 11 {
		t.Errorf("%d files with %d bytes", len(files), taken)
	}
}

// What hosts have served is read back at each resolution, what the coarse ones do not have yet included, and after restarts.
func TestHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, served := filepath.Join(t.TempDir(), Dir), uint64(0)
		length := 13*time.Hour + 5*time.Minute
		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), length/5)
			began := time.Now()
			status := func() report.Status {
				n := uint64(time.Since(began) / time.Minute)
				return report.Status{At: time.Now(), Traffic: traffic.Report{Since: began, Hosts: []traffic.Host{
					{Host: "busy.test", Counts: traffic.Counts{Requests: traffic.Classes{1: 2 * n, 4: n}, Bytes: 100 * n}},
					{Host: "idle.test"},
				}}}
			}
			if err := Run(ctx, dir, status, NewNotes(), func(err error) {
				if err != nil {
					t.Error(err)
				}
			}); err != nil {
				t.Error(err)
			}
			cancel()
			served += uint64(length / 5 / time.Minute)
		}
		for span, step := range map[time.Duration]time.Duration{
			time.Hour: time.Minute, 24 * time.Hour: 5 * time.Minute, 7 * 24 * time.Hour: time.Hour, 365 * 24 * time.Hour: 24 * time.Hour,
		} {
			now := time.Now()
			got, err := ReadHosts(dir, now.Add(-span), now)
			if err != nil || len(got.Hosts) != 1 || got.Hosts[0].Host != "busy.test" || got.Step != step.Seconds() {
				t.Fatalf("%s: %v, %v", span, got, err)
			}
			want := history.Value(min(span, length) / time.Minute)
			sum := got.Hosts[0].Sum()
			if off := want - sum.Errors; off < 0 || off > history.Value(5+step/time.Minute) {
				t.Errorf("%s: %v of %v errors", span, sum.Errors, want)
			}
			if sum.Requests != 3*sum.Errors || sum.Bytes != 100*sum.Errors {
				t.Errorf("%s: %+v", span, sum)
			}
		}
	})
}

// The newest minutes are there in every resolution.
func TestTheLastMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, reloads := filepath.Join(t.TempDir(), Dir), 0
		run(t, dir, 90*time.Minute, &reloads)
		for _, span := range []time.Duration{2 * time.Hour, 7 * 24 * time.Hour, 300 * 24 * time.Hour} {
			if got := sum(read(t, dir, span)); got < 89 {
				t.Errorf("%s: %v of 90 reloads", span, got)
			}
		}
	})
}
