package nginx

import (
	"cmp"
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
	needs    needs
}

// SiteFile is the file of one site.
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
	StreamsDir     = "streams"
	SNIDir         = "sni"
)

// serverName finds the first name of a server, which is quoted where it is an expression.
var (
	serverName = regexp.MustCompile(`(?m)^\s*server_name ("(?:[^"\\]|\\.)*"|[^\s;]+)`)
	escaped    = regexp.MustCompile(`\\(.)`)
)

// NewTree makes a tree of files that were read back from a disk, with paths as
// Files gives them; others are ignored. Such a tree knows no settings, so Under
// returns it unchanged.
func NewTree(files []File) Tree {
	var t Tree
	sites := map[string]*SiteFile{}
	for _, f := range files {
		dir, name := path.Split(f.Path)
		dir = strings.TrimSuffix(dir, "/")
		if f.Path == MainFile {
			t.Main = f.Text
		}
		if dir != SitesDir && dir != StreamsDir && dir != SNIDir {
			continue
		}
		s := sites[name]
		if s == nil {
			s = &SiteFile{Host: strings.Replace(strings.TrimSuffix(name, ".conf"), "~", ":", 1), Name: name}
			sites[name] = s
		}
		switch dir {
		case SitesDir:
			s.Text = f.Text
			if m := serverName.FindStringSubmatch(f.Text); m != nil && m[1] != nobody {
				s.Host = escaped.ReplaceAllString(strings.Trim(m[1], `"`), "$1")
			}
		case StreamsDir:
			s.Stream = f.Text
		case SNIDir:
			s.SNI = f.Text
		}
	}
	for _, s := range sites {
		t.Sites = append(t.Sites, *s)
	}
	return t.sealed()
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
	t.Sites = slices.Clone(t.Sites)
	for i := range t.Sites {
		// The sockets behind a public port that is shared are named in sites' files too.
		f := &t.Sites[i]
		for _, text := range []*string{&f.Text, &f.Stream, &f.SNI} {
			*text = strings.ReplaceAll(*text, "unix:"+t.settings.RunDir+"/", "unix:"+s.RunDir+"/")
		}
	}
	t.settings = s
	t.Main = renderMain(s, t.build, t.needs)
	return t.sealed()
}

// Files returns every file of the tree, the main file first. The generation
// has a file of its own, because it is computed over all the others.
func (t Tree) Files() []File {
	var g text
	g.set("return", "200", t.Generation)
	fs := []File{{MainFile, t.Main}, {GenerationFile, g.String()}}
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

// String returns all files one after the other, for people to read.
func (t Tree) String() string {
	var b strings.Builder
	for _, f := range t.Files() {
		fmt.Fprintf(&b, "# file: %s\n%s\n", f.Path, f.Text)
	}
	return b.String()
}

// Listen is one public port of a tree.
type Listen struct {
	Port uint16
	UDP  bool
	// Site is the SiteFile.Host that asks for it; empty for the main file. A port of
	// HTTP/3 is asked for by the file of that port, for all its sites.
	Site string
}

var listenLine = regexp.MustCompile(`(?m)^\s*listen (?:\S*:)?(\d{1,5})([ ;].*)$`)

// Listens returns the public ports of the tree, sorted, once for each site that asks
// for them: those that a site shares with the main file are the main file's. What
// the operator's snippets listen on is not among them.
func (t Tree) Listens() []Listen {
	seen := map[Listen]bool{}
	var all []Listen
	add := func(site, text string) {
		for _, m := range listenLine.FindAllStringSubmatch(text, -1) {
			p, err := strconv.ParseUint(m[1], 10, 16)
			if err != nil {
				continue
			}
			quic := strings.HasPrefix(m[2], " quic")
			l := Listen{Port: uint16(p), UDP: quic || strings.Contains(m[2], " udp")}
			if at := portFile("quic", l.Port); quic && site != at {
				continue
			}
			shared := seen[l]
			if l.Site = site; !shared && !seen[l] {
				seen[l] = true
				all = append(all, l)
			}
		}
	}
	add("", t.Main)
	for _, s := range t.Sites {
		add(s.Host, s.Text)
		add(s.Host, s.Stream)
	}
	slices.SortFunc(all, func(a, b Listen) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), strings.Compare(a.Site, b.Site))
	})
	return all
}

// Servers returns the addresses behind every site, as "HOST ADDRESS", sorted.
func (t Tree) Servers() []string {
	var all []string
	for _, s := range t.Sites {
		for _, text := range []string{s.Text, s.Stream} {
			for line := range strings.Lines(text) {
				line, is := strings.CutPrefix(strings.TrimLeft(line, " "), "server ")
				if at := strings.IndexAny(line, " ;"); is && at > 0 && line[:at] != "{" {
					all = append(all, s.Host+" "+line[:at])
				}
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// upstreamServers are the lines of one upstream that serverLines writes: addresses that
// are addresses, never names, and weights within nginx's bounds. Nothing else in
// a tree can look like them, as no word can end its line.
var upstreamServers = regexp.MustCompile(`(?m)(?:^    server (?:[0-9.]+|\[[0-9a-f:.]+\]):\d{1,5}(?: weight=\d{1,4})?;\n)+`)

// SameButServers reports whether two trees differ in nothing but which addresses are
// behind their sites and streams, and with which weights: nginx accepts the one if it
// accepts the other. Where there were some and are none, or the other way
// round, more than that differs.
func (t Tree) SameButServers(o Tree) bool {
	if t.Main != o.Main {
		return false
	}
	return slices.EqualFunc(t.Sites, o.Sites, func(a, b SiteFile) bool {
		return a.Host == b.Host && a.Name == b.Name && a.SNI == b.SNI && sameButServers(a.Text, b.Text) && sameButServers(a.Stream, b.Stream)
	})
}

func sameButServers(a, b string) bool {
	const some = "    server;\n"
	return a == b || upstreamServers.ReplaceAllLiteralString(a, some) == upstreamServers.ReplaceAllLiteralString(b, some)
}
