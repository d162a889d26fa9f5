package route

import (
	"errors"
	"net/netip"
	"strings"
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

// EnvWords documents the environment variables of nginx-proxy that are
// understood.
var EnvWords = docs(envWords, "")

// tlsMode is what nagaya.tls and HTTPS_METHOD ask for.
type tlsMode string

const (
	tlsAuto       tlsMode = "auto"
	tlsTerminate  tlsMode = "terminate"
	tlsOff        tlsMode = "off"
	tlsNoRedirect tlsMode = "noredirect" // HTTPS_METHOD only: serve both
)

// said is what a container says about one of its routes. Zero values mean
// that it said nothing.
type said struct {
	hosts     []string
	path      string
	strip     bool
	port      uint16
	scheme    Scheme
	tls       tlsMode
	certName  string
	weight    int
	balance   Balance
	health    string
	bodySize  *int64
	timeout   time.Duration
	buffering *bool
	auth      string
	allow     []netip.Prefix
}

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

// errLater is the error of a word that is understood and not done yet.
var errLater = errors.New("this version of nagaya does not do that")

func parseScheme(v string) (Scheme, error) { return oneOf(v, HTTP, HTTPS, GRPC, GRPCS, FastCGI) }

func parseBalance(v string) (Balance, error) { return oneOf(v, RoundRobin, LeastConn, IPHash) }

func parseTLS(v string) (tlsMode, error) {
	if v == "passthrough" {
		return "", errLater
	}
	return oneOf(v, tlsAuto, tlsTerminate, tlsOff)
}

// labelWords is the vocabulary of nagaya.<word> and nagaya.<name>.<word>.
var labelWords = []word{
	{
		LabelDoc{"host", "host names to serve", "DNS names with commas between them; *.example.com stands for one label in front", "none: no host, no route"},
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
		LabelDoc{"scheme", "how nginx speaks to the container", "http, https, grpc, grpcs, fastcgi", "http; https if the port is 443 or 8443"},
		assign(parseScheme, func(s *said) *Scheme { return &s.scheme }),
	},
	{
		LabelDoc{"tls", "HTTPS for the clients: auto terminates it where a certificate covers the host and redirects plain HTTP; terminate refuses plain HTTP", "auto, terminate, off", "auto"},
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
		LabelDoc{"listen", "a port of its own instead of HTTP: not done yet, a container that asks for it gets a problem", "-", "none"},
		func(*said, string) error { return errLater },
	},
	{
		LabelDoc{"batch", "this is a batch container: kept out of routes, its CPU counted apart", "true, false", "true where AWS_BATCH_JOB_ID is in its environment"},
		func(_ *said, v string) error { _, err := parseBool(v); return err },
	},
}

// envWords is nginx-proxy's vocabulary (github.com/nginx-proxy/nginx-proxy, docs).
var envWords = []word{
	{
		LabelDoc{"VIRTUAL_HOST", "as nagaya.host", "host names; regular expressions are not understood", "none"},
		func(s *said, v string) (err error) {
			if strings.Contains(v, "~") {
				return errors.New("regular expressions are not understood")
			}
			// ecs-gen separated by spaces.
			s.hosts, err = parseHosts(strings.Join(strings.Fields(v), ","))
			return err
		},
	},
	{
		LabelDoc{"VIRTUAL_PORT", "as nagaya.port", "1 to 65535", "as nagaya.port"},
		assign(parsePort, func(s *said) *uint16 { return &s.port }),
	},
	{
		LabelDoc{"VIRTUAL_PROTO", "as nagaya.scheme", "http, https, grpc, grpcs, fastcgi", "as nagaya.scheme"},
		assign(parseScheme, func(s *said) *Scheme { return &s.scheme }),
	},
	{
		LabelDoc{"VIRTUAL_PATH", "as nagaya.path", "a path", "/"},
		assign(parsePath, func(s *said) *string { return &s.path }),
	},
	{
		LabelDoc{"VIRTUAL_DEST", "what replaces the path prefix", "/ (as nagaya.strip-prefix=true)", "the prefix stays"},
		func(s *said, v string) error {
			if v != "/" {
				return errors.New("only / is understood")
			}
			s.strip = true
			return nil
		},
	},
	{
		LabelDoc{"VIRTUAL_HOST_MULTIPORTS", "several routes: not understood, use nagaya.<name>.host", "-", "none"},
		func(*said, string) error { return errLater },
	},
	{
		LabelDoc{"HTTPS_METHOD", "as nagaya.tls", "redirect (auto), noredirect (serve plain HTTP too), nohttp (terminate), nohttps (off)", "redirect"},
		func(s *said, v string) error {
			modes := map[string]tlsMode{"redirect": tlsAuto, "noredirect": tlsNoRedirect, "nohttp": tlsTerminate, "nohttps": tlsOff}
			m, ok := modes[v]
			if !ok {
				return errors.New("not one of redirect, noredirect, nohttp, nohttps")
			}
			s.tls = m
			return nil
		},
	},
	{
		LabelDoc{"CERT_NAME", "base name of the certificate to use", "a name in the certificate directory", "the certificate that covers the host"},
		func(s *said, v string) error {
			if !certForm.MatchString(v) {
				return errors.New("not the base name of a certificate")
			}
			s.certName = v
			return nil
		},
	},
	{
		LabelDoc{"LETSENCRYPT_HOST", "acme-companion's word; read and without effect", "anything", "none"},
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
