package address

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// TagKey is the key of the holder tag and of the hint tag. The holder of an address
// says in the holder tag, which is on the Elastic IP, what it serves and whether it is
// leaving. The hint tag is on the instance of the holder and makes standby instances
// read the holder tag at once.
const TagKey = "nagaya:holder"

// maxTag is how long a tag's value may be (EC2 User Guide, "Tag restrictions").
const maxTag = 256

// HolderTag is what a holder says of itself. It is text from elsewhere: it is believed
// only while the named instance holds the address, and what is missing is unknown. It is
// written only when it changes, so its age says nothing.
type HolderTag struct {
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

const (
	leavingWord = "leaving"
	servingWord = "serving"
	noHosts     = "-"
	sumPrefix   = "sha256:"
)

// NewHolderTag says what the instance serves.
func NewHolderTag(instance string, at time.Time, leaving bool, hosts []string) HolderTag {
	t := HolderTag{InstanceID: instance, At: at.Truncate(time.Second), Leaving: leaving, Hosts: normalizeHosts(hosts)}
	if len(t.String()) > maxTag || slices.ContainsFunc(t.Hosts, unlistable) {
		t.Sum, t.Count, t.Hosts = sum(t.Hosts), len(t.Hosts), nil
	}
	return t
}

// normalizeHosts returns the hosts sorted, in lower case, each once.
func normalizeHosts(hosts []string) []string {
	var all []string
	for _, h := range hosts {
		if h != "" {
			all = append(all, strings.ToLower(h))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// unlistable reports whether the text cannot stand in a list: a host name by a
// regular expression may have commas and spaces.
func unlistable(h string) bool {
	return h == "" || h == noHosts || len(h) > 253 || strings.HasPrefix(h, sumPrefix) ||
		strings.Trim(h, "abcdefghijklmnopqrstuvwxyz0123456789.-_*:[]") != ""
}

func sum(hosts []string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(hosts, "\n"))))[:16]
}

// Equal reports whether both say the same, whenever they were written.
func (t HolderTag) Equal(o HolderTag) bool {
	return t.InstanceID == o.InstanceID && t.Leaving == o.Leaving && t.SameHosts(o)
}

// SameHosts reports whether both say that the same is served.
func (t HolderTag) SameHosts(o HolderTag) bool { return t.hosts() == o.hosts() }

func (t HolderTag) hosts() string {
	switch {
	case len(t.Hosts) > 0:
		return strings.Join(t.Hosts, ",")
	case t.Sum != "":
		return sumPrefix + t.Sum + " " + strconv.Itoa(t.Count)
	}
	return noHosts
}

// String writes the tag's value.
func (t HolderTag) String() string {
	word := servingWord
	if t.Leaving {
		word = leavingWord
	}
	return fmt.Sprintf("%s %d %s %s", t.InstanceID, t.At.Unix(), word, t.hosts())
}

// tagForm is the form of a tag's value: id, seconds, word, and a sum with a count or a list.
var tagForm = regexp.MustCompile(`^(i-[0-9a-z-]{1,32}) (0|[1-9][0-9]{0,10}) (leaving|serving) (?:-|sha256:([0-9a-f]{16}) ([1-9][0-9]{0,8})|([^ ]+))$`)

// ParseHolderTag reads a tag's value. Anything but exactly what String writes is
// refused as a whole.
func ParseHolderTag(text string) (HolderTag, error) {
	var t HolderTag
	if m := tagForm.FindStringSubmatch(text); m != nil {
		seconds, _ := strconv.ParseInt(m[2], 10, 64) // digits only
		t = NewHolderTag(m[1], time.Unix(seconds, 0), m[3] == leavingWord, strings.Split(m[6], ","))
		t.Sum = m[4]
		t.Count, _ = strconv.Atoi(m[5])
	}
	if len(text) > maxTag || t.String() != text {
		return HolderTag{}, fmt.Errorf("the tag %.300q is not '<instance> <seconds> <leaving|serving> <hosts>'", text)
	}
	return t, nil
}

// HolderTagOf returns what the holder of the address says. A tag that cannot be read,
// or that another instance wrote, says nothing.
func HolderTagOf(a Address, h Holder) HolderTag {
	t, err := ParseHolderTag(a.HolderTag)
	if err != nil || h.InstanceID == "" || t.InstanceID != h.InstanceID {
		return HolderTag{}
	}
	return t
}

// Missing says, as one clause, which host of the tag is not among the live hosts; it
// is empty when none is missing. Of hosts that are known only by their sum it can be
// told that they are the same, or that there are more here.
func (t HolderTag) Missing(live []string) string {
	if t.Sum != "" {
		if all := normalizeHosts(live); sum(all) != t.Sum && len(all) <= t.Count {
			return fmt.Sprintf("its %d hosts are not the same as the %d that are live here", t.Count, len(all))
		}
		return ""
	}
	for _, h := range t.Hosts {
		if !slices.ContainsFunc(live, func(l string) bool { return strings.EqualFold(l, h) }) {
			return fmt.Sprintf("it serves %q, which has no live container here", h)
		}
	}
	return ""
}
