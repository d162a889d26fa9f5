// Package route says what should be served where: it turns what runs here into
// a table of sites. It decides nothing about nginx and touches nothing.
package route

import (
	"net/netip"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Table is everything that should be served, in a fixed order: equal inputs
// give equal tables.
type Table struct {
	// Complete is false while it is not known what runs here; such a table must
	// not take anything away.
	Complete bool `json:"complete"`
	// Sites are sorted by Host.
	Sites []Site `json:"sites"`
	// Waiting are the containers that want to serve and do not yet, or not any
	// more, sorted by host, path and reference. It is for people; nothing of it is served.
	Waiting []Waiting `json:"waiting,omitempty"`
	// Probes are what must be known before the next table can be better than this
	// one; sorted, without duplicates.
	Probes   []Probe           `json:"-"`
	Problems []problem.Problem `json:"problems,omitempty"`
	// Next is when the table would change by the mere passing of time; zero when
	// it would not. Build it again then.
	Next time.Time `json:"-"`
}

// Waiting is one container that is not behind its route.
type Waiting struct {
	Host string `json:"host"`
	Path string `json:"path"`
	// Addr is where it would be reached; invalid when that is not known.
	Addr netip.AddrPort `json:"addr,omitzero"`
	// Why is one of "starting", "unhealthy", "not-listening", "stopping", "paused",
	// "restarting", "no-address", "other-version" (it speaks another scheme or
	// path than the newest one) and "taken" (another family holds the host).
	Why string `json:"why"`
	Ref string `json:"ref"`
}

// Site is one host name and what is behind it.
type Site struct {
	// Host is a lower-case DNS name, or a wildcard "*.example.com".
	Host string `json:"host"`
	// Family is who holds the host name, with all its paths: an ECS task family, a
	// Compose service as "project/service", or a container name.
	Family string `json:"family"`
	// TLS is true when nginx answers HTTPS for this host; Cert is then set.
	TLS  bool       `json:"tls"`
	Cert certs.Pair `json:"cert,omitzero"`
	// Plain says what plain HTTP gets.
	Plain     Plain      `json:"plain"`
	Locations []Location `json:"locations"` // longest path first
	// VacantSince is when the last server of the site went away; zero while there is one.
	VacantSince time.Time `json:"vacant_since,omitzero"`
}

// Plain is what a client gets that speaks plain HTTP to a site.
type Plain string

// What plain HTTP gets.
const (
	Serve    Plain = "serve"    // the site itself
	Redirect Plain = "redirect" // 301/308 to https
	Refuse   Plain = "refuse"   // 403
)

// Location is one path prefix of a site.
type Location struct {
	// Path is "/", or begins with a slash and does not end with one: "/api" stands
	// for /api and all below /api/, not for /apix.
	Path        string  `json:"path"`
	StripPrefix bool    `json:"strip_prefix,omitempty"`
	Scheme      Scheme  `json:"scheme"`
	Balance     Balance `json:"balance"`
	// Servers are sorted by address. None means 503.
	Servers []Server `json:"servers"`
	// VacantSince is when the last server of this path went away; zero while there is one.
	VacantSince time.Time `json:"vacant_since,omitzero"`
	// BodySize is the largest request body in bytes; 0 is no limit.
	BodySize int64 `json:"body_size"`
	// Timeout is how long nginx waits for the upstream between two reads or writes.
	Timeout   time.Duration `json:"timeout"`
	Buffering bool          `json:"buffering"`
	// Auth is the base name of a htpasswd file that the operator put in place.
	Auth string `json:"auth,omitempty"`
	// Allow lists who may come; empty means everybody.
	Allow []netip.Prefix `json:"allow,omitempty"`
}

// Server is one container behind a location.
type Server struct {
	Addr   netip.AddrPort `json:"addr"`
	Weight int            `json:"weight"` // 1 to 1000
	// Container is the container's id; Ref its name for people.
	Container string `json:"container"`
	Ref       string `json:"ref"`
	// Unhealthy is true for a server that is kept only because all are unhealthy.
	Unhealthy bool `json:"unhealthy,omitempty"`
}

// Scheme is how nginx speaks to a container.
type Scheme string

// The schemes that a label may name.
const (
	HTTP    Scheme = "http"
	HTTPS   Scheme = "https"
	GRPC    Scheme = "grpc"
	GRPCS   Scheme = "grpcs"
	FastCGI Scheme = "fastcgi"
)

// Balance is how requests are spread over the servers of a location.
type Balance string

// The balancing methods that a label may name.
const (
	RoundRobin Balance = "round-robin"
	LeastConn  Balance = "least-conn"
	IPHash     Balance = "ip-hash"
)
