package address

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SignTag is the key of the tag by which the holder of an address tells other
// instances what it serves and whether it is leaving. It is on the Elastic IP, and
// so comes with every look at it.
const SignTag = "nagaya:holder"

// maxSign is how long a tag's value may be (EC2 User Guide, "Tag restrictions").
const maxSign = 256

// Sign is what a holder says of itself. It is text from elsewhere: it is believed
// only while the named instance holds the address, and what is not said is
// unknown. Nothing keeps it fresh: it is written when it changes.
type Sign struct {
	InstanceID string
	// At is when it was written, by the writer's clock, in whole seconds.
	At      time.Time
	Leaving bool
	// Hosts are what the holder serves, sorted. When they are too long for a tag,
	// there are only Sum and Count instead. All are empty when it did not say.
	Hosts []string
	Sum   string
	Count int
}

// Sign words.
const (
	signLeaving = "leaving"
	signServing = "serving"
	noHosts     = "-"
	sumPrefix   = "sha256:"
)

// NewSign says what the instance serves.
func NewSign(instance string, at time.Time, leaving bool, hosts []string) Sign {
	s := Sign{InstanceID: instance, At: at.Truncate(time.Second), Leaving: leaving, Hosts: sorted(hosts)}
	if len(s.String()) > maxSign || slices.ContainsFunc(s.Hosts, oddHost) {
		s.Sum, s.Count, s.Hosts = sum(s.Hosts), len(s.Hosts), nil
	}
	return s
}

// sorted returns the hosts in lower case, each once.
func sorted(hosts []string) []string {
	all := make([]string, 0, len(hosts))
	for _, h := range hosts {
		if h != "" {
			all = append(all, strings.ToLower(h))
		}
	}
	slices.Sort(all)
	if all = slices.Compact(all); len(all) == 0 {
		return nil
	}
	return all
}

// oddHost reports whether the text cannot stand in a list: a host name by a
// regular expression may have commas and spaces.
func oddHost(h string) bool {
	return h == "" || h == noHosts || len(h) > 253 || strings.HasPrefix(h, sumPrefix) ||
		strings.Trim(h, "abcdefghijklmnopqrstuvwxyz0123456789.-_*:[]") != ""
}

func sum(hosts []string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(hosts, "\n"))))[:16]
}

// Equal reports whether both say the same, whenever they were written.
func (s Sign) Equal(o Sign) bool {
	return s.InstanceID == o.InstanceID && s.Leaving == o.Leaving && s.digest() == o.digest()
}

// Same reports whether both say that the same is served.
func (s Sign) Same(o Sign) bool { return s.digest() == o.digest() }

func (s Sign) digest() string {
	switch {
	case len(s.Hosts) > 0:
		return strings.Join(s.Hosts, ",")
	case s.Sum != "":
		return sumPrefix + s.Sum + " " + strconv.Itoa(s.Count)
	}
	return noHosts
}

// String writes the tag's value.
func (s Sign) String() string {
	word := signServing
	if s.Leaving {
		word = signLeaving
	}
	return s.InstanceID + " " + strconv.FormatInt(s.At.Unix(), 10) + " " + word + " " + s.digest()
}

var errSign = errors.New("it is not '<instance> <seconds> <leaving|serving> <hosts>'")

// ParseSign reads a tag's value. Whatever is not exactly what String writes is
// refused as a whole.
func ParseSign(text string) (Sign, error) {
	if len(text) > maxSign {
		return Sign{}, fmt.Errorf("a sign of %d characters: %w", len(text), errSign)
	}
	f := strings.Split(text, " ")
	if len(f) < 4 || !instanceID(f[0]) || f[2] != signLeaving && f[2] != signServing {
		return Sign{}, fmt.Errorf("reading sign %q: %w", text, errSign)
	}
	seconds, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil || seconds < 0 || seconds > 1<<36 {
		return Sign{}, fmt.Errorf("reading sign %q: the time: %w", text, errSign)
	}
	s := Sign{InstanceID: f[0], At: time.Unix(seconds, 0), Leaving: f[2] == signLeaving}
	switch digits, ok := strings.CutPrefix(f[3], sumPrefix); {
	case ok && len(f) == 5:
		s.Sum = digits
		s.Count, err = strconv.Atoi(f[4])
		if err != nil || s.Count < 1 || len(digits) != 16 || strings.Trim(digits, "0123456789abcdef") != "" {
			return Sign{}, fmt.Errorf("reading sign %q: the digest: %w", text, errSign)
		}
	case len(f) != 4:
		return Sign{}, fmt.Errorf("reading sign %q: %w", text, errSign)
	case f[3] != noHosts:
		s.Hosts = strings.Split(f[3], ",")
		if slices.ContainsFunc(s.Hosts, oddHost) || !slices.Equal(s.Hosts, sorted(s.Hosts)) {
			return Sign{}, fmt.Errorf("reading sign %q: the hosts: %w", text, errSign)
		}
	}
	if s.String() != text {
		return Sign{}, fmt.Errorf("reading sign %q: %w", text, errSign)
	}
	return s, nil
}

func instanceID(s string) bool {
	rest, ok := strings.CutPrefix(s, "i-")
	return ok && rest != "" && len(rest) <= 32 && strings.Trim(rest, "0123456789abcdefghijklmnopqrstuvwxyz-") == ""
}

// SignOf returns what the holder of the address says. A sign that cannot be read,
// or that another instance wrote, says nothing.
func SignOf(a Address, h Holder) Sign {
	s, err := ParseSign(a.Sign)
	if err != nil || h.InstanceID == "" || s.InstanceID != h.InstanceID {
		return Sign{}
	}
	return s
}

// Missing says, as one clause, what of all that the sign names is not among the
// live hosts; it is empty when nothing is. Of hosts that are known only by their
// sum it can be told that they are the same, or that there are more here.
func (s Sign) Missing(live []string) string {
	if s.Sum != "" {
		if all := sorted(live); sum(all) != s.Sum && len(all) <= s.Count {
			return fmt.Sprintf("its %d hosts are not the same as the %d that are live here", s.Count, len(all))
		}
		return ""
	}
	for _, h := range s.Hosts {
		if !slices.ContainsFunc(live, func(l string) bool { return strings.EqualFold(l, h) }) {
			return fmt.Sprintf("it serves %q, which has no live container here", h)
		}
	}
	return ""
}
