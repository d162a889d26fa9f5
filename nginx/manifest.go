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
	// Listens are the public ports. That of HTTP/3 is noted for the file of the port,
	// not for the sites that share it.
	Listens []Listen `json:"listens,omitempty"`
	// QUIC is the port at which a site offers HTTP/3, and QUICLines what it has for that in
	// its text, each from the end of the line before.
	QUIC      uint16   `json:"quic,omitempty"`
	QUICLines []string `json:"quicLines,omitempty"`
	// Sockets are the paths of the unix sockets that nginx listens on.
	Sockets []string `json:"sockets,omitempty"`
	// Servers are the addresses of upstreams.
	Servers []string `json:"servers,omitempty"`
	// Pools are the names of the upstreams of locations; see GoneDir.
	Pools []string `json:"pools,omitempty"`
	// Snippets are the operator's files of which copies are included.
	Snippets []Snippet `json:"copies,omitempty"`
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
	return slices.ContainsFunc(f.Snippets, func(s Snippet) bool { return s.Path == file })
}

// manifest is what is kept of a tree beside its files.
type manifest struct {
	Generation string         `json:"generation"`
	Main       Facts          `json:"main"`
	Sites      []siteManifest `json:"sites"`
}

type siteManifest struct {
	SiteFile
	// Files are the directories in which the site has a file.
	Files []string `json:"files"`
}

// Manifest returns the text of the manifest.
func (t Tree) Manifest() string {
	m := manifest{Generation: t.Generation, Main: t.MainFacts, Sites: []siteManifest{}}
	for _, s := range t.Sites {
		site := siteManifest{SiteFile: s}
		for _, f := range t.filesOf(s) {
			site.Files = append(site.Files, path.Dir(f.Path))
		}
		m.Sites = append(m.Sites, site)
	}
	b, _ := json.MarshalIndent(m, "", "\t") // strings and numbers only
	return string(b) + "\n"
}

// maxSites bounds how many sites a manifest that is read back may have.
const maxSites = 20000

// ReadTree makes a tree of files that were written before; read returns one of them by its
// path in the tree. The error names the file that cannot be read, or what is wrong with the
// manifest. If the files were changed, the tree has another Generation.
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
	if t.Main, err = read(MainFile); err == nil {
		err = t.MainFacts.readCopies(read)
	}
	if err != nil {
		return Tree{}, err
	}
	for _, site := range m.Sites {
		s := site.SiteFile
		if path.Base(s.Name) != s.Name {
			return Tree{}, errors.New(ManifestFile + " names a file outside the tree")
		}
		for _, dir := range site.Files {
			text := map[string]*string{SitesDir: &s.Text, StreamsDir: &s.Stream, SNIDir: &s.SNI}[dir]
			if text == nil {
				return Tree{}, errors.New(ManifestFile + " names an unknown directory")
			}
			if *text, err = read(path.Join(dir, s.Name)); err != nil {
				return Tree{}, err
			}
		}
		if err := s.Facts.readCopies(read); err != nil {
			return Tree{}, err
		}
		t.Sites = append(t.Sites, s)
	}
	return t.finished(), nil
}

// readCopies reads the copies of the operator's files.
func (f Facts) readCopies(read func(path string) (string, error)) (err error) {
	for i := range f.Snippets {
		sn := &f.Snippets[i]
		if path.Base(sn.File) != sn.File {
			return errors.New(ManifestFile + " names a file outside the tree")
		}
		if sn.Text, err = read(path.Join(SnippetsDir, sn.File)); err != nil {
			return err
		}
		if sn.File != sn.copyName() {
			return fmt.Errorf("%s was changed", sn.File)
		}
		sn.Says, _ = ParseDirectives(sn.Text) // one that it cannot read says nothing
	}
	return nil
}

// parts returns the main file, as one without a host, and the files of all sites.
func (t Tree) parts() []SiteFile { return append([]SiteFile{{Facts: t.MainFacts}}, t.Sites...) }

// collect returns a list of facts of all parts, sorted, each once.
func (t Tree) collect(facts func(SiteFile) []string) (all []string) {
	for _, s := range t.parts() {
		all = append(all, facts(s)...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Sockets returns the paths of the unix sockets that nginx listens on, sorted.
func (t Tree) Sockets() []string {
	return t.collect(func(s SiteFile) []string { return s.Facts.Sockets })
}

// Snippets returns the operator's files that are included, each once, sorted.
func (t Tree) Snippets() (all []Snippet) {
	for _, s := range t.parts() {
		all = append(all, s.Facts.Snippets...)
	}
	slices.SortFunc(all, func(a, b Snippet) int { return strings.Compare(a.File, b.File) })
	return slices.CompactFunc(all, func(a, b Snippet) bool { return a.File == b.File })
}

// Pools returns the names of the upstreams of locations, sorted.
func (t Tree) Pools() []string { return t.collect(func(s SiteFile) []string { return s.Facts.Pools }) }

// Servers returns the addresses behind every site, as "HOST ADDRESS", sorted.
func (t Tree) Servers() []string {
	return t.collect(func(s SiteFile) (all []string) {
		for _, addr := range s.Facts.Servers {
			all = append(all, s.Host+" "+addr)
		}
		return all
	})
}

// Listens returns the public ports of the tree, sorted, once for each site that asks
// for them: those that a site shares with the main file are the main file's. What
// the operator's snippets listen on is not among them.
func (t Tree) Listens() (all []Listen) {
	for _, s := range t.parts() {
		for _, l := range s.Facts.Listens {
			if s.Host == "" || !slices.Contains(t.MainFacts.Listens, l) {
				l.Site = s.Host
				all = append(all, l)
			}
		}
	}
	slices.SortFunc(all, func(a, b Listen) int { return cmp.Or(cmp.Compare(a.Port, b.Port), strings.Compare(a.Site, b.Site)) })
	return all
}
