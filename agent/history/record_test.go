package history

import (
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// same takes two values for equal that are both unknown, or nearly the same.
var same = cmp.Comparer(func(a, b Value) bool {
	return a.Known() == b.Known() && (!a.Known() || math.Abs(float64(a-b)) < 1e-4)
})

// filled is a record in which each value is another.
func filled(start time.Time) Record {
	r := Record{Start: start}
	for i, v := range r.values() {
		*v = Value(i) + 0.5
	}
	r.Watched = 60
	return r
}

func TestARecordComesBack(t *testing.T) {
	r := filled(noon)
	r.Balance = Unknown
	b := Encode(r)
	got, ok := Decode(b)
	if d := cmp.Diff(r, got, same); !ok || d != "" {
		t.Errorf("(-written +read):\n%s", d)
	}
	for i := range b {
		torn := slices.Clone(b)
		torn[i] ^= 0x10
		if _, ok := Decode(torn); ok {
			t.Errorf("byte %d was changed, and it was read", i)
		}
	}
	if _, ok := Decode(make([]byte, Size)); ok {
		t.Error("zeros were read")
	}
	text, err := json.Marshal(r)
	if err != nil || !strings.Contains(string(text), `"balance":null,"balance_error":8.5`) {
		t.Errorf("%s, %v", text, err)
	}
}

func FuzzDecode(f *testing.F) {
	b := Encode(filled(noon))
	f.Add(b[:8], b[8:Size-4])
	f.Fuzz(func(t *testing.T, start, values []byte) {
		var raw [Size]byte
		copy(raw[:8], start)
		copy(raw[8:Size-4], values)
		binary.LittleEndian.PutUint32(raw[Size-4:], crc32.Checksum(raw[:Size-4], castagnoli)) // only what is whole gets further
		r, ok := Decode(raw[:])
		if !ok {
			return
		}
		if _, err := json.Marshal(Merge(r.Start, []Record{r, r})); err != nil {
			t.Error(err)
		}
		Text([]Record{r}, r.Start.Add(-time.Hour), r.Start.Add(time.Hour))
	})
}

func TestMerge(t *testing.T) {
	a, b := filled(noon), filled(noon.Add(time.Minute))
	a.Open, b.Open, b.Watched = 1, 0, 30
	a.Held, b.Held = Unknown, 0.5
	a.Charged, b.Charged = Unknown, Unknown
	b.Balance, b.Surplus = 3, Unknown
	got := Merge(noon, []Record{a, b})
	want := Record{
		Start: noon, Watched: 90, Balance: 3, Error: a.Error, Surplus: a.Surplus, Earned: 2 * a.Earned, Services: 2 * a.Services, Batches: 2 * a.Batches,
		Discarded: 2 * a.Discarded, Charged: Unknown, Reloads: 2 * a.Reloads, Open: Value(60.0 / 90), Held: 0.5, Running: a.Running,
	}
	if d := cmp.Diff(want, got, same); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if none := Merge(noon, nil); none.Watched.Known() || none.Open.Known() {
		t.Errorf("of nothing something is known: %+v", none)
	}
}

func TestBetweenTwoLooks(t *testing.T) {
	hour := func(at time.Time, services, batch, earned float64) credit.Hour {
		return credit.Hour{At: at, Services: services, Batch: batch, Account: credit.Account{Earned: earned}}
	}
	look := func(at time.Time, hours ...credit.Hour) report.Status {
		return report.Status{
			At: at, Credit: credit.Report{Known: true, Balance: 100, ErrorBar: 2, Hours: hours},
			Gate:    gate.Report{Decision: gate.Decision{Open: true, Jobs: []gate.Entry{{Phase: gate.Running}, {Phase: gate.Waiting}}}},
			Address: address.NewReport([]address.ClaimReport{{ClaimStatus: address.ClaimStatus{Known: true, Holder: address.Holder{Kind: address.Self}}}, {}}),
		}
	}
	before := look(noon.Add(-30*time.Second), hour(noon.Add(-time.Hour), 5, 1, 20))
	now := look(noon.Add(30*time.Second), hour(noon.Add(-time.Hour), 6, 1, 20.5), hour(noon, 0.25, 0.5, 0.2))
	now.Nginx.Reloads = 3
	want := Merge(noon, nil)
	want.Watched, want.Balance, want.Error, want.Surplus = 60, 100, 2, 0
	want.Services, want.Batches, want.Earned, want.Discarded, want.Charged = 1.25, 0.5, 0.7, 0, 0
	want.Open, want.Running, want.Held, want.Reloads = 1, 1, 0.5, 3
	if d := cmp.Diff(want, Between(before, now, noon), same); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	// Nothing is known yet.
	if r := Between(report.Status{At: noon}, report.Status{At: noon.Add(time.Minute)}, noon); r.Balance.Known() || r.Services.Known() || r.Held.Known() {
		t.Errorf("%+v", r)
	}
}

func TestLevels(t *testing.T) {
	size := MostHosts * PlaceSize
	look := func(levels []Level, each int) {
		for i, l := range levels {
			size += l.Places * each
			if i > 0 && l.Step%levels[i-1].Step != 0 {
				t.Errorf("%s is no multiple of the level before", l.Name)
			}
			if i > 0 && levels[i-1].Span() < l.Step {
				t.Errorf("%s cannot be made of the level before", l.Name)
			}
			if place := l.Place(l.Start(noon)); place < 0 || place >= l.Places {
				t.Errorf("%s: place %d of %d", l.Name, place, l.Places)
			}
		}
	}
	look(Records.Levels, Records.Size)
	served := OfServed(new(Hosts))
	look(served.Levels, served.Size)
	for _, r := range Rings {
		size += r.Places * EventSize
	}
	if size > 8_000_000 {
		t.Errorf("the history takes %d bytes", size)
	}
	for span, want := range map[time.Duration]string{time.Hour: "minutes", 48 * time.Hour: "minutes", 49 * time.Hour: "five-minutes", 15 * 24 * time.Hour: "hours", 1000 * 24 * time.Hour: "hours"} {
		if got := Records.Levels[Records.Level(noon.Add(-span), noon)].Name; got != want {
			t.Errorf("%s: %s, want %s", span, got, want)
		}
	}
}

// A short time is drawn in parts of a minute, none of which is missing between others, and what was spent is by the hour.
func TestTextOfAShortTime(t *testing.T) {
	for _, span := range []time.Duration{time.Minute, 10 * time.Minute, time.Hour, 2 * time.Hour} {
		var all []Record
		for at := noon.Add(10 * time.Second); at.Before(noon.Add(max(time.Minute, span-time.Minute))); at = at.Add(time.Minute) { // no more at a full minute than the time that is asked for
			r := Merge(at, nil)
			r.Watched, r.Balance, r.Earned, r.Services, r.Batches, r.Discarded, r.Open, r.Reloads = 60, 50, 0.2, 0.5, 0, 0, 1, 0
			all = append(all, r)
		}
		got := Text(all, noon, noon.Add(span))
		if strings.Contains(got, "agent off") || !strings.Contains(got, "\n         30 |s") {
			t.Errorf("%s:\n%s", span, got)
		}
	}
}

func TestText(t *testing.T) {
	var all []Record
	for i := range 72 {
		r := Merge(noon.Add(time.Duration(i)*time.Hour), nil)
		if i < 60 || i > 63 {
			r.Watched, r.Balance, r.Earned, r.Services, r.Batches, r.Discarded, r.Open, r.Reloads = 3600, Value(4*i), 24, 6, 0, 0, 1, 1
			if i > 40 {
				r.Batches, r.Open = 12, 0
			}
		}
		all = append(all, r)
	}
	got := Text(all, noon, noon.Add(72*time.Hour))
	for _, part := range []string{
		"2026-11-22 12:00 UTC to 2026-11-25 12:00 UTC, in parts of 1h0m",
		"        284 |                                                                   #####\n",
		"         18 |                                         bbbbbbbbbbbbbbbbbbb    bbbbbbbb\n",
		"gate open  =========================================\n",
		"agent off                                                              xxxx\n",
		"earned 1632, services 408, batches 324, thrown away 0, charged unknown; the gate was open 60 % of the time; reloads of nginx: 68",
	} {
		if !strings.Contains(got, part) {
			t.Errorf("there is no %q in:\n%s", part, got)
		}
	}
	if got := Text(nil, noon, noon.Add(time.Hour)); !strings.Contains(got, "Nothing was recorded") {
		t.Error(got)
	}
}
