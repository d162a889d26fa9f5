package systemd

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Event is the key of the attribute that names the kind of an event. In the journal
// it is the field NAGAYA_EVENT=, and MESSAGE_ID= by JournalOptions.ID; it is not
// shown in any text.
const Event = "event"

// JournalOptions are how log lines become journal entries.
type JournalOptions struct {
	// Path is journald's socket; empty means /run/systemd/journal/socket.
	Path string
	// Identifier is SYSLOG_IDENTIFIER=; empty means nagaya.
	Identifier string
	// Level is the least level that is sent; nil means slog.LevelInfo.
	Level slog.Leveler
	// ID returns the MESSAGE_ID= of a kind of event, 32 lower-case hexadecimal
	// digits by which `journalctl -x` finds the catalog entry; empty for none. nil is
	// MessageID.
	ID func(event string) string
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
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var more []field
	for _, one := range f.all {
		if !slices.ContainsFunc(own, func(o field) bool { return o.key == one.key }) {
			more = append(more, one)
		}
	}
	return more
}

type journal struct {
	conn  *journalConn
	o     JournalOptions
	attrs attrs
}

// NewJournal returns a handler that writes native journal entries: MESSAGE= is
// the line as a person reads it, each attribute is a field of its own
// (task_arn becomes NAGAYA_TASK_ARN=), PRIORITY= is the level as in syslog(3).
// Values longer than 64 KiB are cut. The error is a missing socket.
func NewJournal(o JournalOptions) (slog.Handler, error) {
	conn, err := openJournal(o.Path)
	if err != nil {
		return nil, err
	}
	o.Identifier = cmp.Or(o.Identifier, "nagaya")
	if o.Level == nil {
		o.Level = slog.LevelInfo
	}
	if o.ID == nil {
		o.ID = MessageID
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
	appendField(&b, "SYSLOG_IDENTIFIER", j.o.Identifier)
	for _, f := range append(fields, j.o.Fields.without(fields)...) {
		appendField(&b, fieldName(f.key), f.value)
		if also := j.o.Also[f.key]; also != "" && f.value != "" {
			appendField(&b, also, f.value)
		}
		if id := j.o.ID(f.value); f.key == Event && id != "" {
			appendField(&b, "MESSAGE_ID", id)
		}
	}
	return j.conn.send(b.Bytes())
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
	inJournal := isJournalStream(stderr, os.Getenv("JOURNAL_STREAM"))
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

// isJournalStream compares the device and inode that systemd wrote into
// JOURNAL_STREAM with those of w: the variable is inherited by processes whose
// output goes elsewhere.
func isJournalStream(w io.Writer, stream string) bool {
	file, ok := w.(interface{ Stat() (fs.FileInfo, error) })
	if !ok || stream == "" {
		return false
	}
	info, err := file.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}
