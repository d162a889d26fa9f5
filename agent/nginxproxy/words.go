// Package nginxproxy knows nginx-proxy's words, and nothing else does: the variables and
// labels of its containers, its proxy-wide variables, and the names of the files that its
// users mount. It translates them into nagaya's own
// (github.com/nginx-proxy/nginx-proxy, docs/README.md and nginx.tmpl).
package nginxproxy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/labels"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// labelPrefix is in front of the labels that nginx-proxy has beside its variables.
const labelPrefix = "com.github.nginx-proxy.nginx-proxy."

// NginxLabel is the label by which nginx-proxy's companions find its nginx.
const NginxLabel = labelPrefix + "nginx"

const (
	// defaultHSTS is what nginx-proxy sends where nothing else is said.
	defaultHSTS = "max-age=31536000"
	// fastCGIRoot is where nginx-proxy takes a FastCGI container's documents to be.
	fastCGIRoot = "/var/www/public"
	// sharedFamily is the family of all whose hosts are shared. No label names it.
	sharedFamily = route.SharedKind + "nginx-proxy"
)

// Docs documents the words that are understood, in a container's environment or as
// labels of the same names.
func Docs() []labels.Doc {
	var docs []labels.Doc
	for _, w := range words {
		docs = append(docs, w.Doc)
	}
	return docs
}

// Knows reports whether a variable or label is one of nginx-proxy's or acme-companion's, or
// looks like one. VIRTUAL_ENV is Python's.
func Knows(name string) bool {
	_, known := labels.Find(words, name)
	return known || strings.HasPrefix(name, labelPrefix) || strings.HasPrefix(name, "VIRTUAL_") && !strings.HasPrefix(name, "VIRTUAL_ENV")
}

// Reader returns what reads the words of containers. share lets those that use them serve
// one host together, whatever family they are of.
func Reader(share bool) labels.Foreign {
	return func(c tasks.Container, d labels.Defaults) ([]route.Spec, []problem.Problem, bool) {
		values := valuesOf(c)
		if values[virtualHost] == "" && values[multiports] == "" {
			return nil, nil, false
		}
		routes, problems := read(c, values, d)
		several := exposesSeveral(c)
		for i := range routes {
			if share {
				routes[i].Family = sharedFamily
			}
			routes[i].Scheme = cmp.Or(routes[i].Scheme, route.HTTP) // whatever the port
			if routes[i].Port == 0 && several {
				routes[i].Port = 80
			}
		}
		return routes, problems, true
	}
}

// exposesSeveral reports whether a container has several ports of TCP: nginx-proxy takes the
// only one, else 80, whichever is published.
func exposesSeveral(c tasks.Container) bool {
	var first uint16
	for _, p := range c.Ports {
		if p.Protocol != "tcp" {
			continue
		}
		if first != 0 && p.Container != first {
			return true
		}
		first = p.Container
	}
	return false
}

const (
	virtualHost = "VIRTUAL_HOST"
	multiports  = "VIRTUAL_HOST_MULTIPORTS"
)

// valuesOf are the words of a container, which may be variables or labels; a label wins.
func valuesOf(c tasks.Container) map[string]string {
	values := map[string]string{}
	for _, from := range []map[string]string{c.Env, c.Labels} {
		for name, value := range from {
			if Knows(name) {
				values[name] = value
			}
		}
	}
	return values
}

// read makes the routes of the words; none if one of them is wrong.
func read(c tasks.Container, values map[string]string, d labels.Defaults) (routes []route.Spec, problems []problem.Problem) {
	ref, good := route.Ref(c), true
	invalid := func(name string, err error) {
		source := "environment variable"
		if _, is := c.Labels[name]; is {
			source = "label"
		}
		problems = append(problems, labels.Invalid(ref, source, name, values[name], err))
		good = good && labels.InPart(err)
	}
	s := d.Spec()
	s.Cert.ByFile = true
	for _, name := range slices.Sorted(maps.Keys(values)) {
		w, known := labels.Find(words, name)
		if _, is := labels.Find(orders, name); is && !d.ACME.On() {
			continue
		}
		if !known {
			problems = append(problems, labels.Problem(ref, name, problem.Warning, "label-unknown", "see the list of nginx-proxy's words in the documentation of labels",
				"the variable %s of nginx-proxy is not understood and has no effect", problem.Quoted(name)))
		} else if err := w.Set(&s, strings.TrimSpace(values[name])); err != nil {
			invalid(name, err)
		}
	}
	if samePorts(s.Edge) {
		invalid("EXTERNAL_HTTPS_PORT", errors.New("the same port as EXTERNAL_HTTP_PORT"))
	}
	problems = append(problems, allowed(ref, &s.ACME, d.ACME)...)
	if !good {
		return nil, problems
	}
	if s.Edge.HSTS == "" {
		s.Edge.HSTS = cmp.Or(d.HSTS, defaultHSTS)
		if cmp.Or(s.TLS, d.TLSMode()) == route.TLSNoRedirect {
			s.Edge.HSTS = "off"
		}
	}
	s.Files = filesOf(values[virtualHost])
	routes = []route.Spec{s}
	if values[multiports] != "" {
		routes, _ = parseMultiports(values[multiports], s) // without an error, which was reported above
	}
	if !d.Expressions {
		var refused string
		if routes, refused = withoutExpressions(routes); refused != "" {
			problems = append(problems, labels.Problem(ref, "", problem.Error, "label-invalid",
				"name the hosts and paths, *.example.com for all below one, or allow expressions with the setting routes.expressions",
				"it asks for the regular expression %s, which containers may not use; the host is left out, or of a path's all routes", problem.Quoted(refused)))
		}
	}
	for i, r := range routes {
		if r.Scheme == route.FastCGI {
			routes[i].Root = cmp.Or(r.Root, fastCGIRoot)
		}
	}
	return routes, problems
}

// withoutExpressions leaves the hosts that are no regular expressions, and no route where a path
// is one: others of the container would get its requests. refused is the first expression.
func withoutExpressions(routes []route.Spec) (left []route.Spec, refused string) {
	for _, r := range routes {
		if r.Match == route.Regex || r.Match == route.RegexFold {
			return nil, r.Path
		}
		var hosts []string
		for _, h := range r.Hosts {
			if h[0] == '~' {
				refused = cmp.Or(refused, h)
			} else {
				hosts = append(hosts, h)
			}
		}
		if r.Hosts = hosts; len(hosts) > 0 {
			left = append(left, r)
		}
	}
	return left, refused
}

// as is the setter of a word that means what a word of nagaya does.
func as(word string) func(*route.Spec, string) error {
	return func(s *route.Spec, v string) error { return labels.Set(s, word, v) }
}

// words is nginx-proxy's vocabulary, and acme-companion's, with its meaning and defaults.
var words = append([]labels.Word{
	labels.NewWord(virtualHost, "as nagaya.host", "host names with commas or white space between them; *.example.com, .example.com, www.example.* and ~ with a regular expression [too](#regular-expressions)", "none",
		labels.Into(parseVirtualHosts, func(s *route.Spec) *[]string { return &s.Hosts })),
	labels.NewWord(multiports, "several routes; it comes before VIRTUAL_HOST, VIRTUAL_PORT, VIRTUAL_PATH, VIRTUAL_DEST, VIRTUAL_PROTO and EXTERNAL_HTTP(S)_PORT", "YAML or JSON: host, then external_http_port, external_https_port and paths, and in a path port, proto and dest", "none",
		func(_ *route.Spec, v string) error { _, err := parseMultiports(v, route.Spec{}); return err }),
	labels.NewWord("VIRTUAL_PORT", "as nagaya.port", "1 to 65535", "the only exposed TCP port, else 80",
		as("port")),
	labels.NewWord("VIRTUAL_PROTO", "as nagaya.scheme", "http, https, grpc, grpcs, fastcgi, uwsgi", "http",
		as("scheme")),
	labels.NewWord("VIRTUAL_PATH", "location: a prefix as nginx compares it (/app covers /apple), = and a path, or ~ or ~* and a regular expression, if the operator [allows it](#regular-expressions)", "a path", "/",
		setVirtualPath),
	labels.NewWord("VIRTUAL_DEST", "what replaces the path prefix", "a path", "the request's path stays",
		labels.Into(parseDest, func(s *route.Spec) *string { return &s.Dest })),
	labels.NewWord("VIRTUAL_ROOT", "where a FastCGI container keeps its documents", "an absolute path", fastCGIRoot,
		labels.Into(labels.ParsePath, func(s *route.Spec) *string { return &s.Root })),
	labels.NewWord("EXTERNAL_HTTP_PORT", "public port of plain HTTP for these hosts", "1 to 65535", "nginx.http-port",
		labels.Into(labels.ParsePort, func(s *route.Spec) *uint16 { return &s.Edge.HTTPPort })),
	labels.NewWord("EXTERNAL_HTTPS_PORT", "public port of HTTPS for these hosts", "1 to 65535", "nginx.https-port",
		labels.Into(labels.ParsePort, func(s *route.Spec) *uint16 { return &s.Edge.HTTPSPort })),
	labels.NewWord("HTTPS_METHOD", "as nagaya.tls", "redirect (auto), noredirect (serve plain HTTP too), nohttp (terminate), nohttps (off)", "redirect",
		labels.Into(meaning(labels.HTTPSMethods), func(s *route.Spec) *route.TLSMode { return &s.TLS })),
	labels.NewWord("CERT_NAME", "base name of the certificate to use", "a name in the certificate directory", "the certificate that covers the host, else the one that is named like it, like its parent domain, or default",
		func(s *route.Spec, v string) error { return labels.SetCert(s, "CERT_NAME", v) }),
	labels.NewWord("HSTS", "as nagaya.hsts", "off, or the header's value", defaultHSTS,
		as("hsts")),
	labels.NewWord("SSL_POLICY", "protocols and ciphers of HTTPS", "Mozilla-Modern, Mozilla-Intermediate, Mozilla-Old, AWS-TLS13-1-2-2021-06 and the other names of load balancers' policies", "Mozilla-Intermediate",
		labels.Into(parsePolicy, func(s *route.Spec) *string { return &s.Edge.TLSPolicy })),
	labels.NewWord("SERVER_TOKENS", "whether nginx tells its version", "on, off", "nginx.server-tokens",
		labels.Into(labels.ParseChoice, func(s *route.Spec) *route.Choice { return &s.Edge.ServerTokens })),
	labels.NewWord("NETWORK_ACCESS", "clients that are let in; internal: private and loopback addresses only", "external, internal", "external",
		setNetworkAccess),
	labels.NewWord("ENABLE_HTTP_ON_MISSING_CERT", "whether plain HTTP serves a host for which no certificate is there", "true, false", "true",
		labels.Into(parseNot, func(s *route.Spec) *bool { return &s.HTTPSOnly })),
	labels.NewWord("ACME_HTTP_CHALLENGE_LOCATION", "whether plain HTTP serves challenges from nginx.challenge-dir", "true, legacy (where it is redirected to HTTPS), false", "nginx.challenges",
		labels.Into(parseChallenges, func(s *route.Spec) *route.Challenges { return &s.Edge.Challenges })),
	labels.NewWord(NginxLabel, "as nagaya.nginx", "anything", "none", nil),
	labels.NewWord(labelPrefix+"keepalive", "idle connections to the containers that a worker keeps", "auto, disabled, or a number up to routes.max-keepalive", "8",
		labels.Into(parseKeepalive, func(s *route.Spec) *int { return &s.Keepalive })),
	labels.NewWord(labelPrefix+"loadbalance", "as nagaya.balance", "least_conn; or ip_hash; (hash $remote_addr; is the same)", "round-robin",
		labels.Into(parseBalance, func(s *route.Spec) *route.Balance { return &s.Balance })),
	labels.NewWord(labelPrefix+"http2.enable", "as nagaya.http2", "true, false", "as nginx.http2",
		labels.Into(labels.ParseChoice, func(s *route.Spec) *route.Choice { return &s.Edge.HTTP2 })),
	labels.NewWord(labelPrefix+"http3.enable", "as nagaya.http3", "true, false", "as nginx.http3",
		labels.Into(labels.ParseChoice, func(s *route.Spec) *route.Choice { return &s.Edge.HTTP3 })),
	labels.NewWord(labelPrefix+"non-get-redirect", "status that sends plain HTTP other than GET and HEAD to HTTPS", "301, 307, 308", "routes.redirect-code",
		labels.Into(meaning(map[string]int{"301": 301, "307": 307, "308": 308}), func(s *route.Spec) *int { return &s.Edge.RedirectCode })),
	labels.NewWord(labelPrefix+"debug-endpoint", "whether /nginx-proxy-debug tells these settings, as JSON, to whoever may see the path /", "true, false", "nginx.debug-endpoint",
		labels.Into(labels.ParseChoice, func(s *route.Spec) *route.Choice { return &s.Edge.Debug })),
	labels.NewWord(labelPrefix+"trust-default-cert", "whether the certificate that is named default may stand in", "true, false", "true",
		labels.Into(parseNot, func(s *route.Spec) *bool { return &s.Cert.OwnOnly })),
	labels.NewWord(labelPrefix+"ssl_verify_client", "whether clients need a certificate, by an authority for them (HOST.ca.crt, else ca.crt)", "on, optional, off", "on where the authority is there",
		labels.Into(labels.OneOf("on", "optional", "off"), func(s *route.Spec) *string { return &s.Edge.ClientCert })),
}, orders...)

// parseVirtualHosts reads what nginx-proxy (commas) and ecs-gen (spaces) take.
func parseVirtualHosts(v string) ([]string, error) {
	all, err := labels.Hosts(v, labels.Separators, parseVirtualHost)
	partial, partly := errors.AsType[labels.Partial](err)
	if !partly || !strings.Contains(v, "~") {
		return all, err
	}
	// What is wrong may be the rest of an expression with a separator in it.
	plain, _ := labels.Hosts(v, labels.Separators, func(h string) ([]string, error) {
		if h[0] == '~' {
			return nil, partial.Err
		}
		return parseVirtualHost(h)
	})
	if len(plain) == 0 {
		return nil, partial.Err
	}
	return plain, labels.Partial{Err: fmt.Errorf("%w; expressions beside it are left out too", partial.Err)}
}

// parseVirtualHost reads one name, or the names that a regular expression stands for.
func parseVirtualHost(h string) ([]string, error) {
	expr, ok := strings.CutPrefix(h, "~")
	if !ok {
		return plainHost(h)
	}
	if all, ok := names(expr); ok {
		return all, nil
	}
	return []string{h}, checkExpression(expr)
}

// filesOf are, by host, what the names of its files begin with where a container writes the host
// in another way.
func filesOf(v string) map[string]string {
	files := map[string]string{}
	for _, h := range strings.FieldsFunc(v, func(r rune) bool { return strings.ContainsRune(labels.Separators, r) }) {
		all, _ := parseVirtualHost(h)
		for _, host := range all {
			if name := certs.FileName(h); name != certs.FileName(host) {
				files[host] = name
			}
		}
	}
	return files
}

// plainHost reads a name that may have *. in front or .* behind, or a dot in front.
func plainHost(h string) ([]string, error) {
	plain, open := strings.CutSuffix(h, ".*")
	all, err := labels.ParseHost(plain)
	if err != nil || open && (len(all) > 1 || strings.ContainsAny(all[0], "*[")) {
		return nil, errors.New("not a DNS name (letters, digits, hyphens, underscores and dots; *. or a dot in front, or .* behind), nor an IPv6 address in brackets, nor ~ and a regular expression")
	}
	if open {
		all[0] += ".*"
	}
	return all, nil
}

// setVirtualPath reads the argument of an nginx location.
func setVirtualPath(s *route.Spec, v string) error {
	s.Match = route.Prefix
	for _, m := range []struct {
		sign  string
		match route.Match
	}{{"~*", route.RegexFold}, {"~", route.Regex}, {"=", route.Exact}, {"^~", route.Prefix}} {
		if rest, ok := strings.CutPrefix(v, m.sign); ok {
			v, s.Match = strings.TrimSpace(rest), m.match
			break
		}
	}
	if s.Path = v; s.Match == route.Regex || s.Match == route.RegexFold {
		return checkExpression(v)
	}
	p, err := parseDest(v)
	if p == "/" && s.Match == route.Prefix {
		s.Match = route.Segments // the same for the root
	}
	s.Path = p
	return err
}

// parseDest reads a path that may end with a slash.
func parseDest(v string) (string, error) {
	p, err := labels.ParsePath(v)
	if err == nil && p != "/" && strings.HasSuffix(v, "/") {
		p += "/"
	}
	return p, err
}

// parseNot reads a switch the other way round.
func parseNot(v string) (bool, error) {
	on, err := labels.ParseSwitch(v)
	return !on, err
}

// parseChallenges reads where challenges are answered.
var parseChallenges = meaning(map[string]route.Challenges{"true": route.ChallengesAll, "legacy": route.ChallengesRedirected, "false": route.ChallengesNone})

func parsePolicy(v string) (string, error) {
	if _, ok := config.PolicyNamed(v); !ok || v == "" {
		return "", errors.New("not the name of a policy that is known here, such as Mozilla-Intermediate or AWS-TLS13-1-2-2021-06")
	}
	return v, nil
}

func setNetworkAccess(s *route.Spec, v string) (err error) {
	s.Allow, err = meaning(map[string][]netip.Prefix{"internal": InternalNetworks, "external": nil})(v)
	s.Edge.Allow = s.Allow
	return err
}

// InternalNetworks are what nginx-proxy lets in for NETWORK_ACCESS=internal: the
// private ranges (RFC 1918), loopback, and their counterparts of IPv6.
var InternalNetworks = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fc00::/7"),
}

func parseKeepalive(v string) (int, error) {
	switch v {
	case "auto":
		return route.KeepaliveAuto, nil
	case "disabled":
		return route.KeepaliveOff, nil
	}
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil || n > 1024 {
		return 0, errors.New("neither auto, nor disabled, nor a number up to 1024")
	}
	return int(n), nil
}

// parseBalance reads a directive of nginx, which is nginx-proxy's word. Only
// those that are a Balance are let in.
func parseBalance(v string) (route.Balance, error) {
	directive := strings.TrimSuffix(strings.Join(strings.Fields(strings.TrimSuffix(v, ";")), " "), " consistent")
	b, err := meaning(map[string]route.Balance{
		"least_conn": route.LeastConn, "ip_hash": route.IPHash, "hash $remote_addr": route.IPHash, "hash $binary_remote_addr": route.IPHash, "round_robin": route.RoundRobin,
	})(directive)
	if err != nil {
		return "", errors.New("neither least_conn; nor ip_hash; nor hash $remote_addr;: other directives of nginx are not taken from containers")
	}
	return b, nil
}

// meaning makes the parser of a word that stands for something.
func meaning[T any](of map[string]T) func(string) (T, error) {
	return func(v string) (T, error) {
		m, ok := of[v]
		if !ok {
			return m, fmt.Errorf("not one of %s", strings.Join(slices.Sorted(maps.Keys(of)), ", "))
		}
		return m, nil
	}
}
