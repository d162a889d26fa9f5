package systemd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// MessageID is the key of the attribute that names the kind of an event: 32 lower-case
// hexadecimal digits, which become the journal's MESSAGE_ID= field, by which
// `journalctl -x` finds the catalog entry. It is not shown in any text.
const MessageID = "message_id"

// JournalOptions says how log lines become journal entries.
type JournalOptions struct {
	// Path is journald's socket; empty means /run/systemd/journal/socket.
	Path string
	// Identifier is SYSLOG_IDENTIFIER=; empty means nagaya.
	Identifier string
	// Level is the least level that is sent; nil means slog.LevelInfo.
	Level slog.Leveler
}

type journal struct {
	conn       *journalConn
	identifier string
	level      slog.Leveler
	attrs      attrs
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
	j := &journal{conn: conn, identifier: o.Identifier, level: o.Level}
	if j.identifier == "" {
		j.identifier = "nagaya"
	}
	if j.level == nil {
		j.level = slog.LevelInfo
	}
	return j, nil
}

// Enabled implements slog.Handler.
func (j *journal) Enabled(_ context.Context, l slog.Level) bool { return l >= j.level.Level() }

// Handle implements slog.Handler. The time of the record is left out: journald
// stamps the entry when it arrives.
func (j *journal) Handle(_ context.Context, r slog.Record) error {
	fields := j.attrs.record(r)
	var b bytes.Buffer
	fields = slices.DeleteFunc(fields, func(f field) bool {
		if f.key != MessageID {
			return false
		}
		if isMessageID(f.value) {
			appendField(&b, "MESSAGE_ID", f.value)
		}
		return true
	})
	appendField(&b, "MESSAGE", line(r.Message, fields))
	appendField(&b, "PRIORITY", strconv.Itoa(priority(r.Level)))
	appendField(&b, "SYSLOG_IDENTIFIER", j.identifier)
	for _, f := range fields {
		appendField(&b, fieldName(f.key), f.value)
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

func isMessageID(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == ""
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
func NewHandler(stderr io.Writer, level slog.Leveler) slog.Handler {
	inJournal := isJournalStream(stderr, os.Getenv("JOURNAL_STREAM"))
	if inJournal {
		if j, err := NewJournal(JournalOptions{Level: level}); err == nil {
			return j
		}
	}
	return newText(stderr, level, !inJournal)
}

// newText is slog's text form with whole seconds, or no time at all.
func newText(w io.Writer, level slog.Leveler, withTime bool) slog.Handler {
	return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		switch {
		case len(groups) > 0:
		case a.Key == MessageID:
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
