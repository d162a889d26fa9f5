package config

import (
	"errors"
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
	// Doc says what it does, with unit, in one sentence.
	Doc string
	// Allowed says which values may be given, for people.
	Allowed string
	// Words lists the allowed words where there are only a few; for completion.
	Words []string
	// List is true when the setting takes several values: a YAML list, or a
	// comma-separated text elsewhere.
	List bool
	// Bool is true for settings that are true or false.
	Bool bool

	set func(c *Config, values []string) error
	get func(c Config) []string
}

// Flag returns the name of the command-line flag, without dashes in front.
func (s Setting) Flag() string { return strings.ReplaceAll(s.Path, ".", "-") }

// Env returns the name of the environment variable.
func (s Setting) Env() string {
	return "NAGAYA_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(s.Path))
}

// Tag returns the key of the instance tag. It holds no slash and no space,
// because instance metadata cannot serve tags with such keys (EC2 User Guide,
// "Work with instance tags in instance metadata").
func (s Setting) Tag() string { return tagPrefix + s.Flag() }

const tagPrefix = "nagaya:"

// Get returns the value of the setting in c as text, a list's elements one by one.
func (s Setting) Get(c Config) []string { return s.get(c) }

// Set changes the setting in c, or says what is wrong with the values.
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

// The constructors below make one row each, by the kind of the value.

func textSetting(p string, at func(*Config) *string, allowed, doc string, ok func(string) error) Setting {
	return Setting{
		Path: p, Doc: doc, Allowed: allowed,
		set: func(c *Config, v []string) error {
			if err := ok(v[0]); err != nil {
				return err
			}
			*at(c) = v[0]
			return nil
		},
		get: func(c Config) []string { return []string{*at(&c)} },
	}
}

func wordSetting(p string, at func(*Config) *string, words []string, doc string) Setting {
	s := textSetting(p, at, "one of "+strings.Join(words, ", "), doc, func(v string) error {
		if !slices.Contains(words, v) {
			return fmt.Errorf("%q is none of %s", v, strings.Join(words, ", "))
		}
		return nil
	})
	s.Words = words
	return s
}

func pathSetting(p string, at func(*Config) *string, doc string) Setting {
	return textSetting(p, at, "an absolute path", doc, func(v string) error {
		if !path.IsAbs(v) {
			return fmt.Errorf("%q is not an absolute path", v)
		}
		if path.Clean(v) != v {
			return fmt.Errorf("%q is not a clean path; write %q", v, path.Clean(v))
		}
		if strings.ContainsAny(v, "\"'\\;{}$ ") {
			return fmt.Errorf("%q holds a character that nginx would read as syntax", v)
		}
		return nil
	})
}

// optionalPathSetting is a path that may be left empty.
func optionalPathSetting(p string, at func(*Config) *string, doc string) Setting {
	s := pathSetting(p, at, doc)
	whole := s.set
	s.Allowed = "an absolute path; empty is none"
	s.set = func(c *Config, v []string) error {
		if v[0] == "" {
			*at(c) = ""
			return nil
		}
		return whole(c, v)
	}
	return s
}

func boolSetting(p string, at func(*Config) *bool, doc string) Setting {
	return Setting{
		Path: p, Doc: doc, Allowed: "true or false", Words: []string{"true", "false"}, Bool: true,
		set: func(c *Config, v []string) error {
			b, err := strconv.ParseBool(v[0])
			if err != nil {
				return fmt.Errorf("%q is neither true nor false", v[0])
			}
			*at(c) = b
			return nil
		},
		get: func(c Config) []string { return []string{strconv.FormatBool(*at(&c))} },
	}
}

func intSetting(p string, at func(*Config) *int, lo, hi int, doc string) Setting {
	return Setting{
		Path: p, Doc: doc, Allowed: fmt.Sprintf("%d to %d", lo, hi),
		set: func(c *Config, v []string) error {
			n, err := strconv.Atoi(v[0])
			if err != nil {
				return fmt.Errorf("%q is not a whole number", v[0])
			}
			if n < lo || n > hi {
				return fmt.Errorf("%d is outside %d to %d", n, lo, hi)
			}
			*at(c) = n
			return nil
		},
		get: func(c Config) []string { return []string{strconv.Itoa(*at(&c))} },
	}
}

func floatSetting(p string, at func(*Config) *float64, lo, hi float64, doc string) Setting {
	return Setting{
		Path: p, Doc: doc, Allowed: fmt.Sprintf("%g to %g", lo, hi),
		set: func(c *Config, v []string) error {
			n, err := strconv.ParseFloat(v[0], 64)
			if err != nil {
				return fmt.Errorf("%q is not a number", v[0])
			}
			if !(n >= lo && n <= hi) { // refuses NaN too
				return fmt.Errorf("%g is outside %g to %g", n, lo, hi)
			}
			*at(c) = n
			return nil
		},
		get: func(c Config) []string { return []string{strconv.FormatFloat(*at(&c), 'g', -1, 64)} },
	}
}

func creditsSetting(p string, at func(*Config) *float64, doc string) Setting {
	return autoSetting(p, at, "credits", 0, 4608, doc) // the largest balance of any type, t3.2xlarge
}

// autoSetting is an amount of what that may be left to the instance type.
func autoSetting(p string, at func(*Config) *float64, what string, least, most float64, doc string) Setting {
	return Setting{
		Path: p, Doc: doc, Allowed: fmt.Sprintf("auto, or %s from %g to %g", what, least, most),
		set: func(c *Config, v []string) error {
			if v[0] == "auto" {
				*at(c) = Auto
				return nil
			}
			n, err := strconv.ParseFloat(v[0], 64)
			if err != nil {
				return fmt.Errorf("%q is neither auto nor a number", v[0])
			}
			if !(n >= least && n <= most) { // refuses NaN too
				return fmt.Errorf("%g is outside %g to %g", n, least, most)
			}
			*at(c) = n
			return nil
		},
		get: func(c Config) []string {
			if *at(&c) == Auto {
				return []string{"auto"}
			}
			return []string{strconv.FormatFloat(*at(&c), 'g', -1, 64)}
		},
	}
}

func durationSetting(p string, at func(*Config) *time.Duration, lo, hi time.Duration, doc string) Setting {
	return Setting{
		Path: p, Doc: doc, Allowed: fmt.Sprintf("a duration from %s to %s, e.g. 90s, 5m, 1h30m", short(lo), short(hi)),
		set: func(c *Config, v []string) error {
			d, err := time.ParseDuration(v[0])
			if err != nil {
				return fmt.Errorf("%q is not a duration with a unit, such as 90s or 5m", v[0])
			}
			if d < lo || d > hi {
				return fmt.Errorf("%s is outside %s to %s", short(d), short(lo), short(hi))
			}
			*at(c) = d
			return nil
		},
		get: func(c Config) []string { return []string{short(*at(&c))} },
	}
}

func sizeSetting(p string, at func(*Config) *int64, doc string) Setting {
	return Setting{
		Path: p, Doc: doc, Allowed: "bytes, or a number with k, m or g; 0 is no limit",
		set: func(c *Config, v []string) error {
			n, err := ParseSize(v[0])
			if err != nil {
				return err
			}
			*at(c) = n
			return nil
		},
		get: func(c Config) []string { return []string{FormatSize(*at(&c))} },
	}
}

func listSetting(p string, at func(*Config) *[]string, allowed, doc string, ok func(string) error) Setting {
	return Setting{
		Path: p, Doc: doc, Allowed: allowed, List: true,
		set: func(c *Config, values []string) error {
			for _, v := range values {
				if err := ok(v); err != nil {
					return err
				}
			}
			*at(c) = slices.Clone(values)
			return nil
		},
		get: func(c Config) []string { return *at(&c) },
	}
}

func portsSetting(p string, at func(*Config) *[]uint16, doc string) Setting {
	return Setting{
		Path: p, Doc: doc, Allowed: "ports from 1 to 65535", List: true,
		set: func(c *Config, values []string) error {
			var all []uint16
			for _, v := range values {
				n, err := strconv.ParseUint(v, 10, 16)
				if err != nil || n == 0 {
					return fmt.Errorf("%q is not a port from 1 to 65535", v)
				}
				all = append(all, uint16(n))
			}
			*at(c) = all
			return nil
		},
		get: func(c Config) []string {
			var all []string
			for _, one := range *at(&c) {
				all = append(all, strconv.Itoa(int(one)))
			}
			return all
		},
	}
}

func prefixesSetting(p string, at func(*Config) *[]netip.Prefix, doc string) Setting {
	return Setting{
		Path: p, Doc: doc, Allowed: "addresses or CIDR ranges", List: true,
		set: func(c *Config, values []string) error {
			var all []netip.Prefix
			for _, v := range values {
				one, err := parsePrefix(v)
				if err != nil {
					return err
				}
				all = append(all, one)
			}
			*at(c) = all
			return nil
		},
		get: func(c Config) []string {
			var all []string
			for _, one := range *at(&c) {
				all = append(all, one.String())
			}
			return all
		},
	}
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

// ParseSize reads a number of bytes with an optional unit k, m or g (powers of
// 1024), as nginx writes sizes.
func ParseSize(v string) (int64, error) {
	digits, shift := v, 0
	if v != "" {
		switch v[len(v)-1] {
		case 'k', 'K':
			shift = 10
		case 'm', 'M':
			shift = 20
		case 'g', 'G':
			shift = 30
		}
		if shift > 0 {
			digits = v[:len(v)-1]
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
	for _, u := range []struct {
		shift int
		unit  string
	}{{30, "g"}, {20, "m"}, {10, "k"}} {
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

var errEmpty = errors.New("is empty")
