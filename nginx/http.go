package nginx

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// connections sets how nginx treats the connections of clients.
func connections(t *text) {
	t.set("default_type", "text/plain")
	t.set("server_tokens", "off")
	t.comment("Redirects stay relative: nginx does not know the port that a client sees.")
	t.set("absolute_redirect", "off")
	t.set("client_header_timeout", "20s")
	t.set("client_body_timeout", "60s")
	t.set("send_timeout", "60s")
	t.set("reset_timedout_connection", "on")
	t.set("keepalive_timeout", "60s")
	if t.build.KeepaliveMinTimeout {
		t.comment("Connections that are idle during a reload live on, so that no request is lost on them.")
		t.set("keepalive_min_timeout", "2s")
	}
	if t.settings.HTTP2 && t.build.HTTP2Directive {
		t.set("http2", "on")
	}
	if t.settings.AccessLog == "off" {
		t.set("access_log", "off")
	} else {
		logFormat(t)
		t.set("access_log", t.settings.AccessLog, "nagaya")
	}
	t.blank()
}

// logFormat writes how a request is logged.
func logFormat(t *text) {
	format := []string{"nagaya"}
	switch t.settings.LogFormat {
	case "":
		format = append(format, `$remote_addr - $remote_user [$time_local] $host "$request" $status $body_bytes_sent `+
			`"$http_referer" "$http_user_agent" $request_time $upstream_addr $upstream_response_time`)
	case "json":
		format = append(format, "escape=json", jsonFormat())
	default:
		format = append(format, "escape="+or(t.settings.LogEscape, "default"), t.settings.LogFormat)
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
func tls(t *text, cache string) {
	policy(t, t.settings.TLSPolicy)
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
func temp(t *text) {
	for _, d := range []struct {
		name string
		is   bool
	}{{"client_body", true}, {"proxy", true}, {"fastcgi", t.build.FastCGI}, {"uwsgi", t.build.UWSGI}, {"scgi", t.build.SCGI}} {
		if d.is {
			t.set(d.name+"_temp_path", path.Join(TempDir(t.settings.StateDir), d.name))
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
func clients(t *text) {
	trusted := sortedPrefixes(t.settings.TrustedProxies)
	switch {
	case t.needs.passed, t.settings.ProxyProtocol && t.build.RealIP:
		t.set("real_ip_header", "proxy_protocol")
		if t.needs.passed {
			t.set("set_real_ip_from", "unix:")
		}
		if t.settings.ProxyProtocol {
			for _, p := range trusted {
				t.set("set_real_ip_from", p)
			}
		}
	case believesForwarded(t.settings, t.build):
		t.set("real_ip_header", "X-Forwarded-For")
		t.set("real_ip_recursive", "on")
		for _, p := range trusted {
			t.set("set_real_ip_from", p)
		}
	}
	if !believesForwarded(t.settings, t.build) {
		return
	}
	peer := "$realip_remote_addr"
	if t.needs.passed {
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
func variables(t *text) {
	choose := func(of, name, otherwise string, cases ...string) {
		t.block("map", []string{of, "$nagaya_" + name}, func() {
			t.set("default", otherwise)
			for i := 0; i+1 < len(cases); i += 2 {
				t.set(quote(cases[i]), cases[i+1])
			}
		})
	}
	if t.needs.passed {
		t.comment("Behind the stream section the client came to another address and port than nginx sees.")
		choose("$proxy_protocol_server_port", "server_port", "$proxy_protocol_server_port", "", "$server_port")
		choose("$proxy_protocol_server_addr", "server_addr", "$proxy_protocol_server_addr", "", "$server_addr")
	} else {
		choose("", "server_port", "$server_port")
		choose("", "server_addr", "$server_addr")
	}
	came := "$realip_remote_addr"
	if t.needs.passed {
		came = "$remote_addr"
	}
	t.comment("Over h2c a client would speak past nginx, and past whom it lets in.")
	choose("$http_upgrade", "upgrade", "$http_upgrade", `~*h2c`, "")
	choose("$nagaya_upgrade", "connection", "upgrade", "", "")
	t.comment("The port as the client wrote it; the name is the one that chose the site.")
	written := "$http_host"
	if t.build.RequestPort {
		written = "$is_request_port$request_port"
	}
	choose(written, "port", "", `~(?<nagaya_written>:[0-9]{1,5})$`, "$nagaya_written")
	t.comment("A request over TLS whose Host is not the name that the connection was made for.")
	choose("$ssl_server_name:$host", "misdirected", "1", "~^:", "0", `~*^([^:]*):\1$`, "0")
	choose("$request_method", "get", "0", "GET", "1", "HEAD", "1")
	if believesForwarded(t.settings, t.build) {
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
