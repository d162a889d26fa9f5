// Package labels reads what containers ask for: the labels nagaya.<word>, and
// nagaya.<name>.<word> for one of several routes. Every value is checked, so that what it
// returns may stand anywhere. Words of other programs are read by a Foreign.
package labels

import (
	"net/netip"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// Doc describes one word that a container may say.
type Doc struct {
	// Name is the full label, e.g. "nagaya.host", or the environment variable.
	Name string `json:"name"`
	// Meaning is what it does, Allowed what may be said, Default what holds unsaid.
	Meaning string `json:"meaning"`
	Allowed string `json:"allowed"`
	Default string `json:"default"`
}

// Word is one word: its documentation and how its value is read into a route.
type Word struct {
	Doc
	Set func(s *route.Spec, value string) error
}

// NewWord makes a word. set is nil for a word without effect on a route.
func NewWord(name, meaning, allowed, otherwise string, set func(*route.Spec, string) error) Word {
	if set == nil {
		set = func(*route.Spec, string) error { return nil }
	}
	return Word{Doc{name, meaning, allowed, otherwise}, set}
}

// Into makes the setter of a word from a parser and the field for its result.
func Into[T any](parse func(string) (T, error), field func(*route.Spec) *T) func(*route.Spec, string) error {
	return func(s *route.Spec, v string) error {
		got, err := parse(v)
		if err == nil || InPart(err) {
			*field(s) = got
		}
		return err
	}
}

// checked makes the setter of a word that is checked only: it is about the container.
func checked[T any](parse func(string) (T, error)) func(*route.Spec, string) error {
	return func(_ *route.Spec, v string) error { _, err := parse(v); return err }
}

// Docs documents every label, in the order in which a person would want to read them.
// The reader is made of the same table.
func Docs() []Doc {
	var docs []Doc
	for _, w := range words {
		d := w.Doc
		d.Name = prefix + d.Name
		docs = append(docs, d)
	}
	return docs
}

// Set reads the value of one word into a route, as the label nagaya.<word> does.
func Set(s *route.Spec, word, value string) error {
	w, _ := Find(words, word)
	return w.Set(s, value)
}

// Find returns the word of that name.
func Find(words []Word, name string) (_ Word, ok bool) {
	for _, w := range words {
		if w.Name == name {
			return w, true
		}
	}
	return Word{}, false
}

// words is the vocabulary of nagaya.<word> and nagaya.<name>.<word>.
var words = []Word{
	NewWord("host", "host names to serve", "DNS names with commas or white space between them; *.example.com stands for every name below it, .example.com for both", "none: no host, no route",
		Into(parseHosts, func(s *route.Spec) *[]string { return &s.Hosts })),
	NewWord("path", "path prefix to serve", "a path such as /api, which covers /api and all below /api/", "/",
		setPath),
	NewWord("strip-prefix", "cut the path prefix off before the request goes to the container", "true, false", "false",
		Into(ParseSwitch, func(s *route.Spec) *bool { return &s.StripPrefix })),
	NewWord("port", "container port to route to", "1 to 65535", "the only published TCP port, else the only exposed one, else 80",
		Into(ParsePort, func(s *route.Spec) *uint16 { return &s.Port })),
	NewWord("network", "Docker network at which the container is reached, past what it publishes", "a name of one of the container's networks", "one that this host can reach",
		Into(parseFile, func(s *route.Spec) *string { return &s.Network })),
	NewWord("scheme", "how nginx speaks to the container", "http, https, grpc, grpcs, fastcgi, uwsgi", "http; https if the port is 443 or 8443",
		Into(OneOf(route.HTTP, route.HTTPS, route.GRPC, route.GRPCS, route.FastCGI, route.UWSGI), func(s *route.Spec) *route.Scheme { return &s.Scheme })),
	NewWord("tls", "HTTPS for the clients: auto terminates it where a certificate covers the host and redirects plain HTTP; terminate refuses plain HTTP; passthrough hands the connection to the container, which holds the certificate", "auto, terminate, off, passthrough", "auto",
		Into(OneOf(route.TLSAuto, route.TLSTerminate, route.TLSOff, route.TLSPass), func(s *route.Spec) *route.TLSMode { return &s.TLS })),
	NewWord("weight", "share of the requests among the containers of a route", "1 to 1000", "1",
		Into(parseWeight, func(s *route.Spec) *int { return &s.Weight })),
	NewWord("balance", "how requests are spread", "round-robin, least-conn, ip-hash", "round-robin",
		Into(OneOf(route.RoundRobin, route.LeastConn, route.IPHash), func(s *route.Spec) *route.Balance { return &s.Balance })),
	NewWord("health", "path that must answer with 200 to 399 before and while the container is routed (http and https only)", "a path such as /healthz", "the image's HEALTHCHECK, else a TCP connection",
		Into(parseHealth, func(s *route.Spec) *string { return &s.Health })),
	NewWord("body-size", "largest request body", "a size such as 512k, 10m, 1g (100MB is 100m), up to routes.max-body-size; 0 is no limit, with buffering off", "1m",
		Into(parseSize, func(s *route.Spec) *int64 { return &s.BodySize })),
	NewWord("timeout", "longest silence of the container before nginx gives up", "1s to routes.max-timeout, such as 90s or 5m", "60s",
		Into(parseTimeout, func(s *route.Spec) *time.Duration { return &s.Timeout })),
	NewWord("buffering", "whether nginx buffers what the container answers", "on, off", "on",
		Into(ParseSwitch, func(s *route.Spec) *bool { return &s.Buffering })),
	NewWord("auth", "name of a htpasswd file that the operator put in place", "a file name without a directory", "none: no password",
		Into(parseFile, func(s *route.Spec) *string { return &s.Auth })),
	NewWord("allow", "clients that are let in", "addresses or CIDR blocks with commas between them", "all",
		Into(parseAllow, func(s *route.Spec) *[]netip.Prefix { return &s.Allow })),
	NewWord("listen", "a port of its own instead of HTTP; tls is terminated with the certificate of nagaya.host or nagaya.cert", "tcp:PORT, udp:PORT, tls:PORT", "none",
		Into(parseListen, func(s *route.Spec) *route.Listen { return &s.Listen })),
	NewWord("proxy-protocol", "tell the container the client's address by the PROXY protocol, version 1 (listen and passthrough only)", "true, false", "false",
		Into(ParseSwitch, func(s *route.Spec) *bool { return &s.ProxyProtocol })),
	NewWord("cert", "base name of the certificate to use", "a name in the certificate directory", "the certificate that covers the host",
		func(s *route.Spec, v string) error { return SetCert(s, prefix+"cert", v) }),
	NewWord("hsts", "value of the header Strict-Transport-Security", "off, or max-age=SECONDS with ; includeSubDomains and ; preload beside it", "off",
		Into(parseHSTS, func(s *route.Spec) *string { return &s.Edge.HSTS })),
	NewWord("http2", "offer HTTP/2 to clients of HTTPS", "on, off", "as nginx.http2",
		Into(ParseChoice, func(s *route.Spec) *route.Choice { return &s.Edge.HTTP2 })),
	NewWord("http3", "offer HTTP/3 to clients of HTTPS, where the nginx can", "on, off", "as nginx.http3",
		Into(ParseChoice, func(s *route.Spec) *route.Choice { return &s.Edge.HTTP3 })),
	NewWord("verify", "whether the container's certificate must be valid (https and grpcs), by nginx.upstream-ca", "true, false", "false",
		Into(ParseSwitch, func(s *route.Spec) *bool { return &s.Verify })),
	NewWord("server-name", "name that the container is asked for over TLS", "a DNS name", "the name that the client used",
		Into(parseServerName, func(s *route.Spec) *string { return &s.ServerName })),
	NewWord("upstream", "a word of routes.shared-upstreams, by which several families stand behind the same hosts", "letters, digits and . _ -", "none: the family has its hosts alone",
		checked(parseFile)),
	NewWord("batch", "this is a batch container: kept out of routes, its CPU counted apart", "true, false; what is neither counts as true", "true where AWS_BATCH_JOB_ID is in its environment",
		checked(parseBatch)),
	NewWord("nginx", "this is the container of nginx itself, where nginx.mode is container", "anything", "none", nil),
}

// ofContainer reports whether a word is about the container, not one of its routes.
func ofContainer(word string) bool { return word == "batch" || word == "upstream" || word == "nginx" }

// nearest returns the word that looks most like name.
func nearest(name string) string {
	names := make([]string, len(words))
	for i, w := range words {
		names[i] = w.Name
	}
	return pattern.Nearest(name, names)
}
