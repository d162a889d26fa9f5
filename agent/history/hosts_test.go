package history

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/traffic"
)

func reported(hosts ...traffic.Host) traffic.Report { return traffic.Report{Since: noon, Hosts: hosts} }

func counted(host string, ok, failed, bytes uint64) traffic.Host {
	return traffic.Host{Host: host, Counts: traffic.Counts{Requests: traffic.Classes{1: ok, 4: failed}, Bytes: bytes}}
}

func TestHostsBetweenTwoReports(t *testing.T) {
	again := reported(counted("a.test", 9, 0, 90))
	again.Since = noon.Add(time.Minute)
	for name, tt := range map[string]struct {
		before, now traffic.Report
		want        Counts
	}{
		"the first":         {traffic.Report{}, reported(counted("a.test", 3, 1, 100)), Counts{4, 1, 100}},
		"more":              {reported(counted("a.test", 3, 1, 100)), reported(counted("a.test", 5, 4, 150)), Counts{5, 3, 50}},
		"nothing":           {reported(counted("a.test", 3, 1, 100)), reported(counted("a.test", 3, 1, 100)), Counts{}},
		"counted again":     {reported(counted("a.test", 3, 1, 100)), reported(counted("a.test", 2, 0, 20)), Counts{2, 0, 20}},
		"another count":     {reported(counted("a.test", 3, 1, 100)), again, Counts{9, 0, 90}},
		"it went and came":  {reported(), reported(counted("a.test", 2, 2, 20)), Counts{4, 2, 20}},
		"no counting now":   {reported(counted("a.test", 3, 1, 100)), traffic.Report{Unavailable: "off"}, Counts{}},
		"no host of a name": {reported(), reported(counted(string(bytes.Repeat([]byte("a"), 300)), 1, 0, 1)), Counts{}},
	} {
		var h Hosts
		s, changed := h.Between(tt.before, tt.now, noon)
		if got := s.Places[0]; got != tt.want || !s.Start.Equal(noon) || (len(changed) == 1) != (tt.want != Counts{}) {
			t.Errorf("%s: %+v, changed %v", name, got, changed)
		}
	}
}

// A host keeps its place while it is seen; one that comes new gets that of the host that was not seen for longest.
func TestPlacesOfHosts(t *testing.T) {
	var h Hosts
	visit := func(at time.Time, hosts ...int) {
		for _, n := range hosts {
			h.Between(traffic.Report{}, reported(counted(fmt.Sprint(n), 1, 0, 1)), at)
		}
	}
	find := func(n int) int {
		return slices.IndexFunc(h[:], func(p Place) bool { return p.Host == fmt.Sprint(n) })
	}
	for n := range MostHosts {
		visit(noon, n)
	}
	visit(noon.Add(day), 1000)
	if find(1000) >= 0 {
		t.Error("a host that was seen yesterday has lost its place")
	}
	for n := range MostHosts {
		if n != 7 && n != 9 {
			visit(noon.Add(day), n)
		}
	}
	visit(noon.Add(2*day), 9, 1000, 1001)
	if find(1000) < 0 || find(7) >= 0 || find(1001) >= 0 {
		t.Errorf("%d, %d, %d", find(1000), find(7), find(1001))
	}
	if at := h[find(1000)].Since; !at.Equal(noon.Add(2 * day)) {
		t.Errorf("it has its place since %s", at)
	}
	// The clock was wrong by years, and is put right.
	wrong := noon.Add(70 * 365 * day)
	visit(wrong, 2000)
	if i := find(2000); i < 0 || !h[i].Since.Equal(wrong) {
		t.Error("it has no place")
	}
	visit(noon.Add(3*day), 2000)
	if i := find(2000); i < 0 || !h[i].Since.Equal(noon.Add(3*day)) {
		t.Errorf("%+v", h[i])
	}
	for n := range MostHosts {
		visit(wrong, n)
	}
	for n := range MostHosts {
		visit(noon.Add(4*day), 5000+n)
	}
	if find(5000) < 0 || find(5000+MostHosts-1) < 0 {
		t.Error("the days to come keep their places")
	}
}

// What one host had before the place became another's is not the other's.
func TestAPlaceOfAnother(t *testing.T) {
	var h Hosts
	h[3] = Place{Host: "new.test", Since: noon.Add(30 * time.Minute), Seen: noon}
	var parts []*Served
	for m := range 60 {
		s := &Served{Start: noon.Add(time.Duration(m) * time.Minute)}
		s.Places[3], s.Places[4] = Counts{1, 0, 10}, Counts{1, 1, 1}
		parts = append(parts, s)
	}
	hour := h.merge(time.Minute, noon, parts)
	want := Traffic{Step: 3600, Hosts: []HostTraffic{{"new.test", []Point{{noon, Counts{30, 0, 300}}}}}}
	if d := cmp.Diff(want, h.Traffic(time.Hour, []*Served{{Start: noon.Add(-time.Hour), Places: hour.Places}, hour})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if got := h.Traffic(time.Minute, parts); len(got.Hosts) != 1 || len(got.Hosts[0].Points) != 30 || got.Hosts[0].Sum() != (Counts{30, 0, 300}) {
		t.Errorf("%+v", got)
	}
}

// What a host had in its first hour is in every resolution, though the hour began before the host came.
func TestTheFirstHourOfAHost(t *testing.T) {
	var h Hosts
	form := OfServed(&h)
	h[3] = Place{Host: "new.test", Since: noon.Add(32 * time.Minute), Seen: noon}
	var parts []*Served
	for m := range 60 {
		s := &Served{Start: noon.Add(time.Duration(m) * time.Minute)}
		if m >= 32 {
			s.Places[3] = Counts{1, 0, 10}
		}
		parts = append(parts, s)
	}
	for i, l := range form.Levels {
		if i > 0 {
			parts = form.Merged(i, parts)
		}
		if len(h.Traffic(l.Step, parts).Hosts) != 1 || h.Traffic(l.Step, parts).Hosts[0].Sum() != (Counts{28, 0, 280}) {
			t.Errorf("%s: %+v", l.Name, h.Traffic(l.Step, parts))
		}
	}
}

func TestServedComesBack(t *testing.T) {
	s := &Served{Start: noon}
	for i := range s.Places {
		s.Places[i] = Counts{Value(i), Value(i) / 2, Value(i) * 1000}
	}
	form := OfServed(new(Hosts))
	b := form.Encode(s)
	if got, ok := form.Decode(b); !ok || len(b) != form.Size || *got != *s {
		t.Errorf("%d bytes, %v", len(b), ok)
	}
	b[500] ^= 1
	if _, ok := form.Decode(b); ok {
		t.Error("a torn one was read")
	}
	if _, ok := form.Decode(make([]byte, form.Size)); ok {
		t.Error("zeros were read")
	}
	p := Place{"a.test", noon, noon.Truncate(day)}
	b = p.Encode()
	if got := DecodePlace(b); got != p || len(b) != PlaceSize {
		t.Errorf("%+v, %d bytes", got, len(b))
	}
	if first := (Place{"a.test", time.Unix(0, 0).UTC(), time.Unix(0, 0).UTC()}); DecodePlace(first.Encode()) != first {
		t.Error("a clock that begins in 1970 takes the place of a host away, and with it what was kept")
	}
	for i := range b {
		torn := slices.Clone(b)
		torn[i] ^= 0x10
		if got := DecodePlace(torn); got != (Place{}) {
			t.Errorf("byte %d was changed: %+v", i, got)
		}
	}
}
