package nginx

import (
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// level is what the operator's files say at one level of the configuration.
type level struct {
	lines []Directive
	said  map[string]bool // keys of lines
}

func levelOf(files ...Snippet) level {
	l := level{said: map[string]bool{}}
	for _, sn := range files {
		if sn.Out {
			continue
		}
		l.lines = append(l.lines, sn.Says...)
		for _, d := range sn.Says {
			for _, k := range keysOf(d.Name, d.Args) {
				l.said[k] = true
			}
		}
	}
	return l
}

// keysOf are what a directive is about: two with a common key are two values for one thing.
func keysOf(name string, args []string) (keys []string) {
	switch {
	case len(args) == 0:
	case name == "error_page":
		for _, code := range args[:len(args)-1] {
			keys = append(keys, name+" "+code)
		}
		return keys
	case strings.HasSuffix(name, "_buffer_size") || strings.HasSuffix(name, "_buffers") || strings.HasSuffix(name, "_busy_buffers_size"):
		module, _, _ := strings.Cut(name, "_") // nginx refuses sizes that do not fit each other
		return []string{module + "_buffers"}
	case name == "log_format", inheritedWhole(name):
		return []string{name + " " + strings.ToLower(args[0])}
	}
	return []string{name}
}

// inheritedWhole reports whether a level that has one of these directives inherits none of
// those around it.
func inheritedWhole(name string) bool {
	return name == "add_header" || name == "error_page" || strings.HasSuffix(name, "_set_header") || strings.HasSuffix(name, "_param")
}

// levels are those around what is being written, and its own last: the http section, a server
// and a location, or the stream section alone.
type levels []level

// say reports whether the operator's files say something here that ours would be a second value
// of. What they say for a server holds in its locations too; for the http section it does
// not: a site that asks for another value by a label gets it.
func (ls levels) say(name string, args ...string) bool {
	if len(ls) > 1 {
		ls = ls[1:]
	}
	keys := keysOf(name, args)
	return slices.ContainsFunc(ls, func(l level) bool {
		return slices.ContainsFunc(keys, func(k string) bool { return l.said[k] })
	})
}

// inForce are the operator's lines of a directive that is inherited as a whole; here is true
// where they are of this level itself.
func (ls levels) inForce(name string) (lines []Directive, here bool) {
	for i, l := range slices.Backward(ls) {
		for _, d := range l.lines {
			if d.Name == name {
				lines = append(lines, d)
			}
		}
		if len(lines) > 0 {
			return lines, i == len(ls)-1
		}
	}
	return nil, false
}

// preset writes a directive that the operator's files may say otherwise. All that keeps
// something closed is written by set: beside a second value of it nginx holds both, or refuses
// the operator's file.
func (t *text) preset(name string, args ...string) {
	if !t.levels.say(name, args...) {
		t.set(name, args...)
	}
}

// list writes lines of a directive that is inherited as a whole, without those that the
// operator's files say otherwise, and with those of the operator's that would not be inherited
// any more.
func (t *text) list(name string, lists ...[][]string) {
	theirs, _ := t.levels.inForce(name)
	said := levelOf(Snippet{Says: theirs}).said
	ours := slices.Concat(lists...)
	for _, args := range ours {
		if !said[keysOf(name, args)[0]] {
			t.set(name, args...)
		}
	}
	if len(ours) > 0 {
		t.carry(name)
	}
}

// carry writes the operator's lines of an outer level, where this one has others of nagaya's.
func (t *text) carry(name string) {
	theirs, here := t.levels.inForce(name)
	for _, d := range theirs {
		if !here {
			t.set(name, d.Args...)
		}
	}
}

// at writes what is at a level with these files of the operator's.
func (t *text) at(l level, write func()) {
	outer := t.levels
	t.levels = append(slices.Clone(outer), l)
	write()
	t.levels = outer
}

// asked writes a directive whose value a label has asked for, if it names that word, or that
// is a default: then a file of the operator's for all sites says it otherwise.
func (t *text) asked(l route.Location, word, name, value string) {
	if slices.Contains(l.Asked, word) || !t.levels[:1].say(name) {
		t.preset(name, value)
	}
}

// buffering writes whether a container's answers, or the bodies of requests, are stored: nothing
// where that is nginx's default.
func (t *text) buffering(name string, l route.Location, off bool) {
	switch {
	case off:
		t.preset(name, "off")
	case slices.Contains(l.Asked, route.AskedBuffering) && t.levels[:1].say(name):
		t.preset(name, "on")
	}
}
