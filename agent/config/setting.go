package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Setting is one row of the table: everything there is to know about one
// setting except its current value.
type Setting struct {
	// Path is the dotted name, e.g. "nginx.http-port".
	Path string
	// Default is its value where nothing sets it, as text.
	Default string
	// Doc describes what it does, with unit, in one sentence.
	Doc string
	// Allowed describes the values that may be given.
	Allowed string
	// Words lists the allowed words where there are only a few; for completion.
	Words []string
	// List is true when the setting takes several values: a YAML list, or in one text with commas
	// between them. A part that is no value by itself belongs to the one before it, comma and
	// all: tag:Name=web,prod is one.
	List bool
	// Bool is true for settings that are true or false.
	Bool bool
	// FromTag is true where an instance tag may give it. Who can tag an instance may not be
	// trusted with it: a tag cannot name what is run, read or spoken to, weaken what protects
	// a site, send traffic elsewhere or allow costs. Addresses are an exception, which the IAM policy bounds.
	FromTag bool

	set func(c *Config, values []string) error
	get func(c Config) []string
	// split divides one text into the values of a list.
	split func(text string) []string
}

// Flag returns the name of the command-line flag, without dashes in front.
func (s Setting) Flag() string { return strings.ReplaceAll(s.Path, ".", "-") }

// Env returns the name of the environment variable.
func (s Setting) Env() string {
	return envPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(s.Path))
}

// Tag returns the key of the instance tag. It holds no slash and no space,
// because instance metadata cannot serve tags with such keys (EC2 User Guide,
// "Work with instance tags in instance metadata").
func (s Setting) Tag() string { return tagPrefix + s.Flag() }

// byTag is the row with leave for instance tags to give the setting.
func (s Setting) byTag() Setting {
	s.FromTag = true
	return s
}

const (
	envPrefix = "NAGAYA_"
	tagPrefix = "nagaya:"
)

// Get returns the value of the setting in c as text, a list's elements one by one.
func (s Setting) Get(c Config) []string { return s.get(c) }

// Set changes the setting in c. The error is what is wrong with the values.
func (s Setting) Set(c *Config, values []string) error {
	if !s.List && len(values) != 1 {
		return fmt.Errorf("takes one value, not %d", len(values))
	}
	for _, v := range values {
		if len(v) > maxValue {
			return fmt.Errorf("is longer than %d characters", maxValue)
		}
		if i := strings.IndexFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
			return fmt.Errorf("%q holds a control character", v)
		}
	}
	return s.set(c, values)
}

const maxValue = 4096

// Find returns the setting with that dotted path.
func Find(p string) (Setting, bool) {
	i := slices.IndexFunc(Settings, func(s Setting) bool { return s.Path == p })
	if i < 0 {
		return Setting{}, false
	}
	return Settings[i], true
}

// kind is how values of one type are read and written.
type kind[T any] struct {
	allowed string   // the values that may be given, in words
	words   []string // those values, where there are only a few
	parse   func(string) (T, error)
	format  func(T) string
}

// one is the row of a setting with one value.
func one[T any](path, initial string, at func(*Config) *T, k kind[T], doc string) Setting {
	return Setting{
		Path: path, Default: initial, Doc: doc, Allowed: k.allowed, Words: k.words,
		set: func(c *Config, values []string) error {
			v, err := k.parse(values[0])
			if err == nil {
				*at(c) = v
			}
			return err
		},
		get: func(c Config) []string { return []string{k.format(*at(&c))} },
	}
}

// list is the row of a setting with several values.
func list[T any](path, initial string, at func(*Config) *[]T, k kind[T], doc string) Setting {
	return Setting{
		Path: path, Default: initial, Doc: doc, Allowed: k.allowed, List: true,
		set: func(c *Config, values []string) error {
			var all []T
			for _, text := range values {
				v, err := k.parse(text)
				if err != nil {
					return err
				}
				all = append(all, v)
			}
			*at(c) = all
			return nil
		},
		get: func(c Config) []string {
			var all []string
			for _, v := range *at(&c) {
				all = append(all, k.format(v))
			}
			return all
		},
		split: func(text string) []string {
			is := func(v string) bool { _, err := k.parse(strings.TrimSpace(v)); return err == nil }
			all := []string{}
			for part := range strings.SplitSeq(text, ",") {
				last := len(all) - 1
				if last >= 0 && !is(part) && is(all[last]+","+part) {
					all[last] += "," + part
				} else if strings.TrimSpace(part) != "" {
					all = append(all, part)
				}
			}
			for i := range all {
				all[i] = strings.TrimSpace(all[i])
			}
			return all
		},
	}
}

// flag is the row of a setting that is true or false.
func flag(path, initial string, at func(*Config) *bool, doc string) Setting {
	s := one(path, initial, at, kind[bool]{
		allowed: "true or false", words: []string{"true", "false"},
		parse: reading(strconv.ParseBool, "is neither true nor false"), format: strconv.FormatBool,
	}, doc)
	s.Bool = true
	return s
}

// reading is parse with an error made of the text and the complaint.
func reading[T any](parse func(string) (T, error), complaint string) func(string) (T, error) {
	return func(text string) (T, error) {
		v, err := parse(text)
		if err != nil {
			err = fmt.Errorf("%q %s", text, complaint)
		}
		return v, err
	}
}

// orEmpty is a kind that an empty text is a value of too: the zero one.
func (k kind[T]) orEmpty(means string) kind[T] {
	parse, format := k.parse, k.format
	k.allowed += "; empty is " + means
	k.parse = func(text string) (v T, err error) {
		if text == "" {
			return v, nil
		}
		return parse(text)
	}
	k.format = func(v T) string {
		var none T
		if any(v) == any(none) {
			return ""
		}
		return format(v)
	}
	return k
}

// text is a text for which valid is true; the error of another one ends in complaint.
func text(allowed string, valid func(string) bool, complaint string) kind[string] {
	return canonical(allowed, func(v string) (string, bool) { return v, valid(v) }, complaint)
}

// canonical is a text that may be written in several forms, of which one is kept.
func canonical(allowed string, form func(string) (string, bool), complaint string) kind[string] {
	return kind[string]{allowed: allowed, format: asIs, parse: func(v string) (string, error) {
		one, ok := form(v)
		if !ok {
			return "", fmt.Errorf("%q %s", bounded(v), complaint)
		}
		return one, nil
	}}
}

// checkedText is a text for which check returns no error.
func checkedText(allowed string, check func(string) error) kind[string] {
	return kind[string]{
		allowed: allowed,
		parse:   func(v string) (string, error) { return v, check(v) },
		format:  asIs,
	}
}

func asIs(v string) string { return v }

// word is one of a few texts.
func word(words ...string) kind[string] {
	all := strings.Join(words, ", ")
	k := text("one of "+all, func(v string) bool { return slices.Contains(words, v) }, "is none of "+all)
	k.words = words
	return k
}

// absolute is the path of a file or directory.
var absolute = checkedText("an absolute path", func(v string) error {
	switch {
	case !path.IsAbs(v):
		return fmt.Errorf("%q is not an absolute path", v)
	case path.Clean(v) != v:
		return fmt.Errorf("%q is not a clean path; write %q", v, path.Clean(v))
	case strings.ContainsAny(v, "\"'\\;{}$ "):
		return fmt.Errorf("%q holds a character that nginx would read as syntax", v)
	}
	return nil
})

// within is a number or duration from lo to hi.
func within[T cmp.Ordered](lo, hi T, parse func(string) (T, error), format func(T) string) kind[T] {
	return kind[T]{
		allowed: format(lo) + " to " + format(hi), format: format,
		parse: func(text string) (T, error) {
			v, err := parse(text)
			if err == nil && !(v >= lo && v <= hi) { // refuses NaN too
				err = fmt.Errorf("%s is outside %s to %s", format(v), format(lo), format(hi))
			}
			return v, err
		},
	}
}

// whole is a whole number.
func whole(lo, hi int) kind[int] {
	return within(lo, hi, reading(strconv.Atoi, "is not a whole number"), strconv.Itoa)
}

var port = kind[uint16]{
	allowed: "1 to 65535", format: func(n uint16) string { return strconv.Itoa(int(n)) },
	parse: func(v string) (uint16, error) {
		n, err := whole(1, 65535).parse(v)
		return uint16(n), err
	},
}

func formatFloat(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func parseFloat(v string) (float64, error) { return strconv.ParseFloat(v, 64) }

// number is any number.
func number(lo, hi float64) kind[float64] {
	return within(lo, hi, reading(parseFloat, "is not a number"), formatFloat)
}

// credits are CPU credits: at most the largest balance of any type, t3.2xlarge.
var credits = amount("credits", 0, 4608)

// amount is a number of unit, or auto, which leaves it to the instance type.
func amount(unit string, lo, hi float64) kind[float64] {
	k := within(lo, hi, reading(parseFloat, "is neither auto nor a number"), formatFloat)
	parse := k.parse
	k.allowed = fmt.Sprintf("auto, or %s from %g to %g", unit, lo, hi)
	k.parse = func(text string) (float64, error) {
		if text == "auto" {
			return Auto, nil
		}
		return parse(text)
	}
	k.format = func(v float64) string {
		if v == Auto {
			return "auto"
		}
		return formatFloat(v)
	}
	return k
}

// duration is a time with its unit.
func duration(lo, hi time.Duration) kind[time.Duration] {
	k := within(lo, hi, reading(time.ParseDuration, "is not a duration with a unit, such as 90s or 5m"), short)
	k.allowed = fmt.Sprintf("a duration from %s to %s, e.g. 90s, 5m, 1h30m", short(lo), short(hi))
	return k
}

func parsePrefix(v string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(v); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	one, err := netip.ParsePrefix(v)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a range such as 10.0.0.0/8", v)
	}
	return one.Masked(), nil
}

// parseSome is parsePrefix without ranges so wide that a few of them are everybody. No network of anybody's is
// wider than /8, or /16 of IPv6 (RFC 1918, IANA's registries of address space).
func parseSome(v string) (netip.Prefix, error) {
	one, err := parsePrefix(v)
	if err == nil && (one.Bits() < 8 || one.Addr().Is6() && one.Bits() < 16) {
		return netip.Prefix{}, fmt.Errorf("%q is too wide", v)
	}
	return one, err
}

// size is a number of bytes.
var size = kind[int64]{allowed: "bytes, or a number with k, m or g; 0 is no limit", parse: ParseSize, format: FormatSize}

// sizeUnits are powers of 1024, the largest first.
var sizeUnits = []struct {
	shift int
	unit  string
}{{30, "g"}, {20, "m"}, {10, "k"}}

// ParseSize reads a number of bytes with an optional unit k, m or g (powers of
// 1024), as nginx writes sizes. MB and MiB are m too, in any case.
func ParseSize(v string) (int64, error) {
	digits, shift := strings.ToLower(v), 0
	for _, u := range sizeUnits {
		for _, unit := range []string{u.unit, u.unit + "b", u.unit + "ib"} {
			if before, ok := strings.CutSuffix(digits, unit); ok {
				digits, shift = strings.TrimSpace(before), u.shift
			}
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > (1<<50)>>shift {
		return 0, fmt.Errorf("%q is not a size such as 512k, 10m or 1g", v)
	}
	return n << shift, nil
}

// FormatSize writes what ParseSize reads, in the largest unit that is exact.
func FormatSize(n int64) string {
	for _, u := range sizeUnits {
		if n != 0 && n%(1<<u.shift) == 0 {
			return strconv.FormatInt(n>>u.shift, 10) + u.unit
		}
	}
	return strconv.FormatInt(n, 10)
}

// short writes a duration without the zero units that Duration.String adds.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
