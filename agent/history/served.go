package history

import (
	"encoding/binary"
	"time"
)

// MostHosts is how many hosts the history has at once.
const MostHosts = 240

// Counts is what a host has served in a span of time; 0 is none.
type Counts struct {
	Requests Value `json:"requests"`
	// Errors are the requests that were answered with 5xx.
	Errors Value `json:"errors"`
	Bytes  Value `json:"bytes"`
}

// Served is what the hosts have served in one span of time. Whose each place is, Hosts knows.
type Served struct {
	Start  time.Time
	Places [MostHosts]Counts
}

// servedSize is that of a Served in a file: start, values, checksum.
const servedSize = 8 + 12*MostHosts + 4

// OfServed is the form of what hosts have served: a minute at a time for two hours, five minutes for a day, an hour for
// a month and a day for a year. They take 4.4 MB. hosts says since when a place belongs to its host.
func OfServed(hosts *Hosts) Form[*Served] {
	return Form[*Served]{
		Levels: []Level{
			{"hosts-minutes", time.Minute, 2 * 60},
			{"hosts-five-minutes", 5 * time.Minute, 25 * 12},
			{"hosts-hours", time.Hour, 31 * 24},
			{"hosts-days", 24 * time.Hour, 366},
		},
		Size: servedSize, Encode: encodeServed, Decode: decodeServed, Merge: hosts.merge,
		Start: func(s *Served) time.Time { return s.Start },
	}
}

func encodeServed(s *Served) []byte {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, servedSize), uint64(s.Start.Unix()))
	for _, c := range s.Places {
		b = appendValues(b, c.Requests, c.Errors, c.Bytes)
	}
	return sealed(b)
}

func decodeServed(b []byte) (s *Served, ok bool) {
	start, ok := readStart(b, servedSize)
	if !ok {
		return nil, false
	}
	s = &Served{Start: start}
	for i := range s.Places {
		at := b[8+12*i:]
		s.Places[i] = Counts{readValue(at), readValue(at[4:]), readValue(at[8:])}
	}
	return s, true
}

// Traffic is what hosts have served, in steps of time.
type Traffic struct {
	// Step is how long each step is, in seconds.
	Step  float64       `json:"step_seconds"`
	Hosts []HostTraffic `json:"hosts"`
}

// HostTraffic is what a host has served.
type HostTraffic struct {
	Host string `json:"host"`
	// Points are the steps in which it had requests, the oldest first.
	Points []Point `json:"points"`
}

// Point is what a host has served in one step.
type Point struct {
	Start time.Time `json:"start"`
	Counts
}

// Sum is what the host has served in all steps.
func (h HostTraffic) Sum() (c Counts) {
	for _, p := range h.Points {
		c.add(p.Counts)
	}
	return c
}

func (c *Counts) add(more Counts) {
	c.Requests += more.Requests
	c.Errors += more.Errors
	c.Bytes += more.Bytes
}
