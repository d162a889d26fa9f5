package labels

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// The forms of values.
var (
	pathForm = regexp.MustCompile(`^/$|^(/[A-Za-z0-9_~@:+.-]+)+$`)
	// healthForm allows a query too.
	healthForm = pattern.Of(maxPath, `/[A-Za-z0-9_~@:+./-]*(\?[A-Za-z0-9_~@:+./&=-]*)?`)
	fileForm   = pattern.Of(64, `[A-Za-z0-9][A-Za-z0-9._-]*`)
	certForm   = pattern.Of(255, `[A-Za-z0-9_*@][A-Za-z0-9._*@+-]*`)
	routeForm  = pattern.Of(32, `[a-z0-9][a-z0-9-]*`)
)

// Bounds on one label.
const (
	maxHosts  = 256
	maxAllow  = 64
	maxPath   = 200
	maxWeight = 1000
	maxBody   = int64(1) << 40 // 1 TiB
	maxWait   = 24 * time.Hour
)

// List reads the parts of a value between separators, sorted and without duplicates.
func List[T any](v, separators string, most int, parse func(string) (T, error), compare func(x, y T) int) ([]T, error) {
	var all []T
	for part := range strings.FieldsFuncSeq(v, func(r rune) bool { return strings.ContainsRune(separators, r) }) {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		one, err := parse(part)
		if err != nil {
			return nil, fmt.Errorf("%s is %w", problem.Quoted(part), err)
		}
		if all = append(all, one); len(all) > most {
			return nil, fmt.Errorf("more than %d of them", most)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("nothing in it; leave it out instead")
	}
	slices.SortFunc(all, compare)
	return slices.CompactFunc(all, func(x, y T) bool { return compare(x, y) == 0 }), nil
}

// Partial is the error of a value of which a part can be used, and is: the others of a list, or what
// Used says.
type Partial struct {
	Err  error
	Used string
}

func (p Partial) Error() string { return p.Err.Error() + "; " + cmp.Or(p.Used, "the others are used") }

// InPart reports whether an error is a Partial.
func InPart(err error) bool {
	_, is := errors.AsType[Partial](err)
	return is
}

// maxNamed bounds the names that an error lists.
const maxNamed = 10

// Hosts reads a list of names, each of which parse may make several of. One that cannot be used
// costs itself alone, and is named by a Partial; where none can be, the error is about the first.
func Hosts(v, separators string, parse func(string) ([]string, error)) ([]string, error) {
	var named error
	var others []string
	lost := 0
	parts, err := List(v, separators, maxHosts, func(h string) ([]string, error) {
		hosts, err := parse(h)
		if err == nil {
			return hosts, nil
		}
		if lost++; lost == 1 {
			named = fmt.Errorf("%s is %w", problem.Quoted(h), err)
		} else if lost <= maxNamed {
			others = append(others, problem.Quoted(h))
		}
		return nil, nil
	}, slices.Compare)
	if err != nil {
		return nil, err
	}
	all := slices.Concat(parts...)
	slices.Sort(all)
	switch all = slices.Compact(all); {
	case len(all) > maxHosts:
		return nil, fmt.Errorf("more than %d names", maxHosts)
	case lost == 0:
		return all, nil
	case lost > maxNamed:
		named = fmt.Errorf("%w; wrong too: %s and %d more", named, strings.Join(others, ", "), lost-maxNamed)
	case lost > 1:
		named = fmt.Errorf("%w; wrong too: %s", named, strings.Join(others, ", "))
	}
	if len(all) == 0 {
		return nil, named
	}
	return all, Partial{Err: named}
}

// Separators may stand between the parts of a list of names.
const Separators = ", \t\r\n"

func parseHosts(v string) ([]string, error) { return Hosts(v, Separators, ParseHost) }

// ParseHost reads a name, the address of a host, or a name behind a dot, which is the
// name and all below it, as nginx reads it.
func ParseHost(v string) ([]string, error) {
	below, both := strings.CutPrefix(v, ".")
	h, ok := pattern.CanonicalHost(below)
	switch {
	case !ok || both && (h[0] == '*' || h[0] == '['):
		return nil, errors.New("not a DNS name (letters, digits, hyphens, underscores and dots; *. or a dot only in front), nor an IPv6 address in brackets")
	case both:
		return []string{h, "*." + h}, nil
	}
	return []string{h}, nil
}

func parseAllow(v string) ([]netip.Prefix, error) {
	return List(v, ",", maxAllow, func(w string) (netip.Prefix, error) {
		p, err := netip.ParsePrefix(w)
		if a, aerr := netip.ParseAddr(w); aerr == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return p, errors.New("not an address or a CIDR block such as 10.0.0.0/8")
		}
		return p.Masked(), nil
	}, netip.Prefix.Compare)
}

// ParsePath reads a path prefix, and takes a slash at its end off.
func ParsePath(v string) (string, error) {
	p := strings.TrimRight(v, "/")
	if p == "" && v != "" {
		return "/", nil
	}
	if len(p) > maxPath || !pathForm.MatchString(p) {
		return "", fmt.Errorf("not a path prefix (a slash, then letters, digits and - _ . ~ @ : + between single slashes, at most %d bytes)", maxPath)
	}
	for seg := range strings.SplitSeq(p, "/") {
		if seg == "." || seg == ".." {
			return "", errors.New("a path prefix has no . or .. in it")
		}
	}
	return p, nil
}

// setPath reads a path prefix of whole segments. It comes before another program's word for the path, and before how
// that is compared.
func setPath(s *route.Spec, v string) (err error) {
	s.Match = route.Segments
	s.Path, err = ParsePath(v)
	return err
}

// formed makes the parser of a text of that form; the error of another one says what it is not.
func formed(form pattern.Pattern, complaint string, args ...any) func(string) (string, error) {
	return func(v string) (string, error) {
		if !form.MatchString(v) {
			return "", fmt.Errorf(complaint, args...)
		}
		return v, nil
	}
}

var (
	parseHealth = formed(healthForm, "not a path (a slash, then letters, digits and - _ . ~ @ : + /, at most %d bytes, a query may follow)", maxPath)
	parseFile   = formed(fileForm, "not a plain file name (letters, digits and . _ -, at most 64)")
)

// ParsePort reads a port number.
func ParsePort(v string) (uint16, error) {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil || n == 0 {
		return 0, errors.New("not a port number from 1 to 65535")
	}
	return uint16(n), nil
}

// parseListen reads "tcp:2222".
func parseListen(v string) (route.Listen, error) {
	proto, port, _ := strings.Cut(v, ":")
	p, err := OneOf(route.TCP, route.UDP, route.TLS)(proto)
	n, perr := ParsePort(port)
	if err != nil || perr != nil {
		return route.Listen{}, errors.New("not tcp:PORT, udp:PORT or tls:PORT")
	}
	return route.Listen{Protocol: p, Port: n}, nil
}

// parseHSTS reads the value of Strict-Transport-Security (RFC 6797); "off" is
// none.
func parseHSTS(v string) (string, error) {
	if strings.EqualFold(v, "off") {
		return "off", nil
	}
	one, ok := pattern.HSTS(v)
	if !ok {
		return "", errors.New("neither off nor max-age=SECONDS, beside which includeSubDomains and preload may stand, with ; between them")
	}
	return one, nil
}

func parseServerName(v string) (string, error) {
	h, ok := pattern.CanonicalHost(v)
	if !ok || h[0] == '*' || h[0] == '[' {
		return "", errors.New("not a DNS name")
	}
	return h, nil
}

func parseBatch(v string) (is bool, err error) {
	is, clear := tasks.ReadBatch(v)
	if !clear {
		err = errors.New("neither true nor false; the container counts as a batch")
	}
	return is, err
}

// ParseSwitch reads true, yes, on or 1, or false, no, off or 0, in any case.
func ParseSwitch(v string) (bool, error) {
	on, ok := pattern.Switch(v)
	if !ok {
		return false, errors.New("neither true nor false (yes and no, on and off, 1 and 0)")
	}
	return on, nil
}

// ParseChoice reads a switch that may be left alone.
func ParseChoice(v string) (route.Choice, error) {
	switch on, err := ParseSwitch(v); {
	case err != nil:
		return route.Unset, err
	case on:
		return route.On, nil
	}
	return route.Off, nil
}

func parseWeight(v string) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > maxWeight {
		return 0, fmt.Errorf("not a whole number from 1 to %d", maxWeight)
	}
	return n, nil
}

// parseSize reads a size as nginx writes it; 0 means no limit (nginx.org,
// client_max_body_size).
func parseSize(v string) (int64, error) {
	n, err := config.ParseSize(v)
	switch {
	case err != nil:
		return 0, errors.New("not a size such as 512k, 10m or 1g")
	case n > maxBody:
		return 0, errors.New("more than 1024g")
	}
	return n, nil
}

// parseTimeout reads a duration such as 90s or 5m; a bare number counts seconds.
func parseTimeout(v string) (time.Duration, error) {
	if _, err := strconv.ParseUint(v, 10, 32); err == nil {
		v += "s"
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < time.Second || d > maxWait {
		return 0, errors.New("not a time from 1s to 24h such as 90s or 5m")
	}
	return d.Truncate(time.Millisecond), nil
}

// SetCert names the certificate of a route, by the word of that name.
func SetCert(s *route.Spec, word, v string) error {
	if !certForm.MatchString(v) {
		return errors.New("not the base name of a certificate")
	}
	s.Cert.Name, s.Cert.Word = v, word
	return nil
}

// OneOf makes the parser of a word that must be one of the given ones.
func OneOf[T ~string](words ...T) func(string) (T, error) {
	return func(v string) (T, error) {
		if slices.Contains(words, T(v)) {
			return T(v), nil
		}
		return "", fmt.Errorf("not one of %s", strings.Trim(strings.ReplaceAll(fmt.Sprint(words), " ", ", "), "[]"))
	}
}
