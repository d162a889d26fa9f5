package nginx

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

var socketLine = regexp.MustCompile(`(?m)^\s*listen unix:([^\s;"]+)[ ;]`)

// Sockets returns the paths of the unix sockets that nginx listens on, sorted.
func (t Tree) Sockets() []string {
	var all []string
	for _, text := range t.texts() {
		for _, m := range socketLine.FindAllStringSubmatch(*text, -1) {
			all = append(all, m[1])
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Aside returns the same configuration with other names for some of its Sockets. When
// nginx has loaded that and then the tree itself, it has made them anew: it
// keeps a socket open that is in the configuration before and after, even one whose
// file somebody has removed.
func (t Tree) Aside(sockets ...string) Tree {
	var names []string
	for _, s := range sockets {
		for _, end := range []string{";", " "} {
			names = append(names, "unix:"+s+end, "unix:"+AsideSocket(s)+end)
		}
	}
	other := strings.NewReplacer(names...)
	t.Sites = slices.Clone(t.Sites)
	for _, text := range t.texts() {
		*text = other.Replace(*text)
	}
	return t.sealed()
}

// AsideSocket returns the path that a socket has in Aside.
func AsideSocket(socket string) string {
	dir, name := path.Split(socket)
	return path.Join(dir, "_"+name)
}

// texts are those of the tree that may name sockets.
func (t *Tree) texts() []*string {
	all := []*string{&t.Main}
	for i := range t.Sites {
		all = append(all, &t.Sites[i].Text, &t.Sites[i].Stream, &t.Sites[i].SNI)
	}
	return all
}
