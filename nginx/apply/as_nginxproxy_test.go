package apply

import (
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/labels"
	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/nginx/snippets"
)

// proxied is what stands in nginx-proxy's place in a test: its own environment, containers
// with theirs (NAME=VALUE, a label where NAME has a dot), and pairs of certificates.
type proxied struct {
	env        []string
	containers [][]string
	pairs      []certs.Pair
	change     func(*nginx.Settings) // may be nil
}

// configuration is what nginx-proxy's environment says, on the rig's ports and in its directory.
func (r *rig) configuration(env []string) config.Config {
	r.t.Helper()
	on, _ := config.Find("nginx-proxy")
	resolved, err := nginxproxy.Resolve(env, []config.Value{config.FromFlag(on, "true")})
	if err != nil {
		r.t.Fatal(err)
	}
	c := resolved.Config
	c.Nginx.HTTPPort, c.Nginx.HTTPSPort = r.settings.HTTPPort, r.settings.HTTPSPort
	return c
}

// asNginxProxy is the tree of that. Every container answers at the address of up.
func (r *rig) asNginxProxy(p proxied, up netip.AddrPort) nginx.Tree {
	r.t.Helper()
	c := r.configuration(p.env)
	s, own := nginx.Configured(c, nginx.Host{User: r.settings.User}), r.settings
	s.StateDir, s.RunDir, s.LogDir, s.AccessLog, s.WorkerProcesses = own.StateDir, own.RunDir, own.LogDir, own.AccessLog, own.WorkerProcesses
	s.SnippetDir, s.HtpasswdDir, s.HostAuth, s.Passwords = own.SnippetDir, own.HtpasswdDir, own.HostAuth, own.Passwords
	if p.change != nil {
		p.change(&s)
	}
	var list []tasks.Container
	for i, words := range p.containers {
		set, env := map[string]string{}, []string{fmt.Sprint("VIRTUAL_PORT=", up.Port())}
		for _, w := range words {
			if name, value, _ := strings.Cut(w, "="); strings.Contains(name, ".") {
				set[name] = value
			} else {
				env = append(env, w)
			}
		}
		one := tasks.Container{ID: fmt.Sprintf("%064x", i+1), Name: fmt.Sprint("c", i), State: tasks.Running, Health: tasks.Healthy, Network: tasks.Host, CreatedAt: time.Unix(1, 0), StartedAt: time.Unix(1, 0)}
		one.Labels, one.Env, _ = tasks.Keep(set, env, nginxproxy.Knows)
		list = append(list, one)
	}
	in := route.Input{
		Snapshot: tasks.Snapshot{Complete: true, Heard: true, Containers: list}, Now: time.Unix(1e6, 0), Reach: route.Reach{},
		Requests: labels.Requests(list, labels.Configured(c), nginxproxy.Reader(c.Routes.ShareHosts)),
		Certs:    certs.Inventory{Complete: true, Pairs: p.pairs}, Options: route.Configured(c), Nginx: route.NginxNetwork{Host: up.Addr()},
	}
	for _, probe := range route.Build(in).Probes {
		in.Reach[probe] = route.Reached{State: route.Reachable}
	}
	table := route.Build(in)
	for _, problem := range table.Problems {
		if problem.Code != "no-certificate" {
			r.t.Errorf("%+v", problem)
		}
	}
	return nginx.Render(s, r.o.Build, table.Shape, table.Pools)
}

// named is a pair of that name.
func named(name string, p certs.Pair) certs.Pair {
	p.Name = name
	return p
}

// What nginx-proxy answers where there is no site, or none over that protocol.
func TestUnservedAsNginxProxy(t *testing.T) {
	r := newRig(t)
	r.run()
	up := backend(t, "served")
	own := writePair(t, "https-and-http.test", "https-only.test")
	def := named("default", writePair(t, "default.invalid"))
	containers := [][]string{
		{"VIRTUAL_HOST=https-and-http.test"},
		{"VIRTUAL_HOST=https-only.test", "HTTPS_METHOD=nohttp"},
		{"VIRTUAL_HOST=http-only.test", "HTTPS_METHOD=nohttps"},
		{"VIRTUAL_HOST=missing.test"},
		{"VIRTUAL_HOST=nohttp-missing.test", "HTTPS_METHOD=nohttp"},
		{"VIRTUAL_HOST=untrusting.test", "HTTPS_METHOD=nohttp", "com.github.nginx-proxy.nginx-proxy.trust-default-cert=false"},
		{"VIRTUAL_HOST=closed.test", "ENABLE_HTTP_ON_MISSING_CERT=false", "com.github.nginx-proxy.nginx-proxy.trust-default-cert=false"},
		{"VIRTUAL_HOST=nohttp-closed.test", "HTTPS_METHOD=nohttp", "ENABLE_HTTP_ON_MISSING_CERT=false", "com.github.nginx-proxy.nginx-proxy.trust-default-cert=false"},
	}
	const refused = 0
	for _, row := range []struct {
		name  string
		env   []string
		pairs []certs.Pair
		want  string // host, status over plain HTTP, status over HTTPS
	}{
		{"with a default certificate", nil, []certs.Pair{own, def}, `https-and-http.test 301 200, https-only.test 503 200, http-only.test 200 503, missing.test 301 200,
			nohttp-missing.test 503 200, untrusting.test 200 0, closed.test 301 0, nohttp-closed.test 503 0, unknown.test 503 503`},
		{"that is not trusted", []string{"TRUST_DEFAULT_CERT=false"}, []certs.Pair{own, def}, `https-and-http.test 301 200, https-only.test 503 200, http-only.test 200 503,
			missing.test 200 0, nohttp-missing.test 200 0, unknown.test 503 503`},
		{"without", nil, []certs.Pair{own}, `https-and-http.test 301 200, https-only.test 503 200, http-only.test 200 0, missing.test 200 0, nohttp-missing.test 200 0, closed.test 301 0, unknown.test 503 0`},
		{"without HTTP", []string{"HTTPS_METHOD=nohttp"}, []certs.Pair{own, def}, `https-and-http.test 503 200, missing.test 503 200, untrusting.test 200 0, unknown.test 503 503`},
		{"without HTTPS", []string{"HTTPS_METHOD=nohttps"}, nil, `https-and-http.test 200 0, missing.test 200 0, unknown.test 503 0`},
	} {
		r.serve(r.asNginxProxy(proxied{env: row.env, containers: containers, pairs: row.pairs}, up))
		for want := range strings.SplitSeq(row.want, ",") {
			var host string
			var plain, secure int
			fmt.Sscan(want, &host, &plain, &secure)
			if got := r.get(r.http(host, "/")); got.status != plain {
				t.Errorf("%s: http://%s: %d %s, want %d", row.name, host, got.status, got.body, plain)
			}
			got := r.get(r.https(host, "/"))
			if got.status != secure || secure == refused && !strings.Contains(got.body, "unrecognized name") {
				t.Errorf("%s: https://%s: %d %s, want %d", row.name, host, got.status, got.body, secure)
			}
		}
	}
}

// Requests other than GET are redirected as nginx-proxy does.
func TestRedirectsAsNginxProxy(t *testing.T) {
	r := newRig(t)
	r.run()
	up, p := backend(t, "served"), writePair(t, "a.test", "b.test")
	containers := [][]string{{"VIRTUAL_HOST=a.test"}, {"VIRTUAL_HOST=b.test", "com.github.nginx-proxy.nginx-proxy.non-get-redirect=307"}}
	for env, want := range map[string][]int{"": {301, 301, 301, 301, 301, 307}, "NON_GET_REDIRECT=308": {301, 301, 308, 301, 301, 307}} {
		r.serve(r.asNginxProxy(proxied{env: []string{env}, containers: containers, pairs: []certs.Pair{p}}, up))
		var got []int
		for _, host := range []string{"a.test", "b.test"} {
			for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
				req, _ := http.NewRequest(method, r.http(host, "/"), nil)
				got = append(got, r.do(req).status)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", env, got, want)
		}
	}
}

// Sites tell nginx's version as nginx-proxy's do; what is no site does not.
func TestServerTokensAsNginxProxy(t *testing.T) {
	r := newRig(t)
	r.run()
	r.serve(r.asNginxProxy(proxied{containers: [][]string{{"VIRTUAL_HOST=on.test"}, {"VIRTUAL_HOST=off.test", "SERVER_TOKENS=off"}}}, backend(t, "served")))
	for host, want := range map[string]string{"on.test": "nginx/" + r.o.Build.Version.String(), "off.test": "nginx", "unknown.test": "nginx"} {
		if got := r.get(r.http(host, "/")).header.Get("Server"); got != want {
			t.Errorf("%s: Server is %q, want %q", host, got, want)
		}
	}
}

// headersBackend starts a server that answers with the request's headers, a line for each.
func headersBackend(t *testing.T) netip.AddrPort {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprintf(w, "Host: %s\n", q.Host)
		q.Header.Write(w)
	}))
	t.Cleanup(s.Close)
	return addrOf(s)
}

// What containers are told of their clients.
func TestHeadersAsNginxProxy(t *testing.T) {
	r := newRig(t)
	r.run()
	p := writePair(t, "a.test")
	containers := [][]string{
		{"VIRTUAL_HOST=a.test"},
		{"VIRTUAL_HOST=plain.test", "HTTPS_METHOD=nohttps"},
		{"VIRTUAL_HOST=closing.test", "HTTPS_METHOD=nohttps", "com.github.nginx-proxy.nginx-proxy.keepalive=disabled"},
		{"VIRTUAL_HOST=172.20.0.4,[FD00::0004]", "HTTPS_METHOD=nohttps"},
	}
	for _, row := range []struct {
		env, url, header string
		want             []string // lines that the container gets; a "-" in front: does not get
		status           int
	}{
		{"", r.http("plain.test", "/"), "X-Forwarded-Proto: wss", []string{"X-Forwarded-Proto: http", "-Connection:"}, 200},
		{"TRUST_DOWNSTREAM_PROXY=true", r.http("plain.test", "/"), "X-Forwarded-Proto: wss", []string{"X-Forwarded-Proto: wss", "X-Forwarded-Ssl: on"}, 200},
		{"TRUST_DOWNSTREAM_PROXY=true", r.http("plain.test", "/"), "X-Forwarded-Proto: f00", []string{"X-Forwarded-Proto: f00", "X-Forwarded-Ssl: off"}, 200},
		{"TRUST_DOWNSTREAM_PROXY=true", r.http("plain.test", "/"), "X-Forwarded-Proto: f00, https", []string{"X-Forwarded-Proto: http", "X-Forwarded-Ssl: off"}, 200},
		{"TRUST_DOWNSTREAM_PROXY=true", r.http("plain.test", "/"), "X-Forwarded-Port: 1234", []string{"X-Forwarded-Port: 1234"}, 200},
		{"TRUST_DOWNSTREAM_PROXY=true", r.http("a.test", "/"), "X-Forwarded-Proto: wss", []string{"X-Forwarded-Proto: wss"}, 200},
		{"TRUST_DOWNSTREAM_PROXY=true", r.http("a.test", "/"), "X-Forwarded-Proto: f00", nil, 301}, // what is not HTTPS stays so
		{"TRUST_DOWNSTREAM_PROXY=true", r.https("a.test", "/"), "X-Forwarded-Proto: f00", []string{"X-Forwarded-Proto: f00", "X-Forwarded-Ssl: on"}, 200},
		{"", r.http("closing.test", "/"), "", []string{"Connection: close", "X-Real-Ip: 127.0.0.1"}, 200},
		{"", r.http("closing.test", "/"), "Upgrade: websocket", []string{"Connection: upgrade", "Upgrade: websocket"}, 200},
		{"", r.http("172.20.0.4", "/"), "", []string{"Host: 172.20.0.4"}, 200},
		{"", r.http("[fd00::4]", "/"), "", []string{"Host: [fd00::4]"}, 200},
		{"", r.http("[fd00::5]", "/"), "", nil, 503},
	} {
		r.serve(r.asNginxProxy(proxied{env: []string{row.env}, containers: containers, pairs: []certs.Pair{p}}, headersBackend(t)))
		req, _ := http.NewRequest(http.MethodGet, row.url, nil)
		if name, value, ok := strings.Cut(row.header, ": "); ok {
			req.Header.Set(name, value)
		}
		got := r.do(req)
		if got.status != row.status {
			t.Errorf("%s %s %q: %d %s, want %d", row.env, row.url, row.header, got.status, got.body, row.status)
		}
		for _, want := range row.want {
			line, not := strings.CutPrefix(want, "-")
			if strings.Contains("\n"+strings.ReplaceAll(got.body, "\r", ""), "\n"+line) == not {
				t.Errorf("%s %s %q: %q in %q", row.env, row.url, row.header, want, got.body)
			}
		}
	}
}

// A load balancer says by the PROXY protocol at which port its client came.
func TestPortByProxyProtocolAsNginxProxy(t *testing.T) {
	r := newRig(t)
	r.run()
	r.serve(r.asNginxProxy(proxied{env: []string{"ENABLE_PROXY_PROTOCOL=true"}, containers: [][]string{{"VIRTUAL_HOST=a.test"}}}, headersBackend(t)))
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.settings.HTTPPort))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(c, "PROXY TCP4 192.0.2.7 203.0.113.1 40000 8080\r\nGET / HTTP/1.0\r\nHost: a.test\r\n\r\n")
	if b, err := io.ReadAll(c); err != nil || !strings.Contains(string(b), "X-Forwarded-Port: 8080") {
		t.Errorf("%v, %q", err, b)
	}
}

// A password file's realm is nginx-proxy's.
func TestRealmsAsNginxProxy(t *testing.T) {
	r := newRig(t)
	r.settings.HostAuth, r.settings.Passwords = true, []string{"a.test", "b.test_" + fmt.Sprintf("%x", sha1.Sum([]byte("/foo/")))}
	for _, f := range r.settings.Passwords {
		write(t, filepath.Join(r.settings.HtpasswdDir, f), "u:{PLAIN}p\n")
	}
	r.run()
	r.serve(r.asNginxProxy(proxied{containers: [][]string{{"VIRTUAL_HOST=a.test"}, {"VIRTUAL_HOST=b.test", "VIRTUAL_PATH=/foo/"}}}, backend(t, "served")))
	for url, want := range map[string]string{r.http("a.test", "/"): "Restricted a.test", r.http("b.test", "/foo/x"): "Restricted b.test/foo/"} {
		if got := r.get(url); got.status != 401 || got.header.Get("WWW-Authenticate") != fmt.Sprintf("Basic realm=%q", want) {
			t.Errorf("%s: %d %q, want the realm %q", url, got.status, got.header.Get("WWW-Authenticate"), want)
		}
	}
}

// Challenges of ACME are answered over plain HTTP alone, before everything else.
func TestChallengesAsNginxProxy(t *testing.T) { each(t, testChallengesAsNginxProxy) }

func testChallengesAsNginxProxy(t *testing.T, r *rig) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, ".well-known/acme-challenge"), 0o755); err != nil {
		t.Fatal(err)
	}
	const token = "/.well-known/acme-challenge/a_token-1"
	write(t, filepath.Join(dir, token), "answer")
	write(t, filepath.Join(dir, ".well-known/secret"), "secret")
	r.settings.HostAuth, r.settings.Passwords = true, []string{"password.test"}
	write(t, filepath.Join(r.settings.HtpasswdDir, "password.test"), "u:{PLAIN}p\n")
	r.run()
	p := writePair(t, "web.test", "off.test", "on.test", "nohttp.test", "noredirect.test", "off-noredirect.test")
	containers := [][]string{
		{"VIRTUAL_HOST=web.test"},
		{"VIRTUAL_HOST=off.test", "ACME_HTTP_CHALLENGE_LOCATION=false"},
		{"VIRTUAL_HOST=on.test", "ACME_HTTP_CHALLENGE_LOCATION=true"},
		{"VIRTUAL_HOST=noredirect.test", "HTTPS_METHOD=noredirect"},
		{"VIRTUAL_HOST=off-noredirect.test", "HTTPS_METHOD=noredirect", "ACME_HTTP_CHALLENGE_LOCATION=false"},
		{"VIRTUAL_HOST=nohttp.test", "HTTPS_METHOD=nohttp"},
		{"VIRTUAL_HOST=password.test"},
		{"VIRTUAL_HOST=internal.test", "NETWORK_ACCESS=internal"},
	}
	for _, row := range []struct{ env, want string }{
		{"", "web.test 200, off.test 301, on.test 200, noredirect.test 200, off-noredirect.test 418, nohttp.test 503, password.test 200, internal.test 200, unknown.test 503"},
		{"ACME_HTTP_CHALLENGE_LOCATION=true", "web.test 200"},
		{"ACME_HTTP_CHALLENGE_LOCATION=false", "web.test 301, on.test 200, noredirect.test 418, unknown.test 503, password.test 401"},
		{"ACME_HTTP_CHALLENGE_LOCATION=legacy", "web.test 200, on.test 200, noredirect.test 418, unknown.test 503, password.test 401"},
		{"ACME_HTTP_CHALLENGE_ACCEPT_UNKNOWN_HOST=true", "web.test 200, off.test 301, unknown.test 200"},
	} {
		tree := r.asNginxProxy(proxied{env: []string{row.env}, containers: containers, pairs: []certs.Pair{p}, change: func(s *nginx.Settings) {
			if s.ChallengeDir != "/usr/share/nginx/html" {
				t.Errorf("challenges are in %q", s.ChallengeDir)
			}
			s.ChallengeDir = dir
		}}, teapot(t))
		r.serve(tree)
		for want := range strings.SplitSeq(row.want, ", ") {
			var host string
			var status int
			fmt.Sscan(want, &host, &status)
			if got := r.get(r.http(host, token)); got.status != status || (status == 200) != (got.body == "answer") {
				t.Errorf("%s: %s: %d %q, want %d", row.env, host, got.status, got.body, status)
			}
		}
		if got := r.get(r.https("web.test", token)); got.status != 418 {
			t.Errorf("%s: over HTTPS: %d %s", row.env, got.status, got.body)
		}
		for path, status := range map[string]int{"/.well-known/secret": 301, token + "/../../secret": 301, "/x": 301, "/.well-known/acme-challenge/none": 404} {
			if got := r.get(r.http("web.test", path)); got.status != status && !strings.HasSuffix(row.env, "false") {
				t.Errorf("%s: %s: %d %s, want %d", row.env, path, got.status, got.body, status)
			}
		}
	}
}

// teapot starts a server that has nothing.
func teapot(t *testing.T) netip.AddrPort {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	t.Cleanup(s.Close)
	return addrOf(s)
}

// The debug endpoint tells how a site is set, where that is switched on.
func TestDebugEndpointAsNginxProxy(t *testing.T) {
	r := newRig(t)
	r.settings.HostAuth, r.settings.Passwords = true, []string{"password.test"}
	write(t, filepath.Join(r.settings.HtpasswdDir, "password.test"), "u:{PLAIN}p\n")
	r.run()
	p, up := writePair(t, "cert.test"), teapot(t)
	containers := [][]string{
		{"VIRTUAL_HOST=plain.test"},
		{"VIRTUAL_HOST=on.test", "com.github.nginx-proxy.nginx-proxy.debug-endpoint=true"},
		{"VIRTUAL_HOST=off.test", "com.github.nginx-proxy.nginx-proxy.debug-endpoint=false"},
		{"VIRTUAL_HOST=cert.test"},
		{"VIRTUAL_HOST=password.test", "com.github.nginx-proxy.nginx-proxy.debug-endpoint=true"},
		{"VIRTUAL_HOST=~^re[0-9]+[.]test$"},
		{"VIRTUAL_HOST_MULTIPORTS=" + manyPaths(up.Port())},
	}
	type told struct {
		Global struct {
			Enabled string `json:"enable_debug_endpoint"`
		} `json:"global"`
		VHost struct {
			Enabled  bool           `json:"enable_debug_endpoint"`
			Hostname string         `json:"hostname"`
			Cert     string         `json:"cert"`
			OK       bool           `json:"cert_ok"`
			Paths    map[string]any `json:"paths"`
		} `json:"vhost"`
		Request struct {
			Host string `json:"host"`
		} `json:"request"`
		Warning string `json:"warning"`
	}
	for _, row := range []struct {
		env, url string
		status   int
		says     func(told) bool
	}{
		{"", r.http("plain.test", "/nginx-proxy-debug"), 418, nil},
		{"", r.http("on.test", "/nginx-proxy-debug"), 200, func(a told) bool {
			return a.Global.Enabled == "false" && a.VHost.Enabled && a.Request.Host == "on.test"
		}},
		{"", r.http("password.test", "/nginx-proxy-debug"), 401, nil},
		{"", r.http("unknown.test", "/nginx-proxy-debug"), 503, nil},
		{"DEBUG_ENDPOINT=true", r.http("plain.test", "/nginx-proxy-debug"), 200, func(a told) bool {
			return a.Global.Enabled == "true" && a.VHost.Enabled && a.VHost.Hostname == "plain.test" && len(a.VHost.Paths) == 1 && !a.VHost.OK
		}},
		{"DEBUG_ENDPOINT=true", r.http("off.test", "/nginx-proxy-debug"), 418, nil},
		{"DEBUG_ENDPOINT=true", r.https("cert.test", "/nginx-proxy-debug"), 200, func(a told) bool { return a.VHost.OK && a.VHost.Cert == "cert.test" }},
		{"DEBUG_ENDPOINT=true", r.http("re1.test", "/nginx-proxy-debug"), 200, func(a told) bool {
			return a.VHost.Hostname == "Hostname is a regexp and unsafe to include in the debug response."
		}},
		{"DEBUG_ENDPOINT=true", r.http("many.test", "/nginx-proxy-debug"), 200, func(a told) bool {
			return a.VHost.Paths == nil && a.Warning == "Virtual paths configuration for this hostname is too large and has been stripped from response."
		}},
	} {
		r.serve(r.asNginxProxy(proxied{env: []string{row.env}, containers: containers, pairs: []certs.Pair{p}}, up))
		got := r.get(row.url)
		var a told
		if got.status == 200 {
			if err := json.Unmarshal([]byte(got.body), &a); err != nil || got.header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %s: %v, %s", row.env, row.url, err, got.body)
			}
		}
		if got.status != row.status || row.says != nil && !row.says(a) {
			t.Errorf("%s %s: %d %s", row.env, row.url, got.status, got.body)
		}
	}
}

// manyPaths are twenty paths of many.test.
func manyPaths(port uint16) string {
	var b strings.Builder
	b.WriteString("many.test: {")
	for i := range 20 {
		fmt.Fprintf(&b, "/%d%s: {port: %d}, ", i, strings.Repeat("/long", 20), port)
	}
	return b.String() + "}"
}

// The operator's own file says which networks are internal, at the paths that are.
func TestInternalNetworksAsNginxProxy(t *testing.T) {
	r := newRig(t)
	r.run()
	containers := [][]string{
		{"VIRTUAL_HOST=a.test", "VIRTUAL_PATH=/one/", "NETWORK_ACCESS=internal"},
		{"VIRTUAL_HOST=a.test", "VIRTUAL_PATH=/two/"},
		{"VIRTUAL_HOST=b.test", "NETWORK_ACCESS=internal"},
	}
	dir := t.TempDir()
	for _, row := range []struct{ text, want string }{
		{"", "one 200, two 200, b 200"},
		{"allow 192.0.2.0/24;\ndeny all;\n", "one 403, two 200, b 403"},
		{"allow 127.0.0.0/8;\ndeny all;\nadd_header X-Network internal;\n", "one 200, two 200, b 200"},
	} {
		if row.text != "" {
			write(t, filepath.Join(dir, nginx.InternalFile), row.text)
		}
		files, err := snippets.List(snippets.Options{Etc: dir})
		if err != nil {
			t.Fatal(err)
		}
		r.serve(r.asNginxProxy(proxied{containers: containers, change: func(s *nginx.Settings) { s.Snippets = files.Snippets }}, backend(t, "served")))
		for want := range strings.SplitSeq(row.want, ", ") {
			name, status, _ := strings.Cut(want, " ")
			url := r.http("a.test", "/"+name+"/")
			if name == "b" {
				url = r.http("b.test", "/")
			}
			got := r.get(url)
			if fmt.Sprint(got.status) != status || (got.header.Get("X-Network") != "") != (name != "two" && strings.Contains(row.text, "X-Network")) {
				t.Errorf("%q: %s: %d, %v; want %s", row.text, name, got.status, got.header, want)
			}
		}
	}
}

// The operator's own proxy.conf says how requests are passed on, at all sites. It does not make
// nagaya believe what clients say of themselves.
func TestProxyFileAsNginxProxy(t *testing.T) { each(t, testProxyFileAsNginxProxy) }

func testProxyFileAsNginxProxy(t *testing.T, r *rig) {
	r.run()
	dir, p := t.TempDir(), writePair(t, "tls.test")
	write(t, filepath.Join(dir, "my-proxy.conf"), "no such directive;")
	write(t, filepath.Join(dir, nginx.ProxyFile), `# as in nginx-proxy's documents, with a header more
proxy_http_version 1.1;
proxy_set_header Host $http_host;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection $proxy_connection;
proxy_set_header X-Real-IP $remote_addr;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
proxy_set_header X-Forwarded-Host $proxy_x_forwarded_host;
proxy_set_header X-Forwarded-Proto ${http_x_forwarded_proto};
proxy_set_header X-Forwarded-Ssl $proxy_x_forwarded_ssl;
proxy_set_header X-Forwarded-Port $proxy_x_forwarded_port;
proxy_set_header X-Original-URI $request_uri;
proxy_set_header Proxy "";
proxy_set_header X-Own "own";
add_header X-Test f00;
client_max_body_size 100m;
`)
	files, err := snippets.List(snippets.Options{Etc: dir})
	if err != nil {
		t.Fatal(err)
	}
	containers := [][]string{{"VIRTUAL_HOST=a.test"}, {"VIRTUAL_HOST=b.test", "VIRTUAL_PATH=/app/", "VIRTUAL_DEST=/"}, {"VIRTUAL_HOST=tls.test"}}
	for _, row := range []struct{ env, url, want string }{
		{"", r.http("a.test", "/"), "X-Forwarded-For: 127.0.0.1\n|X-Forwarded-Proto: http\n|X-Own: own"},
		{"", r.http("b.test", "/app/"), "X-Forwarded-For: 127.0.0.1\n|X-Forwarded-Proto: http\n|X-Own: own|X-Forwarded-Prefix: /app"},
		{"", r.https("tls.test", "/"), "X-Forwarded-For: 127.0.0.1\n|X-Forwarded-Proto: https\n|X-Own: own"},
		{"TRUST_DOWNSTREAM_PROXY=true", r.http("a.test", "/"), "X-Forwarded-For: 192.0.2.1, 127.0.0.1\n|X-Forwarded-Proto: wss\n|X-Real-Ip: 192.0.2.1\n"},
	} {
		r.serve(r.asNginxProxy(proxied{env: []string{row.env}, containers: containers, pairs: []certs.Pair{p}, change: func(s *nginx.Settings) { s.Snippets = files.Snippets }}, headersBackend(t)))
		req, _ := http.NewRequest(http.MethodGet, row.url, nil)
		req.Header.Set("X-Forwarded-For", "192.0.2.1")
		req.Header.Set("X-Forwarded-Proto", "wss")
		got := r.do(req)
		for want := range strings.SplitSeq(row.want, "|") {
			if !strings.Contains(strings.ReplaceAll(got.body, "\r", "")+"\n", want) || got.header.Get("X-Test") != "f00" {
				t.Errorf("%s %s: %q, %v in %q", row.env, row.url, want, got.header, got.body)
			}
		}
	}
	if got := r.get(r.http("unknown.test", "/")); got.status != 503 || got.header.Get("X-Test") != "" {
		t.Errorf("unknown.test: %d, %v", got.status, got.header)
	}
}

// Lines of the access log, and offers of HTTP/3, are nginx-proxy's.
func TestWhatProgramsReadAsNginxProxy(t *testing.T) { each(t, testWhatProgramsReadAsNginxProxy) }

func testWhatProgramsReadAsNginxProxy(t *testing.T, r *rig) {
	r.run()
	log := filepath.Join(r.settings.LogDir, "access.log")
	r.serve(r.asNginxProxy(proxied{
		env: []string{"ENABLE_HTTP3=true"}, containers: [][]string{{"VIRTUAL_HOST=a.test", "HTTPS_METHOD=noredirect"}}, pairs: []certs.Pair{writePair(t, "a.test")},
		change: func(s *nginx.Settings) { s.AccessLog = log },
	}, backend(t, "served")))
	want := fmt.Sprintf(`h3=":%d"; ma=86400;`, r.settings.HTTPSPort)
	if !r.o.Build.HTTP3 {
		want = ""
	}
	if got := r.get(r.http("a.test", "/x")).header.Get("Alt-Svc"); got != want {
		t.Errorf("Alt-Svc is %q, want %q", got, want)
	}
	eventually(t, "nginx-proxy's line in the log", func() bool {
		b, _ := os.ReadFile(log)
		return strings.HasPrefix(string(b), "a.test 127.0.0.1 - - [")
	})
}

// A file that stands in place of a location passes requests on to the host's containers by the name
// that nginx-proxy gives them.
func TestUpstreamsAsNginxProxy(t *testing.T) { each(t, testUpstreamsAsNginxProxy) }

func testUpstreamsAsNginxProxy(t *testing.T, r *rig) {
	r.run()
	sum := func(s string) string { return fmt.Sprintf("%x", sha1.Sum([]byte(s))) }
	dir := t.TempDir()
	for name, text := range map[string]string{
		"root.test_location_override": "location / { proxy_pass http://root.test; }",
		"hashed.test":                 "location /more { proxy_pass http://" + sum("hashed.test") + "/x; }",
		"path.test_" + sum("/app/") + "_location_override": "location /app/ { proxy_pass http://path.test-" + sum("/app/") + "; }",
		"down.test": "location /more { proxy_pass http://down.test; }",
		sum(`~^re\d\.test$`) + "_location_override": "location / { proxy_pass http://" + sum(`~^re\d\.test$`) + "; }",
	} {
		write(t, filepath.Join(dir, name), text)
	}
	files, err := snippets.List(snippets.Options{Vhost: dir})
	if err != nil {
		t.Fatal(err)
	}
	containers := [][]string{
		{"VIRTUAL_HOST=root.test"},
		{"VIRTUAL_HOST=hashed.test"},
		{"VIRTUAL_HOST=path.test", "VIRTUAL_PATH=/app/"},
		{"VIRTUAL_HOST=down.test"},
		{`VIRTUAL_HOST=~^re\d\.test$`},
	}
	tree := r.asNginxProxy(proxied{containers: containers, change: func(s *nginx.Settings) { s.Snippets = files.Snippets }}, backend(t, "served"))
	if s := r.serve(tree); len(s.Problems) > 0 || len(s.Quarantined) > 0 {
		t.Fatalf("%+v\n%s", s.Problems, tree)
	}
	for _, url := range []string{r.http("root.test", "/"), r.http("hashed.test", "/more"), r.http("path.test", "/app/"), r.http("down.test", "/more"), r.http("re1.test", "/")} {
		r.expect(url, 200, "served")
	}
}
