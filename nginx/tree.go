package nginx

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Tree is the text of one whole configuration. It is never changed after it was
// made; With and Without return new ones.
type Tree struct {
	// Generation names the content: equal bytes, equal generation. It is 16
	// hexadecimal digits, or empty for the zero Tree.
	Generation string `json:"generation"`
	// Main is the text of nginx.conf.
	Main string `json:"-"`
	// Sites are sorted by Host.
	Sites []SiteFile `json:"-"`
	// Problems are what could not be rendered, and why.
	Problems []problem.Problem `json:"problems,omitempty"`

	// The main file is rendered from these; see Under.
	settings Settings
	build    Build
	hosts    []string
}

// SiteFile is the file of one site.
type SiteFile struct {
	Host string
	// Name is the file's base name in the directories sites, streams and sni.
	Name string
	// Text is for the http section, Stream for the stream section, and SNI lines for the
	// map from the name that a TLS client asks for to who gets the connection. Each
	// is a file of its own, and an empty one is none. The SiteFile of a Stream has
	// its Listen as Host, e.g. "tcp:2222".
	Text   string
	Stream string
	SNI    string
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
	SitesDir       = "sites"
)

var serverName = regexp.MustCompile(`(?m)^\s*server_name (\S+);$`)

// NewTree makes a tree of files that were read back from a disk, with paths as
// Files gives them; others are ignored. Such a tree knows no settings, so Under
// returns it unchanged.
func NewTree(files []File) Tree {
	var t Tree
	for _, f := range files {
		switch dir, name := path.Split(f.Path); {
		case f.Path == MainFile:
			t.Main = f.Text
		case dir == SitesDir+"/":
			host := name
			if m := serverName.FindStringSubmatch(f.Text); m != nil {
				host = m[1]
			}
			t.Sites = append(t.Sites, SiteFile{Host: host, Name: name, Text: f.Text})
		}
	}
	return t.sealed()
}

// sealed returns the tree with its sites in order and its generation computed.
func (t Tree) sealed() Tree {
	slices.SortFunc(t.Sites, func(a, b SiteFile) int { return strings.Compare(a.Host, b.Host) })
	h := sha256.New()
	add := func(s string) { fmt.Fprintf(h, "%d:%s", len(s), s) }
	add(t.Main)
	for _, s := range t.Sites {
		add(s.Name)
		add(s.Text)
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
	s.StateDir, s.RunDir, s.LogDir = dir, path.Join(dir, "run"), path.Join(dir, "log")
	if s.AccessLog != "off" {
		s.AccessLog = path.Join(s.LogDir, "access.log")
	}
	t.settings = s
	t.Main = renderMain(s, t.build, t.hosts)
	return t.sealed()
}

// Files returns every file of the tree, the main file first. The generation
// has a file of its own, because it is computed over all the others.
func (t Tree) Files() []File {
	var g text
	g.set("return", "200", t.Generation)
	fs := []File{{MainFile, t.Main}, {GenerationFile, g.String()}}
	for _, s := range t.Sites {
		fs = append(fs, File{path.Join(SitesDir, s.Name), s.Text})
	}
	return fs
}

// String returns all files one after the other, for people to read.
func (t Tree) String() string {
	var b strings.Builder
	for _, f := range t.Files() {
		fmt.Fprintf(&b, "# file: %s\n%s\n", f.Path, f.Text)
	}
	return b.String()
}

var listenPort = regexp.MustCompile(`(?m)^\s*listen (?:\S*:)?(\d{1,5}) [^;]*default_server`)

// Ports returns the public TCP ports of the main file, sorted. What the
// operator's snippets listen on is not among them.
func (t Tree) Ports() []uint16 {
	var ports []uint16
	for _, m := range listenPort.FindAllStringSubmatch(t.Main, -1) {
		if p, err := strconv.ParseUint(m[1], 10, 16); err == nil {
			ports = append(ports, uint16(p))
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}
