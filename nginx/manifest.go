package nginx

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Facts are what is in one file of a tree, or in the files of one site. They are noted
// while the text is written, and kept in the manifest beside the files.
type Facts struct {
	// Hosts are the names of the servers, those of unknown names excepted.
	Hosts []string `json:"hosts,omitempty"`
	// Listens are the public ports. That of HTTP/3 is noted for the file of the port,
	// not for the sites that share it.
	Listens []Listen `json:"listens,omitempty"`
	// Sockets are the paths of the unix sockets that nginx listens on.
	Sockets []string `json:"sockets,omitempty"`
	// Servers are the addresses of upstreams.
	Servers []string `json:"servers,omitempty"`
	// Certificates are the files of certificates.
	Certificates []string `json:"certificates,omitempty"`
	// Snippets are the operator's files that are included, as "PATH FINGERPRINT".
	Snippets []string `json:"snippets,omitempty"`
	// Shape is a hash of everything but the lines of servers.
	Shape string `json:"shape,omitempty"`
}

// Listen is one public port of a tree.
type Listen struct {
	Port uint16 `json:"port"`
	UDP  bool   `json:"udp,omitempty"`
	// Site is the SiteFile.Host that asks for it; empty for the main file. A port of
	// HTTP/3 is asked for by the file of that port, for all its sites.
	Site string `json:"-"`
}

// Includes reports whether a file of the operator's is included.
func (f Facts) Includes(file string) bool {
	return slices.ContainsFunc(f.Snippets, func(s string) bool { return strings.HasPrefix(s, file+" ") })
}

// plus returns the facts of two files of one site.
func (f Facts) plus(o Facts) Facts {
	return Facts{
		Hosts: slices.Concat(f.Hosts, o.Hosts), Listens: slices.Concat(f.Listens, o.Listens), Sockets: slices.Concat(f.Sockets, o.Sockets),
		Servers: slices.Concat(f.Servers, o.Servers), Certificates: slices.Concat(f.Certificates, o.Certificates),
		Snippets: slices.Concat(f.Snippets, o.Snippets), Shape: f.Shape + o.Shape,
	}
}

// manifest is what is kept of a tree beside its files.
type manifest struct {
	Generation string         `json:"generation"`
	Main       Facts          `json:"main"`
	Sites      []siteManifest `json:"sites"`
}

type siteManifest struct {
	Host string `json:"host"`
	Name string `json:"name"`
	// Files are the directories in which the site has a file.
	Files []string `json:"files"`
	Facts
}

func (t Tree) manifest() string {
	m := manifest{Generation: t.Generation, Main: t.MainFacts, Sites: []siteManifest{}}
	open := t.quicPorts()
	for _, s := range t.Sites {
		one := siteManifest{Host: s.Host, Name: s.Name, Facts: s.Facts}
		for _, f := range []File{{SitesDir, s.httpText(open)}, {StreamsDir, s.Stream}, {SNIDir, s.SNI}} {
			if f.Text != "" {
				one.Files = append(one.Files, f.Path)
			}
		}
		m.Sites = append(m.Sites, one)
	}
	b, _ := json.MarshalIndent(m, "", "\t") // strings and numbers only
	return string(b) + "\n"
}

// maxSites bounds how many sites a manifest that is read back may have.
const maxSites = 20000

// ReadTree makes a tree of files that were written before; read returns one of them by its
// path in the tree. Such a tree has no settings, so Under returns it unchanged.
func ReadTree(read func(path string) (string, error)) (Tree, error) {
	text, err := read(ManifestFile)
	if err != nil {
		return Tree{}, err
	}
	var m manifest
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return Tree{}, fmt.Errorf("%s: %w", ManifestFile, err)
	}
	if len(m.Sites) > maxSites {
		return Tree{}, fmt.Errorf("%s has more than %d sites", ManifestFile, maxSites)
	}
	t := Tree{MainFacts: m.Main}
	if t.Main, err = read(MainFile); err != nil {
		return Tree{}, err
	}
	for _, one := range m.Sites {
		s := SiteFile{Host: one.Host, Name: one.Name, Facts: one.Facts}
		if path.Base(s.Name) != s.Name {
			return Tree{}, errors.New(ManifestFile + " names a file outside the tree")
		}
		for _, dir := range one.Files {
			text := map[string]*string{SitesDir: &s.Text, StreamsDir: &s.Stream, SNIDir: &s.SNI}[dir]
			if text == nil {
				return Tree{}, errors.New(ManifestFile + " names an unknown directory")
			}
			if *text, err = read(path.Join(dir, s.Name)); err != nil {
				return Tree{}, err
			}
		}
		t.Sites = append(t.Sites, s)
	}
	return t.sealed(), nil
}

// all returns a list of facts of the main file and of all sites, sorted, each once. add
// returns those of one: its host is "" for the main file.
func all[T any](t Tree, facts func(host string, f Facts) []T, compare func(a, b T) int) []T {
	list := slices.Clone(facts("", t.MainFacts))
	for _, s := range t.Sites {
		list = append(list, facts(s.Host, s.Facts)...)
	}
	slices.SortFunc(list, compare)
	return slices.CompactFunc(list, func(a, b T) bool { return compare(a, b) == 0 })
}

// Sockets returns the paths of the unix sockets that nginx listens on, sorted.
func (t Tree) Sockets() []string {
	return all(t, func(_ string, f Facts) []string { return f.Sockets }, strings.Compare)
}

// Snippets returns the operator's files that are included, as "PATH FINGERPRINT", sorted.
func (t Tree) Snippets() []string {
	return all(t, func(_ string, f Facts) []string { return f.Snippets }, strings.Compare)
}

// Servers returns the addresses behind every site, as "HOST ADDRESS", sorted.
func (t Tree) Servers() []string {
	return all(t, func(host string, f Facts) (out []string) {
		for _, s := range f.Servers {
			out = append(out, host+" "+s)
		}
		return out
	}, strings.Compare)
}

// Listens returns the public ports of the tree, sorted, once for each site that asks
// for them: those that a site shares with the main file are the main file's. What
// the operator's snippets listen on is not among them.
func (t Tree) Listens() []Listen {
	return all(t, func(host string, f Facts) (out []Listen) {
		for _, l := range f.Listens {
			if host != "" && slices.Contains(t.MainFacts.Listens, l) {
				continue
			}
			l.Site = host
			out = append(out, l)
		}
		return out
	}, func(a, b Listen) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), strings.Compare(a.Site, b.Site), boolCompare(a.UDP, b.UDP))
	})
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// SameShape reports whether two trees differ in nothing but the servers of upstreams.
// Where there were some and are none, or the other way round, more than that differs.
func (t Tree) SameShape(o Tree) bool {
	return t.Main == o.Main && slices.EqualFunc(t.Sites, o.Sites, func(a, b SiteFile) bool {
		return a.Host == b.Host && a.Name == b.Name && a.Facts.Shape == b.Facts.Shape
	})
}

// Aside returns the same configuration with other names for some of its Sockets. When
// nginx has loaded that and then the tree itself, it has made them anew: it
// keeps a socket open that is in the configuration before and after, even one whose
// file has been removed.
func (t Tree) Aside(sockets ...string) Tree {
	var names []string
	for _, s := range sockets {
		for _, end := range []string{";", " "} {
			names = append(names, "unix:"+s+end, "unix:"+AsideSocket(s)+end)
		}
	}
	r := strings.NewReplacer(names...)
	t = t.replaced(r)
	t.Main = r.Replace(t.Main)
	aside := func(f *Facts) {
		f.Sockets = slices.Clone(f.Sockets)
		for i, s := range f.Sockets {
			if slices.Contains(sockets, s) {
				f.Sockets[i] = AsideSocket(s)
			}
		}
	}
	aside(&t.MainFacts)
	for i := range t.Sites {
		aside(&t.Sites[i].Facts)
	}
	return t.sealed()
}

// AsideSocket returns the path that a socket has in Aside.
func AsideSocket(socket string) string {
	dir, name := path.Split(socket)
	return path.Join(dir, "_"+name)
}
