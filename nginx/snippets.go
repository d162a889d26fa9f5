package nginx

import (
	"crypto/sha1"
	"encoding/hex"
	"path"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// Where the operator's snippets are included, by their names:
//
//	http.d/ANY.conf           the http section
//	stream.d/ANY.conf         the stream section
//	site.d/HOST.conf          the server of that host ("*" is written "_")
//	location.d/HOST.conf      every location of that host
//	location.d/HOST,A,B.conf  its location of the path /A/B
//
// and those that users of nginx-proxy have:
//
//	vhost.d/HOST, else vhost.d/default                     as site.d/HOST.conf
//	vhost.d/HOST_location, else vhost.d/default_location   as location.d/HOST.conf
//	vhost.d/HOST_SHA1_location                             the location of the path with that SHA-1
//	vhost.d/HOST_SHA1_location_override                    instead of what nagaya writes into it
const (
	httpSnippets     = "http.d"
	streamSnippets   = "stream.d"
	siteSnippets     = "site.d"
	locationSnippets = "location.d"
	vhostSnippets    = "vhost.d"
)

// snippetName says whether a snippet of that name is included anywhere.
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
		!strings.ContainsFunc(base, func(r rune) bool { return !wordRune(r) && !strings.ContainsRune("~,@:+*", r) })
}

// includeAll includes the snippets of a directory.
func includeAll(t *text, dir string) {
	for _, sn := range t.settings.Snippets {
		if snippetName(sn.Name) && strings.HasPrefix(sn.Name, dir+"/") {
			include(t, sn)
		}
	}
}

// includeFirst includes the first of the names that there is, if any.
func includeFirst(t *text, names ...string) bool {
	for _, name := range names {
		i := slices.IndexFunc(t.settings.Snippets, func(sn Snippet) bool { return sn.Name == name })
		if i >= 0 && snippetName(name) {
			include(t, t.settings.Snippets[i])
			return true
		}
	}
	return false
}

func include(t *text, sn Snippet) {
	t.comment("content " + cut(sn.Fingerprint))
	file := sn.Path
	if file == "" {
		file = path.Join(t.settings.SnippetDir, sn.Name)
	}
	t.set("include", file)
	t.facts.Snippets = append(t.facts.Snippets, file+" "+sn.Fingerprint)
}

// siteIncludes includes what the operator wrote for the server of a host.
func siteIncludes(t *text, site route.Site) {
	includeFirst(t, siteSnippets+"/"+fileName(site.Host))
	includeFirst(t, vhostSnippets+"/"+site.Host, vhostSnippets+"/default")
}

// locationIncludes includes what the operator wrote for a location.
func locationIncludes(t *text, site route.Site, l route.Location) {
	host := strings.TrimSuffix(fileName(site.Host), ".conf")
	includeFirst(t, locationSnippets+"/"+host+".conf")
	if p := strings.Trim(l.Path, "/"); p != "" {
		includeFirst(t, locationSnippets+"/"+host+","+strings.ReplaceAll(p, "/", ",")+".conf")
	}
	includeFirst(t, vhostSnippets+"/"+site.Host+"_"+pathSum(l.Path)+"_location", vhostSnippets+"/"+site.Host+"_location", vhostSnippets+"/default_location")
}

// overridden includes what stands instead of nagaya's own lines of a location.
func overridden(t *text, site route.Site, l route.Location) bool {
	return includeFirst(t, vhostSnippets+"/"+site.Host+"_"+pathSum(l.Path)+"_location_override")
}

// authFile is the password file of a location; empty for none.
func authFile(s Settings, site route.Site, l route.Location) string {
	names := []string{site.Host + "_" + pathSum(l.Path), site.Host}
	if l.Auth != "" {
		return l.Auth
	}
	for _, name := range names {
		if slices.Contains(s.HostAuth, name) && snippetName(vhostSnippets+"/"+name) {
			return name
		}
	}
	return ""
}

// pathSum is the SHA-1 of a path, by which nginx-proxy names files.
func pathSum(path string) string {
	sum := sha1.Sum([]byte(path))
	return hex.EncodeToString(sum[:])
}
