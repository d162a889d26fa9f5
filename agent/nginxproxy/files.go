package nginxproxy

import (
	"crypto/sha1"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// File is a file that users of nginx-proxy mount and that has no effect here.
type File struct {
	// Pattern is the file's path, with a star where there may be several.
	Pattern      string
	Here, Remedy string
}

// ConfigDir is where nginx-proxy's users mount single files.
const ConfigDir = "/etc/nginx"

// Files are those files (nginx-proxy, docs/README.md).
var Files = []File{
	{"/etc/nginx/toplevel.conf.d/*.conf", "nagaya writes the main file of nginx", "put stream servers into stream.d of nginx.snippet-dir, or use the label nagaya.listen"},
	{"/usr/share/nginx/html/errors/50x.html", "the pages for errors are nagaya's own", "set error_page in vhost.d"},
	{"/etc/nginx/dhparam/dhparam.pem", "the ciphers that are offered by default need none", "for clients that know no elliptic curves put NAME.dhparam.pem beside the certificate NAME.crt"},
}

// The files in vhost.d are, as nginx-proxy names them:
//
//	HOST, else default                                            the server of the host
//	HOST_SHA1_location, else HOST_location, else default_location the location of the path with
//	                                                              that SHA-1
//	HOST_SHA1_location_override, for / else HOST_location_override in place of that location
//
// HOST is written as in VIRTUAL_HOST, and its SHA-1 if that is an expression; the SHA-1 of a path
// is of what stands in VIRTUAL_PATH, signs and spaces included.

// SiteFiles names the files in vhost.d for the server of a host; the first that exists
// counts.
func SiteFiles(s route.Site) []string { return append(ownFiles(s), "default") }

// LocationFiles names the files in vhost.d for a location; the first that exists counts.
func LocationFiles(s route.Site, l route.Location) []string {
	all := append(withPath("_", ownFiles(s), l), ownFiles(s)...)
	return suffixed(append(all, "default"), "_location")
}

// OverrideFiles names the files in vhost.d that stand in place of a location; the first that
// exists counts.
func OverrideFiles(s route.Site, l route.Location) []string {
	all := withPath("_", ownFiles(s), l)
	if isRoot(l) {
		all = append(all, ownFiles(s)...)
	}
	return suffixed(all, "_location_override")
}

// PasswordFiles names the files in the htpasswd directory for a location; the first that
// exists counts.
func PasswordFiles(s route.Site, l route.Location) []string {
	return append(withPath("_", beginnings(s), l), beginnings(s)...)
}

// beginnings are what the names of a site's files may begin with.
func beginnings(s route.Site) []string {
	all := []string{s.File, certs.FileName(s.Host), s.Host}
	return slices.Compact(slices.DeleteFunc(all, func(name string) bool { return name == "" }))
}

// ownFiles are those which are not the name of a file for a path of another host.
func ownFiles(s route.Site) []string {
	return slices.DeleteFunc(beginnings(s), func(name string) bool { return HostOf(name) != name })
}

// Upstreams are the names that nginx-proxy gives to the containers of a location, with and without
// SHA1_UPSTREAM_NAME.
func Upstreams(s route.Site, l route.Location) []string {
	sum := sha1.Sum([]byte(s.Host))
	all := append(beginnings(s), hex.EncodeToString(sum[:]))
	if isRoot(l) {
		return all
	}
	return withPath("-", all, l)
}

// isRoot reports whether a location is / itself, and no expression.
func isRoot(l route.Location) bool {
	return l.Path == "/" && (l.Match == route.Segments || l.Match == route.Prefix)
}

// withPath adds the SHA-1 of the ways in which a location's path is written in VIRTUAL_PATH.
func withPath(separator string, begin []string, l route.Location) (all []string) {
	signs := map[route.Match][]string{route.Exact: {"= ", "="}, route.Regex: {"~ ", "~"}, route.RegexFold: {"~* ", "~*"}}[l.Match]
	if signs == nil {
		signs = []string{"", "^~ ", "^~"}
	}
	for _, name := range begin {
		for _, sign := range signs {
			sum := sha1.Sum([]byte(sign + l.Path))
			all = append(all, name+separator+hex.EncodeToString(sum[:]))
		}
	}
	return all
}

func suffixed(names []string, suffix string) (all []string) {
	for _, name := range names {
		all = append(all, name+suffix)
	}
	return all
}

// HasPassword reports whether one of these password files is for a site, or for one of its paths.
func HasPassword(files []string, s route.Site) bool {
	return slices.ContainsFunc(files, func(file string) bool {
		return slices.ContainsFunc(beginnings(s), func(name string) bool { return HostOfPasswords(file) == name })
	})
}

// Realm is the name under which browsers keep the password in one of those files: nginx-proxy's.
func Realm(s route.Site, l route.Location, file string) string {
	host := HostOfPasswords(file)
	expression := l.Match == route.Regex || l.Match == route.RegexFold
	switch {
	case file == host && (host == s.File && host != s.Host && !strings.Contains(host, ".") || strings.HasPrefix(s.Host, "~")), file != host && expression:
		return "Restricted access"
	case file == host:
		return "Restricted " + host
	}
	return "Restricted " + host + l.Path
}

// HostOf is the host in the name of a file in vhost.d; it may be any other text for another file.
func HostOf(file string) string {
	return HostOfPasswords(strings.TrimSuffix(strings.TrimSuffix(file, "_override"), "_location"))
}

// HostOfPasswords is the host in the name of a password file.
func HostOfPasswords(file string) string {
	if i := len(file) - sha1.Size*2 - 1; i > 0 && file[i] == '_' && strings.Trim(file[i+1:], "0123456789abcdef") == "" {
		file = file[:i]
	}
	return file
}

// WithoutEffect names the files that users of nginx-proxy mount and that do nothing here.
// mounted reports whether there are files that fit a pattern.
func WithoutEffect(mounted func(pattern string) bool) []problem.Problem {
	var all []problem.Problem
	for _, f := range Files {
		if mounted(f.Pattern) {
			p := problem.Of("file "+f.Pattern, "nginx-proxy-unsupported", f.Remedy, "%s has no effect: %s", f.Pattern, f.Here)
			p.File = f.Pattern
			all = append(all, p.AsWarning())
		}
	}
	return all
}
