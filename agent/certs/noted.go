package certs

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// What a ledger has hundreds of is a short line in it, with hashes for what it is about: numbers
// first, times as seconds since 1970, 0 for none.

// Noted is an order.
type Noted struct {
	At time.Time
	// In is how long it counts for its set of names.
	In time.Duration
	// State is o while it may still lead to a certificate, i once it has, f when it has not.
	State byte
	// Set is the hash of the names; of a renewal that of the certificate's id.
	Set, Family string
	// Domains are registered ones that it counts for; none for a renewal.
	Domains []string
}

const (
	stateOpen   = 'o'
	stateIssued = 'i'
	stateFailed = 'f'
)

func (o Noted) text() string {
	return fmt.Sprintf("%d %d %c %s %s %s", stamp(o.At), int64(o.In/time.Second), o.State, o.Set, o.Family, strings.Join(o.Domains, ","))
}

// MarshalText writes the line.
func (o Noted) MarshalText() ([]byte, error) { return []byte(o.text()), nil }

// UnmarshalText reads it. It returns an error for what is no such line.
func (o *Noted) UnmarshalText(text []byte) error {
	n, rest, err := numbers(string(text), 2)
	part := strings.Split(rest, " ")
	if err != nil || n[1] < 0 || len(part) != 4 || len(part[0]) != 1 || !strings.Contains("oif", part[0]) || len(part[1])+len(part[2]) > 24 {
		return fmt.Errorf("%.80q is no order", text)
	}
	*o = Noted{At: timeOf(n[0]), In: time.Duration(min(n[1], int64(week/time.Second))) * time.Second, State: part[0][0], Set: part[1], Family: part[2]}
	if part[3] != "" {
		o.Domains = strings.Split(part[3], ",")
	}
	return nil
}

// Failed is a name that failed, or is being tried.
type Failed struct {
	// Count is how often it failed since it last had a certificate; Open how many attempts began that
	// nobody has ended since.
	Count, Open int
	// Last is when it was tried last, Until when the CA wants no more of it.
	Last, Until time.Time
	// Passed is true where the staging directory has issued a certificate for it since.
	Passed bool
	// Recent are the last failures that a CA counts, at most mostFailures.
	Recent []time.Time
	// Reason is what the CA said; it is kept for the last ones only.
	Reason string
}

// MarshalText writes the line.
func (f Failed) MarshalText() ([]byte, error) {
	passed := 0
	if f.Passed {
		passed = 1
	}
	text := fmt.Appendf(nil, "%d %d %d %d %d %d", f.Count, f.Open, stamp(f.Last), stamp(f.Until), passed, len(f.Recent))
	for _, at := range f.Recent {
		text = fmt.Appendf(text, " %d", stamp(at))
	}
	return fmt.Appendf(text, " %s", f.Reason), nil
}

// UnmarshalText reads it. It returns an error for what is no such line.
func (f *Failed) UnmarshalText(text []byte) error {
	n, rest, err := numbers(string(text), 6)
	if err != nil || n[5] < 0 || n[5] > mostFailures {
		return fmt.Errorf("%.80q is no name that failed", text)
	}
	count := func(v int64) int { return int(min(max(v, 0), 1000)) }
	next := Failed{Count: count(n[0]), Open: count(n[1]), Last: timeOf(n[2]), Until: timeOf(n[3]), Passed: n[4] == 1}
	recent, reason, err := numbers(rest, int(n[5]))
	if err != nil {
		return err
	}
	for _, at := range recent {
		next.Recent = append(next.Recent, timeOf(at))
	}
	next.Reason = reason[:min(len(reason), 2*mostReason)]
	*f = next
	return nil
}

// Contact is one attempt or question that has not ended well.
type Contact struct {
	At  time.Time `json:"t"`
	Key string    `json:"k"`
}

// Asked is what a CA said about the renewal of a certificate.
type Asked struct {
	Window
	// NotAfter is of the certificate that it is about: a newer one is asked for anew.
	NotAfter time.Time
	// Replaced is the identifier of a certificate of which the CA says that it was replaced before.
	Replaced string
}

// MarshalText writes the line.
func (a Asked) MarshalText() ([]byte, error) {
	supported := 0
	if a.Supported {
		supported = 1
	}
	return fmt.Appendf(nil, "%d %d %d %d %d %s", stamp(a.NotAfter), stamp(a.Start), stamp(a.End), stamp(a.Again), supported, a.Replaced), nil
}

// UnmarshalText reads it. It returns an error for what is no such line.
func (a *Asked) UnmarshalText(text []byte) error {
	n, rest, err := numbers(string(text), 5)
	if err != nil || len(rest) > mostCertID {
		return fmt.Errorf("%.80q is no answer about a renewal", text)
	}
	*a = Asked{NotAfter: timeOf(n[0]), Window: Window{Start: timeOf(n[1]), End: timeOf(n[2]), Again: timeOf(n[3]), Supported: n[4] == 1}, Replaced: rest}
	return nil
}

// mostCertID bounds the identifier of a certificate, in bytes.
const mostCertID = 100

// numbers are the first n words of a line, and the rest of it.
func numbers(line string, n int) (all []int64, rest string, err error) {
	for rest = line; len(all) < n; {
		word, after, ok := strings.Cut(rest, " ")
		v, err := strconv.ParseInt(word, 10, 64)
		if err != nil || !ok {
			return nil, "", fmt.Errorf("%.80q does not begin with %d numbers", line, n)
		}
		all, rest = append(all, v), after
	}
	return all, rest, nil
}

func stamp(at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return at.Unix()
}

func timeOf(stamp int64) time.Time {
	if stamp == 0 {
		return time.Time{}
	}
	return time.Unix(min(max(stamp, 0), 1<<40), 0).UTC()
}
