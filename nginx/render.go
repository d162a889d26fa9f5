package nginx

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// Render writes the configuration that serves the table: one main file and one
// file for each site. Equal inputs give equal trees. A site that cannot be
// written is left out and named in the tree's problems; the settings are taken
// as they are, see Settings.Validate.
func Render(s Settings, b Build, table route.Table) Tree {
	s = s.withDefaults()
	t := Tree{settings: s, build: b}
	if len(s.TrustedProxies) > 0 && !b.RealIP {
		t.Problems = append(t.Problems, problem.Problem{
			Code: "nginx-without-realip", Severity: problem.Warning, Subject: "nginx",
			Text: "trusted proxies are set, but this nginx was built without its realip module, so nobody's X-Forwarded headers are believed",
			Hint: "install a build of nginx with --with-http_realip_module, or remove the trusted proxies",
		})
	}
	seen := map[string]bool{}
	for _, site := range table.Sites {
		err := checkSite(site, b)
		if err == nil && seen[site.Host] {
			err = fmt.Errorf("the host is there twice")
		}
		if err != nil {
			t.Problems = append(t.Problems, problem.Problem{
				Code: "site-not-rendered", Severity: problem.Error, Subject: fmt.Sprintf("site %.255s", printable(site.Host)),
				Text: fmt.Sprintf("host %q cannot be written for nginx: %v", cut(site.Host), err),
				Hint: "correct the labels of the containers that serve this host; the other sites are not affected",
			})
			continue
		}
		seen[site.Host] = true
		t.hosts = append(t.hosts, site.Host)
		t.Sites = append(t.Sites, SiteFile{Host: site.Host, Name: fileName(site.Host), Text: renderSite(s, b, site)})
	}
	t.Main = renderMain(s, b, t.hosts)
	problem.Sort(t.Problems)
	return t.sealed()
}

func printable(s string) string {
	q := strconv.Quote(cut(s))
	return q[1 : len(q)-1]
}

func renderMain(s Settings, b Build, hosts []string) string {
	var t text
	t.comment("Written by nagaya; what is changed here is lost. Your own lines belong into")
	t.comment(s.SnippetDir + "/http.d and " + s.SnippetDir + "/site.d.")
	if s.User != "" {
		t.set("user", slices.DeleteFunc([]string{s.User, s.Group}, func(w string) bool { return w == "" })...)
	}
	workers := "auto"
	if s.WorkerProcesses > 0 {
		workers = strconv.Itoa(s.WorkerProcesses)
	}
	t.set("worker_processes", workers)
	t.comment("A proxied request holds two connections; some more files are logs and temporary files.")
	t.set("worker_rlimit_nofile", strconv.Itoa(2*s.WorkerConnections+512))
	t.set("worker_shutdown_timeout", millis(s.ShutdownTimeout))
	t.set("pid", PIDFile(s.RunDir))
	t.set("error_log", ErrorLog(s.LogDir), "warn")
	t.blank()
	t.block("events", nil, func() { t.set("worker_connections", strconv.Itoa(s.WorkerConnections)) })
	t.blank()
	t.block("http", nil, func() {
		connections(&t, s, b)
		hashes(&t, hosts)
		tls(&t)
		temp(&t, s, b)
		variables(&t, s, b)
		upstreams(&t, b)
		defaultServers(&t, s, b)
		generationServer(&t, s, b)
		for _, sn := range s.Snippets {
			if snippetName(sn.Name) && strings.HasPrefix(sn.Name, "http.d/") {
				include(&t, s, sn)
			}
		}
		t.set("include", SitesDir+"/*.conf")
	})
	return t.String()
}

func connections(t *text, s Settings, b Build) {
	t.set("default_type", "text/plain")
	t.set("server_tokens", "off")
	t.comment("Redirects stay relative: nginx does not know the port that a client sees.")
	t.set("absolute_redirect", "off")
	t.set("client_header_timeout", "20s")
	t.set("client_body_timeout", "60s")
	t.set("send_timeout", "60s")
	t.set("reset_timedout_connection", "on")
	t.set("keepalive_timeout", "60s")
	if b.KeepaliveMinTimeout {
		t.comment("Connections that are idle during a reload live on, so that no request is lost on them.")
		t.set("keepalive_min_timeout", "2s")
	}
	if s.HTTP2 && b.HTTP2Directive {
		t.set("http2", "on")
	}
	if s.AccessLog == "off" {
		t.set("access_log", "off")
	} else {
		t.set("log_format", "nagaya", `$remote_addr - $remote_user [$time_local] $host "$request" $status $body_bytes_sent `+
			`"$http_referer" "$http_user_agent" $request_time $upstream_addr $upstream_response_time`)
		t.set("access_log", s.AccessLog, "nagaya")
	}
	t.blank()
}

// hashes makes room for the names: nginx refuses a configuration whose longest
// name does not fit its bucket. A bucket holds per name a pointer, a length of
// two bytes and the name, aligned to pointers, and one pointer at its end
// (nginx source, NGX_HASH_ELT_SIZE).
func hashes(t *text, hosts []string) {
	const pointer = 8
	bucket, size := 64, 512
	for _, h := range hosts {
		need := pointer + (len(h)+2+pointer-1)/pointer*pointer + pointer
		for bucket < need {
			bucket *= 2
		}
	}
	for size < 2*len(hosts) {
		size *= 2
	}
	t.set("server_names_hash_bucket_size", strconv.Itoa(bucket))
	t.set("server_names_hash_max_size", strconv.Itoa(size))
	t.blank()
}

// tls sets Mozilla's "intermediate" choice of protocols and ciphers. Session
// tickets are off, because their keys would live as long as the process.
func tls(t *text) {
	t.set("ssl_protocols", "TLSv1.2", "TLSv1.3")
	t.set("ssl_ciphers", strings.Join([]string{
		"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
		"ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
	}, ":"))
	t.set("ssl_prefer_server_ciphers", "off")
	t.set("ssl_session_cache", "shared:nagaya_tls:1m")
	t.set("ssl_session_timeout", "4h")
	t.set("ssl_session_tickets", "off")
	t.blank()
}

// temp moves what nginx would write elsewhere. The modules' directories are
// made even when no site uses them.
func temp(t *text, s Settings, b Build) {
	for _, d := range []struct {
		name string
		is   bool
	}{{"client_body", true}, {"proxy", true}, {"fastcgi", b.FastCGI}, {"uwsgi", b.UWSGI}, {"scgi", b.SCGI}} {
		if d.is {
			t.set(d.name+"_temp_path", path.Join(TempDir(s.StateDir), d.name))
		}
	}
	t.blank()
}

// variables defines what the sites' files use, so that those do not depend on
// whom the operator trusts. Nothing a client says about itself is passed on
// unless it is a trusted proxy.
func variables(t *text, s Settings, b Build) {
	choose := func(of, name, otherwise string, cases ...string) {
		t.block("map", []string{of, "$nagaya_" + name}, func() {
			t.set("default", otherwise)
			for i := 0; i+1 < len(cases); i += 2 {
				t.set(quote(cases[i]), cases[i+1])
			}
		})
	}
	choose("$http_upgrade", "connection", "upgrade", "", "")
	t.comment("The port as the client wrote it; the name is the one that chose the site.")
	choose("$http_host", "port", "", `~(?<nagaya_written>:[0-9]{1,5})$`, "$nagaya_written")
	t.comment("A request over TLS whose Host is not the name that the connection was made for.")
	choose("$ssl_server_name:$host", "misdirected", "1", "~^:", "0", `~*^([^:]*):\1$`, "0")
	choose("$request_method", "get", "0", "GET", "1", "HEAD", "1")
	if len(s.TrustedProxies) > 0 && b.RealIP {
		trusted(t, s.TrustedProxies)
		choose("$nagaya_trusted $http_x_forwarded_for", "for", "$remote_addr", "~^1 .", "$http_x_forwarded_for, $realip_remote_addr")
		choose("$nagaya_trusted $http_x_forwarded_proto", "proto", "$scheme", "1 http", "http", "1 https", "https")
		choose("$nagaya_trusted $http_x_forwarded_host", "host", "$host$nagaya_port", "~^1 .", "$http_x_forwarded_host")
		choose("$nagaya_trusted $http_x_forwarded_port", "public_port", "$server_port", "~^1 (?<nagaya_said>[0-9]{1,5})$", "$nagaya_said")
		choose("$nagaya_trusted $http_forwarded", "forwarded", "", "~^1 .", "$http_forwarded")
	} else {
		choose("", "for", "$remote_addr")
		choose("", "proto", "$scheme")
		choose("", "host", "$host$nagaya_port")
		choose("", "public_port", "$server_port")
		choose("", "forwarded", "")
	}
	choose("$nagaya_proto $nagaya_get", "plain", "", "http 1", "get", "http 0", "other")
	t.blank()
}

func trusted(t *text, prefixes []netip.Prefix) {
	ps := sortedPrefixes(prefixes)
	t.set("real_ip_header", "X-Forwarded-For")
	t.set("real_ip_recursive", "on")
	for _, p := range ps {
		t.set("set_real_ip_from", p)
	}
	t.block("geo", []string{"$realip_remote_addr", "$nagaya_trusted"}, func() {
		t.set("default", "0")
		for _, p := range ps {
			t.set(p, "1")
		}
	})
}

// sortedPrefixes returns the usable networks as text, masked, sorted and without
// duplicates: nginx warns of set host bits and of networks that are there twice.
func sortedPrefixes(in []netip.Prefix) []string {
	var ps []netip.Prefix
	for _, p := range in {
		if usablePrefix(p) {
			ps = append(ps, p.Masked())
		}
	}
	slices.SortFunc(ps, netip.Prefix.Compare)
	var out []string
	for _, p := range slices.Compact(ps) {
		out = append(out, p.String())
	}
	return out
}

// upstreams sets how nginx speaks to containers, for all sites.
func upstreams(t *text, b Build) {
	kinds := []string{"proxy"}
	if b.FastCGI {
		kinds = append(kinds, "fastcgi")
	}
	if b.GRPC {
		kinds = append(kinds, "grpc")
	}
	t.comment("Only what was not sent, or may be sent twice, goes to another container. A container's")
	t.comment("certificate is its own: it is asked for the site's name, and not verified.")
	for _, k := range kinds {
		t.set(k+"_connect_timeout", "3s")
		t.set(k+"_next_upstream", "error", "timeout")
		t.set(k+"_next_upstream_tries", "3")
		t.set(k+"_next_upstream_timeout", "10s")
		t.set(k+"_buffer_size", "16k")
		if k != "grpc" {
			t.set(k+"_buffers", "8", "16k")
			t.set(k+"_busy_buffers_size", "32k")
			t.set(k+"_max_temp_file_size", "64m")
		}
		if k != "fastcgi" {
			t.set(k+"_ssl_server_name", "on")
			t.set(k+"_ssl_name", "$host")
			t.set(k+"_ssl_verify", "off")
			t.set(k+"_ssl_protocols", "TLSv1.2", "TLSv1.3")
		}
	}
	t.set("proxy_http_version", "1.1")
	t.set("proxy_headers_hash_bucket_size", "128")
	for _, k := range kinds {
		toUpstream(t, k, "")
	}
	t.blank()
}

// toUpstream writes the headers that a container gets about its client. prefix
// is the path that was stripped. nginx inherits these lines only into a
// location that has none of its own, so such a location repeats them all.
func toUpstream(t *text, kind, prefix string) {
	if kind == "fastcgi" {
		fastCGIParams(t, prefix)
		return
	}
	set := kind + "_set_header"
	t.set(set, "Host", "$host$nagaya_port")
	t.set(set, "X-Real-IP", "$remote_addr")
	t.set(set, "X-Forwarded-For", "$nagaya_for")
	t.set(set, "X-Forwarded-Proto", "$nagaya_proto")
	t.set(set, "X-Forwarded-Host", "$nagaya_host")
	t.set(set, "X-Forwarded-Port", "$nagaya_public_port")
	t.set(set, "X-Forwarded-Prefix", prefix)
	t.set(set, "Forwarded", "$nagaya_forwarded")
	t.set(set, "Proxy", "")
	if kind == "proxy" {
		t.set(set, "Upgrade", "$http_upgrade")
		t.set(set, "Connection", "$nagaya_connection")
	}
}

// fastCGIRoot is where the official php images keep their documents. Only PHP's
// process manager looks at it.
const fastCGIRoot = "/var/www/html"

func fastCGIParams(t *text, prefix string) {
	for _, p := range [][2]string{
		{"QUERY_STRING", "$query_string"},
		{"REQUEST_METHOD", "$request_method"},
		{"CONTENT_TYPE", "$content_type"},
		{"CONTENT_LENGTH", "$content_length"},
		{"SCRIPT_FILENAME", fastCGIRoot + "$fastcgi_script_name"},
		{"SCRIPT_NAME", "$fastcgi_script_name"},
		{"PATH_INFO", "$fastcgi_path_info"},
		{"REQUEST_URI", "$request_uri"},
		{"DOCUMENT_URI", "$document_uri"},
		{"DOCUMENT_ROOT", fastCGIRoot},
		{"SERVER_PROTOCOL", "$server_protocol"},
		{"REQUEST_SCHEME", "$nagaya_proto"},
		{"GATEWAY_INTERFACE", "CGI/1.1"},
		{"SERVER_SOFTWARE", "nginx"},
		{"REMOTE_ADDR", "$remote_addr"},
		{"REMOTE_PORT", "$remote_port"},
		{"SERVER_ADDR", "$server_addr"},
		{"SERVER_PORT", "$server_port"},
		{"SERVER_NAME", "$host"},
		{"REDIRECT_STATUS", "200"},
		{"HTTP_HOST", "$host$nagaya_port"},
		{"HTTP_X_REAL_IP", "$remote_addr"},
		{"HTTP_X_FORWARDED_FOR", "$nagaya_for"},
		{"HTTP_X_FORWARDED_PROTO", "$nagaya_proto"},
		{"HTTP_X_FORWARDED_HOST", "$nagaya_host"},
		{"HTTP_X_FORWARDED_PORT", "$nagaya_public_port"},
		{"HTTP_X_FORWARDED_PREFIX", prefix},
		{"HTTP_FORWARDED", "$nagaya_forwarded"},
		{"HTTP_PROXY", ""},
	} {
		t.set("fastcgi_param", p[0], p[1])
	}
}

// defaultServers answer for every name that is not a site's, so that nobody is
// shown another's site.
func defaultServers(t *text, s Settings, b Build) {
	t.block("server", nil, func() {
		listen(t, s, s.HTTPPort, "default_server")
		t.set("server_name", "")
		t.set("return", "404", "No site of this name is served here.\n")
	})
	t.block("server", nil, func() {
		listen(t, s, s.HTTPSPort, append(tlsListen(s, b), "default_server")...)
		t.set("server_name", "")
		t.set("ssl_reject_handshake", "on")
		t.set("return", "421", misdirectedPage)
	})
	t.blank()
}

func tlsListen(s Settings, b Build) []string {
	if s.HTTP2 && b.HTTP2 && !b.HTTP2Directive {
		return []string{"ssl", "http2"}
	}
	return []string{"ssl"}
}

func listen(t *text, s Settings, port uint16, with ...string) {
	p := strconv.Itoa(int(port))
	t.set("listen", append([]string{p}, with...)...)
	if s.IPv6 {
		t.set("listen", append([]string{"[::]:" + p}, with...)...)
	}
}

func generationServer(t *text, s Settings, b Build) {
	t.block("server", nil, func() {
		t.set("listen", "unix:"+Socket(s.RunDir))
		t.set("access_log", "off")
		t.block("location", []string{"=", "/generation"}, func() { t.set("include", GenerationFile) })
		if b.StubStatus {
			t.block("location", []string{"=", "/status"}, func() { t.set("stub_status") })
		}
		t.block("location", []string{"/"}, func() { t.set("return", "404") })
	})
	t.blank()
}

func include(t *text, s Settings, sn Snippet) {
	t.comment("content " + cut(sn.Fingerprint))
	t.set("include", path.Join(s.SnippetDir, sn.Name))
}

// millis writes a duration for nginx, which reads whole milliseconds.
func millis(d time.Duration) string {
	if d%time.Second == 0 {
		return strconv.FormatInt(int64(d/time.Second), 10) + "s"
	}
	return strconv.FormatInt(max(1, d.Milliseconds()), 10) + "ms"
}
