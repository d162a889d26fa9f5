package static

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/agent/yamlmap"
)

// Bounds of one file.
const (
	maxFile = 256 << 10 // bytes
	maxTo   = 32
)

var (
	nameForm = pattern.Of(128, `[A-Za-z0-9][A-Za-z0-9_.-]*`)
	wordForm = pattern.Of(64, `[a-z][a-z0-9.-]*`)
)

// parse reads the text of one file. Everything wrong is in the error, each with
// its line; no container is returned then.
func parse(file string, text []byte) (list []tasks.Container, err error) {
	doc, err := yamlmap.Parse(text)
	switch {
	case err != nil:
		first, _, _ := strings.Cut(err.Error(), "\n")
		return nil, errors.New(first)
	case doc == nil:
		return nil, nil
	}
	err = yamlmap.Each(doc, func(name string, value ast.Node) error {
		entry, err := parseEntry(file, name, value)
		list = append(list, entry...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// parseEntry reads one name and what is below it.
func parseEntry(file, name string, value ast.Node) (list []tasks.Container, err error) {
	if !nameForm.MatchString(name) {
		return nil, yamlmap.Errorf(value, "the name %.64q has other characters than letters, digits and . _ -", name)
	}
	words := map[string]string{}
	var to []netip.AddrPort
	err = yamlmap.Each(value, func(word string, v ast.Node) (err error) {
		parts, ok := yamlmap.Words(v)
		text := strings.Join(parts, ",")
		switch {
		case word != "to" && (!wordForm.MatchString(word) || word == "port" || word == "batch"):
			return yamlmap.Errorf(v, "%.64q has no meaning here; besides to, the words are those of the labels nagaya.* without that prefix", word)
		case !ok:
			return yamlmap.Errorf(v, "%s has neither a plain value nor a list of such", word)
		case word == "to":
			to, err = parseAddresses(v, text)
			return err
		case len(text) > tasks.MaxWordLen || len(words) == tasks.MaxWords-1: // one is its port
			return yamlmap.Errorf(v, "%s is longer than %d bytes, or beyond %d words", word, tasks.MaxWordLen, tasks.MaxWords-1)
		}
		words[tasks.LabelPrefix+word] = text
		return nil
	})
	if err == nil && len(to) == 0 {
		err = yamlmap.Errorf(value, "%s has no to: write where it is, e.g. to: 10.0.0.5:8080", name)
	}
	for _, at := range to {
		list = append(list, container(file, name, at, words))
	}
	return list, err
}

// idsOf is how the IDs begin of what stands in a file.
func idsOf(file string) string {
	sum := sha256.Sum256([]byte(file))
	return tasks.FileIDs + hex.EncodeToString(sum[:8]) + "-"
}

// container makes what the rest of the program takes for one.
func container(file, name string, at netip.AddrPort, words map[string]string) tasks.Container {
	labels := map[string]string{tasks.LabelPrefix + "port": strconv.Itoa(int(at.Port()))}
	for k, v := range words {
		labels[k] = v
	}
	sum := sha256.Sum256([]byte(name + "\x00" + at.String()))
	kept, _, _ := tasks.Keep(labels, nil, func(string) bool { return false })
	return tasks.Container{
		ID: idsOf(file) + hex.EncodeToString(sum[:16]), Name: name, Origin: tasks.File, File: file, Labels: kept, State: tasks.Running,
		Network: tasks.Direct, Addrs: []netip.Addr{at.Addr()},
	}
}

// parseAddresses reads one or several addresses with ports. Names are not taken: nginx
// would look them up once, at its start, and not start where that fails.
func parseAddresses(n ast.Node, text string) (all []netip.AddrPort, err error) {
	for word := range strings.SplitSeq(text, ",") {
		at, err := netip.ParseAddrPort(strings.TrimSpace(word))
		if err != nil || at.Port() == 0 || at.Addr().Zone() != "" || at.Addr().IsUnspecified() {
			return nil, yamlmap.Errorf(n, "%.64q is not an address with a port, such as 10.0.0.5:8080 or [fd00::5]:8080", word)
		}
		all = append(all, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
	}
	if len(all) > maxTo {
		return nil, yamlmap.Errorf(n, "more than %d addresses", maxTo)
	}
	return all, nil
}
