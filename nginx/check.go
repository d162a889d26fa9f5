package nginx

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// These checks are of text from containers and of what the build can do. Packages labels
// and route have refused other text before; these are the last, beside the quoting. What is
// valid by its type (enumerations, addresses, numbers) is not checked again.
var (
	// pathPattern is a path of RFC 3986 without '$', which nginx would take for a
	// variable.
	pathPattern = regexp.MustCompile(`^/[A-Za-z0-9._~!&'()*+,;=:@%/-]*$`)
	authPattern = pattern.Of(128, `[A-Za-z0-9][A-Za-z0-9._-]*`)
)

// pathMax is the longest path in bytes; nginx's buffer for one configuration
// word holds 4096 (nginx source, NGX_CONF_BUFFER).
const pathMax = 1024

// checkSite returns why a site cannot be rendered.
func checkSite(s route.Site, b Build, set Settings) error {
	switch {
	case !usableHost(s.Host):
		return errors.New("the host is neither a lower-case DNS name nor an expression that nginx could read")
	case s.Passthrough != nil && (!b.StreamPreread || !b.StreamRealIP):
		return errors.New("passthrough needs the parts ssl_preread and realip of nginx's stream module, which this build does not have")
	case s.Passthrough != nil && trustsForwarded(set):
		// nginx would take the proxy's address for the client's at all sites, and nagaya.allow too.
		return errors.New("its TLS cannot be passed through beside nginx.trusted-proxies, unless these speak the PROXY protocol (nginx.proxy-protocol)")
	case s.Passthrough != nil && nginxproxy.HasPassword(set.hostPasswords(), s):
		return errors.New("its TLS cannot be passed through, because there is a password file for this host (nginx.host-auth)")
	case len(s.Edge.HSTS) > 200 || strings.ContainsFunc(s.Edge.HSTS, func(r rune) bool { return r < ' ' || r > '~' || r == '$' }):
		return fmt.Errorf("the value %q of Strict-Transport-Security cannot be written", truncated(s.Edge.HSTS))
	}
	if s.TLS {
		if err := checkCertificate(s.Cert); err != nil {
			return err
		}
		if err := checkCertificate(s.Beside); err != nil && s.Beside.CertFile != "" {
			return err
		}
	}
	for _, l := range s.Locations {
		if err := checkLocation(l, b); err != nil {
			return fmt.Errorf("path %q: %w", truncated(l.Path), err)
		}
	}
	return nil
}

func checkLocation(l route.Location, b Build) error {
	regex := l.Match == route.Regex || l.Match == route.RegexFold
	switch {
	case regex && !usableExpression(l.Path):
		return errors.New("it is not an expression that nginx could read")
	case !regex && !usablePath(l.Path):
		return errors.New("it is not a plain URL path")
	case l.Dest != "" && !usablePath(l.Dest):
		return fmt.Errorf("%q is not a plain path", truncated(l.Dest))
	case l.Root != "" && !usablePath(l.Root):
		return fmt.Errorf("%q is not a plain path", truncated(l.Root))
	case l.ServerName != "" && !pattern.Host(l.ServerName):
		return errors.New("the server name is not a DNS name")
	case !b.GRPC && module(l.Scheme) == "grpc":
		return fmt.Errorf("scheme %s needs nginx's grpc module, which this build does not have", l.Scheme)
	case l.Auth != "" && !authPattern.MatchString(l.Auth):
		return errors.New("auth is not the base name of a file")
	}
	return nil
}

// checkStream returns why a stream cannot be rendered.
func checkStream(s route.Stream, b Build) error {
	switch {
	case b.Stream == "":
		return errors.New("it needs nginx's stream module, which this build does not have")
	case s.Listen.Protocol != route.TLS:
		return nil
	case !b.StreamTLS:
		return errors.New("it needs the part ssl of nginx's stream module, which this build does not have")
	}
	return checkCertificate(s.Cert)
}

func checkCertificate(c certs.Pair) error {
	if !plainPath(c.CertFile) || !plainPath(c.KeyFile) {
		return fmt.Errorf("the certificate files %q and %q are not absolute paths without $ and control characters", truncated(c.CertFile), truncated(c.KeyFile))
	}
	for _, f := range []string{c.ClientCAFile, c.CRLFile, c.DHParamFile} {
		if f != "" && !plainPath(f) {
			return fmt.Errorf("the file %q beside the certificate is not an absolute path without $ and control characters", truncated(f))
		}
	}
	return nil
}

// usableHost reports whether h may be written as a server_name: a name, one with a star for
// its first or last part, an address in brackets, or "~" and an expression.
func usableHost(h string) bool {
	if expr, ok := strings.CutPrefix(h, "~"); ok {
		return usableExpression(expr)
	}
	plain, open := strings.CutSuffix(h, ".*")
	return len(h) <= 253 && (pattern.Host(plain) || pattern.Address(h)) && !(open && strings.HasPrefix(h, "*"))
}

func usablePath(p string) bool { return len(p) <= pathMax && pathPattern.MatchString(p) }

// usableExpression keeps out what could name a variable or leave the quotation.
// Whether it is an expression at all, nginx decides.
func usableExpression(expr string) bool {
	return expr != "" && len(expr) <= pathMax && !strings.Contains(expr, "(?P<") && !strings.Contains(expr, "(?<") && !strings.Contains(expr, "(?'") &&
		!strings.ContainsFunc(expr, func(r rune) bool { return r <= ' ' || r > '~' })
}
