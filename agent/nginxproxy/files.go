package nginxproxy

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// File is a file that users of nginx-proxy mount and that has no effect here.
type File struct {
	// Pattern is the file's path, with a star where there may be several.
	Pattern      string
	Here, Remedy string
}

// Files are those files (nginx-proxy, docs/README.md).
var Files = []File{
	{"/etc/nginx/proxy.conf", "the headers that a container gets are nagaya's own", "put single directives into vhost.d/default_location"},
	{"/etc/nginx/network_internal.conf", "NETWORK_ACCESS=internal always means the private and loopback ranges", "put other ranges into the label nagaya.allow"},
	{"/etc/nginx/toplevel.conf.d/*.conf", "nagaya writes the main file of nginx", "put stream servers into stream.d of nginx.snippet-dir, or use the label nagaya.listen"},
	{"/usr/share/nginx/html/errors/50x.html", "the pages for errors are nagaya's own", "set error_page in vhost.d"},
	{"/etc/nginx/dhparam/dhparam.pem", "the ciphers that are offered by default need none", "for clients that know no elliptic curves put NAME.dhparam.pem beside the certificate NAME.crt"},
}

// The files in vhost.d are, as nginx-proxy has them:
//
//	HOST, else default                       lines for the server of the host
//	HOST_SHA1_location, else HOST_location,  lines for the location of the path with that SHA-1,
//	else default_location                    or for every location
//	HOST_SHA1_location_override              in place of that location's own lines

// The files in vhost.d are, as nginx-proxy names them:
//
//	HOST, else default                                            the server of the host
//	HOST_SHA1_location, else HOST_location, else default_location the location of the path with
//	                                                              that SHA-1
//	HOST_SHA1_location_override                                   in place of its own lines

// SiteFiles names the files in vhost.d for the server of a host; the first that exists
// counts.
func SiteFiles(host string) []string { return []string{host, "default"} }

// LocationFiles names the files in vhost.d for a location; the first that exists counts.
func LocationFiles(host, path string) []string {
	return []string{host + "_" + pathSum(path) + "_location", host + "_location", "default_location"}
}

// OverrideFile names the file in vhost.d that stands in place of a location's own lines.
func OverrideFile(host, path string) string { return host + "_" + pathSum(path) + "_location_override" }

// PasswordFiles names the files in the htpasswd directory for a location; the first that
// exists counts.
func PasswordFiles(host, path string) []string { return []string{host + "_" + pathSum(path), host} }

// HostOf is the host in the name of a file that one of these functions returns; it may be any
// other text for another file.
func HostOf(file string) string {
	file = strings.TrimSuffix(strings.TrimSuffix(file, "_override"), "_location")
	if i := len(file) - sha1.Size*2 - 1; i > 0 && file[i] == '_' && strings.Trim(file[i+1:], "0123456789abcdef") == "" {
		file = file[:i]
	}
	return file
}

// pathSum is the SHA-1 of a path.
func pathSum(path string) string {
	sum := sha1.Sum([]byte(path))
	return hex.EncodeToString(sum[:])
}

// WithoutEffect names the files that users of nginx-proxy mount and that do nothing here.
// mounted reports whether there are files that fit a pattern.
func WithoutEffect(mounted func(pattern string) bool) []problem.Problem {
	var all []problem.Problem
	for _, f := range Files {
		if mounted(f.Pattern) {
			all = append(all, problem.Problem{
				Code: "nginx-proxy-unsupported", Severity: problem.Warning, Subject: "file " + f.Pattern, File: f.Pattern,
				Text: fmt.Sprintf("%s has no effect: %s", f.Pattern, f.Here), Hint: f.Remedy,
			})
		}
	}
	return all
}
