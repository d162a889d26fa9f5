package history

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/traffic"
)

// Place is one of the places of Served: whose it is since when, and the day on which that host was last seen.
type Place struct {
	Host        string
	Since, Seen time.Time
}

// Hosts are the places. The zero value has none taken.
type Hosts [MostHosts]Place

const (
	day         = 24 * time.Hour
	maxHost     = 253 // bytes of a DNS name (RFC 1035)
	unseenLeast = 2 * day
)

// PlaceSize is how many bytes a place takes in a file: so many that none is on two pages of memory, half of which could be
// written when the agent is killed.
const PlaceSize = 512

// Between is what was served between two reports, of which the span begins at start, and which places have changed. A
// host without a place gets a free one, or that of the host that was not seen for longest, two days at least; without
// that it is left out. A counter that is smaller than before has begun again.
func (h *Hosts) Between(before, now traffic.Report, start time.Time) (s *Served, changed []int) {
	s = &Served{Start: start}
	was := make(map[string]traffic.Counts, len(before.Hosts))
	if before.Since.Equal(now.Since) {
		for _, x := range before.Hosts {
			was[x.Host] = x.Counts
		}
	}
	for _, x := range now.Hosts {
		old := was[x.Host]
		if x.Requests.All() < old.Requests.All() {
			old = traffic.Counts{}
		}
		c := Counts{added(old.Requests.All(), x.Requests.All()), added(old.Requests[4], x.Requests[4]), added(old.Bytes, x.Bytes)}
		if c == (Counts{}) || len(x.Host) > maxHost {
			continue
		}
		i, moved := h.place(x.Host, start)
		if moved {
			changed = append(changed, i)
		}
		if i >= 0 {
			s.Places[i].add(c)
		}
	}
	return s, changed
}

func added(before, now uint64) Value {
	if now < before {
		before = 0
	}
	return Value(now - before)
}

// place finds the place of a host that is seen at a time, and says whether it has to be written; -1 is none.
func (h *Hosts) place(host string, at time.Time) (i int, changed bool) {
	today := at.Truncate(day)
	i = slices.IndexFunc(h[:], func(p Place) bool { return p.Host == host })
	if i < 0 {
		for j, p := range h {
			if i < 0 || cmp.Compare(unseen(h[i], today), unseen(p, today)) < 0 {
				i = j
			}
		}
		if unseen(h[i], today) < unseenLeast {
			return -1, false
		}
		h[i] = Place{Host: host, Since: at}
	}
	p := &h[i]
	if p.Seen.Equal(today) && !p.Since.After(at) {
		return i, false
	}
	p.Seen = today
	if p.Since.After(at) { // the clock was wrong
		p.Since = at
	}
	return i, true
}

// unseen is for how long the host of a place was not seen. A day to come is one of a clock that was wrong.
func unseen(p Place, today time.Time) time.Duration { return today.Sub(p.Seen).Abs() }

// of is what the present host of a place has served in a span of so long a step. A span that began before the place went
// to the host is the host's if it ended after that.
func (h *Hosts) of(i int, s *Served, step time.Duration) (c Counts, some bool) {
	if c = s.Places[i]; c.Requests <= 0 || !s.Start.Add(step).After(h[i].Since) {
		return Counts{}, false
	}
	return c, h[i].Host != ""
}

// merge adds up what the present hosts of the places have served.
func (h *Hosts) merge(step time.Duration, start time.Time, parts []*Served) *Served {
	s := &Served{Start: start}
	for _, p := range parts {
		for i := range h {
			if c, some := h.of(i, p, step); some {
				s.Places[i].add(c)
			}
		}
	}
	return s
}

// Traffic sorts spans of so long a step by hosts.
func (h *Hosts) Traffic(step time.Duration, all []*Served) Traffic {
	t := Traffic{Step: step.Seconds(), Hosts: []HostTraffic{}}
	for i, p := range h {
		of := HostTraffic{Host: p.Host}
		for _, s := range all {
			if c, some := h.of(i, s, step); some {
				of.Points = append(of.Points, Point{s.Start, c})
			}
		}
		if len(of.Points) > 0 {
			t.Hosts = append(t.Hosts, of)
		}
	}
	slices.SortFunc(t.Hosts, func(a, b HostTraffic) int { return cmp.Compare(a.Host, b.Host) })
	return t
}

// Encode writes a place with its checksum.
func (p Place) Encode() []byte {
	b := make([]byte, PlaceSize-4, PlaceSize)
	binary.LittleEndian.PutUint64(b, uint64(p.Since.Unix()))
	binary.LittleEndian.PutUint64(b[8:], uint64(p.Seen.Unix()))
	b[16] = byte(len(p.Host))
	copy(b[17:17+maxHost], p.Host)
	return sealed(b)
}

// DecodePlace reads a place; one that was torn, or never written, is free.
func DecodePlace(b []byte) Place {
	if !whole(b, PlaceSize) {
		return Place{}
	}
	since, seen := int64(binary.LittleEndian.Uint64(b)), int64(binary.LittleEndian.Uint64(b[8:]))
	host := string(b[17 : 17+min(int(b[16]), maxHost)])
	if host == "" || host != clean(host, maxHost) || since < 0 || since > latestStart || seen < 0 || seen > latestStart {
		return Place{}
	}
	return Place{Host: host, Since: time.Unix(since, 0).UTC(), Seen: time.Unix(seen, 0).UTC()}
}
