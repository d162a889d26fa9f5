package nginx

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"

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
func checkSite(s route.Site, b Build) error {
	if len(s.Host) > 253 || !hostPattern.MatchString(s.Host) {
		return errors.New("the host is not a lower-case DNS name")
	}
	if s.TLS {
		if !plainPath(s.Cert.CertFile) || !plainPath(s.Cert.KeyFile) {
			return fmt.Errorf("the certificate files %q and %q are not absolute paths without $ and control characters", cut(s.Cert.CertFile), cut(s.Cert.KeyFile))
		}
		if !hexPattern.MatchString(s.Cert.Fingerprint) {
			return errors.New("the certificate's fingerprint is not hexadecimal")
		}
	}
	switch s.Plain {
	case route.Serve, route.Redirect, route.Refuse:
	default:
		return fmt.Errorf("plain HTTP should get %q, which is none of serve, redirect, refuse", cut(string(s.Plain)))
	}
	seen := map[string]bool{}
	for _, l := range s.Locations {
		if err := checkLocation(l, b); err != nil {
			return fmt.Errorf("path %q: %w", cut(l.Path), err)
		}
		key := strings.TrimRight(l.Path, "/")
		if seen[key] {
			return fmt.Errorf("path %q is there twice", cut(l.Path))
		}
		seen[key] = true
	}
	return nil
}

func checkLocation(l route.Location, b Build) error {
	if len(l.Path) > pathMax || !pathPattern.MatchString(l.Path) {
		return errors.New("it is not a plain URL path")
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
	default:
		return fmt.Errorf("the scheme is %q, which is none of http, https, grpc, grpcs, fastcgi", cut(string(l.Scheme)))
	}
	switch l.Balance {
	case route.RoundRobin, route.LeastConn, route.IPHash, "":
	default:
		return fmt.Errorf("the balance is %q, which is none of round-robin, least-conn, ip-hash", cut(string(l.Balance)))
	}
	if l.BodySize < 0 || l.Timeout < 0 {
		return errors.New("body size and timeout may not be negative")
	}
	if l.Auth != "" && !authPattern.MatchString(l.Auth) {
		return errors.New("auth is not the base name of a file")
	}
	for _, srv := range l.Servers {
		if a := srv.Addr; !a.IsValid() || a.Port() == 0 || a.Addr().Zone() != "" {
			return fmt.Errorf("the server %s has no address and port that nginx could use", a)
		}
	}
	for _, p := range l.Allow {
		if !usablePrefix(p) {
			return errors.New("allow holds an invalid network")
		}
	}
	return nil
}

func usablePrefix(p netip.Prefix) bool { return p.IsValid() && p.Addr().Zone() == "" }
