package nginx

import (
	"path"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// Where the operator's snippets are included, by their names:
//
//	http.d/ANY.conf           the http section
//	stream.d/ANY.conf         the stream section
//	site.d/HOST.conf          the server of that host ("*" is written "_")
//	location.d/HOST.conf      every location of that host
//	location.d/HOST,A,B.conf  its location of the path /A/B
//	vhost.d/…                 as nginx-proxy does (package nginxproxy)
const (
	httpSnippets     = "http.d"
	streamSnippets   = "stream.d"
	siteSnippets     = "site.d"
	locationSnippets = "location.d"
	vhostSnippets    = "vhost.d"
)

// snippetName reports whether a snippet of that name may be included.
func snippetName(s string) bool {
	dir, base, _ := strings.Cut(s, "/")
	switch dir {
	case httpSnippets, streamSnippets, siteSnippets, locationSnippets:
		if !strings.HasSuffix(base, ".conf") {
			return false
		}
	case vhostSnippets:
	default:
		return false
	}
	return base != "" && !strings.HasPrefix(base, ".") && len(base) <= 255 &&
		!strings.ContainsFunc(base, func(r rune) bool { return !alphanumeric(r) && !strings.ContainsRune("._-~,@:+*", r) })
}

// includeAll includes the snippets of a directory.
func includeAll(t *text, dir string) {
	for _, sn := range t.settings.Snippets {
		if snippetName(sn.Name) && strings.HasPrefix(sn.Name, dir+"/") {
			include(t, sn)
		}
	}
}

// includeFirst includes the first snippet of a directory that exists, of these names.
func includeFirst(t *text, dir string, names ...string) bool {
	for _, name := range names {
		name = dir + "/" + name
		if i, found := slices.BinarySearchFunc(t.settings.Snippets, name, Snippet.compare); found && snippetName(name) {
			include(t, t.settings.Snippets[i])
			return true
		}
	}
	return false
}

func include(t *text, sn Snippet) {
	t.comment("content " + truncated(sn.Fingerprint))
	file := sn.Path
	if file == "" {
		file = path.Join(t.settings.SnippetDir, sn.Name)
	}
	t.set("include", file)
	t.facts.Snippets = append(t.facts.Snippets, file+" "+sn.Fingerprint)
}

// includeForSite includes the operator's snippets for the server of a host.
func includeForSite(t *text, site route.Site) {
	includeFirst(t, siteSnippets, fileName(site.Host))
	if !strings.HasSuffix(site.Host, "_location") && !strings.HasSuffix(site.Host, "_override") { // files for paths of other hosts
		includeFirst(t, vhostSnippets, nginxproxy.SiteFiles(site.Host)...)
	}
}

// includeForLocation includes the operator's snippets for a location.
func includeForLocation(t *text, site route.Site, l route.Location) {
	host := strings.TrimSuffix(fileName(site.Host), ".conf")
	includeFirst(t, locationSnippets, host+".conf")
	if p := strings.Trim(l.Path, "/"); p != "" {
		includeFirst(t, locationSnippets, host+","+strings.ReplaceAll(p, "/", ",")+".conf")
	}
	includeFirst(t, vhostSnippets, nginxproxy.LocationFiles(site.Host, l.Path)...)
}

// includeOverride includes the operator's snippet that takes the place of a location's own
// lines, if there is one.
func includeOverride(t *text, site route.Site, l route.Location) bool {
	return includeFirst(t, vhostSnippets, nginxproxy.OverrideFile(site.Host, l.Path))
}

// authFile returns the name of the password file of a location; empty for none.
func authFile(s Settings, site route.Site, l route.Location) string {
	if l.Auth != "" {
		return l.Auth
	}
	for _, name := range nginxproxy.PasswordFiles(site.Host, l.Path) {
		if _, found := slices.BinarySearch(s.HostAuth, name); found && snippetName(vhostSnippets+"/"+name) {
			return name
		}
	}
	return ""
}
