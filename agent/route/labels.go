package route

import (
	"net/netip"
	"time"
)

// LabelDoc describes one word that a container may say.
type LabelDoc struct {
	// Name is the full label, e.g. "nagaya.host", or the environment variable.
	Name string `json:"name"`
	// Meaning is what it does, Allowed what may be said, Default what holds unsaid.
	Meaning string `json:"meaning"`
	Allowed string `json:"allowed"`
	Default string `json:"default"`
}

// Labels documents every label, in the order in which a person would want to
// read them. The parser is made of the same table.
var Labels = docs(labelWords, "nagaya.")

// EnvWords documents the words of nginx-proxy that are understood, in a container's
// environment or as labels of the same names.
var EnvWords = docs(envWords, "")

// tlsMode is what nagaya.tls and HTTPS_METHOD ask for.
type tlsMode string

const (
	tlsAuto       tlsMode = "auto"
	tlsTerminate  tlsMode = "terminate"
	tlsOff        tlsMode = "off"
	tlsPass       tlsMode = "passthrough"
	tlsNoRedirect tlsMode = "noredirect" // HTTPS_METHOD only: serve both
)

// said is what a container says about one of its routes. Zero values mean
// that it said nothing.
type said struct {
	hosts []string
	// listen makes it a stream; hosts then name the certificate.
	listen        Listen
	path          string
	match         Match
	dest          string
	strip         bool
	port          uint16
	scheme        Scheme
	tls           tlsMode
	certName      string
	weight        int
	balance       Balance
	health        string
	bodySize      *int64
	timeout       time.Duration
	buffering     *bool
	auth          string
	allow         []netip.Prefix
	proxyProtocol bool
	verify        bool
	serverName    string
	root          string
	keepalive     int
	edge          Edge
	// nginxProxy is true for a route in nginx-proxy's words, whose certificates are
	// also chosen as there: by the name of the file.
	nginxProxy bool
	// ownCertOnly keeps the certificate "default" from standing in.
	ownCertOnly bool
	// httpsOnly refuses plain HTTP also where there is no certificate.
	httpsOnly bool
}

// spot is one thing that only one family can have: a path of a host, the TLS
// connections of a host (path is empty), or a port (path is empty).
type spot struct{ host, path string }

// spots lists what the route claims.
func (s said) spots() []spot {
	if s.listen != (Listen{}) {
		return []spot{{s.listen.String(), ""}}
	}
	var all []spot
	for _, h := range s.hosts {
		all = append(all, spot{h, s.path})
	}
	return all
}

// isStream reports whether nginx needs its stream module for the route.
func (s said) isStream() bool { return s.listen != (Listen{}) || s.tls == tlsPass }

// word is one thing that can be said and how it is read.
type word struct {
	LabelDoc
	set func(s *said, v string) error
}

func docs(words []word, prefix string) []LabelDoc {
	out := make([]LabelDoc, 0, len(words))
	for _, w := range words {
		d := w.LabelDoc
		d.Name = prefix + d.Name
		out = append(out, d)
	}
	return out
}

// assign makes a setter of a parser and the place for its result.
func assign[T any](parse func(string) (T, error), to func(*said) *T) func(*said, string) error {
	return func(s *said, v string) error {
		got, err := parse(v)
		if err != nil {
			return err
		}
		*to(s) = got
		return nil
	}
}

// assignPtr is assign for what must tell "unsaid" from a zero value.
func assignPtr[T any](parse func(string) (T, error), to func(*said) **T) func(*said, string) error {
	return func(s *said, v string) error {
		got, err := parse(v)
		if err != nil {
			return err
		}
		*to(s) = &got
		return nil
	}
}

func parseScheme(v string) (Scheme, error) {
	return oneOf(v, HTTP, HTTPS, GRPC, GRPCS, FastCGI, UWSGI)
}

func parseBalance(v string) (Balance, error) { return oneOf(v, RoundRobin, LeastConn, IPHash) }

func parseTLS(v string) (tlsMode, error) { return oneOf(v, tlsAuto, tlsTerminate, tlsOff, tlsPass) }

func parseChoice(v string) (Choice, error) {
	on, err := parseOnOff(v)
	switch {
	case err != nil:
		return Unset, err
	case on:
		return On, nil
	}
	return Off, nil
}

// labelWords is the vocabulary of nagaya.<word> and nagaya.<name>.<word>.
var labelWords = []word{
	{
		LabelDoc{"host", "host names to serve", "DNS names with commas between them; *.example.com stands for every name below it", "none: no host, no route"},
		assign(parseHosts, func(s *said) *[]string { return &s.hosts }),
	},
	{
		LabelDoc{"path", "path prefix to serve", "a path such as /api, which covers /api and all below /api/", "/"},
		assign(parsePath, func(s *said) *string { return &s.path }),
	},
	{
		LabelDoc{"strip-prefix", "cut the path prefix off before the request goes to the container", "true, false", "false"},
		assign(parseBool, func(s *said) *bool { return &s.strip }),
	},
	{
		LabelDoc{"port", "container port to route to", "1 to 65535", "the only published TCP port, else the only exposed one, else 80"},
		assign(parsePort, func(s *said) *uint16 { return &s.port }),
	},
	{
		LabelDoc{"scheme", "how nginx speaks to the container", "http, https, grpc, grpcs, fastcgi, uwsgi", "http; https if the port is 443 or 8443"},
		assign(parseScheme, func(s *said) *Scheme { return &s.scheme }),
	},
	{
		LabelDoc{"tls", "HTTPS for the clients: auto terminates it where a certificate covers the host and redirects plain HTTP; terminate refuses plain HTTP; passthrough hands the connection to the container, which holds the certificate", "auto, terminate, off, passthrough", "auto"},
		assign(parseTLS, func(s *said) *tlsMode { return &s.tls }),
	},
	{
		LabelDoc{"weight", "share of the requests among the containers of a route", "1 to 1000", "1"},
		assign(parseWeight, func(s *said) *int { return &s.weight }),
	},
	{
		LabelDoc{"balance", "how requests are spread", "round-robin, least-conn, ip-hash", "round-robin"},
		assign(parseBalance, func(s *said) *Balance { return &s.balance }),
	},
	{
		LabelDoc{"health", "path that must answer with 200 to 399 before and while the container is routed (http and https only)", "a path such as /healthz", "the image's HEALTHCHECK, else a TCP connection"},
		assign(parseHealth, func(s *said) *string { return &s.health }),
	},
	{
		LabelDoc{"body-size", "largest request body", "a size such as 512k, 10m, 1g; 0 is no limit", "1m"},
		assignPtr(parseSize, func(s *said) **int64 { return &s.bodySize }),
	},
	{
		LabelDoc{"timeout", "longest silence of the container before nginx gives up", "1s to 24h, such as 90s or 5m", "60s"},
		assign(parseWait, func(s *said) *time.Duration { return &s.timeout }),
	},
	{
		LabelDoc{"buffering", "whether nginx buffers what the container answers", "on, off", "on"},
		assignPtr(parseOnOff, func(s *said) **bool { return &s.buffering }),
	},
	{
		LabelDoc{"auth", "name of a htpasswd file that the operator put in place", "a file name without a directory", "none: no password"},
		assign(parseFile, func(s *said) *string { return &s.auth }),
	},
	{
		LabelDoc{"allow", "who may come", "addresses or CIDR blocks with commas between them", "everybody"},
		assign(parseAllow, func(s *said) *[]netip.Prefix { return &s.allow }),
	},
	{
		LabelDoc{"listen", "a port of its own instead of HTTP; tls is terminated with the certificate of nagaya.host or nagaya.cert", "tcp:PORT, udp:PORT, tls:PORT", "none"},
		assign(parseListen, func(s *said) *Listen { return &s.listen }),
	},
	{
		LabelDoc{"proxy-protocol", "tell the container the client's address by the PROXY protocol, version 1 (listen and passthrough only)", "true, false", "false"},
		assign(parseBool, func(s *said) *bool { return &s.proxyProtocol }),
	},
	{
		LabelDoc{"cert", "base name of the certificate to use", "a name in the certificate directory", "the certificate that covers the host"},
		assign(parseCert, func(s *said) *string { return &s.certName }),
	},
	{
		LabelDoc{"hsts", "value of the header Strict-Transport-Security", "off, or max-age=SECONDS with ; includeSubDomains and ; preload behind it", "off"},
		assign(parseHSTS, func(s *said) *string { return &s.edge.HSTS }),
	},
	{
		LabelDoc{"http2", "offer HTTP/2 to clients of HTTPS", "on, off", "as nginx.http2"},
		assign(parseChoice, func(s *said) *Choice { return &s.edge.HTTP2 }),
	},
	{
		LabelDoc{"http3", "offer HTTP/3 to clients of HTTPS, where the nginx can", "on, off", "as nginx.http3"},
		assign(parseChoice, func(s *said) *Choice { return &s.edge.HTTP3 }),
	},
	{
		LabelDoc{"verify", "whether the container's certificate must be valid (https and grpcs), by nginx.upstream-ca", "true, false", "false"},
		assign(parseBool, func(s *said) *bool { return &s.verify }),
	},
	{
		LabelDoc{"server-name", "name that the container is asked for over TLS", "a DNS name", "the name that the client used"},
		assign(parseServerName, func(s *said) *string { return &s.serverName }),
	},
	{
		LabelDoc{"upstream", "a name that containers of different task families share, so that they stand behind the same hosts", "letters, digits and . _ -", "the task family, the Compose service, or the container's name"},
		func(_ *said, v string) error { _, err := parseFile(v); return err },
	},
	{
		LabelDoc{"batch", "this is a batch container: kept out of routes, its CPU counted apart", "true, false", "true where AWS_BATCH_JOB_ID is in its environment"},
		func(_ *said, v string) error { _, err := parseBool(v); return err },
	},
	{
		LabelDoc{"nginx", "this is the container of nginx itself, where nginx.mode is container", "anything", "none"},
		func(*said, string) error { return nil },
	},
}

func find(words []word, name string) (word, bool) {
	for _, w := range words {
		if w.Name == name {
			return w, true
		}
	}
	return word{}, false
}

// nearest returns the known label word that looks most like name.
func nearest(name string) string {
	best, least := "", 1<<30
	for _, w := range labelWords {
		if d := distance(name, w.Name); d < least {
			best, least = w.Name, d
		}
	}
	return best
}

// distance is the Levenshtein distance of two short words.
func distance(a, b string) int {
	a = a[:min(len(a), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			swap := diagonal
			if a[i] != b[j] {
				swap++
			}
			diagonal = row[j+1]
			row[j+1] = min(swap, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
