// Package traffic counts what nginx has served by host and path, from the lines of its logs.
package traffic

import "time"

// Report is what was served since a time, in lines of nginx's access log.
type Report struct {
	// Since is when counting began: when the agent started. A host that came later is counted
	// since then, and one that goes and comes back begins at zero.
	Since time.Time `json:"since,omitzero"`
	// Unavailable says why nothing is counted, and what to do about that; empty while it is.
	Unavailable string `json:"unavailable,omitempty"`
	// Missing is what the log does not say, of "path", "bytes", "seconds" and "failures", and "connections" of Streams; it is not counted.
	Missing []string `json:"missing,omitempty"`
	// Hosts are those of the route table, sorted by name, at most 512; behind them is Other, if
	// anything was counted there.
	Hosts []Host `json:"hosts,omitempty"`
	// Streams are the ports of the route table, sorted by name.
	Streams []Stream `json:"streams,omitempty"`
}

// Other is the Host of requests for names that no site has, and for sites beyond the bound. It is no
// host name.
const Other = "other"

// Host is what a site has served.
type Host struct {
	// Host is a site's of the route table, wildcards and expressions included, or Other.
	Host string `json:"host"`
	Counts
	// Open are the TCP connections that are open to the host's containers now: requests under way, WebSockets, and those that
	// nginx keeps idle for a second. Hosts with the same containers have the same ones. It is nil where that is not known.
	Open *int `json:"open,omitempty"`
	// Elsewhere is true where a file of the operator's for the site says access_log, so that its requests
	// may not be counted.
	Elsewhere bool `json:"elsewhere,omitempty"`
	// Paths are its locations, the longest first, at most 64; none for a host with one location
	// alone. A request for no location of the host is in none of them.
	Paths []Path `json:"paths,omitempty"`
	// Pathless are the requests that were counted for none of Paths.
	Pathless Classes `json:"pathless"`
}

// Path is what a location of a site has served.
type Path struct {
	// Path is that of the location, never a client's; "= ", "~ " and "~* " stand before those that
	// are compared otherwise than by prefix, as nginx writes them.
	Path string `json:"path"`
	Counts
}

// Counts are sums since Report.Since. What is in Report.Missing is zero.
type Counts struct {
	// Requests are counted by the class of their status: 1xx is the first.
	Requests Classes `json:"requests"`
	// Bytes are those of the answers to clients, without headers where the log has no others.
	Bytes uint64 `json:"bytes"`
	// Failures are the requests for which a container did not answer, whether another did or not.
	Failures uint64 `json:"failures"`
	// Websockets are the upgraded connections that have ended; nginx logs none before that.
	Websockets uint64 `json:"websockets"`
	// Seconds are the times to answer, without those of Websockets.
	Seconds Histogram `json:"seconds"`
	// Last is when the last request was read in the log, 10 s late at most.
	Last time.Time `json:"last,omitzero"`
}

// Classes counts by class of status: 1xx, 2xx, 3xx, 4xx and 5xx.
type Classes [5]uint64

// All is the sum of all classes.
func (c Classes) All() (n uint64) {
	for _, x := range c {
		n += x
	}
	return n
}

// Bounds are the upper bounds of the buckets of a Histogram but the last, in seconds.
var Bounds = [...]float64{0.005, 0.025, 0.1, 0.5, 2.5, 10}

// Histogram counts durations.
type Histogram struct {
	// Buckets count the durations up to each of Bounds that are in no bucket before; the last has
	// the longer ones.
	Buckets [len(Bounds) + 1]uint64 `json:"buckets"`
	Sum     float64                 `json:"sum"` // seconds
}

// Stream is what a port of its own has served.
type Stream struct {
	// Listen is the port as the label names it, e.g. "tcp:2222".
	Listen string `json:"listen"`
	// Connections are those that have ended; for UDP, the exchanges of datagrams.
	Connections uint64 `json:"connections"`
	// Received and Sent are bytes from and to clients.
	Received uint64 `json:"received"`
	Sent     uint64 `json:"sent"`
	// Open are the TCP connections that are open to its containers now; nil where that is not known, and for UDP.
	Open *int `json:"open,omitempty"`
	// Failures are the connections that no container accepted.
	Failures uint64 `json:"failures"`
	// Last is when the last end of a connection was read in the log, 10 s late at most.
	Last time.Time `json:"last,omitzero"`
}
