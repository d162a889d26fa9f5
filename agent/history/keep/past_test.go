package keep

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/history"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/traffic"
)

// What was kept is read in columns and as events, and where nothing was kept there is nothing.
func TestPast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Past(filepath.Join(t.TempDir(), Dir))
		now := time.Now
		if c, err := p.Credits(now().Add(-time.Hour), now(), 60); err != nil || len(c.Times) != 0 {
			t.Errorf("credits of no directory: %+v, %v", c, err)
		}
		if h, err := p.Hosts(now().Add(-time.Hour), now(), 60, 6); err != nil || len(h.Hosts) != 0 || len(h.All.Columns) != 3 {
			t.Errorf("hosts of no directory: %+v, %v", h, err)
		}
		if e, err := p.Events(now().Add(-time.Hour), now(), "", 60); err != nil || len(e) != 0 {
			t.Errorf("events of no directory: %+v, %v", e, err)
		}
		w, notes := writer{dir: string(p), before: report.Status{At: now()}, fresh: true}, NewNotes()
		for minute := range 10 {
			start := history.Records.Levels[0].Start(now())
			time.Sleep(time.Minute)
			seen := report.Status{At: now(), Traffic: traffic.Report{Hosts: []traffic.Host{
				{Host: "b.test", Counts: traffic.Counts{Requests: traffic.Classes{1: uint64(10 * (minute + 1)), 4: uint64(minute + 1)}, Bytes: 5}},
				{Host: "a.test", Counts: traffic.Counts{Requests: traffic.Classes{1: uint64(minute + 1)}}},
			}}}
			if err := w.minute(start, seen); err != nil {
				t.Fatal(err)
			}
			for _, kind := range []string{"address-held", "batch-done"} {
				e, _ := history.NewEvent(now(), kind, map[string]string{"address": "203.0.113.10", "job_id": "report-" + strconv.Itoa(minute), "job": "report", "spent": "1.5"})
				notes.waiting = append(notes.waiting, e)
			}
		}
		if err := flush(notes, string(p)); err != nil {
			t.Fatal(err)
		}
		c, err := p.Credits(now().Add(-time.Hour), now().Add(time.Second), 100)
		if err != nil || len(c.Times) != 10 || c.Column("watched")[3] != 60 {
			t.Errorf("credits: %+v, %v", c, err)
		}
		h, err := p.Hosts(now().Add(-time.Hour), now().Add(time.Second), 60, 12)
		if err != nil || len(h.Hosts) != 2 || h.Hosts[0].Host != "a.test" || h.Step != 10*60 || h.All.Step != 2*60 {
			t.Fatalf("hosts: %+v, %v", h, err)
		}
		sum := func(v report.Values) (n float64) {
			for _, x := range v {
				n += x
			}
			return n
		}
		for what, row := range map[string][2]float64{
			"requests of a": {sum(h.Hosts[0].Requests), 10}, "requests of b": {sum(h.Hosts[1].Requests), 110}, "errors of b": {sum(h.Hosts[1].Errors), 10},
			"bytes of b": {sum(h.Hosts[1].Bytes), 5}, "requests": {sum(h.All.Column("requests")), 120}, "errors": {sum(h.All.Column("errors")), 10},
		} {
			if row[0] != row[1] {
				t.Errorf("%s: %v, want %v", what, row[0], row[1])
			}
		}
		all, err := p.Events(now().Add(-time.Hour), now().Add(time.Second), "job", 3)
		if err != nil || len(all) != 3 || all[2].Subject != "report-9" || all[2].Numbers["spent"] != 1.5 || all[2].Group != "job" {
			t.Errorf("events: %+v, %v", all, err)
		}
	})
}

// What reading the history takes when it is full: a year, with as many hosts and events as are kept.
func BenchmarkPast(b *testing.B) {
	dir := b.TempDir()
	now := time.Now()
	var hosts history.Hosts
	for i := range hosts {
		hosts[i] = history.Place{Host: "h" + strconv.Itoa(i) + ".example.com", Since: now.AddDate(-2, 0, 0), Seen: now}
		if err := writePlace(dir, i, hosts[i]); err != nil {
			b.Fatal(err)
		}
	}
	served := &history.Served{}
	for i := range served.Places {
		served.Places[i] = history.Counts{Requests: 100, Errors: 1, Bytes: 12345}
	}
	record := history.Merge(now, nil)
	record.Watched, record.Balance, record.Services = 60, 123.4, 0.25
	fill(b, dir, history.OfServed(&hosts), func(at time.Time) *history.Served { served.Start = at; return served })
	fill(b, dir, history.Records, func(at time.Time) history.Record { record.Start = at; return record })
	notes, n := NewNotes(), 0
	for _, r := range history.Rings {
		n += r.Places
	}
	for i := range n {
		kind := []string{"address-held", "nginx-reloaded", "batch-done"}[i%3]
		e, _ := history.NewEvent(now.Add(time.Duration(i-n)*time.Minute), kind, map[string]string{"address": "203.0.113.10", "generation": strconv.Itoa(i), "job_id": "report-" + strconv.Itoa(i), "job": "report", "spent": "1.5"})
		if notes.waiting = append(notes.waiting, e); len(notes.waiting) < 100 {
			continue
		}
		if err := flush(notes, dir); err != nil {
			b.Fatal(err)
		}
	}
	for _, span := range []time.Duration{time.Hour, 24 * time.Hour, 7 * 24 * time.Hour, 30 * 24 * time.Hour, 366 * 24 * time.Hour} {
		from := now.Add(-span)
		for name, read := range map[string]func() error{
			"credits": func() error { _, err := Past(dir).Credits(from, now, 1500); return err },
			"hosts":   func() error { _, err := Past(dir).Hosts(from, now, 1500, 60); return err },
			"events":  func() error { _, err := Past(dir).Events(from, now, "", 2000); return err },
		} {
			b.Run(name+"/"+span.String(), func(b *testing.B) {
				for b.Loop() {
					if err := read(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// fill writes all places of all levels, up to now.
func fill[T any](b *testing.B, dir string, form history.Form[T], at func(time.Time) T) {
	b.Helper()
	for _, l := range form.Levels {
		text := make([]byte, l.Places*form.Size)
		start := l.Start(time.Now())
		for k := range l.Places {
			t := start.Add(-time.Duration(k) * l.Step)
			copy(text[l.Place(t)*form.Size:], form.Encode(at(t)))
		}
		if err := os.WriteFile(filepath.Join(dir, l.Name), text, 0o644); err != nil {
			b.Fatal(err)
		}
	}
}
