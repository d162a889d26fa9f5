package systemd

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	journald "github.com/coreos/go-systemd/v22/journal"
)

// Event is the key of the attribute that names the kind of an event. In the journal
// it is the field NAGAYA_EVENT=, and MESSAGE_ID= where the catalog explains it; it is not
// shown in any text.
const Event = "event"

// JournalOptions are how log lines become journal entries.
type JournalOptions struct {
	// Path is journald's socket; empty means /run/systemd/journal/socket.
	Path string
	// Level is the least level that is sent; nil means slog.LevelInfo.
	Level slog.Leveler
	// Also names a second field for a key, without the project's prefix: one that
	// others write too, such as CONTAINER_NAME for container_name.
	Also map[string]string
	// Fields are added to every entry that has no field of its own for their keys.
	// They are not part of the text. May be nil.
	Fields *Fields
}

// Fields are what every journal entry carries besides its own: who wrote it, and in
// which state. The zero value is empty; a nil one ignores Set.
type Fields struct {
	mu  sync.Mutex
	all []field
}

// Set gives a field its value; an empty value takes the field away.
func (f *Fields) Set(key, value string) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = slices.DeleteFunc(f.all, func(one field) bool { return one.key == key })
	if value != "" {
		f.all = append(f.all, field{key, value})
	}
}

// without returns those that are not in own.
func (f *Fields) without(own []field) []field {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.all), func(one field) bool {
		return slices.ContainsFunc(own, func(o field) bool { return o.key == one.key })
	})
}

type journal struct {
	// conn is an unconnected datagram socket: it outlives a journald that goes away and comes
	// back under the same path.
	conn  *net.UnixConn
	o     JournalOptions
	attrs attrs
}

// NewJournal returns a handler that writes native journal entries: MESSAGE= is
// the line as a person reads it, each attribute is a field of its own
// (task_arn becomes NAGAYA_TASK_ARN=), PRIORITY= is the level as in syslog(3).
// Values longer than 64 KiB are cut. The error is a missing socket.
func NewJournal(o JournalOptions) (slog.Handler, error) {
	o.Path, o.Fields = cmp.Or(o.Path, journalSocket), cmp.Or(o.Fields, new(Fields))
	if o.Level == nil {
		o.Level = slog.LevelInfo
	}
	if _, err := os.Stat(o.Path); err != nil {
		return nil, fmt.Errorf("looking for the journal: %w", err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("opening a socket to the journal: %w", err)
	}
	return &journal{conn: conn, o: o}, nil
}

// Enabled implements slog.Handler.
func (j *journal) Enabled(_ context.Context, l slog.Level) bool { return l >= j.o.Level.Level() }

// Handle implements slog.Handler. The time of the record is left out: journald
// stamps the entry when it arrives.
func (j *journal) Handle(_ context.Context, r slog.Record) error {
	fields := j.attrs.record(r)
	shown := slices.DeleteFunc(slices.Clone(fields), func(f field) bool { return f.key == Event })
	var b bytes.Buffer
	appendField(&b, "MESSAGE", line(r.Message, shown))
	appendField(&b, "PRIORITY", strconv.Itoa(priority(r.Level)))
	appendField(&b, "SYSLOG_IDENTIFIER", "nagaya")
	for _, f := range append(fields, j.o.Fields.without(fields)...) {
		appendField(&b, fieldName(f.key), f.value)
		if also := j.o.Also[f.key]; also != "" && f.value != "" {
			appendField(&b, also, f.value)
		}
		if id := MessageID(f.value); f.key == Event && id != "" {
			appendField(&b, "MESSAGE_ID", id)
		}
	}
	return j.send(b.Bytes())
}

// WithAttrs implements slog.Handler.
func (j *journal) WithAttrs(more []slog.Attr) slog.Handler {
	c := *j
	c.attrs = j.attrs.with(more)
	return &c
}

// WithGroup implements slog.Handler.
func (j *journal) WithGroup(name string) slog.Handler {
	c := *j
	c.attrs = j.attrs.group(name)
	return &c
}

// priority is the number of syslog(3) for a level.
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3 // err
	case l >= slog.LevelWarn:
		return 4 // warning
	case l >= slog.LevelInfo:
		return 6 // info
	default:
		return 7 // debug
	}
}

// NewHandler returns the handler that fits where stderr goes: the journal
// natively, with fields, where systemd connected stderr to it (JOURNAL_STREAM,
// systemd.exec(5)); else text lines on stderr. Text that the journal collects
// carries no time, because the journal adds its own.
func NewHandler(stderr io.Writer, o JournalOptions) slog.Handler {
	inJournal, _ := journald.StderrIsJournalStream() // what cannot be read is another's
	if inJournal {
		if j, err := NewJournal(o); err == nil {
			return j
		}
	}
	return newText(stderr, o.Level, !inJournal)
}

// newText is slog's text form with whole seconds, or no time at all.
func newText(w io.Writer, level slog.Leveler, withTime bool) slog.Handler {
	return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		switch {
		case len(groups) > 0:
		case a.Key == Event:
			return slog.Attr{}
		case a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime:
			if !withTime {
				return slog.Attr{}
			}
			a.Value = slog.StringValue(a.Value.Time().Format(time.RFC3339))
		}
		return a
	}})
}
