package history

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/event"
)

func TestEvents(t *testing.T) {
	for name, tt := range map[string]struct {
		kind    string
		fields  map[string]string
		subject string
		text    string
		numbers map[string]Value
		group   string
		journal string
	}{
		"lost": {
			event.AddressLost,
			map[string]string{"address": "203.0.113.10", "holder": "another instance", "holder_id": "i-0fed"},
			"203.0.113.10", "now with another instance i-0fed",
			map[string]Value{},
			"address",
			"journalctl -u nagaya NAGAYA_EVENT=address-lost NAGAYA_ADDRESS=203.0.113.10 --since '2026-11-22 12:00:00 UTC' --until '2026-11-22 12:01:01 UTC'",
		},
		"a job": {
			event.BatchDone,
			map[string]string{"job": "report", "job_id": "report-1", "reason": "spent 11.5 credits", "declared": "0", "expected": "12", "spent": "11.5", "took": "44m10s"},
			"report-1", "report: spent 11.5 credits",
			map[string]Value{"declared": 0, "promised": 12, "spent": 11.5, "ran_seconds": 2650},
			"job",
			"journalctl -u nagaya NAGAYA_EVENT=batch-done NAGAYA_JOB_ID=report-1 --since '2026-11-22 12:00:00 UTC' --until '2026-11-22 12:01:01 UTC'",
		},
		"the gate": {
			event.GateClosed,
			map[string]string{"reason": "the balance is unknown", "credits": "NaN", "reserve": "10", "free": "+Inf", "known": "true"},
			"", "the balance is unknown",
			map[string]Value{"reserve": 10},
			"gate",
			"journalctl -u nagaya NAGAYA_EVENT=gate-closed --since '2026-11-22 12:00:00 UTC' --until '2026-11-22 12:01:01 UTC'",
		},
		"a gate that knows nothing": {
			event.GateClosed,
			map[string]string{"reason": "the type is not known", "credits": "0", "reserve": "0", "known": "false"},
			"", "the type is not known",
			map[string]Value{},
			"gate",
			"journalctl -u nagaya NAGAYA_EVENT=gate-closed --since '2026-11-22 12:00:00 UTC' --until '2026-11-22 12:01:01 UTC'",
		},
		"names of strangers": {
			event.ServiceDeployed,
			map[string]string{"family": "compose:it's\x1b[31m $(x)\u202e", "old": "a\nb", "new": "\xff<b>", "servers": "2", "took": "soon"},
			"compose:it's [31m $(x)", "a b → ?<b>",
			map[string]Value{"containers": 2},
			"deploy",
			`journalctl -u nagaya 'NAGAYA_FAMILY=compose:it'"'"'s [31m $(x)' --since '2026-11-22 11:59:59 UTC' --until '2026-11-22 12:01:01 UTC'`,
		},
		"what is too long to be found": {
			event.SiteRefused,
			map[string]string{"host": strings.Repeat("a", 200), "err": strings.Repeat("é", 200)},
			strings.Repeat("a", 67) + "…", strings.Repeat("é", 54) + "…",
			map[string]Value{},
			"nginx",
			"journalctl -u nagaya NAGAYA_EVENT=site-refused --since '2026-11-22 12:00:00 UTC' --until '2026-11-22 12:01:01 UTC'",
		},
	} {
		t.Run(name, func(t *testing.T) {
			e, ok := NewEvent(noon.Add(200*time.Millisecond), tt.kind, tt.fields)
			if !ok {
				t.Fatal("it is not kept")
			}
			e.Number, e.Skipped = 7, 3
			b := e.Encode()
			got, ok := DecodeEvent(b)
			if d := cmp.Diff(e, got, same); !ok || d != "" || len(b) != EventSize {
				t.Errorf("%d bytes (-written +read):\n%s", len(b), d)
			}
			if got.Subject != tt.subject || got.Text != tt.text || got.Group() != tt.group || got.Journal() != tt.journal {
				t.Errorf("%q, %q, %q, %s", got.Subject, got.Text, got.Group(), got.Journal())
			}
			if d := cmp.Diff(tt.numbers, got.Named()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			for i := range b {
				torn := slices.Clone(b)
				torn[i] ^= 0x10
				if _, ok := DecodeEvent(torn); ok {
					t.Errorf("byte %d was changed, and it was read", i)
				}
			}
		})
	}
	if _, ok := NewEvent(noon, event.RoutesRead, nil); ok {
		t.Error("every line is kept")
	}
	if _, ok := DecodeEvent(make([]byte, EventSize)); ok {
		t.Error("zeros were read")
	}
}

// All kinds have a place, and no more numbers than are kept.
func TestKinds(t *testing.T) {
	for name, k := range kinds {
		if len(name) > maxKind || len(k.numbers) > maxNumbers || k.group == "" || k.ring < 0 || k.ring >= len(Rings) {
			t.Errorf("%s: %+v", name, k)
		}
	}
	if got := Fields(event.BatchDone); !slices.Equal(got, []string{"job", "reason", "job_id", "declared", "expected", "spent", "took"}) {
		t.Errorf("%q", got)
	}
}

func FuzzDecodeEvent(f *testing.F) {
	e, _ := NewEvent(noon, event.BatchDone, map[string]string{"job": "report", "job_id": "report-1", "reason": "done", "spent": "1"})
	e.Number = 1
	f.Add(e.Encode()[:EventSize-4])
	f.Fuzz(func(t *testing.T, b []byte) {
		raw := make([]byte, EventSize)
		copy(raw, b)
		binary.LittleEndian.PutUint32(raw[EventSize-4:], crc32.Checksum(raw[:EventSize-4], castagnoli))
		e, ok := DecodeEvent(raw)
		if !ok {
			return
		}
		if _, err := json.Marshal(e); err != nil {
			t.Error(err)
		}
		for _, s := range []string{e.Kind, e.Subject, e.Text, EventsText([]Event{e}, e.At, e.At.Add(time.Hour))} {
			if !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\x1b\u202e") {
				t.Errorf("%q", s)
			}
		}
	})
}

func FuzzNewEvent(f *testing.F) {
	f.Add("report", "\x1b[31m", "1e99")
	f.Fuzz(func(t *testing.T, subject, text, number string) {
		e, ok := NewEvent(noon, event.BatchDone, map[string]string{"job": subject, "job_id": subject, "reason": text, "spent": number})
		e.Number = 1
		got, back := DecodeEvent(e.Encode())
		if d := cmp.Diff(e, got, same); !ok || !back || d != "" {
			t.Errorf("(-made +read):\n%s", d)
		}
	})
}

// One that comes again and again does not push out all else, and is counted.
func TestSieve(t *testing.T) {
	var s Sieve
	r := Ring{Burst: 20}
	kept := map[string]int{}
	skipped := uint32(0)
	for m := range 24 * 60 * 2 {
		at := noon.Add(time.Duration(m) * 30 * time.Second)
		flaps := Event{At: at, Kind: event.ServiceDeployed, Subject: "flaps"}
		reload := Event{At: at, Kind: event.NginxReloaded, Subject: fmt.Sprint(m)}
		for _, e := range []Event{flaps, reload} {
			if e, ok := s.Keeps(r, e); ok {
				kept[e.Kind]++
				if e.Kind == event.ServiceDeployed {
					skipped += e.Skipped
				}
			}
		}
		if m%(60*2) == 0 {
			if _, ok := s.Keeps(r, Event{At: at, Kind: event.ServiceDeployed, Subject: "other"}); ok {
				kept["other"]++
			}
		}
	}
	if kept[event.ServiceDeployed] < 40 || kept[event.ServiceDeployed] > 45 || kept[event.NginxReloaded] > 45 || kept["other"] != 24 {
		t.Errorf("%v", kept)
	}
	if total := int(skipped) + kept[event.ServiceDeployed]; total < 24*60*2-130 {
		t.Errorf("%d are kept or counted", total)
	}
	for n := range 100_000 {
		s.Keeps(r, Event{At: noon.Add(time.Hour), Kind: event.ServiceDeployed, Subject: fmt.Sprint(n)})
	}
	if len(s.spent) > mostSubjects {
		t.Errorf("%d subjects are remembered", len(s.spent))
	}
}

func TestEventsText(t *testing.T) {
	lost, _ := NewEvent(noon, event.AddressLost, map[string]string{"address": "203.0.113.10", "holder": "another instance", "holder_id": "i-0fed"})
	done, _ := NewEvent(noon.Add(time.Hour), event.BatchDone, map[string]string{"job": "report", "job_id": "report-1", "reason": "spent 11.5 credits", "declared": "10", "expected": "12", "spent": "11.5", "took": "44m10s"})
	started, _ := NewEvent(noon.Add(90*time.Minute), event.AgentStarted, map[string]string{"version": "1.2.3"})
	reload, _ := NewEvent(noon.Add(2*time.Hour), event.NginxReloaded, map[string]string{"generation": "57d6ef69609b5cfb", "took": "41ms", "quarantined": "0"})
	reload.Skipped = 12
	want := `2026-11-22 12:00 UTC to 2026-11-23 12:00 UTC

2026-11-22 12:00:00  address-lost    203.0.113.10      now with another instance i-0fed
2026-11-22 13:00:00  batch-done      report-1          report: spent 11.5 credits (declared 10, promised 12, ran 44m10s, spent 11.5)
2026-11-22 13:30:00  agent-started   1.2.3
2026-11-22 14:00:00  nginx-reloaded  57d6ef69609b5cfb  (took 41ms, 12 like it before are not kept)

The line of the journal, and of any other event with its words and its time:
  journalctl -u nagaya NAGAYA_EVENT=nginx-reloaded NAGAYA_GENERATION=57d6ef69609b5cfb --since '2026-11-22 14:00:00 UTC' --until '2026-11-22 14:01:01 UTC'
`
	if d := cmp.Diff(want, EventsText([]Event{lost, done, started, reload}, noon, noon.Add(24*time.Hour))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if got := EventsText(nil, noon, noon.Add(time.Hour)); !strings.Contains(got, "No event was recorded between") {
		t.Error(got)
	}
}
