package static

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// Bounds of one file.
const (
	maxFile    = 256 << 10 // bytes
	maxEntries = 500
	maxTo      = 32
)

var (
	nameForm = pattern.Of(128, `[A-Za-z0-9][A-Za-z0-9_.-]*`)
	wordForm = pattern.Of(64, `[a-z][a-z0-9.-]*`)
)

// parse reads the text of one file. Everything wrong is in the error, each with
// its line; no container is returned then.
func parse(file string, text []byte) ([]tasks.Container, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("it is larger than %d bytes", maxFile)
	}
	doc, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, errors.New("it is not YAML: " + firstLine(err.Error()))
	}
	r := &reader{file: file}
	for i, d := range doc.Docs {
		switch {
		case d.Body == nil || d.Body.Type() == ast.NullType || d.Body.Type() == ast.CommentType:
		case i > 0:
			r.fail(d.Body, "a second document; write one")
		default:
			r.each(d.Body, r.entry)
		}
	}
	if len(r.errs) > 0 {
		return nil, errors.Join(r.errs...)
	}
	return r.list, nil
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

type reader struct {
	file string
	list []tasks.Container
	errs []error
}

const maxErrors = 8

func (r *reader) fail(n ast.Node, format string, args ...any) {
	if len(r.errs) < maxErrors {
		r.errs = append(r.errs, fmt.Errorf("line %d: %s", n.GetToken().Position.Line, fmt.Sprintf(format, args...)))
	}
}

// each calls do for every pair of a mapping.
func (r *reader) each(n ast.Node, do func(key string, value ast.Node)) {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		r.fail(n, "not a mapping; write NAME: and below it to: and host:")
		return
	}
	if len(pairs) > maxEntries {
		r.fail(n, "more than %d keys", maxEntries)
		return
	}
	seen := map[string]bool{}
	for _, p := range pairs {
		key, ok := p.Key.(ast.ScalarNode)
		switch {
		case !ok:
			r.fail(p, "a key that is not plain text")
		case seen[key.GetToken().Value]:
			r.fail(p, "%.64q is there twice", key.GetToken().Value)
		default:
			seen[key.GetToken().Value] = true
			do(key.GetToken().Value, p.Value)
		}
	}
}

// entry reads one name and what is below it.
func (r *reader) entry(name string, value ast.Node) {
	if !nameForm.MatchString(name) {
		r.fail(value, "the name %.64q has other characters than letters, digits and . _ -", name)
		return
	}
	words := map[string]string{}
	var to []netip.AddrPort
	r.each(value, func(word string, v ast.Node) {
		if word == "to" {
			to = r.addresses(v)
			return
		}
		text, ok := plain(v)
		switch {
		case !wordForm.MatchString(word) || word == "port" || word == "batch":
			r.fail(v, "%.64q has no meaning here; besides to, the words are those of the labels nagaya.* without that prefix", word)
		case !ok:
			r.fail(v, "%s has neither a plain value nor a list of such", word)
		default:
			words[tasks.LabelPrefix+word] = text
		}
	})
	if len(to) == 0 && len(r.errs) == 0 {
		r.fail(value, "%s has no to: write where it is, e.g. to: 10.0.0.5:8080", name)
	}
	for _, at := range to {
		r.list = append(r.list, container(r.file, name, at, words))
	}
}

// container makes what the rest of the program takes for one.
func container(file, name string, at netip.AddrPort, words map[string]string) tasks.Container {
	labels := map[string]string{tasks.LabelPrefix + "port": strconv.Itoa(int(at.Port()))}
	for k, v := range words {
		labels[k] = v
	}
	sum := sha256.Sum256([]byte(file + "\x00" + name + "\x00" + at.String()))
	kept, _, _ := tasks.Keep(labels, nil, func(string) bool { return false })
	return tasks.Container{
		ID: "static-" + hex.EncodeToString(sum[:16]), Name: name, Origin: tasks.File, File: file, Labels: kept, State: tasks.Running,
		Network: tasks.Direct, Addrs: []netip.Addr{at.Addr()},
	}
}

// addresses reads one or several addresses with ports. Names are not taken: nginx
// would look them up once, at its start, and not start where that fails.
func (r *reader) addresses(n ast.Node) []netip.AddrPort {
	text, ok := plain(n)
	if !ok {
		r.fail(n, "to has neither a plain value nor a list of such")
		return nil
	}
	var all []netip.AddrPort
	for _, word := range strings.Split(text, ",") {
		at, err := netip.ParseAddrPort(strings.TrimSpace(word))
		if err != nil || at.Port() == 0 || at.Addr().Zone() != "" || at.Addr().IsUnspecified() {
			r.fail(n, "%.64q is not an address with a port, such as 10.0.0.5:8080 or [fd00::5]:8080", word)
			return nil
		}
		all = append(all, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
	}
	if len(all) > maxTo {
		r.fail(n, "more than %d addresses", maxTo)
		return nil
	}
	return all
}

// plain returns a plain value, or the plain values of a list with commas between.
func plain(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.SequenceNode:
		var words []string
		for _, v := range n.Values {
			s, ok := v.(ast.ScalarNode)
			if !ok {
				return "", false
			}
			words = append(words, s.GetToken().Value)
		}
		return strings.Join(words, ","), true
	case ast.ScalarNode:
		return n.GetToken().Value, n.Type() != ast.NullType
	}
	return "", false
}
