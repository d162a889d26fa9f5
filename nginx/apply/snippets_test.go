package apply

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/nginx/snippets"
)

// put writes a file of the operator's, and makes the snippets those that are there. An empty
// text removes it.
func (r *rig) put(name, text string) {
	r.t.Helper()
	file := filepath.Join(r.settings.SnippetDir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		r.t.Fatal(err)
	}
	os.Remove(file)
	if text != "" {
		write(r.t, file, text)
	}
	r.list()
}

// list makes the snippets those that are there.
func (r *rig) list() {
	r.t.Helper()
	dir := r.settings.SnippetDir
	files, err := snippets.List(snippets.Options{Own: dir, Vhost: filepath.Join(dir, "vhost.d"), Conf: filepath.Join(dir, "conf.d")})
	if err != nil {
		r.t.Fatal(err)
	}
	r.settings.Snippets = files.Snippets
}

// post sends a body of that size and returns the status.
func (r *rig) post(host string, size int) int {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodPost, r.http(host, "/"), strings.NewReader(strings.Repeat("x", size)))
	if err != nil {
		r.t.Fatal(err)
	}
	return r.do(req).status
}

// What a file of the operator's says is in force instead of nagaya's own values, at its
// level and in the sites, whose labels count for more than a file for all sites.
func TestTheOperatorsValuesHold(t *testing.T) { each(t, testTheOperatorsValuesHold) }

func testTheOperatorsValuesHold(t *testing.T, r *rig) {
	r.run()
	up := backend(t, "one")
	asked := site("asked.test", up)
	asked.Locations[0].Asked = []string{route.AskedBodySize, route.AskedTimeout}
	moved := site("moved.test", backend(t, "two"))
	moved.Locations[0].Path, moved.Locations[0].StripPrefix = "/app", true
	pair := writePair(t, "tls.test")
	secure := withTLS(site("tls.test", up), pair, route.Serve)
	secure.Edge.HSTS = "max-age=300"
	sites := []nestedSite{site("a.test", up), site("b.test", up), asked, moved, secure}
	log := filepath.Join(r.settings.LogDir, "own.log")
	r.put("conf.d/proxy.conf", `
		server_tokens off; client_max_body_size 100m; keepalive_timeout 10s; ssl_protocols TLSv1.3;
		proxy_read_timeout 7s; proxy_buffers 8 32k; proxy_buffering off; proxy_connect_timeout 5s; gzip on;
		server_names_hash_bucket_size 256; map_hash_bucket_size 128; map_hash_max_size 4096;
		proxy_set_header X-Real-IP "operator"; # instead of ours
		proxy_set_header X-Own $proxy_x_forwarded_proto;
		add_header X-Frame-Options DENY always;
		access_log `+log+` vhost;`)
	r.put("vhost.d/a.test_location", "proxy_read_timeout 3s; proxy_buffer_size 64k; proxy_buffers 4 128k; proxy_set_header X-More more; client_max_body_size 1k;")
	r.put("vhost.d/default_location", "proxy_send_timeout 4s; proxy_request_buffering off; proxy_buffering on;")
	r.put("vhost.d/tls.test", "add_header X-Mine yes always; error_page 404 /none; ssl_ciphers HIGH;")
	tree := r.tree(sites...)
	if s := r.serve(tree); len(s.Problems) > 0 || len(s.Quarantined) > 0 {
		t.Fatalf("problems %+v\n%s", s.Problems, tree)
	}
	for _, row := range []struct {
		host string
		size int
		want int
	}{{"a.test", 2 << 10, 413}, {"b.test", 3 << 20, 200}, {"asked.test", 3 << 20, 413}, {"tls.test", 3 << 20, 200}} {
		if got := r.post(row.host, row.size); got != row.want {
			t.Errorf("%d bytes to %s: %d, want %d", row.size, row.host, got, row.want)
		}
	}
	for _, host := range []string{"a.test", "b.test"} {
		if h := r.get(r.http(host, "/")).header; h.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: headers %v", host, h)
		}
	}
	h := r.get(r.https("tls.test", "/")).header
	if h.Get("X-Mine") != "yes" || h.Get("Strict-Transport-Security") != "max-age=300" {
		t.Errorf("headers over HTTPS %v", h)
	}
	if text, err := os.ReadFile(log); err != nil || !strings.Contains(string(text), "b.test 127.0.0.1 - - [") {
		t.Errorf("the log: %q, %v", text, err)
	}
	text := func(host string) string { f, _ := tree.Site(host); return f.Text }
	for _, row := range []struct{ host, has, lacks string }{
		{"a.test", "proxy_set_header X-Forwarded-For", "proxy_read_timeout"},
		{"b.test", "nothing", "client_max_body_size"},
		{"asked.test", "proxy_read_timeout 20s", "proxy_buffering"},
		{"moved.test", "proxy_set_header X-Real-IP operator", "X-Real-IP $remote_addr"},
	} {
		if got := text(row.host); row.has != "nothing" && !strings.Contains(got, row.has) || strings.Contains(got, row.lacks) {
			t.Errorf("%s has %q, and not %q:\n%s", row.host, row.lacks, row.has, got)
		}
	}
}

// A server of the operator's that is the default one answers for unknown names, instead of
// nagaya's.
func TestTheOperatorsDefaultServer(t *testing.T) { each(t, testTheOperatorsDefaultServer) }

func testTheOperatorsDefaultServer(t *testing.T, r *rig) {
	r.run()
	pair := writePair(t, "own.test")
	r.put("conf.d/own.conf", fmt.Sprintf(`
		server { listen %d default_server; server_name _; return 418 "own\n"; }
		server { listen %d ssl default_server; ssl_certificate %s; ssl_certificate_key %s; return 418 "own tls\n"; }`,
		r.settings.HTTPPort, r.settings.HTTPSPort, pair.CertFile, pair.KeyFile))
	if s := r.serve(r.tree(site("a.test", backend(t, "one")))); len(s.Problems) > 0 {
		t.Fatalf("problems %+v", s.Problems)
	}
	r.expect(r.http("unknown.test", "/"), 418, "own")
	r.expect(r.https("unknown.test", "/"), 418, "own tls")
	r.expect(r.http("a.test", "/"), 200, "one")
}

// A file for several sites that nginx refuses costs that file alone: without a version that
// nginx has accepted it is left out, else that one is in force, after a restart too. Sites go on
// changing.
func TestBrokenSharedSnippet(t *testing.T) { each(t, testBrokenSharedSnippet) }

func testBrokenSharedSnippet(t *testing.T, r *rig) {
	r.run()
	one, two := backend(t, "one"), backend(t, "two")
	refused := func(when string, s nginx.Status, code, file, words string) {
		t.Helper()
		if len(s.Problems) != 1 || s.Problems[0].Code != code || !strings.HasSuffix(s.Problems[0].File, file) || !strings.Contains(s.Problems[0].Text, words) || len(s.Quarantined) > 0 {
			t.Errorf("%s: problems %+v, quarantined %+v", when, s.Problems, s.Quarantined)
		}
	}
	own := func(want string) {
		t.Helper()
		if got := r.get(r.http("a.test", "/")).header.Get("X-Own"); got != want {
			t.Errorf("the header of the operator's is %q, want %q", got, want)
		}
	}
	r.put("conf.d/good.conf", "add_header X-Own one;")
	for _, name := range []string{"conf.d/bad.conf", "vhost.d/default", "vhost.d/default_location"} {
		r.put(name, "gzip on;\nno such directive;\n")
		refused("at first", r.serve(r.tree(site("a.test", one), site("b.test", one))), "snippet-not-in-force", name, name+":2), so it is left out")
		r.expect(r.http("a.test", "/"), 200, "one")
		own("one")
		r.put(name, "")
		if s := r.serve(r.tree(site("a.test", one))); len(s.Problems) > 0 {
			t.Errorf("%s is gone: %+v", name, s.Problems)
		}
	}

	// Running: what was accepted last stays.
	r.put("conf.d/good.conf", "add_header X-Own ${")
	refused("running", r.serve(r.tree(site("a.test", two), site("b.test", one))), "snippet-not-in-force", "good.conf", "good.conf:1), so its last accepted version is in force")
	r.expect(r.http("a.test", "/"), 200, "two")
	own("one")

	// After a restart of both, too.
	r.crash()
	if pid := r.find(); pid != 0 {
		if err := r.o.stop(t, t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	r.run()
	refused("restarted", r.serve(r.tree(site("a.test", one), site("c.test", one))), "snippet-not-in-force", "good.conf", "last accepted")
	r.expect(r.http("c.test", "/"), 200, "one")
	own("one")
	r.put("conf.d/good.conf", "add_header X-Own three;")
	if s := r.serve(r.tree(site("a.test", one))); len(s.Problems) > 0 {
		t.Errorf("corrected: %+v", s.Problems)
	}
	own("three")

	// A site at fault beside it is found too.
	bad := site("bad.test", one)
	bad.TLS, bad.Cert = true, writePair(t, "bad.test")
	write(t, bad.Cert.CertFile, "no certificate")
	r.put("conf.d/good.conf", "add_header X-Own four; oops;")
	s := r.serve(r.tree(site("a.test", two), bad))
	if len(s.Quarantined) != 1 || s.Quarantined[0].Host != "bad.test" || !hasProblem(s, "snippet-not-in-force") {
		t.Errorf("problems %+v", s.Problems)
	}
	r.expect(r.http("a.test", "/"), 200, "two")
	own("three")
}

// What a refused file may have restricted is closed while no version of it has been accepted.
func TestBrokenSnippetThatMayRestrict(t *testing.T) { each(t, testBrokenSnippetThatMayRestrict) }

func testBrokenSnippetThatMayRestrict(t *testing.T, r *rig) {
	r.run()
	up := backend(t, "one")
	sites := func() nginx.Tree { return r.tree(site("a.test", up), site("b.test", up)) }
	for _, row := range []struct{ name, text string }{
		{"conf.d/bad.conf", "allow 10.0.0.0/8; deny all; oops;"},
		{"conf.d/bad.conf", "auth_basic \"no end;"},
		{"vhost.d/default", "location /x { deny all } oops;"},
		{"vhost.d/default_location", "auth_basic x; auth_basic_user_file /none; oops;"},
	} {
		r.put(row.name, row.text)
		s := r.serve(sites())
		if !hasProblem(s, "snippet-not-in-force") || len(s.Quarantined) > 0 {
			t.Errorf("%s: %+v", row.name, s.Problems)
		}
		r.expect(r.http("a.test", "/"), 503, "closed")
		r.put(row.name, "")
		r.serve(sites())
		r.expect(r.http("a.test", "/"), 200, "one")
	}
	// A server of the operator's comes before the sites of its names, which do not open without it.
	r.put("conf.d/bad.conf", fmt.Sprintf("server { listen %d; server_name a.test .w.test; deny all; } oops;", r.settings.HTTPPort))
	r.serve(r.tree(site("a.test", up), site("b.test", up), site("w.test", up), site("*.test", up)))
	for host, want := range map[string]int{"a.test": 503, "b.test": 200, "w.test": 503, "x.w.test": 403, "c.test": 200} {
		if got := r.get(r.http(host, "/")).status; got != want {
			t.Errorf("%s beside a server of the operator's: %d, want %d", host, got, want)
		}
	}
	r.put("conf.d/bad.conf", "")
	r.put("vhost.d/default", "rewrite ^/ /closed; oops;")
	r.serve(sites())
	r.expect(r.http("a.test", "/"), 503, "closed")
	r.put("vhost.d/default", "")
	// What is only in a server of other names closes no site.
	r.put("conf.d/bad.conf", "server { listen 127.0.0.1:1; deny all; } oops;")
	r.serve(sites())
	r.expect(r.http("a.test", "/"), 200, "one")
	r.put("conf.d/bad.conf", "")

	// One site's file that is broken from the beginning does not open it.
	r.put("vhost.d/new.test", "allow 10.0.0.0/8; deny all; oops;")
	if s := r.serve(r.tree(site("a.test", up), site("new.test", up))); len(s.Quarantined) != 1 || s.Quarantined[0].Host != "new.test" {
		t.Errorf("quarantined %+v", s.Quarantined)
	}
	r.expect(r.http("a.test", "/"), 200, "one")
	r.expect(r.http("new.test", "/"), 404, "")
}

// A file that cannot be read costs what a refused one costs: its last accepted version is in
// force, or what it is for is closed, and all else goes on changing.
func TestUnreadableSnippet(t *testing.T) { each(t, testUnreadableSnippet) }

func testUnreadableSnippet(t *testing.T, r *rig) {
	r.run()
	one, two := backend(t, "one"), backend(t, "two")
	file := func(name string) string { return filepath.Join(r.settings.SnippetDir, name) }
	spoil := func(name string) {
		t.Helper()
		os.Remove(file(name))
		if err := os.Symlink("nowhere", file(name)); err != nil {
			t.Fatal(err)
		}
		r.list()
	}
	r.put("conf.d/good.conf", "add_header X-Own one;")
	r.put("vhost.d/b.test", "deny all;")
	r.serve(r.tree(site("a.test", one), site("b.test", one)))
	for _, name := range []string{"conf.d/good.conf", "vhost.d/b.test"} {
		spoil(name)
	}
	s := r.serve(r.tree(site("a.test", two), site("b.test", two), site("c.test", one)))
	if len(s.Problems) != 2 || !strings.Contains(fmt.Sprint(s.Problems), "the file cannot be read: no such file or directory") {
		t.Errorf("problems %+v", s.Problems)
	}
	r.expect(r.http("a.test", "/"), 200, "two")
	r.expect(r.http("b.test", "/"), 403, "")
	r.expect(r.http("c.test", "/"), 200, "one")
	if got := r.get(r.http("a.test", "/")).header.Get("X-Own"); got != "one" {
		t.Errorf("the header of the operator's is %q", got)
	}
	r.put("conf.d/good.conf", "add_header X-Own two;")
	r.put("vhost.d/b.test", "")
	spoil("conf.d/new.conf")
	r.serve(r.tree(site("a.test", two)))
	r.expect(r.http("a.test", "/"), 503, "closed")
}

// What a file includes is a part of its copy: when that is broken the last accepted version is in
// force, and where it has none, it may say who is let in.
func TestIncludedSnippet(t *testing.T) { each(t, testIncludedSnippet) }

func testIncludedSnippet(t *testing.T, r *rig) {
	r.run()
	one, two := backend(t, "one"), backend(t, "two")
	dir := t.TempDir()
	part := filepath.Join(dir, "part.inc")
	write(t, part, "add_header X-Own one;")
	r.put("conf.d/good.conf", "include "+part+"; include "+dir+"/none/*.conf;")
	r.serve(r.tree(site("a.test", one)))
	write(t, part, "add_header X-Own two; oops;")
	r.list()
	if s := r.serve(r.tree(site("a.test", two), site("b.test", one))); len(s.Problems) != 1 || !strings.Contains(s.Problems[0].Text, "last accepted") {
		t.Errorf("problems %+v", s.Problems)
	}
	for host, want := range map[string]string{"a.test": "two", "b.test": "one"} {
		r.expect(r.http(host, "/"), 200, want)
		if got := r.get(r.http(host, "/")).header.Get("X-Own"); got != "one" {
			t.Errorf("%s: the header of the operator's is %q", host, got)
		}
	}
	r.put("conf.d/good.conf", "")
	r.serve(r.tree(site("a.test", one)))
	for _, text := range []string{"include part.inc;", "include " + dir + "/nowhere.inc;", "include " + part + ";"} {
		write(t, part, "deny all; oops {")
		r.put("conf.d/new.conf", text)
		r.serve(r.tree(site("a.test", one)))
		r.expect(r.http("a.test", "/"), 503, "closed")
		r.put("conf.d/new.conf", "")
		r.serve(r.tree(site("a.test", one)))
		r.expect(r.http("a.test", "/"), 200, "one")
	}
}
