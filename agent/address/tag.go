package address

import (
	"crypto/sha256"
	"encoding/base32"
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
	// Hosts are what the holder serves, sorted; those that it serves over HTTPS end with HTTPSMark. When they are too long for a tag, there
	// are only their Hashes instead, sorted, and when those are too long too, only Sum and
	// Count. All are empty when it did not say.
	Hosts  []string
	Hashes []string
	Sum    string
	Count  int
}

const (
	leavingWord = "leaving"
	servingWord = "serving"
	noHosts     = "-"
	sumPrefix   = "sha256:"
	// hashPrefix is in front of hashes. To an agent that does not know them they are one
	// host, which it does not serve: it does not take the address for them.
	hashPrefix = "hashes:"
	// hashLen is how many characters of five bits a hash has: one of 50 hosts here is mistaken for one
	// that the holder serves with a probability of 1 in 10,000.
	hashLen = 4
)

// HTTPSMark ends the name of a host that is served over HTTPS with a certificate that is valid. Its hash and
// the sum of all are of the name with the mark. An agent of before the mark takes such a name for another
// host, which it does not serve: it does not take the address for it, until the holder leaves or is gone.
// What such an agent wrote has no marks, and demands no certificate.
const HTTPSMark = ":"

// NewHolderTag says what the instance serves.
func NewHolderTag(instance string, at time.Time, leaving bool, hosts []string) HolderTag {
	t := HolderTag{InstanceID: instance, At: at.Truncate(time.Second), Leaving: leaving, Hosts: normalizeHosts(hosts)}
	if len(t.String()) > maxTag || slices.ContainsFunc(t.Hosts, unlistable) {
		all := t.Hosts
		t.Hosts, t.Hashes = nil, hashes(all)
		if len(t.String()) > maxTag {
			t.Hashes, t.Sum, t.Count = nil, sum(all), len(all)
		}
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
	return strings.Trim(h, HTTPSMark) == "" || h == noHosts || len(h) > 253 || strings.HasPrefix(h, sumPrefix) || strings.HasPrefix(h, hashPrefix) ||
		strings.Trim(h, "abcdefghijklmnopqrstuvwxyz0123456789.-_*:[]") != ""
}

func sum(hosts []string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(hosts, "\n"))))[:16]
}

// hashes returns one of each host, sorted.
func hashes(hosts []string) (all []string) {
	for _, h := range hosts {
		all = append(all, hash(h))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func hash(host string) string {
	s := sha256.Sum256([]byte(host))
	return strings.ToLower(base32.StdEncoding.EncodeToString(s[:])[:hashLen])
}

// Equal reports whether both say the same, whenever they were written.
func (t HolderTag) Equal(o HolderTag) bool {
	return t.InstanceID == o.InstanceID && t.Leaving == o.Leaving && t.sameHosts(o)
}

// sameHosts reports whether both say that the same is served.
func (t HolderTag) sameHosts(o HolderTag) bool { return t.hosts() == o.hosts() }

func (t HolderTag) hosts() string {
	switch {
	case len(t.Hosts) > 0:
		return strings.Join(t.Hosts, ",")
	case len(t.Hashes) > 0:
		return hashPrefix + strings.Join(t.Hashes, "")
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

// tagForm is the form of a tag's value: id, seconds, word, and a sum with a count, hashes or a list.
var tagForm = regexp.MustCompile(`^(i-[0-9a-z-]{1,32}) (0|[1-9][0-9]{0,10}) (leaving|serving) (?:-|sha256:([0-9a-f]{16}) ([1-9][0-9]{0,8})|hashes:((?:[a-z2-7]{4})+)|([^ ]+))$`)

// ParseHolderTag reads a tag's value. Anything but exactly what String writes is
// refused as a whole.
func ParseHolderTag(text string) (HolderTag, error) {
	var t HolderTag
	if m := tagForm.FindStringSubmatch(text); m != nil {
		seconds, _ := strconv.ParseInt(m[2], 10, 64) // digits only
		t = NewHolderTag(m[1], time.Unix(seconds, 0), m[3] == leavingWord, strings.Split(m[7], ","))
		t.Sum = m[4]
		t.Count, _ = strconv.Atoi(m[5])
		for group := range slices.Chunk([]byte(m[6]), hashLen) {
			t.Hashes = append(t.Hashes, string(group))
		}
		slices.Sort(t.Hashes)
		t.Hashes = slices.Compact(t.Hashes)
	}
	if len(text) > maxTag || t.String() != text {
		return HolderTag{}, fmt.Errorf("the tag %.300q is not '<instance> <seconds> <leaving|serving> <hosts>'", text)
	}
	return t, nil
}

// holderTagOf returns what the holder of the address says. A tag that cannot be read,
// or that another instance wrote, says nothing.
func holderTagOf(a Address, h Holder) HolderTag {
	t, err := ParseHolderTag(a.HolderTag)
	if err != nil || h.InstanceID == "" || t.InstanceID != h.InstanceID {
		return HolderTag{}
	}
	return t
}

// Missing says, as one clause, which host of the tag is not among the live hosts, or is not served over HTTPS
// here although it is there; it is empty when none is missing. Of hosts that are known only by their sum it can
// be told only whether they are exactly those.
func (t HolderTag) Missing(live []string) string {
	marked := normalizeHosts(live)
	all := withoutMarks(marked)
	if t.Sum != "" && sum(marked) != t.Sum && sum(all) != t.Sum {
		return fmt.Sprintf("its %d hosts, which are too many for its tag, are not exactly the %d that are live here, with and without HTTPS", t.Count, len(all))
	}
	here := hashes(slices.Concat(marked, all))
	there := slices.DeleteFunc(slices.Clone(t.Hashes), func(h string) bool { return slices.Contains(here, h) })
	if len(there) > 0 {
		return fmt.Sprintf("it serves %d hosts, and for %d of them there is no live container or no certificate here", len(t.Hashes), len(there))
	}
	for _, h := range t.Hosts {
		host, secure := strings.CutSuffix(h, HTTPSMark)
		switch {
		case !slices.Contains(all, host):
			return fmt.Sprintf("it serves %q, which has no live container here", host)
		case secure && !slices.Contains(marked, h):
			return withoutCertificate(host)
		}
	}
	return ""
}

// missingOf is Missing for the HTTPS of the named hosts alone.
func (t HolderTag) missingOf(named, live []string) string {
	for _, host := range normalizeHosts(named) {
		h := host + HTTPSMark
		if !slices.Contains(normalizeHosts(live), h) && (slices.Contains(t.Hosts, h) || slices.Contains(t.Hashes, hash(h))) {
			return withoutCertificate(host)
		}
	}
	return ""
}

func withoutCertificate(host string) string {
	return fmt.Sprintf("it serves %q over HTTPS, for which there is no certificate here", host)
}

// withoutMarks returns the names of hosts, sorted, each once.
func withoutMarks(hosts []string) []string {
	all := make([]string, len(hosts))
	for i, h := range hosts {
		all[i] = strings.TrimSuffix(h, HTTPSMark)
	}
	return normalizeHosts(all)
}
