package nginx

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// behindTLS is how long the stream section keeps a silent connection to the http
// section, which has its own, shorter limits.
const behindTLS = time.Hour

// udpClients is how many clients of UDP there may be at a time; each port has half of them. A
// datagram needs no handshake, and its sender counts as a client until the port's timeout,
// so one sender could take all connections of nginx.
const udpClients = 1024

// renderStreams writes the stream section of the main file.
func renderStreams(t *text) {
	t.levels = levels{t.needs.streamLevel}
	t.preset("proxy_connect_timeout", "3s")
	if t.settings.AccessLog == "off" {
		t.preset("access_log", "off")
	} else {
		t.preset("log_format", logName, streamFormat)
		accessLog(t, t.settings.streamLog())
	}
	if t.needs.udp {
		t.set("limit_conn_zone", "$protocol", "zone=nagaya_udp:32k")
		t.set("limit_conn_zone", "$server_port", "zone=nagaya_udp_port:64k")
		t.preset("limit_conn_log_level", "info")
	}
	tlsDefaults(t, "nagaya_stream_tls")
	if names := slices.Concat(t.needs.names, t.needs.named); t.needs.passthrough || t.needs.tlsPort && slices.ContainsFunc(names, longName) {
		hashSizes(t, "map", names)
	}
	if t.needs.passthrough {
		sniServer(t)
	}
	include(t, snippetsIn(t.settings, streamSnippets))
	t.set("include", StreamsDir+"/*.conf")
}

// sniServer writes the server of the public port of HTTPS where TLS is passed through: it
// passes each connection to the socket for the name that the client asks for, which is read
// without opening the connection, and with the client's address by the PROXY protocol.
func sniServer(t *text) {
	t.block("map", []string{"$ssl_preread_server_name", "$nagaya_receiver"}, func() {
		t.set("hostnames")
		t.set("default", "unix:"+tlsSocket(t.settings.RunDir))
		for _, h := range t.needs.named {
			if !slices.Contains(t.needs.names, h) { // whose own rules no container gets round
				t.set(quote(`\`+h), "unix:"+tlsSocket(t.settings.RunDir))
			}
		}
		t.set("include", SNIDir+"/*.conf")
	})
	t.block("server", nil, func() {
		listen(t, t.settings.HTTPSPort)
		if t.settings.ProxyProtocol {
			t.setEach("set_real_ip_from", sortedPrefixes(t.settings.TrustedProxies))
		}
		t.set("ssl_preread", "on")
		t.set("access_log", "off")
		t.set("proxy_protocol", "on")
		t.set("proxy_timeout", seconds(behindTLS))
		t.set("proxy_pass", "$nagaya_receiver")
	})
	t.blank()
}

// renderPassthrough writes the server for the TLS connections of a site that are passed
// through.
func renderPassthrough(t *text, site route.Site, p route.Pool) {
	t.comment("TLS of " + site.Host + " for " + truncated(site.Family) + ", written by nagaya.")
	name := "nagaya_pass_" + digest(site.Host)
	proxyServer(t, name, name, *site.Passthrough, p, func() {
		t.socket(passthroughSocket(t.settings.RunDir, site.Host), "proxy_protocol")
		t.set("set_real_ip_from", "unix:")
	})
}

// sniLine names the socket that gets the connections for a host. Sites whose TLS is
// not passed through have one too: otherwise a wildcard that is would get theirs.
func sniLine(host, socket string) string {
	var t text
	if !strings.HasPrefix(host, "~") {
		host = `\` + host // a map has words of its own, such as default (nginx.org, ngx_stream_map_module)
	}
	t.set(quote(host), "unix:"+socket)
	return t.out.String()
}

// renderStream writes the server of a port of its own. others are the names that it does not
// answer for, although its certificate is valid for them, and own are exceptions from them.
func renderStream(t *text, st route.Stream, p route.Pool, others, own []string) {
	t.comment("Port " + st.Listen.String() + " of " + truncated(st.Family) + ", written by nagaya.")
	name, pass := streamUpstream(st), streamUpstream(st)
	if st.Listen.Protocol == route.TLS && len(p.Servers) > 0 {
		pass = "$" + name
		t.comment("The name of another family's host gets nothing, although the certificate is valid for it.")
		t.block("map", []string{"$ssl_server_name", pass}, func() {
			t.set("hostnames")
			t.set("default", name)
			for _, h := range own {
				t.set(quote(`\`+h), name)
			}
			for _, h := range others {
				t.set(quote(`\`+h), "")
			}
		})
	}
	proxyServer(t, name, pass, st.StreamOptions, p, func() {
		// The PROXY protocol is for the public ports of HTTP and HTTPS.
		t.facts.Listens = append(t.facts.Listens, Listen{Port: st.Listen.Port, UDP: st.Listen.Protocol == route.UDP})
		switch st.Listen.Protocol {
		case route.UDP:
			t.comment("Each worker has a queue of its own, so that a client's datagrams stay with one.")
			listenDirect(t, st.Listen.Port, "udp", "reuseport")
			t.set("limit_conn", "nagaya_udp", number(udpClients))
			t.set("limit_conn", "nagaya_udp_port", number(udpClients/2))
		case route.TLS:
			listenDirect(t, st.Listen.Port, "ssl")
			t.certificate(st.Cert)
		default:
			listenDirect(t, st.Listen.Port)
		}
	})
}

// streamUpstream is the name of the servers behind a port.
func streamUpstream(st route.Stream) string {
	return "nagaya_" + string(st.Listen.Protocol) + "_" + number(st.Listen.Port)
}

// namesAt are the hosts of other families that the certificate of a stream is valid for, and,
// where wildcards are among them, those of its own family.
func namesAt(st route.Stream, sites []route.Site) (others, own []string) {
	wild, names := false, st.Cert.Names()
	for _, site := range sites {
		covered := slices.ContainsFunc(names, func(name string) bool { return valid(name, site.Host) })
		switch {
		case !covered || strings.HasPrefix(site.Host, "~") || site.Host == st.Host || !usableHost(site.Host):
		case site.Family == st.Family || site.Owner == st.Family:
			own = append(own, site.Host)
		default:
			others = append(others, site.Host)
			wild = wild || strings.Contains(site.Host, "*")
		}
	}
	if !wild {
		return others, nil
	}
	if st.Host != "" {
		own = append(own, st.Host)
	}
	return others, own
}

// valid reports whether a name of a certificate is valid for a host, or for a name that a
// wildcard host stands for.
func valid(name, host string) bool {
	if label, _, _ := strings.Cut(host, "."); strings.HasPrefix(name, "*") {
		name = label + name[1:]
	}
	front, isFront := strings.CutPrefix(host, "*")
	behind, isBehind := strings.CutSuffix(host, "*")
	return name == host || isFront && strings.HasSuffix(name, front) || isBehind && strings.HasPrefix(name, behind)
}

// proxyServer writes a server of the stream section with its upstream of that name. pass is the
// name too, or a variable with it.
func proxyServer(t *text, name, pass string, o route.StreamOptions, p route.Pool, listen func()) {
	upstream(t, name, o.Balance, p, 0, "hash", "$remote_addr", "consistent")
	t.block("server", nil, func() {
		listen()
		allow(t, o.Allow)
		if t.needs.streamClosed {
			t.comment("A file of yours that may say who is let in is refused by nginx.")
			t.set("return", "")
			return
		}
		if len(p.Servers) == 0 {
			t.comment("Nothing is behind it at the moment.")
			t.set("return", "")
			return
		}
		if o.Timeout > 0 {
			t.set("proxy_timeout", seconds(o.Timeout))
		}
		if o.ProxyProtocol {
			t.set("proxy_protocol", "on")
		}
		t.set("proxy_pass", pass)
	})
}

// upstream writes the servers of a pool, if it has any. keepalive is how many idle
// connections to them a worker keeps, 0 for none; ipHash is the directive for Balance IPHash.
// The ids of containers are not written: a container that is replaced at the same address
// needs no reload.
func upstream(t *text, name string, b route.Balance, p route.Pool, keepalive int, ipHash ...string) {
	if len(p.Servers) == 0 {
		return
	}
	t.block("upstream", []string{name}, func() {
		switch b {
		case route.LeastConn:
			t.set("least_conn")
		case route.IPHash:
			t.set(ipHash[0], ipHash[1:]...)
		}
		servers := slices.Clone(p.Servers)
		slices.SortStableFunc(servers, func(a, b route.Server) int { return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Weight, b.Weight)) })
		for _, s := range servers {
			var args []string
			if s.Weight > 1 {
				args = append(args, "weight="+number(min(s.Weight, 1000)))
			}
			t.server(s.Addr.String(), args...)
		}
		if keepalive > 0 {
			t.comment("Shorter than what applications keep idle connections for (two seconds and more),")
			t.comment("so that no request meets a connection that the other side is closing.")
			t.set("keepalive", number(keepalive))
			t.set("keepalive_timeout", "1s")
		}
	})
}

// allow writes from which networks clients may come; none means from everywhere.
func allow(t *text, networks []netip.Prefix) {
	t.setEach("allow", sortedPrefixes(networks))
	if len(networks) > 0 {
		t.set("deny", "all")
	}
}
