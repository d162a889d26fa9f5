// Package route says what should be served where: it turns what runs here into
// a table of sites. It decides nothing about nginx and touches nothing.
package route

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Table is everything that should be served, in a fixed order: equal inputs
// give equal tables.
//
// As JSON the pools stand in the sites and streams that they are behind (json.go).
type Table struct {
	// Complete is false while it is not known what runs here; such a table must
	// not take anything away.
	Complete bool
	Shape
	// Pools has an entry for every location, passthrough and stream of the shape.
	Pools Pools
	// Waiting are the containers that want to serve and do not yet, or not any
	// more, sorted by host, path and reference. It is for people; nothing of it is served.
	Waiting []Waiting
	// Unrouted are the containers that run and are in none of these, sorted by
	// reference. It is for people too.
	Unrouted []Unrouted
	// Probes are what must be known before the next table can be better than this
	// one; sorted, without duplicates.
	Probes   []Probe
	Problems []problem.Problem
	// Wishes are the certificates that sites and ports ask to have ordered, sorted by host; no name is in
	// two of them. While the table is not complete they are not known.
	Wishes []certs.Wish
	// StartsExpected is true while containers with routes are started, or were created and
	// are still to be: the next change is near.
	StartsExpected bool
	// OrdersExpected is true while a site has waited for its first certificate for ten minutes at most.
	OrdersExpected bool
	// FreedByRemoval are the families whose hosts and ports are free for others soon after all their
	// containers have been removed (removal.go), with since when none is there; zero while one is.
	// It is not saved: who was removed while no agent ran has the grace period.
	FreedByRemoval map[string]time.Time
	// Published are the ports of this host that containers publish, or did within the grace
	// period. It is not saved either.
	Published map[Listen]Publisher
	// Next is when the table would change by the mere passing of time; zero when
	// it would not. Build it again then.
	Next time.Time
}

// Shape is what is served and how, without the containers that serve it.
type Shape struct {
	// Sites are sorted by Host.
	Sites []Site `json:"sites"`
	// Streams are the routes that have a port of their own, sorted by Listen.
	Streams []Stream `json:"streams,omitempty"`
	// Unserved is the certificate that names of no site are answered with; zero where their
	// handshakes are refused (Options.UnservedCert).
	Unserved certs.Pair `json:"-"`
}

// Waiting is one container that is not behind its route.
type Waiting struct {
	Host string `json:"host"`
	Path string `json:"path"`
	// Addr is where it would be reached; invalid when that is not known.
	Addr netip.AddrPort `json:"addr,omitzero"`
	// Why is one of "starting", "unhealthy", "not-listening", "stopping", "paused",
	// "restarting", "no-address", "other-version" (it speaks another scheme or
	// path than the newest one), "taken" (another family holds the host), "differs" (its
	// restrictions are not those of the families that it shares the host with), "too-many"
	// (there is no room for it), "unguarded" (it would get the requests of a route that says who is let
	// in and is left out) and "unlisted" (its labels name a task that the ECS agent does
	// not list).
	Why string `json:"why"`
	Ref string `json:"ref"`
}

// Site is one host name and what is behind it.
type Site struct {
	// Host is a lower-case DNS name, a wildcard "*.example.com" or "www.example.*",
	// or "~" and a regular expression (PCRE, without named groups).
	Host string `json:"host"`
	// File is what the names of the operator's files for the host begin with, if not with Host.
	File string `json:"file,omitempty"`
	// Family is who holds the host name, with all its paths: an ECS task family as
	// "ecs:shop", a Compose service as "compose:project/service", a container as "name:web",
	// what stands in a file as "file:web", or those that share "upstream:word".
	Family string `json:"family"`
	// Owner is, where several families share the host, the one whose restrictions hold.
	Owner string `json:"owner,omitempty"`
	// Away are the owners of the host and of its paths that no container of is there, by since
	// when: they stay the owners for the grace period.
	Away map[string]time.Time `json:"away,omitempty"`
	// Since orders the hosts that are expressions: of those that match a name, the one that
	// its family has had for longest answers. It is zero for other hosts.
	Since time.Time `json:"since,omitzero"`
	// TLS is true when nginx answers HTTPS for this host; Cert is then set. Beside is a second one
	// with a key of the other kind; zero for none.
	TLS    bool       `json:"tls"`
	Cert   certs.Pair `json:"cert,omitzero"`
	Beside certs.Pair `json:"beside,omitzero"`
	// NoTLS is true where its containers ask for no HTTPS.
	NoTLS bool `json:"no_tls,omitempty"`
	// Waiting is true while its first certificate is ordered, since WaitingSince; Cert may then be
	// Inventory.Waiting. Valid is true while Cert is its own and has not expired.
	Waiting      bool      `json:"waiting,omitempty"`
	WaitingSince time.Time `json:"waiting_since,omitzero"`
	Valid        bool      `json:"valid,omitempty"`
	// Plain says what plain HTTP gets.
	Plain Plain `json:"plain"`
	// Secured is true from when plain HTTP was redirected or refused for the sake of a
	// certificate, until the containers ask for no HTTPS: the site is not opened over plain
	// HTTP because that certificate cannot be used.
	Secured   bool       `json:"secured,omitempty"`
	Locations []Location `json:"locations"` // longest path first
	// Passthrough, if not nil, says how the TLS connections that name this host are
	// passed on unopened; TLS is then false. Locations are then for plain HTTP only, and
	// may be none.
	Passthrough *StreamOptions `json:"passthrough,omitempty"`
	// CatchAll is true for the site that also answers names that no site has
	// (Options.DefaultHost).
	CatchAll bool `json:"catch_all,omitempty"`
	Edge     Edge `json:"edge,omitzero"`
}

// Certificates are the names of the certificates that sites and streams have, sorted.
func (s Shape) Certificates() []string {
	names := []string{s.Unserved.Name}
	for _, site := range s.Sites {
		names = append(names, site.Cert.Name, site.Beside.Name)
	}
	for _, stream := range s.Streams {
		names = append(names, stream.Cert.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Edge is what a site's clients meet, where its containers asked for other than
// the default. Zero values are the defaults.
type Edge struct {
	// HTTPPort and HTTPSPort are public ports instead of nginx's usual ones.
	HTTPPort  uint16 `json:"http_port,omitempty"`
	HTTPSPort uint16 `json:"https_port,omitempty"`
	// HTTP2 and HTTP3 are what to offer: Default is what the operator set.
	HTTP2 Choice `json:"http2,omitempty"`
	HTTP3 Choice `json:"http3,omitempty"`
	// ServerTokens: On shows nginx's version; the default is not to.
	ServerTokens Choice `json:"server_tokens,omitempty"`
	// HSTS is the value of Strict-Transport-Security; empty means no such header.
	HSTS string `json:"hsts,omitempty"`
	// TLSPolicy names protocols and ciphers, in nginx-proxy's words; empty is
	// Mozilla-Intermediate. config.TLSPolicies lists what is allowed.
	TLSPolicy string `json:"tls_policy,omitempty"`
	// RedirectCode is what plain HTTP other than GET and HEAD gets: 301, 307 or 308;
	// 0 is 308.
	RedirectCode int `json:"redirect_code,omitempty"`
	// ClientCert says whether clients need a certificate that Cert.ClientCAFile
	// knows: "" (not asked), "on" or "optional".
	ClientCert string `json:"client_cert,omitempty"`
	// Allow lists who may come to the site at all, where its locations have that list too; empty
	// means everybody.
	Allow []netip.Prefix `json:"allow,omitempty"`
	// Challenges says whether those of ACME are answered; empty is what the operator set.
	Challenges Challenges `json:"challenges,omitempty"`
	// Debug: On tells clients how the site is set.
	Debug Choice `json:"debug,omitempty"`
}

// Challenges says at which sites the challenges of ACME (RFC 8555, section 8.3) are answered over
// plain HTTP from the operator's directory.
type Challenges string

// Where challenges are answered.
const (
	ChallengesAll        Challenges = "all" // where plain HTTP is not refused
	ChallengesRedirected Challenges = "redirected"
	ChallengesNone       Challenges = "none"
)

// Choice is a switch that may be left alone.
type Choice string

// The positions of a Choice.
const (
	Unset Choice = ""
	On    Choice = "on"
	Off   Choice = "off"
)

// Stream is one port of its own.
type Stream struct {
	Listen Listen `json:"listen"`
	Family string `json:"family"`
	// Host and Cert are set for TLS: the name whose certificate is shown.
	Host string     `json:"host,omitempty"`
	Cert certs.Pair `json:"cert,omitzero"`
	StreamOptions
}

// StreamOptions is how connections that nginx does not look into reach their servers.
// While there is no server they are accepted and closed.
type StreamOptions struct {
	Balance Balance `json:"balance"`
	// Timeout is the longest silence of both sides before the connection is closed.
	Timeout time.Duration  `json:"timeout"`
	Allow   []netip.Prefix `json:"allow,omitempty"`
	// ProxyProtocol tells the container the client's address (PROXY protocol,
	// version 1) in front of the data. Never for UDP.
	ProxyProtocol bool `json:"proxy_protocol,omitempty"`
}

// Listen is a port that a stream route asks for.
type Listen struct {
	Protocol Protocol `json:"protocol"`
	Port     uint16   `json:"port"`
}

// Protocol is what is spoken at a stream's port.
type Protocol string

// The protocols that nagaya.listen may name. TLS is terminated by nginx.
const (
	TCP Protocol = "tcp"
	UDP Protocol = "udp"
	TLS Protocol = "tls"
)

// String returns the words of the label, e.g. "tcp:2222".
func (l Listen) String() string { return fmt.Sprintf("%s:%d", l.Protocol, l.Port) }

// Plain is what a client gets that speaks plain HTTP to a site.
type Plain string

// What plain HTTP gets.
const (
	Serve    Plain = "serve"    // the site itself
	Redirect Plain = "redirect" // to https
	Refuse   Plain = "refuse"   // an error
	// Unavailable is 503 until the site's first certificate is there.
	Unavailable Plain = "unavailable"
)

// Location is one path prefix of a site.
type Location struct {
	// Path is "/", or begins with a slash and does not end with one: "/api" stands
	// for /api and all below /api/, not for /apix. Match may say otherwise.
	Path string `json:"path"`
	// Match says how Path is compared.
	Match       Match `json:"match,omitempty"`
	StripPrefix bool  `json:"strip_prefix,omitempty"`
	// Dest replaces what matched Path, for Match Prefix; empty leaves the request's
	// path as it is. It begins with a slash.
	Dest    string  `json:"dest,omitempty"`
	Scheme  Scheme  `json:"scheme"`
	Balance Balance `json:"balance"`
	// Verify is true where a container's certificate (https, grpcs) must be valid for
	// ServerName, judged by the operator's authorities.
	Verify bool `json:"verify,omitempty"`
	// ServerName is the name that a container is asked for over TLS; empty is the
	// name that the client used.
	ServerName string `json:"server_name,omitempty"`
	// Root is where a FastCGI container keeps its documents; empty is /var/www/html.
	Root string `json:"root,omitempty"`
	// Keepalive is how many idle connections to the containers a worker keeps: a number,
	// 0 for the default here, KeepaliveAuto or KeepaliveOff.
	Keepalive int `json:"keepalive,omitempty"`
	// BodySize is the largest request body in bytes; 0 is no limit.
	BodySize int64 `json:"body_size"`
	// Timeout is how long nginx waits for the upstream between two reads or writes.
	Timeout   time.Duration `json:"timeout"`
	Buffering bool          `json:"buffering"`
	// Asked are those of the Asked words for which a container has a value of its own: a
	// default gives way to what the operator's files for nginx say for all sites.
	Asked []string `json:"asked,omitempty"`
	// Auth is the base name of a htpasswd file that the operator put in place.
	Auth string `json:"auth,omitempty"`
	// Allow lists who may come; empty means everybody.
	Allow []netip.Prefix `json:"allow,omitempty"`
	// Owner is, where several families share the host, the one whose Auth and Allow hold.
	Owner string `json:"owner,omitempty"`
}

// The words that may be in Location.Asked.
const (
	AskedBodySize  = "body-size"
	AskedTimeout   = "timeout"
	AskedBuffering = "buffering"
)

// KeepaliveAuto asks for two idle connections for each server.
const KeepaliveAuto = -1

// KeepaliveOff asks for a connection for each request, and has containers close it.
const KeepaliveOff = -2

// KeepaliveFor is how many idle connections to the servers of a pool a worker keeps.
func (l Location) KeepaliveFor(p Pool) int {
	if l.Keepalive == KeepaliveAuto {
		return 2 * len(p.Servers)
	}
	return l.Keepalive
}

// Match says how a location's path is compared with a request's.
type Match string

// The ways to compare.
const (
	// Segments: whole segments of the path, which is what nagaya.path means.
	Segments Match = ""
	// Prefix: any path that begins so, as nginx's plain locations and nginx-proxy's
	// VIRTUAL_PATH do: "/app" covers /apple. Path may then end with a slash.
	Prefix Match = "prefix"
	// Exact: this path only ("= /path" of VIRTUAL_PATH).
	Exact Match = "exact"
	// Regex: Path is a regular expression (PCRE, without named groups); these come
	// before all prefixes. RegexFold is the same whatever the case.
	Regex     Match = "regex"
	RegexFold Match = "regex-fold"
)

// Pool is who serves one location, passthrough or stream.
type Pool struct {
	// Servers are sorted by address. None means 503, or a closed connection.
	Servers []Server `json:"servers"`
	// VacantSince is when the last server went away; zero while there is one.
	VacantSince time.Time `json:"vacant_since,omitzero"`
	// Kept says why no other family gets the place, where no container asks for it.
	Kept string `json:"kept,omitempty"`
	// Were is where those servers were, so that a port of this host stays their family's.
	Were []netip.AddrPort `json:"were,omitempty"`
}

// Pools are the pools of a shape.
type Pools map[PoolKey]Pool

// PoolKey names what a pool is behind.
type PoolKey struct {
	// Host is a site's host, or a stream's port as "tcp:2222".
	Host string
	// Path and Match are those of a location; both are empty for a stream, and Match is
	// "tls" for a passthrough.
	Match Match
	Path  string
}

// PoolKey names the pool of one of the site's locations.
func (s Site) PoolKey(l Location) PoolKey { return PoolKey{s.Host, l.Match, l.Path} }

// PassthroughKey names the pool of the site's passthrough.
func (s Site) PassthroughKey() PoolKey { return PoolKey{Host: s.Host, Match: "tls"} }

// PoolKey names the stream's pool.
func (s Stream) PoolKey() PoolKey { return PoolKey{Host: s.Listen.String()} }

// Server is one container in a pool.
type Server struct {
	Addr   netip.AddrPort `json:"addr"`
	Weight int            `json:"weight"` // 1 to 1000
	// Container is the container's id; Ref its name for people.
	Container string `json:"container"`
	Ref       string `json:"ref"`
	// Unhealthy is true for a server that is kept only because all are unhealthy.
	Unhealthy bool `json:"unhealthy,omitempty"`
	// WrongProtocol is true for a server whose first answer did not begin as HTTP, or TLS,
	// does.
	WrongProtocol bool `json:"wrong_protocol,omitempty"`
}

// State is ready, unhealthy or wrong-protocol.
func (s Server) State() string {
	switch {
	case s.Unhealthy:
		return "unhealthy"
	case s.WrongProtocol:
		return "wrong-protocol"
	}
	return "ready"
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
	UWSGI   Scheme = "uwsgi"
)

// Balance is how requests are spread over the servers of a location.
type Balance string

// The balancing methods that a label may name.
const (
	RoundRobin Balance = "round-robin"
	LeastConn  Balance = "least-conn"
	IPHash     Balance = "ip-hash"
)
