package history

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

// Event is a line of the journal that is remembered.
type Event struct {
	// Number counts the events of a ring; the first has 1.
	Number uint64
	// At is when it was logged, to the millisecond.
	At time.Time
	// Kind is that of the journal, e.g. "address-lost".
	Kind string
	// Subject is what it is about, e.g. an address, a family or the id of a job, and Text what else is known. Both are
	// printable; what is longer than is kept is cut, and ends with "…".
	Subject, Text string
	// Numbers are those of Numbers of its kind, in that order.
	Numbers [maxNumbers]Value
	// Skipped is how many of its kind and subject came before it that were too many to be kept.
	Skipped uint32
}

const (
	maxNumbers = 5
	// These are bytes, each with one before for the length.
	maxKind, maxSubject, maxText = 27, 70, 112
	cutMark                      = "…"
	headSize                     = 8 + 8 + 4 + 4*maxNumbers
)

// EventSize is how many bytes an event takes in a file.
const EventSize = headSize + 1 + maxKind + 1 + maxSubject + 1 + maxText + 4

// NewEvent makes an event of a line of the journal: of its kind and of its fields, as text. ok is false for a kind that is not remembered.
func NewEvent(at time.Time, kind string, fields map[string]string) (e Event, ok bool) {
	k, ok := kinds[kind]
	if !ok {
		return Event{}, false
	}
	e = Event{At: at, Kind: kind, Subject: clean(fields[k.subject], maxSubject), Text: clean(k.fill(fields), maxText)}
	for i := range e.Numbers {
		e.Numbers[i] = Unknown
		if i < len(k.numbers) && fields["known"] != "false" { // else they say nothing
			e.Numbers[i] = parseNumber(fields[k.numbers[i].key])
		}
	}
	return e, true
}

// clean makes a text that others wrote fit for one line of so many bytes.
func clean(s string, most int) string {
	if len(s) <= most && isClean(s) {
		return s
	}
	s = strings.Join(strings.Fields(problem.Printable(strings.ToValidUTF8(s, "?"), 4*most)), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most-len(cutMark)], "") + cutMark
	}
	return s
}

// isClean reports quickly that nothing in a text has to be changed; most texts are so.
func isClean(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' || s[i] == ' ' && (i == 0 || i == len(s)-1 || s[i-1] == ' ') {
			return false
		}
	}
	return true
}

// parseNumber reads a number, or a time such as 41ms in seconds.
func parseNumber(s string) Value {
	if f, err := strconv.ParseFloat(s, 32); err == nil && !math.IsInf(f, 0) {
		return Value(f)
	}
	if d, err := time.ParseDuration(s); err == nil {
		return Value(d.Seconds())
	}
	return Unknown
}

// Encode writes an event with its checksum.
func (e Event) Encode() []byte {
	b := make([]byte, 20, EventSize)
	binary.LittleEndian.PutUint64(b, e.Number)
	binary.LittleEndian.PutUint64(b[8:], uint64(e.At.UnixMilli()))
	binary.LittleEndian.PutUint32(b[16:], e.Skipped)
	b = appendValues(b, e.Numbers[:]...)
	for _, field := range []struct {
		text string
		most int
	}{{e.Kind, maxKind}, {e.Subject, maxSubject}, {e.Text, maxText}} {
		text := clean(field.text, field.most)
		b = append(append(append(b, byte(len(text))), text...), make([]byte, field.most-len(text))...)
	}
	return sealed(b)
}

// DecodeEvent reads an event; ok is false for anything but what Encode wrote.
func DecodeEvent(b []byte) (e Event, ok bool) {
	if !whole(b, EventSize) {
		return Event{}, false
	}
	e.Number = binary.LittleEndian.Uint64(b)
	at := int64(binary.LittleEndian.Uint64(b[8:]))
	if e.Number == 0 || at <= 0 || at > latestStart*1000 {
		return Event{}, false // also the zeros of a place that was never written
	}
	e.At = time.UnixMilli(at).UTC()
	e.Skipped = binary.LittleEndian.Uint32(b[16:])
	for i := range e.Numbers {
		e.Numbers[i] = readValue(b[20+4*i:])
	}
	rest := b[headSize:]
	for _, field := range []struct {
		text *string
		most int
	}{{&e.Kind, maxKind}, {&e.Subject, maxSubject}, {&e.Text, maxText}} {
		*field.text = clean(string(rest[1:1+min(int(rest[0]), field.most)]), field.most)
		rest = rest[1+field.most:]
	}
	return e, true
}

// Named are the numbers that are known, by their names: credits that a job declared, that were promised to it and that
// it spent, seconds that something took.
func (e Event) Named() map[string]Value {
	named := map[string]Value{}
	for i, n := range kinds[e.Kind].numbers {
		if e.Numbers[i].Known() {
			named[n.name] = e.Numbers[i]
		}
	}
	return named
}

// Group is what an event is about: "agent", "address", "nginx", "deploy", "certificate", "gate" or "job".
func (e Event) Group() string { return kinds[e.Kind].group }

// Journal is the command that shows the event in the journal.
func (e Event) Journal() string {
	at, k := e.At.UTC().Truncate(time.Second), kinds[e.Kind]
	from, command := at, "journalctl -u nagaya"
	if k.quiet {
		from = at.Add(-time.Duration(e.Named()["seconds"]+1) * time.Second)
	} else {
		command += " NAGAYA_EVENT=" + report.Quoted(e.Kind)
	}
	if k.subject != "" && e.Subject != "" && !strings.HasSuffix(e.Subject, cutMark) {
		command += " " + report.Quoted("NAGAYA_"+strings.ToUpper(k.subject)+"="+e.Subject)
	}
	// Equal lines of one minute are one, which is written at its end.
	return command + fmt.Sprintf(" --since '%s UTC' --until '%s UTC'", from.Format(time.DateTime), at.Add(61*time.Second).Format(time.DateTime))
}

// Shown is the event for whoever shows it.
func (e Event) Shown() report.Event {
	out := report.Event{At: e.At, Group: e.Group(), Kind: e.Kind, Subject: e.Subject, Text: e.Text, Numbers: map[string]float64{}, Skipped: e.Skipped, Journal: e.Journal()}
	for name, v := range e.Named() {
		out.Numbers[name] = math.Round(1000*float64(v)) / 1000
	}
	return out
}

// MarshalJSON implements json.Marshaler.
func (e Event) MarshalJSON() ([]byte, error) { return json.Marshal(e.Shown()) }
