package nginx

import (
	"net/netip"
	"path"
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/config"
)

// connections writes the directives for the connections of clients.
func connections(t *text) {
	t.preset("default_type", "text/plain")
	t.preset("server_tokens", onOff(t.settings.ServerTokens))
	t.comment("Redirects stay relative: nginx does not know the port that a client sees.")
	t.preset("absolute_redirect", "off")
	t.preset("client_header_timeout", "20s")
	t.preset("client_body_timeout", "60s")
	t.preset("send_timeout", "60s")
	t.preset("reset_timedout_connection", "on")
	t.preset("keepalive_timeout", "60s")
	if t.build.KeepaliveMinTimeout {
		t.comment("Connections that are idle during a reload live on, so that no request is lost on them.")
		t.preset("keepalive_min_timeout", "2s")
	}
	if t.settings.HTTP2 && t.build.HTTP2Directive {
		t.preset("http2", "on")
	}
	if t.settings.AccessLog == "off" {
		t.preset("access_log", "off")
	} else {
		t.preset("log_format", append([]string{logName}, ownFormat(t.settings)...)...)
		accessLog(t, t.settings.AccessLog)
	}
	vhostFormat(t)
	t.blank()
}

// accessLog writes where requests are logged. While there is no space for them the format stays,
// which files of the operator's may use.
func accessLog(t *text, file string) {
	if t.settings.Spaces.Logs.Low {
		t.preset("access_log", "off")
	} else {
		t.preset("access_log", file, logName)
	}
}

// longName reports whether a name needs larger buckets than nginx's own default.
func longName(name string) bool { return len(name) > 40 }

// hashSizes writes the sizes of a hash of host names: nginx refuses a configuration whose
// longest name does not fit its bucket. A bucket holds per name a pointer, a length of
// two bytes and the name, aligned to pointers, and one pointer at its end
// (nginx source, NGX_HASH_ELT_SIZE).
func hashSizes(t *text, of string, hosts []string) {
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
	t.preset(of+"_hash_bucket_size", number(bucket))
	t.preset(of+"_hash_max_size", number(size))
	t.blank()
}

// tlsDefaults writes the default choice of protocols and ciphers. Session tickets are off,
// because their keys would live as long as the process; the cache of sessions
// cannot be shared between http and stream.
func tlsDefaults(t *text, cache string) {
	tlsPolicy(t, t.settings.TLSPolicy, false)
	t.preset("ssl_session_cache", "shared:"+cache+":1m")
	t.preset("ssl_session_timeout", "4h")
	t.preset("ssl_session_tickets", "off")
	t.blank()
}

// tlsPolicy writes protocols and ciphers. parameters is true where there are those that some
// ciphers need.
func tlsPolicy(t *text, name string, parameters bool) {
	p, _ := config.PolicyNamed(name) // labels and settings name no other
	t.preset("ssl_protocols", p.Protocols...)
	if c := p.CiphersWith(parameters); c != "" {
		t.preset("ssl_ciphers", c)
	}
	prefer := "off"
	if p.PreferServer {
		prefer = "on"
	}
	t.preset("ssl_prefer_server_ciphers", prefer)
}

// tempPaths writes the directories of temporary files. The modules create theirs
// even when no site uses them.
func tempPaths(t *text) {
	for _, module := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		t.preset(module+"_temp_path", path.Join(TempDir(t.settings.StateDir), module))
	}
	t.blank()
}

// trustsForwarded reports whether X-Forwarded headers of trusted proxies count.
// Behind the PROXY protocol the address comes from there, and the headers are a
// client's own.
func trustsForwarded(s Settings) bool {
	return len(s.TrustedProxies) > 0 && !s.ProxyProtocol
}

// realIP writes from where nginx takes the address of a client that is behind another peer:
// the stream section in front of HTTPS, a load balancer that speaks the PROXY protocol, or
// trusted proxies.
func realIP(t *text) {
	trusted := sortedPrefixes(t.settings.TrustedProxies)
	switch {
	case t.needs.passthrough, t.settings.ProxyProtocol:
		t.set("real_ip_header", "proxy_protocol")
		if t.needs.passthrough {
			t.set("set_real_ip_from", "unix:")
		}
		if t.settings.ProxyProtocol {
			t.setEach("set_real_ip_from", trusted)
		}
	case trustsForwarded(t.settings):
		t.set("real_ip_header", "X-Forwarded-For")
		t.set("real_ip_recursive", "on")
		t.setEach("set_real_ip_from", trusted)
	}
	if !trustsForwarded(t.settings) {
		return
	}
	t.block("geo", []string{"$realip_remote_addr", "$nagaya_trusted"}, func() {
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

// portNumber is an expression for 1 to 65535.
const portNumber = `([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])`

// variables writes the variables that the sites' files use, so that those do not depend on
// the trusted proxies. Headers in which a client describes itself are passed on
// from trusted proxies only.
func variables(t *text) {
	if t.needs.passthrough || t.settings.ProxyProtocol {
		t.comment("By the PROXY protocol the client came to another address and port than nginx sees.")
		t.choose("$proxy_protocol_server_port", "server_port", "$proxy_protocol_server_port", "", "$server_port")
		t.choose("$proxy_protocol_server_addr", "server_addr", "$proxy_protocol_server_addr", "", "$server_addr")
	} else {
		t.choose("", "server_port", "$server_port")
		t.choose("", "server_addr", "$server_addr")
	}
	t.comment("Over h2c a client would speak past nginx, and past whom it lets in.")
	t.choose("$http_upgrade", "upgrade", "$http_upgrade", `~*h2c`, "")
	t.choose("$nagaya_upgrade", "connection", "upgrade", "", "")
	t.choose("$nagaya_upgrade", "closing", "upgrade", "", "close")
	t.comment("The port as the client wrote it; the name is the one that chose the site.")
	host := "$http_host"
	if t.build.RequestPort {
		host = "$is_request_port$request_port"
	}
	t.choose(host, "port", "", `~(?<nagaya_written>:`+portNumber+`)$`, "$nagaya_written")
	t.comment("A request over TLS whose Host is not the name that the connection was made for.")
	t.choose("$ssl_server_name:$host", "misdirected", "1", "~^:", "0", `~*^([^:]*):\1$`, "0")
	t.choose("$https:$ssl_server_name", "nameless", "0", "on:", "1")
	t.choose("$request_method", "get", "0", "GET", "1", "HEAD", "1")
	said := func(header, name, otherwise string, cases ...string) {
		if trustsForwarded(t.settings) {
			t.choose("$nagaya_trusted "+header, name, otherwise, cases...)
		} else {
			t.choose("", name, otherwise)
		}
	}
	said("$http_x_forwarded_for", "for", "$remote_addr", "~^1 .", "$http_x_forwarded_for, $realip_remote_addr")
	said("$http_x_forwarded_proto", "proto", "$scheme", "1 http", "http", "1 https", "https", `~^1 (?<nagaya_said_proto>[A-Za-z][A-Za-z0-9+.-]{0,31})$`, "$nagaya_said_proto")
	said("$http_x_forwarded_host", "host", "$host$nagaya_port", "~^1 .", "$http_x_forwarded_host")
	said("$http_x_forwarded_port", "public_port", "$nagaya_server_port", "~^1 (?<nagaya_said>"+portNumber+")$", "$nagaya_said")
	said("$http_forwarded", "forwarded", "", "~^1 .", "$http_forwarded")
	t.choose("$nagaya_proto", "https", "$https", "https", "on", "wss", "on", "http", "", "ws", "")
	t.choose("$nagaya_https", "ssl", "off", "on", "on")
	t.choose("$nagaya_https:$request_method", "plain", "", ":GET", "get", ":HEAD", "get", "~^:", "other")
	if t.settings.ChallengeDir != "" {
		t.comment("A challenge of ACME, over plain HTTP.")
		t.choose("$nagaya_https:$uri", "challenge", "", `~^:/\.well-known/acme-challenge/[A-Za-z0-9_-]+$`, "1")
	}
	if dir := t.settings.TokenDir; dir != "" {
		t.comment("The file of a challenge of this agent's own.")
		t.choose("$uri", "token", "", `~^/\.well-known/acme-challenge/[A-Za-z0-9_-]+$`, dir+"$uri")
	}
	t.blank()
}

// sortedPrefixes returns the networks as text, masked, sorted and without
// duplicates: nginx warns of set host bits and of networks that are there twice.
func sortedPrefixes(in []netip.Prefix) []string {
	var out []string
	ps := slices.Clone(in)
	for i, p := range ps {
		ps[i] = p.Masked()
	}
	slices.SortFunc(ps, netip.Prefix.Compare)
	for _, p := range slices.Compact(ps) {
		out = append(out, p.String())
	}
	return out
}
