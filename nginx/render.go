package nginx

import (
	"errors"
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

// Render writes the configuration of that shape for the servers in the pools: one main
// file and the files of each site and stream. Equal inputs give equal trees. What cannot be
// written is left out and named in the tree's problems; the settings are taken as
// they are, see Settings.Validate.
func Render(s Settings, b Build, shape route.Shape, pools route.Pools) Tree {
	s = s.withDefaults()
	t := Tree{settings: s, build: b}
	if (len(s.TrustedProxies) > 0 || s.ProxyProtocol) && !b.RealIP {
		t.Problems = append(t.Problems, problem.Problem{
			Code: "nginx-without-realip", Severity: problem.Warning, Subject: "nginx",
			Text: "trusted proxies or the PROXY protocol are set, but this nginx was built without its realip module, so nobody is believed about the address of a client",
			Hint: "install a build of nginx with --with-http_realip_module, or remove the setting",
		})
	}
	sites := t.usable(shape.Sites, pools)
	streams := t.usableStreams(shape.Streams, pools)
	t.reachHTTP3(sites, streams)
	t.needs = needsOf(s, b, sites, streams)
	t.remark(sites)
	t.Sites = ownPorts(s, b, sites)
	for _, site := range sites {
		f := SiteFile{Host: site.Host, Name: fileName(site.Host), Text: renderSite(s, b, t.needs, site, pools)}
		switch {
		case site.Passthrough != nil:
			f.Stream, f.SNI = renderPassthrough(s, site, pools[site.PassthroughKey()])
		case t.needs.passed:
			f.SNI = sniLine(site.Host, TLSSocket(s.RunDir))
		}
		t.Sites = append(t.Sites, f)
	}
	for _, stream := range streams {
		at := stream.Listen.String()
		t.Sites = append(t.Sites, SiteFile{Host: at, Name: fileName(at), Stream: renderStream(s, stream, pools[stream.PoolKey()])})
	}
	t.Main = renderMain(s, b, t.needs)
	problem.Sort(t.Problems)
	return t.sealed()
}

// usable returns the sites that can be written, and complains of the others.
func (t *Tree) usable(all []route.Site, pools route.Pools) (sites []route.Site) {
	seen := map[string]bool{}
	for _, site := range all {
		err := checkSite(site, pools, t.build)
		if err == nil && seen[site.Host] {
			err = errors.New("the host is there twice")
		}
		if err != nil {
			t.Problems = append(t.Problems, problem.Problem{
				Code: "site-not-rendered", Severity: problem.Error, Subject: fmt.Sprintf("site %.255s", printable(site.Host)), Host: fmt.Sprintf("%.255s", printable(site.Host)),
				Text: fmt.Sprintf("host %q cannot be written for nginx: %v", cut(site.Host), err),
				Hint: "correct the labels of the containers that serve this host; the other sites are not affected",
			})
			continue
		}
		seen[site.Host] = true
		sites = append(sites, site)
	}
	return sites
}

func (t *Tree) usableStreams(all []route.Stream, pools route.Pools) (streams []route.Stream) {
	seen := map[route.Listen]bool{}
	for _, s := range all {
		at := s.Listen
		if at.Protocol == route.TLS {
			at.Protocol = route.TCP
		}
		err := checkStream(s, pools[s.PoolKey()], t.build)
		if err == nil && seen[at] {
			err = errors.New("the port is asked for twice")
		}
		if err != nil {
			t.Problems = append(t.Problems, problem.Problem{
				Code: "stream-not-rendered", Severity: problem.Error, Subject: fmt.Sprintf("port %.64s", printable(s.Listen.String())), Port: s.Listen.Port,
				Text: fmt.Sprintf("port %s cannot be written for nginx: %v", cut(s.Listen.String()), err),
				Hint: "correct the labels of the containers that ask for this port; the others are not affected",
			})
			continue
		}
		seen[at] = true
		streams = append(streams, s)
	}
	return streams
}

// needs is what the main file must have for the sites and streams beside it.
type needs struct {
	names []string // host names that are not expressions
	// passed: some site's TLS is passed on, so the public port of HTTPS is the
	// stream section's, and the http section listens on a socket behind it.
	passed bool
	stream bool // the stream section
	// answered: a site answers the TLS clients that ask for no name, or for one that
	// nobody has.
	answered bool
}

func needsOf(s Settings, b Build, sites []route.Site, streams []route.Stream) needs {
	n := needs{stream: len(streams) > 0}
	for _, site := range sites {
		if !strings.HasPrefix(site.Host, "~") {
			n.names = append(n.names, site.Host)
		}
		n.passed = n.passed || site.Passthrough != nil
		if or(site.Edge.HTTPSPort, s.HTTPSPort) == s.HTTPSPort {
			n.answered = n.answered || site.CatchAll && site.TLS
		}
	}
	n.stream = n.stream || n.passed
	for _, sn := range s.Snippets {
		n.stream = n.stream || b.Stream != "" && strings.HasPrefix(sn.Name, streamSnippets+"/")
	}
	return n
}

func printable(s string) string {
	q := strconv.Quote(cut(s))
	return q[1 : len(q)-1]
}

func renderMain(s Settings, b Build, n needs) string {
	var t text
	t.comment("Written by nagaya; what is changed here is lost. Your own lines belong into")
	t.comment(s.SnippetDir + "/http.d and " + s.SnippetDir + "/site.d.")
	if n.stream && b.Stream == "dynamic" {
		t.set("load_module", b.StreamModule)
	}
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
	if s.Stderr && s.LogDir != "" {
		t.set("error_log", "stderr", "warn")
	}
	t.blank()
	t.block("events", nil, func() { t.set("worker_connections", strconv.Itoa(s.WorkerConnections)) })
	t.blank()
	t.block("http", nil, func() {
		connections(&t, s, b)
		hashes(&t, "server_names", n.names)
		tls(&t, s, "nagaya_tls")
		temp(&t, s, b)
		clients(&t, s, b, n)
		variables(&t, s, b, n)
		upstreams(&t, s, b)
		defaultServers(&t, s, b, n)
		generationServer(&t, s, b)
		includeAll(&t, s, httpSnippets)
		t.set("include", SitesDir+"/*.conf")
	})
	if n.stream {
		t.blank()
		t.block("stream", nil, func() { renderStreams(&t, s, n) })
	}
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
		logFormat(t, s)
		t.set("access_log", s.AccessLog, "nagaya")
	}
	t.blank()
}

// logFormat writes how a request is logged.
func logFormat(t *text, s Settings) {
	format := []string{"nagaya"}
	switch s.LogFormat {
	case "":
		format = append(format, `$remote_addr - $remote_user [$time_local] $host "$request" $status $body_bytes_sent `+
			`"$http_referer" "$http_user_agent" $request_time $upstream_addr $upstream_response_time`)
	case "json":
		format = append(format, "escape=json", jsonFormat())
	default:
		format = append(format, "escape="+or(s.LogEscape, "default"), s.LogFormat)
	}
	t.set("log_format", format...)
}

// jsonFormat has the names that nginx-proxy gives the same values, and $host.
func jsonFormat() string {
	var b strings.Builder
	for _, f := range [][2]string{
		{"time_local", "$time_iso8601"},
		{"client_ip", "$http_x_forwarded_for"},
		{"remote_addr", "$remote_addr"},
		{"host", "$host"},
		{"request", "$request"},
		{"status", "$status"},
		{"body_bytes_sent", "$body_bytes_sent"},
		{"request_time", "$request_time"},
		{"upstream_response_time", "$upstream_response_time"},
		{"upstream_addr", "$upstream_addr"},
		{"http_referrer", "$http_referer"},
		{"http_user_agent", "$http_user_agent"},
		{"request_id", "$request_id"},
	} {
		fmt.Fprintf(&b, `,"%s":"%s"`, f[0], f[1])
	}
	return "{" + b.String()[1:] + "}"
}

// hashes makes room for the names: nginx refuses a configuration whose longest
// name does not fit its bucket. A bucket holds per name a pointer, a length of
// two bytes and the name, aligned to pointers, and one pointer at its end
// (nginx source, NGX_HASH_ELT_SIZE).
func hashes(t *text, of string, hosts []string) {
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
	t.set(of+"_hash_bucket_size", strconv.Itoa(bucket))
	t.set(of+"_hash_max_size", strconv.Itoa(size))
	t.blank()
}

// tls sets the default choice of protocols and ciphers. Session tickets are off,
// because their keys would live as long as the process; the cache of sessions
// cannot be shared between http and stream.
func tls(t *text, s Settings, cache string) {
	policy(t, s.TLSPolicy)
	t.set("ssl_session_cache", "shared:"+cache+":1m")
	t.set("ssl_session_timeout", "4h")
	t.set("ssl_session_tickets", "off")
	t.blank()
}

func policy(t *text, name string) {
	p, _ := route.PolicyNamed(name) // checked before
	t.set("ssl_protocols", p.Protocols...)
	if p.Ciphers != "" {
		t.set("ssl_ciphers", p.Ciphers)
	}
	prefer := "off"
	if p.PreferServer {
		prefer = "on"
	}
	t.set("ssl_prefer_server_ciphers", prefer)
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

// believesForwarded reports whether X-Forwarded headers of trusted proxies count.
// Behind the PROXY protocol the address comes from there, and headers are a
// client's word.
func believesForwarded(s Settings, b Build) bool {
	return len(s.TrustedProxies) > 0 && !s.ProxyProtocol && b.RealIP
}

// clients says from whom nginx learns the address of a client that came through
// somebody else: the stream section in front of HTTPS, a load balancer that
// speaks the PROXY protocol, or trusted proxies.
func clients(t *text, s Settings, b Build, n needs) {
	trusted := sortedPrefixes(s.TrustedProxies)
	switch {
	case n.passed, s.ProxyProtocol && b.RealIP:
		t.set("real_ip_header", "proxy_protocol")
		if n.passed {
			t.set("set_real_ip_from", "unix:")
		}
		if s.ProxyProtocol {
			for _, p := range trusted {
				t.set("set_real_ip_from", p)
			}
		}
	case believesForwarded(s, b):
		t.set("real_ip_header", "X-Forwarded-For")
		t.set("real_ip_recursive", "on")
		for _, p := range trusted {
			t.set("set_real_ip_from", p)
		}
	}
	if !believesForwarded(s, b) {
		return
	}
	peer := "$realip_remote_addr"
	if n.passed {
		peer = "$remote_addr" // the peer is always the socket
	}
	t.block("geo", []string{peer, "$nagaya_trusted"}, func() {
		if slices.Contains(trusted, "0.0.0.0/0") && slices.Contains(trusted, "::/0") {
			t.set("default", "1") // beside a default nginx warns of the same networks
			return
		}
		t.set("default", "0")
		for _, p := range trusted {
			t.set(p, "1")
		}
	})
}

// variables defines what the sites' files use, so that those do not depend on
// whom the operator trusts. Nothing a client says about itself is passed on
// unless it is a trusted proxy.
func variables(t *text, s Settings, b Build, n needs) {
	choose := func(of, name, otherwise string, cases ...string) {
		t.block("map", []string{of, "$nagaya_" + name}, func() {
			t.set("default", otherwise)
			for i := 0; i+1 < len(cases); i += 2 {
				t.set(quote(cases[i]), cases[i+1])
			}
		})
	}
	if n.passed {
		t.comment("Behind the stream section the client came to another address and port than nginx sees.")
		choose("$proxy_protocol_server_port", "server_port", "$proxy_protocol_server_port", "", "$server_port")
		choose("$proxy_protocol_server_addr", "server_addr", "$proxy_protocol_server_addr", "", "$server_addr")
	} else {
		choose("", "server_port", "$server_port")
		choose("", "server_addr", "$server_addr")
	}
	came := "$realip_remote_addr"
	if n.passed {
		came = "$remote_addr"
	}
	t.comment("Over h2c a client would speak past nginx, and past whom it lets in.")
	choose("$http_upgrade", "upgrade", "$http_upgrade", `~*h2c`, "")
	choose("$nagaya_upgrade", "connection", "upgrade", "", "")
	t.comment("The port as the client wrote it; the name is the one that chose the site.")
	written := "$http_host"
	if b.RequestPort {
		written = "$is_request_port$request_port"
	}
	choose(written, "port", "", `~(?<nagaya_written>:[0-9]{1,5})$`, "$nagaya_written")
	t.comment("A request over TLS whose Host is not the name that the connection was made for.")
	choose("$ssl_server_name:$host", "misdirected", "1", "~^:", "0", `~*^([^:]*):\1$`, "0")
	choose("$request_method", "get", "0", "GET", "1", "HEAD", "1")
	if believesForwarded(s, b) {
		choose("$nagaya_trusted $http_x_forwarded_for", "for", "$remote_addr", "~^1 .", "$http_x_forwarded_for, "+came)
		choose("$nagaya_trusted $http_x_forwarded_proto", "proto", "$scheme", "1 http", "http", "1 https", "https")
		choose("$nagaya_trusted $http_x_forwarded_host", "host", "$host$nagaya_port", "~^1 .", "$http_x_forwarded_host")
		choose("$nagaya_trusted $http_x_forwarded_port", "public_port", "$nagaya_server_port", "~^1 (?<nagaya_said>[0-9]{1,5})$", "$nagaya_said")
		choose("$nagaya_trusted $http_forwarded", "forwarded", "", "~^1 .", "$http_forwarded")
	} else {
		choose("", "for", "$remote_addr")
		choose("", "proto", "$scheme")
		choose("", "host", "$host$nagaya_port")
		choose("", "public_port", "$nagaya_server_port")
		choose("", "forwarded", "")
	}
	choose("$nagaya_proto", "https", "", "https", "on")
	choose("$nagaya_https", "ssl", "off", "on", "on")
	choose("$nagaya_proto $nagaya_get", "plain", "", "http 1", "get", "http 0", "other")
	t.blank()
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
func upstreams(t *text, s Settings, b Build) {
	kinds := []string{"proxy"}
	if b.FastCGI {
		kinds = append(kinds, "fastcgi")
	}
	if b.UWSGI {
		kinds = append(kinds, "uwsgi")
	}
	if b.GRPC {
		kinds = append(kinds, "grpc")
	}
	t.comment("Only what was not sent, or may be sent twice, goes to another container. A container's")
	t.comment("certificate is its own: it is asked for the site's name, and verified only where a route says so.")
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
		if k == "proxy" || k == "grpc" {
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
	switch kind {
	case "fastcgi":
		fastCGIParams(t, fastCGIRoot, prefix)
		return
	case "uwsgi":
		uwsgiParams(t, prefix)
		return
	}
	set := kind + "_set_header"
	t.set(set, "Host", "$host$nagaya_port")
	t.set(set, "X-Real-IP", "$remote_addr")
	t.set(set, "X-Forwarded-For", "$nagaya_for")
	t.set(set, "X-Forwarded-Proto", "$nagaya_proto")
	t.set(set, "X-Forwarded-Scheme", "$nagaya_proto")
	t.set(set, "X-Forwarded-Ssl", "$nagaya_ssl")
	t.set(set, "X-Forwarded-Host", "$nagaya_host")
	t.set(set, "X-Forwarded-Port", "$nagaya_public_port")
	t.set(set, "X-Forwarded-Prefix", prefix)
	t.set(set, "X-Original-URI", "$request_uri")
	t.set(set, "Forwarded", "$nagaya_forwarded")
	t.set(set, "Proxy", "")
	if kind == "proxy" {
		t.set(set, "Upgrade", "$nagaya_upgrade")
		t.set(set, "Connection", "$nagaya_connection")
	}
}

// fastCGIRoot is where the official php images keep their documents. Only PHP's
// process manager looks at it.
const fastCGIRoot = "/var/www/html"

func fastCGIParams(t *text, root, prefix string) {
	for _, p := range [][2]string{
		{"QUERY_STRING", "$query_string"},
		{"REQUEST_METHOD", "$request_method"},
		{"CONTENT_TYPE", "$content_type"},
		{"CONTENT_LENGTH", "$content_length"},
		{"SCRIPT_FILENAME", root + "$fastcgi_script_name"},
		{"SCRIPT_NAME", "$fastcgi_script_name"},
		{"PATH_INFO", "$fastcgi_path_info"},
		{"REQUEST_URI", "$request_uri"},
		{"DOCUMENT_URI", "$document_uri"},
		{"DOCUMENT_ROOT", root},
		{"SERVER_PROTOCOL", "$server_protocol"},
		{"REQUEST_SCHEME", "$nagaya_proto"},
		{"GATEWAY_INTERFACE", "CGI/1.1"},
		{"SERVER_SOFTWARE", "nginx"},
		{"REMOTE_ADDR", "$remote_addr"},
		{"REMOTE_PORT", "$remote_port"},
		{"SERVER_ADDR", "$nagaya_server_addr"},
		{"SERVER_PORT", "$nagaya_server_port"},
		{"SERVER_NAME", "$host"},
		{"REDIRECT_STATUS", "200"},
		{"HTTP_HOST", "$host$nagaya_port"},
		{"HTTP_X_REAL_IP", "$remote_addr"},
		{"HTTP_X_FORWARDED_FOR", "$nagaya_for"},
		{"HTTP_X_FORWARDED_PROTO", "$nagaya_proto"},
		{"HTTP_X_FORWARDED_SCHEME", "$nagaya_proto"},
		{"HTTP_X_FORWARDED_SSL", "$nagaya_ssl"},
		{"HTTP_X_FORWARDED_HOST", "$nagaya_host"},
		{"HTTP_X_FORWARDED_PORT", "$nagaya_public_port"},
		{"HTTP_X_FORWARDED_PREFIX", prefix},
		{"HTTP_X_ORIGINAL_URI", "$request_uri"},
		{"HTTP_FORWARDED", "$nagaya_forwarded"},
		{"HTTP_PROXY", ""},
	} {
		t.set("fastcgi_param", p[0], p[1])
	}
	t.set("fastcgi_param", "HTTPS", "$nagaya_https", "if_not_empty")
}

// uwsgiParams are what an application behind uwsgi learns (nginx.org,
// ngx_http_uwsgi_module; the names are WSGI's).
func uwsgiParams(t *text, prefix string) {
	for _, p := range [][2]string{
		{"QUERY_STRING", "$query_string"},
		{"REQUEST_METHOD", "$request_method"},
		{"CONTENT_TYPE", "$content_type"},
		{"CONTENT_LENGTH", "$content_length"},
		{"REQUEST_URI", "$request_uri"},
		{"PATH_INFO", "$document_uri"},
		{"SERVER_PROTOCOL", "$server_protocol"},
		{"REQUEST_SCHEME", "$nagaya_proto"},
		{"REMOTE_ADDR", "$remote_addr"},
		{"REMOTE_PORT", "$remote_port"},
		{"SERVER_PORT", "$nagaya_server_port"},
		{"SERVER_NAME", "$host"},
		{"HTTP_HOST", "$host$nagaya_port"},
		{"HTTP_X_REAL_IP", "$remote_addr"},
		{"HTTP_X_FORWARDED_FOR", "$nagaya_for"},
		{"HTTP_X_FORWARDED_PROTO", "$nagaya_proto"},
		{"HTTP_X_FORWARDED_SCHEME", "$nagaya_proto"},
		{"HTTP_X_FORWARDED_SSL", "$nagaya_ssl"},
		{"HTTP_X_FORWARDED_HOST", "$nagaya_host"},
		{"HTTP_X_FORWARDED_PORT", "$nagaya_public_port"},
		{"HTTP_X_FORWARDED_PREFIX", prefix},
		{"HTTP_X_ORIGINAL_URI", "$request_uri"},
		{"HTTP_FORWARDED", "$nagaya_forwarded"},
		{"HTTP_PROXY", ""},
	} {
		t.set("uwsgi_param", p[0], p[1])
	}
	t.set("uwsgi_param", "HTTPS", "$nagaya_https", "if_not_empty")
}

// defaultServers answer for every name that is not a site's, so that nobody is
// shown another's site.
func defaultServers(t *text, s Settings, b Build, n needs) {
	unknownPlain(t, func() { listen(t, s, s.HTTPPort, asDefault(true)...) })
	unknownTLS(t, func() {
		listenTLS(t, s, b, n, s.HTTPSPort, asDefault(!n.answered)...)
	})
	t.blank()
}

// asDefault is what makes a server that of all names which no other one has. The
// first server of a port is it where none says so.
func asDefault(is bool) []string {
	if is {
		return []string{"default_server"}
	}
	return nil
}

func unknownPlain(t *text, listens func()) {
	t.block("server", nil, func() {
		listens()
		t.set("server_name", nobody)
		t.set("return", "404", "No site of this name is served here.\n")
	})
}

func unknownTLS(t *text, listens func()) {
	t.block("server", nil, func() {
		listens()
		t.set("server_name", nobody)
		t.set("ssl_reject_handshake", "on")
		t.set("return", "421", misdirectedPage)
	})
}

// ownPorts writes the servers of unknown names for the ports that sites have
// instead of the usual ones, and for those of HTTP/3. Each is a file of its own, so that
// a port which cannot be had costs the sites that ask for it, and nobody else.
func ownPorts(s Settings, b Build, sites []route.Site) (files []SiteFile) {
	// The ports, and of TLS whether a site answers there for unknown names.
	plain, tls, quic := map[uint16]bool{}, map[uint16]bool{}, map[uint16]bool{}
	for _, site := range sites {
		if p := site.Edge.HTTPPort; p != 0 && p != s.HTTPPort {
			plain[p] = true
		}
		p := or(site.Edge.HTTPSPort, s.HTTPSPort)
		if p != s.HTTPSPort && site.TLS {
			tls[p] = tls[p] || site.CatchAll
		}
		if offersQUIC(s, b, site) {
			quic[p] = quic[p] || site.CatchAll
		}
	}
	add := func(at string, port uint16, write func(t *text)) {
		var t text
		t.comment("Unknown names at port " + strconv.Itoa(int(port)) + ", written by nagaya.")
		write(&t)
		files = append(files, SiteFile{Host: at, Name: fileName(at), Text: t.String()})
	}
	for port := range plain {
		add(portFile("http", port), port, func(t *text) { unknownPlain(t, func() { listen(t, s, port, asDefault(true)...) }) })
	}
	for port, answered := range tls {
		add(portFile("https", port), port, func(t *text) {
			unknownTLS(t, func() { listenTLS(t, s, b, needs{}, port, asDefault(!answered)...) })
		})
	}
	for port, answered := range quic {
		add(portFile("quic", port), port, func(t *text) {
			t.comment("Without this file no site listens there, nor tells its clients of HTTP/3.")
			unknownTLS(t, func() { listenQUIC(t, s, port, append([]string{"reuseport"}, asDefault(!answered)...)...) })
		})
	}
	return files
}

// portFile is the SiteFile.Host of a port that sites share.
func portFile(kind string, port uint16) string { return kind + ":" + strconv.Itoa(int(port)) }

// listenTLS writes where the http section takes HTTPS: at the public port, or,
// where the stream section has that, at the socket behind it.
func listenTLS(t *text, s Settings, b Build, n needs, port uint16, with ...string) {
	how := []string{"ssl"}
	if s.HTTP2 && b.HTTP2 && !b.HTTP2Directive {
		how = append(how, "http2")
	}
	how = append(how, with...)
	if n.passed && port == s.HTTPSPort {
		t.set("listen", append([]string{"unix:" + TLSSocket(s.RunDir), "proxy_protocol"}, how...)...)
		return
	}
	listen(t, s, port, how...)
}

func listenQUIC(t *text, s Settings, port uint16, with ...string) {
	s.ProxyProtocol = false // there is none for UDP
	listen(t, s, port, append([]string{"quic"}, with...)...)
}

func listen(t *text, s Settings, port uint16, with ...string) {
	p := strconv.Itoa(int(port))
	if s.ProxyProtocol {
		with = append([]string{"proxy_protocol"}, with...)
	}
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

// millis writes a duration for nginx, which reads whole milliseconds.
func millis(d time.Duration) string {
	if d%time.Second == 0 {
		return strconv.FormatInt(int64(d/time.Second), 10) + "s"
	}
	return strconv.FormatInt(max(1, d.Milliseconds()), 10) + "ms"
}
