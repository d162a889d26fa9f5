package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/yamlmap"
)

// MaxFile is the largest configuration file that is read, in bytes.
const MaxFile = 256 << 10

// Value is one setting as some source gives it, not yet checked.
type Value struct {
	Setting Setting
	Values  []string
	// Where names the place for people: "/etc/nagaya/nagaya.yaml:12",
	// "environment NAGAYA_LOG_LEVEL", "instance tag nagaya:log-level".
	Where string
}

// Error is one thing wrong with the configuration.
type Error struct {
	Where   string // file and line, or the name of the variable, tag or flag
	Field   string // the dotted path as written
	Reason  string // what is wrong with it
	Allowed string // what may stand there; empty when that is not the point
}

// Error writes all of it on one line.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Where != "" {
		b.WriteString(e.Where + ": ")
	}
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	b.WriteString(e.Reason)
	if e.Allowed != "" {
		b.WriteString(" (allowed: " + e.Allowed + ")")
	}
	return b.String()
}

// Subject is the setting's path, for the subject of a problem; empty where Field is none.
func (e *Error) Subject() string {
	s, _ := Find(e.Field)
	return s.Path
}

// ParseYAML reads the text of a configuration file. name is used in messages
// only. Everything wrong is reported at once, joined; the values that are
// well-formed are returned beside the error.
func ParseYAML(name string, text []byte) ([]Value, error) {
	if len(text) > MaxFile {
		return nil, &Error{Where: name, Reason: fmt.Sprintf("is larger than %d bytes", MaxFile)}
	}
	doc, err := yamlmap.Parse(text)
	if err != nil {
		return nil, &Error{Where: name, Reason: err.Error()}
	}
	p := yamlReader{name: name, seen: map[string]int{}}
	p.mapping(doc, "")
	return p.values, errors.Join(p.errs...)
}

type yamlReader struct {
	name   string
	values []Value
	errs   []error
	seen   map[string]int // dotted path → line
}

func (p *yamlReader) where(n ast.Node) string { return fmt.Sprintf("%s:%d", p.name, yamlmap.Line(n)) }

func (p *yamlReader) fail(n ast.Node, field, reason, allowed string) {
	p.errs = append(p.errs, &Error{Where: p.where(n), Field: field, Reason: reason, Allowed: allowed})
}

// mapping reads the keys below prefix.
func (p *yamlReader) mapping(n ast.Node, prefix string) {
	if yamlmap.IsNull(n) {
		return
	}
	pairs, ok := yamlmap.Pairs(n)
	if !ok {
		p.fail(n, prefix, "is not a mapping", fields(prefix))
	}
	for _, pair := range pairs {
		key, ok := yamlmap.Plain(pair.Key)
		if !ok {
			p.fail(pair, prefix, "has a key that is not a word", "")
			continue
		}
		if prefix != "" {
			key = prefix + "." + key
		}
		p.pair(pair, key)
	}
}

func (p *yamlReader) pair(pair *ast.MappingValueNode, path string) {
	if first, twice := p.seen[path]; twice {
		p.fail(pair.Key, path, fmt.Sprintf("is given twice, first on line %d", first), "")
		return
	}
	p.seen[path] = yamlmap.Line(pair.Key)
	setting, ok := Find(path)
	switch {
	case ok:
		values, err := scalars(pair.Value, setting.List)
		if err != nil {
			p.fail(pair.Key, path, err.Error(), setting.Allowed)
			return
		}
		if _, several := pair.Value.(*ast.SequenceNode); setting.List && !several && values != nil {
			values = setting.split(values[0])
		}
		if values != nil {
			p.values = append(p.values, Value{Setting: setting, Values: values, Where: p.where(pair.Key)})
		}
	case len(fieldsBelow(path)) > 0:
		p.mapping(pair.Value, path)
	default:
		cut := strings.LastIndexByte(path, '.') + 1
		like := path[:cut] + pattern.Nearest(path[cut:], fieldsBelow(path[:max(cut-1, 0)]))
		p.fail(pair.Key, bounded(path), "is not a field; the nearest is "+like+", and 'nagaya config --default' shows all", "")
	}
}

func bounded(s string) string { return problem.Printable(s, 80) }

// fields lists what is allowed under prefix.
func fields(prefix string) string { return "fields: " + strings.Join(fieldsBelow(prefix), ", ") }

// fieldsBelow lists the next path elements under prefix, in table order.
func fieldsBelow(prefix string) []string {
	var names []string
	for _, s := range Settings {
		rest, below := s.Path, true
		if prefix != "" {
			rest, below = strings.CutPrefix(s.Path, prefix+".")
		}
		name, _, _ := strings.Cut(rest, ".")
		if below && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// scalars returns the value or values under a key; nil for a key with nothing
// behind it, which leaves the default.
func scalars(n ast.Node, list bool) ([]string, error) {
	if yamlmap.IsNull(n) {
		return nil, nil
	}
	if _, several := n.(*ast.SequenceNode); several && !list {
		return nil, errors.New("is a list where one value is wanted")
	}
	all, ok := yamlmap.Words(n)
	if !ok {
		return nil, errors.New("is not a plain value")
	}
	return all, nil
}

// FromEnv picks the settings out of an environment in the form of os.Environ. A
// variable that begins with NAGAYA_ and names no setting is an error, except
// those in spare.
func FromEnv(environ []string, spare ...string) ([]Value, error) {
	variables := map[string]string{}
	for _, kv := range environ {
		if name, text, _ := strings.Cut(kv, "="); !slices.Contains(spare, name) {
			variables[name] = text
		}
	}
	return named(variables, "environment", envPrefix, Setting.Env)
}

// FromTags picks the settings out of instance tags. A tag that begins with
// "nagaya:" and names no setting, or one that no tag may give, is an error.
func FromTags(tags map[string]string) ([]Value, error) {
	values, err := named(tags, "instance tag", tagPrefix, Setting.Tag)
	allowed := slices.DeleteFunc(values, func(v Value) bool {
		if !v.Setting.FromTag {
			err = errors.Join(err, &Error{Where: v.Where, Field: v.Setting.Path, Reason: "may not be set by an instance tag; use the configuration file"})
		}
		return !v.Setting.FromTag
	})
	return allowed, err
}

// named picks out the texts whose names begin with prefix, in the order of the names.
func named(texts map[string]string, source, prefix string, name func(Setting) string) (values []Value, err error) {
	for _, key := range slices.Sorted(maps.Keys(texts)) {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		i := slices.IndexFunc(Settings, func(s Setting) bool { return name(s) == key })
		if i < 0 {
			err = errors.Join(err, &Error{Where: source, Field: bounded(key), Reason: "is not a setting; see 'nagaya config --default'"})
			continue
		}
		values = append(values, fromText(Settings[i], texts[key], source+" "+key))
	}
	return values, err
}

// FromFlag makes a value of a command-line flag's text.
func FromFlag(s Setting, text string) Value { return fromText(s, text, "flag --"+s.Flag()) }

func fromText(s Setting, text, where string) Value {
	values := []string{text}
	if s.List {
		values = s.split(text)
	}
	return Value{Setting: s, Values: values, Where: where}
}
