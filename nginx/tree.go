package nginx

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// Tree is the text of one whole configuration, and what is in it. It is immutable:
// its methods return new trees.
type Tree struct {
	// Generation names the content: equal bytes, equal generation. It is 16
	// hexadecimal digits, or empty for the zero Tree.
	Generation string `json:"generation"`
	// Main is the text of nginx.conf.
	Main      string `json:"-"`
	MainFacts Facts  `json:"-"`
	// Sites are sorted by Host.
	Sites []SiteFile `json:"-"`
	// Problems are what could not be rendered as asked for, and why.
	Problems []problem.Problem `json:"problems,omitempty"`

	// The main file is rendered from these; see Under.
	settings Settings
	build    Build
	needs    needs
	shape    route.Shape
	pools    route.Pools
}

// SiteFile has the files of one site.
type SiteFile struct {
	Host string `json:"host"`
	// Name is the file's base name in the directories sites, streams and sni.
	Name string `json:"name"`
	// Text is for the http section, Stream for the stream section, and SNI has lines for the
	// map from the name that a TLS client asks for to the socket that gets the connection.
	// Each is a file of its own; an empty one is not written. The SiteFile of a Stream has
	// its Listen as Host, e.g. "tcp:2222"; that of a port which sites share, "https:8443"
	// or "quic:443".
	Text   string `json:"-"`
	Stream string `json:"-"`
	SNI    string `json:"-"`
	// Family is the one that the site belongs to; empty for a port that sites of several
	// families share, and for a file that an older version of nagaya wrote.
	Family string `json:"family,omitempty"`
	Facts
}

// Owner returns the family, or the host where that is not known.
func (s SiteFile) Owner() string { return cmp.Or(s.Family, s.Host) }

// Equal reports whether two have the same files.
func (s SiteFile) Equal(o SiteFile) bool {
	return s.Host == o.Host && s.Name == o.Name && s.Text == o.Text && s.Stream == o.Stream && s.SNI == o.SNI
}

// ChangedFamilies lists the families that have other files in b than in a, sorted. A file of
// several families is left out, unless no other has changed: it follows from those.
func ChangedFamilies(a, b Tree) []string {
	changed := map[string]bool{}
	was := make(map[string]SiteFile, len(a.Sites))
	for _, s := range a.Sites {
		was[s.Host] = s
	}
	for _, s := range b.Sites {
		if !s.Equal(was[s.Host]) {
			changed[s.Family] = true
		}
		delete(was, s.Host)
	}
	for _, s := range was {
		changed[s.Family] = true
	}
	if len(changed) > 1 {
		delete(changed, "")
	}
	return slices.Sorted(maps.Keys(changed))
}

// Wanted is the tree that nginx should serve.
type Wanted struct {
	Tree Tree
	// More is true while containers are starting, after which another tree comes soon.
	More bool
	// Orders is true while sites wait for certificates that may come soon.
	Orders bool
	// LowCredits is true while CPU credits are low, so that nginx is reloaded more rarely.
	LowCredits bool
}

// File is one file of a tree; Path is relative to the tree's directory. Private is true for one
// that not everybody may read.
type File struct {
	Path    string
	Text    string
	Private bool
}

// Names of files and directories inside a tree.
const (
	MainFile       = "nginx.conf"
	GenerationFile = "generation.conf"
	ManifestFile   = "manifest.json"
	SitesDir       = "sites"
	StreamsDir     = "streams"
	SNIDir         = "sni"
	SnippetsDir    = "snippets"
)

// TreeDirs are the directories of a tree.
var TreeDirs = []string{SitesDir, StreamsDir, SNIDir, SnippetsDir}

// IsGeneration reports whether a text has the form of a Tree's Generation.
func IsGeneration(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 8 && s == strings.ToLower(s)
}

// finished returns the tree with its sites sorted and its generation computed.
func (t Tree) finished() Tree {
	slices.SortFunc(t.Sites, func(a, b SiteFile) int { return strings.Compare(a.Host, b.Host) })
	h := sha256.New()
	add := func(s string) { fmt.Fprintf(h, "%d:%s", len(s), s) }
	add(t.Main)
	for _, s := range t.Sites {
		add(s.Name)
		add(t.httpText(s))
		if s.Stream != "" || s.SNI != "" {
			add(s.Stream)
			add(s.SNI)
		}
	}
	t.Generation = hex.EncodeToString(h.Sum(nil)[:8])
	return t
}

// Without returns the tree without the sites of these hosts.
func (t Tree) Without(hosts ...string) Tree {
	gone := make(map[string]bool, len(hosts))
	for _, h := range hosts {
		gone[h] = true
	}
	t.Sites = slices.DeleteFunc(slices.Clone(t.Sites), func(s SiteFile) bool { return gone[s.Host] })
	return t.finished()
}

// With returns the tree with these sites, in place of those of the same hosts.
func (t Tree) With(sites ...SiteFile) Tree {
	all := make(map[string]SiteFile, len(t.Sites)+len(sites))
	for _, s := range slices.Concat(t.Sites, sites) {
		all[s.Host] = s
	}
	t.Sites = slices.Collect(maps.Values(all)) // finished sorts them
	return t.finished()
}

// Site returns the file of a host.
func (t Tree) Site(host string) (SiteFile, bool) {
	i, found := slices.BinarySearchFunc(t.Sites, host, func(s SiteFile, host string) int { return strings.Compare(s.Host, host) })
	if !found {
		return SiteFile{}, false
	}
	return t.Sites[i], true
}

// Under returns the same configuration with everything that nginx writes (pid,
// sockets, logs, temporary files) below dir: an absolute path of a directory in
// which "run", "log" and TempDir(dir) exist. A device that is logged to stays. It is for testing a
// tree that has just been rendered beside a running nginx.
func (t Tree) Under(dir string) Tree {
	s := t.settings
	s.StateDir, s.RunDir, s.LogDir, s.Stderr = dir, path.Join(dir, "run"), path.Join(dir, "log"), false
	if s.AccessLog != "off" && !s.logsToDevice() {
		s.AccessLog = path.Join(s.LogDir, "access.log")
	}
	return Render(s, t.build, t.shape, t.pools)
}

// OwnPaths returns a text of nginx's with the paths of the operator's files instead of those
// of their copies.
func (t Tree) OwnPaths(text string) string {
	var names []string
	for _, sn := range t.Snippets() {
		names = append(names, SnippetsDir+"/"+sn.File, sn.Path)
	}
	return strings.NewReplacer(names...).Replace(text)
}

// WithSnippets returns the tree with these snippets, in place of those of the same paths. A
// tree that was read back is returned unchanged.
func (t Tree) WithSnippets(snippets ...Snippet) Tree {
	if t.settings.StateDir == "" || len(snippets) == 0 {
		return t
	}
	s := t.settings
	replaced := func(sn Snippet) bool {
		return slices.ContainsFunc(snippets, func(o Snippet) bool { return o.Path == sn.Path && o.Name == sn.Name })
	}
	s.Snippets = append(slices.DeleteFunc(slices.Clone(s.Snippets), replaced), snippets...) // Render sorts them
	return Render(s, t.build, t.shape, t.pools)
}

// RenameSockets returns the same configuration with other names for some of its sockets, which
// are written as "unix:PATH".
// When nginx has loaded that and then the tree itself, it has made the sockets again: it
// keeps a socket open that is in the configuration before and after, even one whose
// file has been removed.
func (t Tree) RenameSockets(sockets ...string) Tree {
	var names []string
	for _, s := range sockets {
		names = append(names, "unix:"+s, "unix:"+RenamedSocket(s)) // none is the beginning of another
	}
	r := strings.NewReplacer(names...)
	rename := func(f *Facts, texts ...*string) {
		f.Sockets = slices.Clone(f.Sockets)
		for i, s := range f.Sockets {
			f.Sockets[i] = strings.TrimPrefix(r.Replace("unix:"+s), "unix:")
		}
		for _, text := range texts {
			*text = r.Replace(*text)
		}
	}
	rename(&t.MainFacts, &t.Main)
	t.Sites = slices.Clone(t.Sites)
	for i := range t.Sites {
		f := &t.Sites[i]
		rename(&f.Facts, &f.Text, &f.Stream, &f.SNI)
	}
	return t.finished()
}

// RenamedSocket returns the path that a socket gets from RenameSockets.
func RenamedSocket(socket string) string {
	dir, name := path.Split(socket)
	return path.Join(dir, "_"+name)
}

// Files returns every file of the tree, the main file first. The generation
// has a file of its own, because it is computed over all the others but the manifest.
func (t Tree) Files() []File {
	var g text
	g.set("return", "200", t.Generation)
	all := []File{{Path: MainFile, Text: t.Main}, {Path: GenerationFile, Text: g.out.String()}, {Path: ManifestFile, Text: t.Manifest()}}
	for _, s := range t.Sites {
		all = append(all, t.filesOf(s)...)
	}
	for _, sn := range t.Snippets() {
		all = append(all, File{path.Join(SnippetsDir, sn.File), sn.Text, sn.Private})
	}
	return all
}

// filesOf returns the files of a site.
func (t Tree) filesOf(s SiteFile) []File {
	all := []File{
		{Path: path.Join(SitesDir, s.Name), Text: t.httpText(s)},
		{Path: path.Join(StreamsDir, s.Name), Text: s.Stream},
		{Path: path.Join(SNIDir, s.Name), Text: s.SNI},
	}
	return slices.DeleteFunc(all, func(f File) bool { return f.Text == "" })
}

// String returns all files but the manifest and the copies of the operator's own, one after the
// other, for people to read.
func (t Tree) String() string {
	var b strings.Builder
	for _, f := range t.Files() {
		if f.Path != ManifestFile && path.Dir(f.Path) != SnippetsDir {
			fmt.Fprintf(&b, "# file: %s\n%s\n", f.Path, f.Text)
		}
	}
	return b.String()
}

// httpText is what is written of a site's Text. It is served without HTTP/3 where the tree has
// no file for its port, which another process may hold: over TCP it is served all the same.
func (t Tree) httpText(s SiteFile) string {
	text := s.Text
	if _, found := t.Site(portFile("quic", s.QUIC)); !found {
		for _, lines := range s.QUICLines {
			text = strings.ReplaceAll(text, lines, "")
		}
	}
	return text
}
