package nginx

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Tree is the text of one whole configuration, and what is in it. It is never changed
// after it was made; With and Without return new ones.
type Tree struct {
	// Generation names the content: equal bytes, equal generation. It is 16
	// hexadecimal digits, or empty for the zero Tree.
	Generation string `json:"generation"`
	// Main is the text of nginx.conf.
	Main      string `json:"-"`
	MainFacts Facts  `json:"-"`
	// Sites are sorted by Host.
	Sites []SiteFile `json:"-"`
	// Problems are what could not be rendered, and why.
	Problems []problem.Problem `json:"problems,omitempty"`

	// The main file is rendered from these; see Under.
	settings Settings
	build    Build
	needs    needs
}

// SiteFile has the files of one site.
type SiteFile struct {
	Host string
	// Name is the file's base name in the directories sites, streams and sni.
	Name string
	// Text is for the http section, Stream for the stream section, and SNI lines for the
	// map from the name that a TLS client asks for to who gets the connection. Each
	// is a file of its own, and an empty one is none. The SiteFile of a Stream has
	// its Listen as Host, e.g. "tcp:2222"; that of a port which sites share, "https:8443"
	// or "quic:443".
	Text   string
	Stream string
	SNI    string
	Facts  Facts

	// quicPort is the port at which Text offers HTTP/3, 0 for none; withoutQUIC is the
	// same text without that.
	quicPort    uint16
	withoutQUIC string
}

// Equal reports whether two have the same files.
func (s SiteFile) Equal(o SiteFile) bool {
	return s.Host == o.Host && s.Name == o.Name && s.Text == o.Text && s.Stream == o.Stream && s.SNI == o.SNI
}

// Includes reports whether a file of the operator's is included in it.
func (s SiteFile) Includes(file string) bool { return s.Facts.Includes(file) }

// Wanted is the tree that nginx should serve.
type Wanted struct {
	Tree Tree
	// More is true while containers are on their way, with which another tree comes soon.
	More bool
	// LowCredits is true while CPU credits are low, so that nginx is reloaded more rarely.
	LowCredits bool
}

// File is one file of a tree; Path is relative to the tree's directory.
type File struct {
	Path string
	Text string
}

// Names of files and directories inside a tree.
const (
	MainFile       = "nginx.conf"
	GenerationFile = "generation.conf"
	ManifestFile   = "manifest.json"
	SitesDir       = "sites"
	StreamsDir     = "streams"
	SNIDir         = "sni"
)

// TreeDirs are the directories of a tree.
var TreeDirs = []string{SitesDir, StreamsDir, SNIDir}

// IsGeneration reports whether a text has the form of a Tree's Generation.
func IsGeneration(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 8 && s == strings.ToLower(s)
}

// sealed returns the tree with its sites in order and its generation computed.
func (t Tree) sealed() Tree {
	slices.SortFunc(t.Sites, func(a, b SiteFile) int { return strings.Compare(a.Host, b.Host) })
	h := sha256.New()
	add := func(s string) { fmt.Fprintf(h, "%d:%s", len(s), s) }
	add(t.Main)
	open := t.quicPorts()
	for _, s := range t.Sites {
		add(s.Name)
		add(s.httpText(open))
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
	t.Sites = slices.DeleteFunc(slices.Clone(t.Sites), func(s SiteFile) bool { return slices.Contains(hosts, s.Host) })
	return t.sealed()
}

// With returns the tree with these sites, in place of those of the same hosts.
func (t Tree) With(sites ...SiteFile) Tree {
	hosts := make(map[string]bool, len(sites))
	for _, s := range sites {
		hosts[s.Host] = true
	}
	t.Sites = append(slices.DeleteFunc(slices.Clone(t.Sites), func(s SiteFile) bool { return hosts[s.Host] }), sites...)
	return t.sealed()
}

// Site returns the file of a host.
func (t Tree) Site(host string) (SiteFile, bool) {
	i := slices.IndexFunc(t.Sites, func(s SiteFile) bool { return s.Host == host })
	if i < 0 {
		return SiteFile{}, false
	}
	return t.Sites[i], true
}

// Under returns the same configuration with everything that nginx writes (pid,
// socket, logs, temporary files) below dir: an absolute path of a directory in
// which "run", "log" and TempDir(dir) exist. It is for trying a tree beside a
// running nginx.
func (t Tree) Under(dir string) Tree {
	if t.settings.StateDir == "" {
		return t
	}
	s := t.settings
	s.StateDir, s.RunDir, s.LogDir, s.Stderr = dir, path.Join(dir, "run"), path.Join(dir, "log"), false
	if s.AccessLog != "off" {
		s.AccessLog = path.Join(s.LogDir, "access.log")
	}
	// The sockets behind a public port that is shared are named in sites' files too.
	t = t.replaced(strings.NewReplacer("unix:"+t.settings.RunDir+"/", "unix:"+s.RunDir+"/"))
	t.settings = s
	t.Main, t.MainFacts = t.write(renderMain)
	return t.sealed()
}

// replaced returns the tree with something in its sites' texts replaced.
func (t Tree) replaced(r *strings.Replacer) Tree {
	t.Sites = slices.Clone(t.Sites)
	for i := range t.Sites {
		f := &t.Sites[i]
		for _, text := range []*string{&f.Text, &f.withoutQUIC, &f.Stream, &f.SNI} {
			*text = r.Replace(*text)
		}
	}
	return t
}

// Files returns every file of the tree, the main file first. The generation
// has a file of its own, because it is computed over all the others but the manifest.
func (t Tree) Files() []File {
	var g text
	g.set("return", "200", t.Generation)
	fs := []File{{MainFile, t.Main}, {GenerationFile, g.out.String()}, {ManifestFile, t.manifest()}}
	open := t.quicPorts()
	for _, s := range t.Sites {
		for _, f := range []File{{SitesDir, s.httpText(open)}, {StreamsDir, s.Stream}, {SNIDir, s.SNI}} {
			if f.Text != "" {
				fs = append(fs, File{path.Join(f.Path, s.Name), f.Text})
			}
		}
	}
	return fs
}

// String returns all files but the manifest one after the other, for people to read.
func (t Tree) String() string {
	var b strings.Builder
	for _, f := range t.Files() {
		if f.Path != ManifestFile {
			fmt.Fprintf(&b, "# file: %s\n%s\n", f.Path, f.Text)
		}
	}
	return b.String()
}

// quicPorts are the ports of HTTP/3 that the tree has a file for.
func (t Tree) quicPorts() map[string]bool {
	ports := map[string]bool{}
	for _, s := range t.Sites {
		if strings.HasPrefix(s.Host, "quic:") {
			ports[s.Host] = true
		}
	}
	return ports
}

// httpText is what is written of Text. A site does without HTTP/3 where the tree has
// no file for its port, which another process may hold: over TCP it is served all the same.
func (s SiteFile) httpText(open map[string]bool) string {
	if s.quicPort != 0 && !open[portFile("quic", s.quicPort)] {
		return s.withoutQUIC
	}
	return s.Text
}
