package route

import (
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Request is what one container asks for: its labels, read (packages labels and
// nginxproxy).
type Request struct {
	// Upstream is the name that containers of several families share to stand behind the
	// same hosts; empty where the container names none.
	Upstream string
	Routes   []Spec
	// Unguarded are the hosts of routes that were to say who is let in and are left out for a mistake; an empty one stands
	// for a host that is not known.
	Unguarded []string
	// Problems are about the labels that cannot be used.
	Problems []problem.Problem
}

// Spec is one route that a container asks for, complete and valid.
type Spec struct {
	// Hosts are the names to serve; those of a stream name its certificate.
	Hosts []string
	// Listen makes it a stream with a port of its own.
	Listen Listen
	// Location is what is served at the path. Its Scheme is empty where the port decides.
	// A stream and a passthrough take its Balance, Timeout and Allow.
	Location
	Edge Edge
	TLS  TLSMode
	// HTTPSOnly refuses plain HTTP also where there is no certificate.
	HTTPSOnly bool
	Cert      CertChoice
	ACME      Issue
	// Network is the Docker network at which the container is reached; empty for the one that
	// this host reaches best.
	Network string
	// Port is the container's port; 0 where its ports decide.
	Port   uint16
	Weight int
	// Health is the path that must answer; empty for none.
	Health        string
	ProxyProtocol bool
	// Files are, by host, what nginx-proxy begins the names of the host's files with, where that
	// is not the host: the host as its container writes it, or the SHA-1 of an expression.
	Files map[string]string
	// PortsFirst is true where the public ports of these hosts come before what other containers
	// of the same hosts ask for.
	PortsFirst bool
	// Family, if not empty, is the family under which the hosts are claimed, in place of
	// the container's own.
	Family string
}

// CertChoice is how the certificate of a route is chosen.
type CertChoice struct {
	// Name is its base name; empty for the one that covers the host. Word is the label
	// or variable that names it.
	Name, Word string
	// ByFile lets the name of the file decide where no certificate covers the host, and
	// the certificate "default" stand in unless OwnOnly.
	ByFile, OwnOnly bool
}

// TLSMode is what a route asks for about HTTPS.
type TLSMode string

// The modes.
const (
	TLSAuto       TLSMode = "auto"        // terminate where a certificate is there, and redirect plain HTTP
	TLSTerminate  TLSMode = "terminate"   // refuse plain HTTP
	TLSOff        TLSMode = "off"         // plain HTTP only
	TLSPass       TLSMode = "passthrough" // the container terminates
	TLSNoRedirect TLSMode = "noredirect"  // serve both
)

// Keys names what the route claims, each of which one family can have: paths of hosts,
// the TLS connections of hosts, or a port.
func (s Spec) Keys() []PoolKey {
	if s.Listen != (Listen{}) {
		return []PoolKey{Stream{Listen: s.Listen}.PoolKey()}
	}
	var keys []PoolKey
	for _, h := range s.Hosts {
		if site := (Site{Host: h}); s.TLS == TLSPass {
			keys = append(keys, site.PassthroughKey())
		} else {
			keys = append(keys, site.PoolKey(s.Location))
		}
	}
	return keys
}

// IsStream reports whether nginx needs its stream module for the route.
func (s Spec) IsStream() bool { return s.Listen != (Listen{}) || s.TLS == TLSPass }

// Guards reports whether it says who is let in to some paths of its hosts.
func (s Spec) Guards() bool { return s.Listen == (Listen{}) && (s.Auth != "" || len(s.Allow) > 0) }

// probeHost is the name that an HTTP probe asks for: the first that is no pattern.
func (s Spec) probeHost() string {
	i := slices.IndexFunc(s.Hosts, func(h string) bool { return pattern.Host(h) && h[0] != '*' })
	if i < 0 {
		return ""
	}
	return s.Hosts[i]
}
