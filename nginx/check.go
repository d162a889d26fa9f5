package nginx

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// What a value must look like before it is written. Package route has refused
// other values long before; this is the last line, kept beside the quoting.
var (
	hostPattern = pattern.Of(255, `(\*\.)?[a-z0-9]([a-z0-9_-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9_-]*[a-z0-9])?)*`)
	// pathPattern is a path of RFC 3986 without '$', which nginx would take for a
	// variable.
	pathPattern = regexp.MustCompile(`^/[A-Za-z0-9._~!&'()*+,;=:@%/-]*$`)
	authPattern = pattern.Of(128, `[A-Za-z0-9][A-Za-z0-9._-]*`)
	hexPattern  = pattern.Of(128, `[0-9a-fA-F]*`)
)

// pathMax is the longest path in bytes; nginx's buffer for one configuration
// word holds 4096 (nginx source, NGX_CONF_BUFFER).
const pathMax = 1024

// checkSite says why a site cannot be written.
func checkSite(s route.Site, pools route.Pools, b Build) error {
	if !usableHost(s.Host) {
		return errors.New("the host is neither a lower-case DNS name nor an expression that nginx could read")
	}
	if s.Passthrough != nil {
		if s.TLS {
			return errors.New("TLS cannot be both passed on and terminated")
		}
		if err := checkStreamOptions(*s.Passthrough, pools[s.PassthroughKey()], b); err != nil {
			return fmt.Errorf("passthrough: %w", err)
		}
		if !b.StreamPreread || !b.StreamRealIP || !b.RealIP {
			return errors.New("passthrough needs nginx's realip module and the parts ssl_preread and realip of its stream module, which this build does not have")
		}
	}
	if err := checkEdge(s.Edge); err != nil {
		return err
	}
	if s.TLS {
		if err := checkPair(s.Cert); err != nil {
			return err
		}
	}
	switch s.Plain {
	case route.Serve, route.Redirect, route.Refuse:
	default:
		return fmt.Errorf("plain HTTP should get %q, which is none of serve, redirect, refuse", cut(string(s.Plain)))
	}
	seen := map[string]bool{}
	for _, l := range s.Locations {
		if err := checkLocation(l, pools[s.PoolKey(l)], b); err != nil {
			return fmt.Errorf("path %q: %w", cut(l.Path), err)
		}
		key := string(l.Match) + " " + l.Path
		if l.Match == route.Segments {
			key = strings.TrimRight(l.Path, "/")
		}
		if seen[key] {
			return fmt.Errorf("path %q is there twice", cut(l.Path))
		}
		seen[key] = true
	}
	return nil
}

func checkLocation(l route.Location, p route.Pool, b Build) error {
	switch l.Match {
	case route.Regex, route.RegexFold:
		if !usableExpression(l.Path) {
			return errors.New("it is not an expression that nginx could read")
		}
	case route.Segments, route.Prefix, route.Exact:
		if len(l.Path) > pathMax || !pathPattern.MatchString(l.Path) {
			return errors.New("it is not a plain URL path")
		}
	default:
		return fmt.Errorf("the match is %q", cut(string(l.Match)))
	}
	for _, p := range []string{l.Dest, l.Root} {
		if p != "" && (len(p) > pathMax || !pathPattern.MatchString(p)) {
			return fmt.Errorf("%q is not a plain path", cut(p))
		}
	}
	if l.ServerName != "" && !hostPattern.MatchString(l.ServerName) {
		return errors.New("the server name is not a DNS name")
	}
	if l.Keepalive < route.KeepaliveAuto || l.Keepalive > 1<<16 {
		return errors.New("keepalive is out of its range")
	}
	switch l.Scheme {
	case route.HTTP, route.HTTPS:
	case route.GRPC, route.GRPCS:
		if !b.GRPC {
			return fmt.Errorf("scheme %s needs nginx's grpc and v2 modules, which this build does not have", l.Scheme)
		}
	case route.FastCGI:
		if !b.FastCGI {
			return errors.New("scheme fastcgi needs nginx's fastcgi module, which this build does not have")
		}
	case route.UWSGI:
		if !b.UWSGI {
			return errors.New("scheme uwsgi needs nginx's uwsgi module, which this build does not have")
		}
	default:
		return fmt.Errorf("the scheme is %q, which is none of http, https, grpc, grpcs, fastcgi, uwsgi", cut(string(l.Scheme)))
	}
	if l.BodySize < 0 || l.Timeout < 0 {
		return errors.New("body size and timeout may not be negative")
	}
	if l.Auth != "" && !authPattern.MatchString(l.Auth) {
		return errors.New("auth is not the base name of a file")
	}
	return checkServers(l.Balance, p.Servers, l.Allow)
}

func checkServers(balance route.Balance, servers []route.Server, allow []netip.Prefix) error {
	switch balance {
	case route.RoundRobin, route.LeastConn, route.IPHash, "":
	default:
		return fmt.Errorf("the balance is %q, which is none of round-robin, least-conn, ip-hash", cut(string(balance)))
	}
	for _, srv := range servers {
		if a := srv.Addr; !a.IsValid() || a.Port() == 0 || a.Addr().Zone() != "" {
			return fmt.Errorf("the server %s has no address and port that nginx could use", a)
		}
	}
	for _, p := range allow {
		if !usablePrefix(p) {
			return errors.New("allow holds an invalid network")
		}
	}
	return nil
}

func checkStreamOptions(o route.StreamOptions, p route.Pool, b Build) error {
	if b.Stream == "" {
		return errors.New("it needs nginx's stream module, which this build does not have")
	}
	if o.Timeout < 0 {
		return errors.New("the timeout may not be negative")
	}
	return checkServers(o.Balance, p.Servers, o.Allow)
}

// checkStream says why a stream cannot be written.
func checkStream(s route.Stream, p route.Pool, b Build) error {
	switch s.Listen.Protocol {
	case route.TCP, route.UDP, route.TLS:
	default:
		return fmt.Errorf("the protocol is %q, which is none of tcp, udp, tls", cut(string(s.Listen.Protocol)))
	}
	if s.Listen.Port == 0 {
		return errors.New("the port is 0")
	}
	if s.Listen.Protocol == route.TLS {
		if !b.StreamTLS {
			return errors.New("it needs the part ssl of nginx's stream module, which this build does not have")
		}
		if err := checkPair(s.Cert); err != nil {
			return err
		}
	}
	return checkStreamOptions(s.StreamOptions, p, b)
}

func checkPair(c certs.Pair) error {
	if !plainPath(c.CertFile) || !plainPath(c.KeyFile) {
		return fmt.Errorf("the certificate files %q and %q are not absolute paths without $ and control characters", cut(c.CertFile), cut(c.KeyFile))
	}
	for _, f := range []string{c.ClientCAFile, c.CRLFile, c.DHParamFile} {
		if f != "" && !plainPath(f) {
			return fmt.Errorf("the file %q beside the certificate is not an absolute path without $ and control characters", cut(f))
		}
	}
	if !hexPattern.MatchString(c.Fingerprint) {
		return errors.New("the certificate's fingerprint is not hexadecimal")
	}
	return nil
}

func checkEdge(e route.Edge) error {
	if len(e.HSTS) > 200 || strings.ContainsFunc(e.HSTS, func(r rune) bool { return r < ' ' || r > '~' || r == '$' }) {
		return fmt.Errorf("the value %q of Strict-Transport-Security cannot be written", cut(e.HSTS))
	}
	if _, ok := route.PolicyNamed(e.TLSPolicy); !ok {
		return fmt.Errorf("the policy %q is not known", cut(e.TLSPolicy))
	}
	switch e.RedirectCode {
	case 0, 301, 307, 308:
	default:
		return fmt.Errorf("the redirect's status is %d, which is none of 301, 307, 308", e.RedirectCode)
	}
	switch e.ClientCert {
	case "", "on", "optional":
	default:
		return fmt.Errorf("clients' certificates are %q, which is neither on nor optional", cut(e.ClientCert))
	}
	for _, p := range e.Allow {
		if !usablePrefix(p) {
			return errors.New("allow holds an invalid network")
		}
	}
	return nil
}

// usableHost takes what server_name does: a name, one with a star for its first or
// last part, or "~" and an expression.
func usableHost(h string) bool {
	if expr, ok := strings.CutPrefix(h, "~"); ok {
		return usableExpression(expr)
	}
	plain, open := strings.CutSuffix(h, ".*")
	return len(h) <= 253 && hostPattern.MatchString(plain) && !(open && strings.HasPrefix(h, "*"))
}

// usableExpression keeps out what could name a variable or leave the quotation.
// Whether it is an expression at all, nginx -t says.
func usableExpression(expr string) bool {
	return expr != "" && len(expr) <= pathMax && !strings.Contains(expr, "(?P<") && !strings.Contains(expr, "(?<") && !strings.Contains(expr, "(?'") &&
		!strings.ContainsFunc(expr, func(r rune) bool { return r <= ' ' || r > '~' })
}

func usablePrefix(p netip.Prefix) bool { return p.IsValid() && p.Addr().Zone() == "" }
