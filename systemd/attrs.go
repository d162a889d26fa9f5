package systemd

import (
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// field is one attribute of a log line after groups are flattened and values
// are written out.
type field struct{ key, value string }

// appendAttr flattens a into fs: a group's members get its name and a _ before theirs.
func appendAttr(fs []field, prefix string, a slog.Attr) []field {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "_"
		}
		for _, member := range v.Group() {
			fs = appendAttr(fs, prefix, member)
		}
		return fs
	}
	if a.Equal(slog.Attr{}) {
		return fs // slog: "a handler should ignore an empty Attr"
	}
	return append(fs, field{prefix + a.Key, Text(v)})
}

// Text is a value as a person reads it. A time or an address that is not known is empty.
func Text(v slog.Value) string {
	switch x := v.Any().(type) {
	case time.Time:
		if x.IsZero() {
			return ""
		}
		return x.Format(time.RFC3339)
	case interface{ IsValid() bool }: // of net/netip
		if !x.IsValid() {
			return ""
		}
	}
	return v.String()
}

// line writes msg and the fields as a person reads them: message key=value …
func line(msg string, fs []field) string {
	var b strings.Builder
	b.WriteString(msg)
	for _, f := range fs {
		b.WriteByte(' ')
		b.WriteString(f.key)
		b.WriteByte('=')
		if needsQuotes(f.value) {
			b.WriteString(strconv.Quote(f.value))
		} else {
			b.WriteString(f.value)
		}
	}
	return b.String()
}

func needsQuotes(s string) bool {
	return s == "" || strings.ContainsFunc(s, func(r rune) bool {
		return r == ' ' || r == '"' || r == '=' || !unicode.IsPrint(r)
	})
}

// attrs is the part that the handlers of this package share: what With and
// WithGroup of a logger have collected so far.
type attrs struct {
	prefix string // names of the open groups, each followed by _
	fields []field
}

func (as attrs) with(more []slog.Attr) attrs {
	fs := as.fields[:len(as.fields):len(as.fields)]
	for _, a := range more {
		fs = appendAttr(fs, as.prefix, a)
	}
	as.fields = fs
	return as
}

func (as attrs) group(name string) attrs {
	if name != "" {
		as.prefix += name + "_"
	}
	return as
}

// record returns the collected fields followed by those of r.
func (as attrs) record(r slog.Record) []field {
	fs := make([]field, len(as.fields), len(as.fields)+r.NumAttrs())
	copy(fs, as.fields)
	r.Attrs(func(a slog.Attr) bool {
		fs = appendAttr(fs, as.prefix, a)
		return true
	})
	return fs
}
