package labels

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// The forms of values.
var (
	pathForm = regexp.MustCompile(`^/$|^(/[A-Za-z0-9_~@:+.-]+)+$`)
	// healthForm allows a query too.
	healthForm = regexp.MustCompile(`^/[A-Za-z0-9_~@:+./-]*(\?[A-Za-z0-9_~@:+./&=-]*)?$`)
	fileForm   = pattern.Of(64, `[A-Za-z0-9][A-Za-z0-9._-]*`)
	certForm   = pattern.Of(255, `[A-Za-z0-9_*@][A-Za-z0-9._*@+-]*`)
	routeForm  = pattern.Of(32, `[a-z0-9][a-z0-9-]*`)
)

// Bounds on one label.
const (
	MaxHosts  = 32
	maxAllow  = 64
	maxPath   = 200
	maxWeight = 1000
	maxBody   = int64(1) << 40 // 1 TiB
	maxWait   = 24 * time.Hour
)

func parseHosts(v string) ([]string, error) {
	var hosts []string
	for _, h := range strings.Split(v, ",") {
		h = strings.ToLower(strings.TrimSuffix(strings.TrimSpace(h), "."))
		switch {
		case h == "":
			continue
		case len(hosts) == MaxHosts:
			return nil, fmt.Errorf("more than %d host names", MaxHosts)
		case !pattern.Host(h):
			return nil, errors.New("not a DNS name (letters, digits, hyphens and dots; *. only in front)")
		}
		hosts = append(hosts, h)
	}
	if len(hosts) == 0 {
		return nil, errors.New("no host name in it")
	}
	slices.Sort(hosts)
	return slices.Compact(hosts), nil
}

// ParsePath reads a path prefix, and takes a slash at its end off.
func ParsePath(v string) (string, error) {
	p := strings.TrimRight(v, "/")
	if p == "" && strings.HasPrefix(v, "/") {
		return "/", nil
	}
	if len(p) > maxPath || !pathForm.MatchString(p) {
		return "", fmt.Errorf("not a path prefix (a slash, then letters, digits and - _ . ~ @ : + between single slashes, at most %d bytes)", maxPath)
	}
	for _, seg := range strings.Split(p, "/") {
		if seg == "." || seg == ".." {
			return "", errors.New("a path prefix has no . or .. in it")
		}
	}
	return p, nil
}

func parseHealth(v string) (string, error) {
	if len(v) > maxPath || !healthForm.MatchString(v) {
		return "", fmt.Errorf("not a path (a slash, then letters, digits and - _ . ~ @ : + /, at most %d bytes, a query may follow)", maxPath)
	}
	return v, nil
}

// ParsePort reads a port number.
func ParsePort(v string) (uint16, error) {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil || n == 0 || v[0] == '+' {
		return 0, errors.New("not a port number from 1 to 65535")
	}
	return uint16(n), nil
}

// parseListen reads "tcp:2222".
func parseListen(v string) (route.Listen, error) {
	proto, port, _ := strings.Cut(v, ":")
	p, err := OneOf(proto, route.TCP, route.UDP, route.TLS)
	n, perr := ParsePort(port)
	if err != nil || perr != nil {
		return route.Listen{}, errors.New("not tcp:PORT, udp:PORT or tls:PORT")
	}
	return route.Listen{Protocol: p, Port: n}, nil
}

func parseScheme(v string) (route.Scheme, error) {
	return OneOf(v, route.HTTP, route.HTTPS, route.GRPC, route.GRPCS, route.FastCGI, route.UWSGI)
}

func parseBalance(v string) (route.Balance, error) {
	return OneOf(v, route.RoundRobin, route.LeastConn, route.IPHash)
}

func parseTLS(v string) (route.TLSMode, error) {
	return OneOf(v, route.TLSAuto, route.TLSTerminate, route.TLSOff, route.TLSPass)
}

// ParseChoice reads on or off, or true or false.
func ParseChoice(v string) (route.Choice, error) {
	on, err := parseOnOff(v)
	switch {
	case err != nil:
		return route.Unset, err
	case on:
		return route.On, nil
	}
	return route.Off, nil
}

// SetCert names the certificate of a route, by the word of that name.
func SetCert(s *route.Spec, word, v string) error {
	if !certForm.MatchString(v) {
		return errors.New("not the base name of a certificate")
	}
	s.Cert.Name, s.Cert.Word = v, word
	return nil
}

// parseHSTS reads the value of Strict-Transport-Security (RFC 6797); "off" is
// none.
func parseHSTS(v string) (string, error) {
	if v != "off" && !pattern.HSTS(v) {
		return "", errors.New("neither off nor max-age=SECONDS, which ; includeSubDomains and ; preload may follow")
	}
	return v, nil
}

func parseServerName(v string) (string, error) {
	if !pattern.Host(v) || v[0] == '*' {
		return "", errors.New("not a DNS name")
	}
	return v, nil
}

func parseBool(v string) (bool, error) {
	switch v {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, errors.New("neither true nor false")
}

func parseOnOff(v string) (bool, error) {
	switch v {
	case "on":
		return true, nil
	case "off":
		return false, nil
	}
	if b, err := parseBool(v); err == nil {
		return b, nil
	}
	return false, errors.New("neither on nor off")
}

func parseWeight(v string) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > maxWeight {
		return 0, fmt.Errorf("not a whole number from 1 to %d", maxWeight)
	}
	return n, nil
}

var sizeForm = regexp.MustCompile(`^([0-9]{1,13})([kmg]?)$`)

// parseSize reads a size as nginx writes it: bytes, or with k, m or g for powers
// of 1024; 0 means no limit (nginx.org, client_max_body_size).
func parseSize(v string) (int64, error) {
	m := sizeForm.FindStringSubmatch(strings.ToLower(v))
	if m == nil {
		return 0, errors.New("not a size such as 512k, 10m or 1g")
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return 0, errors.New("not a size such as 512k, 10m or 1g")
	}
	shift := map[string]uint{"": 0, "k": 10, "m": 20, "g": 30}[m[2]]
	if n > maxBody>>shift {
		return 0, errors.New("more than 1024g")
	}
	return n << shift, nil
}

// parseTimeout reads a duration such as 90s or 5m; a bare number counts seconds.
func parseTimeout(v string) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if n, nerr := strconv.ParseUint(v, 10, 32); nerr == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < time.Second || d > maxWait {
		return 0, errors.New("not a time from 1s to 24h such as 90s or 5m")
	}
	return d.Truncate(time.Millisecond), nil
}

func parseFile(v string) (string, error) {
	if !fileForm.MatchString(v) {
		return "", errors.New("not a plain file name (letters, digits and . _ -, at most 64)")
	}
	return v, nil
}

func parseAllow(v string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, w := range strings.Split(v, ",") {
		w = strings.TrimSpace(w)
		if w == "" {
			continue
		}
		p, err := netip.ParsePrefix(w)
		if a, aerr := netip.ParseAddr(w); aerr == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, errors.New("not a list of addresses or CIDR blocks such as 10.0.0.0/8")
		}
		if len(out) == maxAllow {
			return nil, fmt.Errorf("more than %d blocks", maxAllow)
		}
		out = append(out, p.Masked())
	}
	if len(out) == 0 {
		return nil, errors.New("no address in it; leave the label out to let everybody in")
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int { return a.Compare(b) })
	return slices.Compact(out), nil
}

// OneOf parses a word that must be one of the given ones.
func OneOf[T ~string](v string, words ...T) (T, error) {
	var names []string
	for _, w := range words {
		if v == string(w) {
			return w, nil
		}
		names = append(names, string(w))
	}
	return "", fmt.Errorf("not one of %s", strings.Join(names, ", "))
}
