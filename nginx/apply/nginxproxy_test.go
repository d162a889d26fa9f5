package apply

import (
	"crypto/sha1"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/nginx/snippets"
)

func sum(text string) string { return fmt.Sprintf("%x", sha1.Sum([]byte(text))) }

// Files in vhost.d and htpasswd are named as nginx-proxy names them: by the SHA-1 of a host that
// is an expression and of a path as it is written, and never by a pattern.
func TestFilesAsNginxProxyNamesThem(t *testing.T) { each(t, testFilesAsNginxProxyNamesThem) }

func testFilesAsNginxProxyNamesThem(t *testing.T, r *rig) {
	ofExpression := sum("~^(a|b)[.]re[.]test$")
	vhost := t.TempDir()
	up := backend(t, "served")
	at := func(path string, match route.Match) nestedLocation {
		l := spot(path, up)
		l.Match = match
		return l
	}
	host := func(name, file string, more ...nestedLocation) nestedSite {
		s := site(name, up)
		s.File, s.Locations = file, append(s.Locations, more...)
		return s
	}
	sites := []nestedSite{
		host("a.re.test", ofExpression), host("~^.*[.]re2[.]test$", ""), host("dot.test", ".dot.test"), host("*.dot.test", ".dot.test"),
		host("*.w.test", ""), host("foo.w.test", ""), host("[fd00::1]", ""),
		host("path.test", "", at("^/x", route.Regex), at("^/y", route.Regex), at("^/z", route.RegexFold), at("/is", route.Exact), at("/foo/", route.Prefix), at("/free/", route.Prefix)),
		host("over.test", "", at("/foo/", route.Prefix)), host("over.w.test", "", at("^/x", route.Regex), at("/is", route.Exact)),
		host("both.test", ""),
	}
	passwords := []string{ofExpression, sum("~^.*[.]re2[.]test$"), ".dot.test", strings.Repeat("n", 45) + ".test"}
	for _, path := range []string{"~ ^/x", "~^/y", "~* ^/z", "= /is", "/foo/"} {
		passwords = append(passwords, "path.test_"+sum(path))
	}
	slices.Sort(passwords)
	r.settings.HostAuth, r.settings.Passwords = true, passwords
	for _, name := range passwords {
		write(t, filepath.Join(r.settings.HtpasswdDir, name), "anna:{PLAIN}secret\n")
	}
	for name, text := range map[string]string{
		"*.w.test":          "add_header X-Of wildcard always;",
		ofExpression:        "add_header X-Of expression always;",
		".dot.test":         "add_header X-Of dot always;",
		"[fd00::1]":         "add_header X-Of address always;",
		"*.w.test_location": "add_header X-Of wildcard-location always;",
		"path.test_" + sum("~ ^/x") + "_location":            "add_header X-Of path always;",
		"over.test_location_override":                        "location / { return 418; }\nlocation @more { return 404; }",
		"over.w.test_" + sum("~ ^/x") + "_location_override": "location ~ ^/x { return 418; }",
		"over.w.test_" + sum("= /is") + "_location_override": "location = /is { return 418; }",
		"both.test_location_override":                        "location / { return 503; }",
		"both.test_" + sum("/") + "_location_override":       "location / { return 418; }",
	} {
		write(t, filepath.Join(vhost, name), text+"\n")
	}
	files, err := snippets.List(snippets.Options{Vhost: vhost})
	if err != nil {
		t.Fatal(err)
	}
	r.settings.Snippets = files.Snippets
	r.run()
	r.serve(r.tree(sites...))
	for _, row := range []struct {
		host, path string
		status     int
		of         string
	}{
		{"a.re.test", "/", 401, "expression"},
		{"x.re2.test", "/", 401, ""},
		{"dot.test", "/", 401, "dot"},
		{"x.dot.test", "/", 401, "dot"},
		{"x.w.test", "/", 200, "wildcard-location"},
		{"foo.w.test", "/", 200, ""},
		{"[fd00::1]", "/", 200, "address"},
		{"path.test", "/x", 401, "path"},
		{"path.test", "/y", 401, ""},
		{"path.test", "/Z", 401, ""},
		{"path.test", "/is", 401, ""},
		{"path.test", "/foo/a", 401, ""},
		{"path.test", "/free/", 200, ""},
		{"path.test", "/", 200, ""},
		{"over.test", "/", 418, ""},
		{"over.test", "/foo/", 200, ""},
		{"over.w.test", "/xy", 418, ""},
		{"over.w.test", "/is", 418, ""},
		{"over.w.test", "/", 200, ""},
		{"both.test", "/", 418, ""},
	} {
		if got := r.get(r.http(row.host, row.path)); got.status != row.status || got.header.Get("X-Of") != row.of {
			t.Errorf("%s%s: %d, of %q; want %d, %q", row.host, row.path, got.status, got.header.Get("X-Of"), row.status, row.of)
		}
	}
	through := nestedSite{Host: "a.re.test", File: ofExpression, Family: "own", Plain: route.Redirect, Passthrough: &nestedPassthrough{Pool: pool(up)}}
	if tree := render(r.settings, r.o.Build, nestedTable{Sites: []nestedSite{through}}); len(tree.Problems) == 0 {
		t.Error("TLS of a host with a password file is passed through")
	}
}
