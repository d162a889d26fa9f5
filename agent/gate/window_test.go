package gate

import (
	"strings"
	"testing"
	"time"
)

func windows(t *testing.T, texts ...string) Windows {
	t.Helper()
	ws, err := parseWindows(texts, time.LoadLocation)
	if err != nil {
		t.Fatal(err)
	}
	return ws
}

func at(t *testing.T, text string) time.Time {
	t.Helper()
	v, err := time.Parse("2006-01-02 15:04", text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// 2026-03-02 is a Monday. All times but those of the windows are UTC.
func TestWindows(t *testing.T) {
	for _, tt := range []struct {
		name, at string
		windows  []string
		open     bool
		change   string // empty is never
	}{
		{"none is always", "2026-03-02 12:00", nil, true, ""},
		{"by day", "2026-03-02 12:00", []string{"12:00-13:00"}, true, "2026-03-02 13:00"},
		{"its end is not in it", "2026-03-02 13:00", []string{"12:00-13:00"}, false, "2026-03-03 12:00"},
		{"over midnight, before it", "2026-03-02 23:00", []string{"22:00-06:00 UTC"}, true, "2026-03-03 06:00"},
		{"over midnight, after it", "2026-03-02 05:59", []string{"22:00-06:00"}, true, "2026-03-02 06:00"},
		{"over midnight, outside", "2026-03-02 06:00", []string{"22:00-06:00"}, false, "2026-03-02 22:00"},
		{"of another place", "2026-03-02 13:00", []string{"22:00-06:00 Asia/Tokyo"}, true, "2026-03-02 21:00"},
		{"of another place, outside", "2026-03-02 12:59", []string{"22:00-06:00 Asia/Tokyo"}, false, "2026-03-02 13:00"},
		{"whole days", "2026-03-06 23:59", []string{"Sat-Sun 00:00-24:00 UTC"}, false, "2026-03-07 00:00"},
		{"through the weekend", "2026-03-07 12:00", []string{"sat-SUN 00:00-24:00"}, true, "2026-03-09 00:00"},
		{"days over the week's end", "2026-03-08 12:00", []string{"Fri-Mon 11:00-13:00"}, true, "2026-03-08 13:00"},
		{"a night belongs to the day on which it begins", "2026-03-07 05:00", []string{"Fri 22:00-06:00"}, true, "2026-03-07 06:00"},
		{"and not to the day on which it ends", "2026-03-06 05:00", []string{"Fri 22:00-06:00"}, false, "2026-03-06 22:00"},
		{"two that touch", "2026-03-02 22:30", []string{"22:00-00:00", "00:00-06:00"}, true, "2026-03-03 06:00"},
		{"two that overlap", "2026-03-02 22:30", []string{"22:00-02:00", "01:00-06:00"}, true, "2026-03-03 06:00"},
		{"two apart", "2026-03-02 02:30", []string{"22:00-02:00", "04:00-06:00"}, false, "2026-03-02 04:00"},
		{"always, in words", "2026-03-02 02:30", []string{"00:00-24:00"}, true, ""},
		// New York goes from UTC-5 to UTC-4 on 2026-03-08 at 07:00 UTC, and back on 2026-11-01 at 06:00 UTC.
		{"summer time makes the night shorter", "2026-03-08 03:30", []string{"22:00-06:00 America/New_York"}, true, "2026-03-08 10:00"},
		{"winter time makes it longer", "2026-11-01 02:30", []string{"22:00-06:00 America/New_York"}, true, "2026-11-01 11:00"},
		{"an hour that is skipped", "2026-03-07 08:00", []string{"02:00-03:00 America/New_York"}, false, "2026-03-09 06:00"},
		{"it begins in the hour that is skipped", "2026-03-08 06:00", []string{"02:30-04:00 America/New_York"}, false, "2026-03-08 07:00"},
		{"it ends in the hour that is skipped", "2026-03-08 06:00", []string{"01:00-02:30 America/New_York"}, true, "2026-03-08 07:00"},
		{"an hour that is repeated", "2026-11-01 05:30", []string{"01:00-02:00 America/New_York"}, true, "2026-11-01 07:00"},
		{"half of an hour that is repeated", "2026-11-01 05:30", []string{"01:00-01:45 America/New_York"}, true, "2026-11-01 05:45"},
		{"and its other half", "2026-11-01 05:50", []string{"01:00-01:45 America/New_York"}, false, "2026-11-01 06:00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ws, when := windows(t, tt.windows...), at(t, tt.at)
			if ws.Open(when) != tt.open {
				t.Errorf("open %v", ws.Open(when))
			}
			change := ""
			if c := ws.Change(when); !c.IsZero() {
				change = c.Format("2006-01-02 15:04")
			}
			if change != tt.change {
				t.Errorf("changes at %q, want %q", change, tt.change)
			}
		})
	}
}

// What Change says is what a look at every minute finds, over a change of the clock.
func TestWindowChangesByTheMinute(t *testing.T) {
	for _, texts := range [][]string{
		{"22:00-06:00 America/New_York"}, {"Sun 01:30-02:30 America/New_York", "02:10-02:20 Europe/Berlin"}, {"Sat-Sun 00:00-24:00 Australia/Lord_Howe"},
	} {
		ws := windows(t, texts...)
		for _, from := range []string{"2026-03-07 00:00", "2026-10-31 00:00", "2026-04-04 00:00", "2026-10-03 00:00"} {
			begin := at(t, from)
			end := begin.Add(4 * 24 * time.Hour)
			change := ws.Change(begin)
			for now := begin.Add(time.Minute); now.Before(end); now = now.Add(time.Minute) {
				if flipped := ws.Open(now) != ws.Open(now.Add(-time.Minute)); flipped != now.Equal(change) {
					t.Fatalf("%v: at %v flipped is %v, and the change was said to be at %v", texts, now, flipped, change)
				} else if flipped {
					change = ws.Change(now)
				}
			}
		}
	}
}

func TestWrongWindows(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "not of the form",
		"Sat":                        "not of the form",
		"22:00":                      "not a span",
		"22:00-25:00":                "not a span",
		"24:00-06:00":                "not a span",
		"2:00-06:00":                 "not a span",
		"06:00-06:00":                "write 00:00-24:00",
		"Caturday 22:00-06:00":       "neither a day",
		"Mon-Caturday 22:00-06:00":   "neither a day",
		"22:00-06:00 Asia/Nowhere":   `the time zone "Asia/Nowhere" is not known`,
		"22:00-06:00 Local":          "is not known",
		"22:00-06:00 UTC and more":   "not of the form",
		"22:00-06:00 ../etc/passwd":  "is not known",
		"Mon 22:00-06:00 UTC nobody": "not of the form",
	} {
		if _, err := parseWindow(text, time.LoadLocation); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
}

func FuzzParseWindow(f *testing.F) {
	f.Add("Fri-Mon 22:00-06:00 America/New_York")
	f.Add("00:00-24:00")
	f.Fuzz(func(t *testing.T, text string) {
		w, err := parseWindow(text, time.LoadLocation)
		if err != nil {
			return
		}
		again, err := parseWindow(w.String(), time.LoadLocation)
		if err != nil || again.from != w.from || again.to != w.to || again.days != w.days {
			t.Fatalf("%q is written as %q, which reads as %+v, %v", text, w, again, err)
		}
		if c := (Windows{w}).Change(noon); !c.IsZero() && (!c.After(noon) || w.open(c) == w.open(noon)) {
			t.Fatalf("%q changes at %v", text, c)
		}
	})
}

func TestTheGateKeepsToItsWindows(t *testing.T) {
	set := Settings{Windows: windows(t, "22:00-06:00")}
	s, d := decide(t, State{}, Input{Now: noon, Credits: saved(noon, 300, baseline), Settings: set})
	night := noon.Add(10 * time.Hour)
	if d.Open || !d.Known || !d.OpensAt.Equal(night) || !d.WindowChanges.Equal(night) ||
		d.Reason != "it is outside the windows (22:00-06:00); the next begins at 2026-03-02 22:00 UTC" {
		t.Errorf("by day: %+v", d)
	}
	soon := night.Add(-10 * time.Second)
	s, d = decide(t, s, Input{Now: soon, Credits: saved(soon, 300, baseline), Settings: set})
	if d.Open || !d.NextCheck.Equal(night) {
		t.Errorf("just before: %+v", d)
	}
	s, d = decide(t, s, Input{Now: night, Credits: saved(night, 300, baseline), Settings: set})
	if !d.Open || !strings.HasSuffix(d.Reason, "; the window ends at 2026-03-03 06:00 UTC") {
		t.Errorf("at its beginning: %+v", d)
	}
	morning := night.Add(8 * time.Hour)
	if _, d = decide(t, s, Input{Now: morning, Credits: saved(morning, 300, baseline), Settings: set}); d.Open {
		t.Errorf("at its end: %+v", d)
	}
	if text := (Report{Decision: d}).Text(morning); !strings.Contains(text, "batches may start in 22:00-06:00\n") {
		t.Errorf("shown as\n%s", text)
	}
}

// A job that would have to start by day starts before the night is over, or is refused when it is.
func TestTheLatestStartLiesInAWindow(t *testing.T) {
	set := Settings{Windows: windows(t, "22:00-06:00")}
	night := noon.Add(10 * time.Hour)
	s, d := asks(t, State{}, night, 50, set, Job{ID: "a", Name: "a", Need: 60, Deadline: noon.Add(22 * time.Hour), Late: LateRefuse})
	if e, _ := d.Job("a"); e.Phase != Waiting || !e.LatestStart.Equal(night.Add(8*time.Hour-time.Minute)) {
		t.Errorf("in the evening: %+v", e)
	}
	over := noon.Add(21 * time.Hour)
	if _, d = asks(t, s, over, 50, set, Job{ID: "a", Name: "a", Need: 60, Deadline: noon.Add(22 * time.Hour), Late: LateRefuse}); d.Jobs[0].Phase != Refused {
		t.Errorf("after the night: %+v", d.Jobs[0])
	}
	// One that comes by day and must end by day was not meant for the night.
	job := Job{ID: "b", Name: "b", Need: 60, Deadline: noon.Add(30 * time.Minute)}
	_, d = asks(t, State{}, noon, 500, set, job)
	if e := d.Jobs[0]; e.Phase != Waiting || !strings.Contains(e.Reason, "outside the windows") || len(d.Problems) != 1 || d.Problems[0].Code != "job-late" {
		t.Errorf("by day: %+v, %+v", e, d.Problems)
	}
	job.Late = LateRefuse
	if _, d = asks(t, State{}, noon, 500, set, job); d.Jobs[0].Phase != Refused {
		t.Errorf("by day, choosing to be refused: %+v", d.Jobs[0])
	}
}

// asks lets one job ask at a time.
func asks(t *testing.T, s State, now time.Time, balance float64, set Settings, j Job) (State, Decision) {
	t.Helper()
	return decide(t, s, Input{
		Now: now, Credits: saved(now, balance, busy), Settings: set,
		Asked: []Asked{{Job: j, State: Waiting, At: now}},
	})
}
