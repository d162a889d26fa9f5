package route

import (
	"cmp"
	"net/netip"
	"time"
)

// Probe is one thing to find out: whether a container answers. Container and
// Started are part of it because an address outlives its container: the next
// one at the same address must prove itself again.
type Probe struct {
	Addr      netip.AddrPort
	Container string
	Started   time.Time
	// Path makes it an HTTP GET that is repeated as long as the probe is wanted;
	// empty means that a TCP connection is enough, once.
	Path string
	// Scheme is HTTP or HTTPS where that is to be spoken. Host is the name that the request
	// for a Path is for; it is empty without one.
	Scheme Scheme
	Host   string
}

func compareProbes(a, b Probe) int {
	return cmp.Or(
		a.Addr.Compare(b.Addr),
		cmp.Compare(a.Container, b.Container),
		a.Started.Compare(b.Started),
		cmp.Compare(a.Path, b.Path),
		cmp.Compare(a.Scheme, b.Scheme),
		cmp.Compare(a.Host, b.Host),
	)
}

// Reach is what probing has found out so far. A probe that is not in it is
// unknown. It is never changed after it was given away.
type Reach map[Probe]Reached

// Reached is the outcome of a probe.
type Reached struct {
	State ReachState
	// Detail says what was seen, e.g. "connection refused" or "status 503"; it holds no
	// text from containers.
	Detail string
	// Said is how the container's answer begins, where it is reachable and that is not how the
	// probe's Scheme does: a few bytes from the container, as they came.
	Said string
}

func (r Reached) detail() string { return cmp.Or(r.Detail, "no answer") }

// ReachState is what a probe found.
type ReachState string

// The outcomes of a probe.
const (
	Unknown     ReachState = ""            // not tried yet
	Reachable   ReachState = "reachable"   // it connects, or answers its health path with 200 to 399
	Unreachable ReachState = "unreachable" // refused, or no answer in time
	Failing     ReachState = "failing"     // it answers its health path, but with another status
)
