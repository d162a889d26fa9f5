package route

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// nginxProxyLabel is in front of the labels that nginx-proxy has beside its
// variables.
const nginxProxyLabel = "com.github.nginx-proxy.nginx-proxy."

// nginxProxyHSTS is what nginx-proxy sends where nobody says otherwise.
const nginxProxyHSTS = "max-age=31536000"

// nginxProxyRoot is where nginx-proxy takes a FastCGI container's documents to be.
const nginxProxyRoot = "/var/www/public"

// envWords is nginx-proxy's vocabulary with its meaning and defaults
// (github.com/nginx-proxy/nginx-proxy, docs/README.md and nginx.tmpl).
var envWords = []word{
	{
		LabelDoc{"VIRTUAL_HOST", "as nagaya.host", "host names with commas or spaces between them; *.example.com, www.example.* and ~ with a regular expression too", "none"},
		assign(parseVirtualHosts, func(s *said) *[]string { return &s.hosts }),
	},
	{
		LabelDoc{"VIRTUAL_HOST_MULTIPORTS", "several routes; it comes before VIRTUAL_HOST, VIRTUAL_PORT, VIRTUAL_PATH, VIRTUAL_DEST and VIRTUAL_PROTO", "YAML or JSON: host, path, then port, proto and dest", "none"},
		func(_ *said, v string) error { _, err := parseMultiports(v); return err },
	},
	{
		LabelDoc{"VIRTUAL_PORT", "as nagaya.port", "1 to 65535", "as nagaya.port"},
		assign(parsePort, func(s *said) *uint16 { return &s.port }),
	},
	{
		LabelDoc{"VIRTUAL_PROTO", "as nagaya.scheme", "http, https, grpc, grpcs, fastcgi, uwsgi", "as nagaya.scheme"},
		assign(parseScheme, func(s *said) *Scheme { return &s.scheme }),
	},
	{
		LabelDoc{"VIRTUAL_PATH", "location: a prefix as nginx compares it (/app covers /apple), = and a path, or ~ or ~* and a regular expression", "a path", "/"},
		setVirtualPath,
	},
	{
		LabelDoc{"VIRTUAL_DEST", "what replaces the path prefix", "a path", "the request's path stays"},
		assign(parseDest, func(s *said) *string { return &s.dest }),
	},
	{
		LabelDoc{"VIRTUAL_ROOT", "where a FastCGI container keeps its documents", "an absolute path", nginxProxyRoot},
		assign(parseRoot, func(s *said) *string { return &s.root }),
	},
	{
		LabelDoc{"EXTERNAL_HTTP_PORT", "public port of plain HTTP for these hosts", "1 to 65535", "nginx.http-port"},
		assign(parsePort, func(s *said) *uint16 { return &s.edge.HTTPPort }),
	},
	{
		LabelDoc{"EXTERNAL_HTTPS_PORT", "public port of HTTPS for these hosts", "1 to 65535", "nginx.https-port"},
		assign(parsePort, func(s *said) *uint16 { return &s.edge.HTTPSPort }),
	},
	{
		LabelDoc{"HTTPS_METHOD", "as nagaya.tls", "redirect (auto), noredirect (serve plain HTTP too), nohttp (terminate), nohttps (off)", "redirect"},
		setHTTPSMethod,
	},
	{
		LabelDoc{"CERT_NAME", "base name of the certificate to use", "a name in the certificate directory", "the certificate that covers the host, else the one that is named like it, like its parent domain, or default"},
		assign(parseCert, func(s *said) *string { return &s.certName }),
	},
	{
		LabelDoc{"HSTS", "as nagaya.hsts", "off, or the header's value", nginxProxyHSTS},
		assign(parseHSTS, func(s *said) *string { return &s.edge.HSTS }),
	},
	{
		LabelDoc{"SSL_POLICY", "protocols and ciphers of HTTPS", "Mozilla-Modern, Mozilla-Intermediate, Mozilla-Old, AWS-TLS13-1-2-2021-06 and the other names of load balancers' policies", "Mozilla-Intermediate"},
		assign(parsePolicy, func(s *said) *string { return &s.edge.TLSPolicy }),
	},
	{
		LabelDoc{"SERVER_TOKENS", "whether nginx tells its version", "on, off", "off"},
		assign(parseChoice, func(s *said) *Choice { return &s.edge.ServerTokens }),
	},
	{
		LabelDoc{"NETWORK_ACCESS", "who may come: internal lets in private and loopback addresses only", "external, internal", "external"},
		setNetworkAccess,
	},
	{
		LabelDoc{"ENABLE_HTTP_ON_MISSING_CERT", "whether plain HTTP serves a host for which no certificate is there", "true, false", "true"},
		func(s *said, v string) error {
			on, err := parseLoose(v)
			s.httpsOnly = !on
			return err
		},
	},
	{
		LabelDoc{"LETSENCRYPT_HOST", "acme-companion's word; read and without effect", "anything", "none"},
		func(*said, string) error { return nil },
	},
	{
		LabelDoc{"ACME_HOST", "acme-companion's word; read and without effect", "anything", "none"},
		func(*said, string) error { return nil },
	},
	{
		LabelDoc{nginxProxyLabel + "nginx", "as nagaya.nginx", "anything", "none"},
		func(*said, string) error { return nil },
	},
	{
		LabelDoc{nginxProxyLabel + "keepalive", "idle connections to the containers that a worker keeps", "auto, disabled, or a number up to 1024", "disabled"},
		assign(parseKeepalive, func(s *said) *int { return &s.keepalive }),
	},
	{
		LabelDoc{nginxProxyLabel + "loadbalance", "as nagaya.balance", "least_conn; or ip_hash;", "round-robin"},
		setLoadBalance,
	},
	{
		LabelDoc{nginxProxyLabel + "http2.enable", "as nagaya.http2", "true, false", "as nginx.http2"},
		assign(parseLooseChoice, func(s *said) *Choice { return &s.edge.HTTP2 }),
	},
	{
		LabelDoc{nginxProxyLabel + "http3.enable", "as nagaya.http3", "true, false", "as nginx.http3"},
		assign(parseLooseChoice, func(s *said) *Choice { return &s.edge.HTTP3 }),
	},
	{
		LabelDoc{nginxProxyLabel + "non-get-redirect", "status that sends plain HTTP other than GET and HEAD to HTTPS", "301, 307, 308", "308"},
		setRedirect,
	},
	{
		LabelDoc{nginxProxyLabel + "trust-default-cert", "whether the certificate that is named default may stand in", "true, false", "true"},
		func(s *said, v string) error {
			on, err := parseLoose(v)
			s.ownCertOnly = !on
			return err
		},
	},
	{
		LabelDoc{nginxProxyLabel + "ssl_verify_client", "whether clients need a certificate, where an authority for them (NAME.ca.crt) is beside the host's", "on, optional, off", "on where the authority is there"},
		func(s *said, v string) (err error) {
			s.edge.ClientCert, err = oneOf(v, "on", "optional", "off")
			return err
		},
	},
}

// knownEnv reports whether a name is one of nginx-proxy's words, or looks like one.
func knownEnv(name string) bool {
	_, known := find(envWords, name)
	return known || tasks.ForNginxProxy(name)
}

// parseVirtualHosts reads what nginx-proxy (commas) and ecs-gen (spaces) take.
func parseVirtualHosts(v string) ([]string, error) {
	var hosts []string
	for _, h := range strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }) {
		if len(hosts) == maxHosts {
			return nil, fmt.Errorf("more than %d host names", maxHosts)
		}
		host, err := parseVirtualHost(h)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, host)
	}
	if len(hosts) == 0 {
		return nil, errors.New("no host name in it")
	}
	slices.Sort(hosts)
	return slices.Compact(hosts), nil
}

func parseVirtualHost(h string) (string, error) {
	if expr, ok := strings.CutPrefix(h, "~"); ok {
		return h, checkExpression(expr)
	}
	h = strings.ToLower(strings.TrimSuffix(h, "."))
	plain, open := strings.CutSuffix(h, ".*")
	if !pattern.Host(plain) || open && plain[0] == '*' {
		return "", errors.New("not a DNS name (letters, digits, hyphens and dots; *. in front or .* behind), nor ~ and a regular expression")
	}
	return h, nil
}

// setVirtualPath reads the argument of an nginx location.
func setVirtualPath(s *said, v string) error {
	for _, m := range []struct {
		sign  string
		match Match
	}{{"~*", RegexFold}, {"~", Regex}} {
		if expr, ok := strings.CutPrefix(v, m.sign); ok {
			s.path, s.match = strings.TrimSpace(expr), m.match
			return checkExpression(s.path)
		}
	}
	s.match = Prefix
	if p, ok := strings.CutPrefix(v, "="); ok {
		v, s.match = strings.TrimSpace(p), Exact
	} else if p, ok := strings.CutPrefix(v, "^~"); ok {
		v = strings.TrimSpace(p)
	}
	p, err := parseDest(v)
	if p == "/" && s.match == Prefix {
		s.match = Segments // the same for the root
	}
	s.path = p
	return err
}

// parseDest reads a path that may end with a slash.
func parseDest(v string) (string, error) {
	p, err := parsePath(v)
	if err == nil && p != "/" && strings.HasSuffix(v, "/") {
		p += "/"
	}
	return p, err
}

func parseRoot(v string) (string, error) { return parsePath(v) }

func parseCert(v string) (string, error) {
	if !certForm.MatchString(v) {
		return "", errors.New("not the base name of a certificate")
	}
	return v, nil
}

// parseLoose reads a switch as nginx-proxy does (Go's strconv.ParseBool).
func parseLoose(v string) (bool, error) {
	on, err := strconv.ParseBool(v)
	if err != nil {
		return false, errors.New("neither true nor false")
	}
	return on, nil
}

func parseLooseChoice(v string) (Choice, error) {
	on, err := parseLoose(v)
	switch {
	case err != nil:
		return Unset, err
	case on:
		return On, nil
	}
	return Off, nil
}

var httpsMethods = map[string]tlsMode{"redirect": tlsAuto, "noredirect": tlsNoRedirect, "nohttp": tlsTerminate, "nohttps": tlsOff}

func setHTTPSMethod(s *said, v string) error {
	m, ok := httpsMethods[v]
	if !ok {
		return errors.New("not one of redirect, noredirect, nohttp, nohttps")
	}
	s.tls = m
	return nil
}

// internalNetworks is what nginx-proxy lets in for NETWORK_ACCESS=internal: the
// private ranges (RFC 1918), loopback, and their kin of IPv6.
var internalNetworks = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fc00::/7"),
}

func setNetworkAccess(s *said, v string) error {
	switch v {
	case "internal":
		s.edge.Allow = internalNetworks
	case "external":
		s.edge.Allow = nil
	default:
		return errors.New("neither external nor internal")
	}
	return nil
}

func parseKeepalive(v string) (int, error) {
	switch v {
	case "auto":
		return KeepaliveAuto, nil
	case "disabled":
		return 0, nil
	}
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil || n > 1024 {
		return 0, errors.New("neither auto, nor disabled, nor a number up to 1024")
	}
	return int(n), nil
}

// setLoadBalance reads a directive of nginx, which is nginx-proxy's word. Only
// those that are a Balance are let in.
func setLoadBalance(s *said, v string) error {
	methods := map[string]Balance{"least_conn": LeastConn, "ip_hash": IPHash, "round_robin": RoundRobin}
	m, ok := methods[strings.TrimSpace(strings.TrimSuffix(v, ";"))]
	if !ok {
		return errors.New("neither least_conn; nor ip_hash;: other directives of nginx are not taken from containers")
	}
	s.balance = m
	return nil
}

func setRedirect(s *said, v string) error {
	code, err := oneOf(v, "301", "307", "308")
	if err != nil {
		return err
	}
	s.edge.RedirectCode, err = strconv.Atoi(code)
	return err
}
