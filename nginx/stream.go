package nginx

import (
	"cmp"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// behindTLS is how long the stream section keeps a silent connection to the http
// section, which has its own, shorter limits.
const behindTLS = time.Hour

// renderStreams writes the stream section of the main file.
func renderStreams(t *text) {
	t.set("proxy_connect_timeout", "3s")
	if t.settings.AccessLog == "off" {
		t.set("access_log", "off")
	} else {
		t.set("log_format", "nagaya", `$remote_addr [$time_local] $protocol $server_port $status $bytes_sent $bytes_received $session_time $upstream_addr`)
		t.set("access_log", path.Join(path.Dir(t.settings.AccessLog), "stream.log"), "nagaya")
	}
	tls(t, "nagaya_stream_tls")
	if t.needs.passed {
		shared(t)
	}
	includeAll(t, streamSnippets)
	t.set("include", StreamsDir+"/*.conf")
}

// shared writes who gets the connections to the public port of HTTPS. The name
// that a client asks for is read without opening the connection; every receiver
// learns the client's address by the PROXY protocol.
func shared(t *text) {
	hashes(t, "map", t.needs.names)
	t.block("map", []string{"$ssl_preread_server_name", "$nagaya_receiver"}, func() {
		t.set("hostnames")
		t.set("default", "unix:"+TLSSocket(t.settings.RunDir))
		t.set("include", SNIDir+"/*.conf")
	})
	t.block("server", nil, func() {
		listen(t, t.settings.HTTPSPort)
		if t.settings.ProxyProtocol {
			for _, p := range sortedPrefixes(t.settings.TrustedProxies) {
				t.set("set_real_ip_from", p)
			}
		}
		t.set("ssl_preread", "on")
		t.set("access_log", "off")
		t.set("proxy_protocol", "on")
		t.set("proxy_timeout", millis(behindTLS))
		t.set("proxy_pass", "$nagaya_receiver")
	})
	t.blank()
}

// renderPassthrough writes where the TLS of a site goes.
func renderPassthrough(t *text, site route.Site, p route.Pool) {
	t.comment("TLS of " + site.Host + " for " + cut(site.Family) + ", written by nagaya.")
	name := poolName("tls", site.Host)
	poolServers(t, name, site.Passthrough.Balance, p)
	t.block("server", nil, func() {
		t.socket(passSocket(t.settings.RunDir, site.Host), "proxy_protocol")
		t.set("set_real_ip_from", "unix:")
		poolBody(t, name, *site.Passthrough, p)
	})
}

// sniLine says which socket gets the connections for a host. Sites whose TLS is
// not passed on have one too: otherwise a passed wildcard would get theirs.
func sniLine(host, socket string) string {
	var t text
	t.set(quote(host), "unix:"+socket)
	return t.out.String()
}

// renderStream writes a port of its own.
func renderStream(t *text, st route.Stream, p route.Pool) {
	t.comment("Port " + st.Listen.String() + " of " + cut(st.Family) + ", written by nagaya.")
	name := poolName(string(st.Listen.Protocol), strconv.Itoa(int(st.Listen.Port)))
	poolServers(t, name, st.Balance, p)
	t.block("server", nil, func() {
		// The PROXY protocol is for the public ports of HTTP and HTTPS.
		t.facts.Listens = append(t.facts.Listens, Listen{Port: st.Listen.Port, UDP: st.Listen.Protocol == route.UDP})
		switch st.Listen.Protocol {
		case route.UDP:
			t.comment("Each worker has a queue of its own, so that a client's datagrams stay with one.")
			listenPlainly(t, st.Listen.Port, "udp", "reuseport")
		case route.TLS:
			listenPlainly(t, st.Listen.Port, "ssl")
			t.comment("Certificate " + cut(st.Cert.Name) + ", SHA-256 " + st.Cert.Fingerprint)
			t.certificate(st.Cert.CertFile)
			t.set("ssl_certificate_key", st.Cert.KeyFile)
		default:
			listenPlainly(t, st.Listen.Port)
		}
		poolBody(t, name, st.StreamOptions, p)
	})
}

func poolName(kind, of string) string {
	if strings.ContainsAny(of, "~*") {
		of = digest(of)
	}
	return "nagaya_" + kind + "_" + of
}

func poolServers(t *text, name string, balance route.Balance, p route.Pool) {
	if len(p.Servers) == 0 {
		return
	}
	t.block("upstream", []string{name}, func() {
		switch balance {
		case route.LeastConn:
			t.set("least_conn")
		case route.IPHash:
			t.set("hash", "$remote_addr", "consistent")
		}
		serverLines(t, p.Servers)
	})
}

// serverLines writes the servers of an upstream. Which container is behind an address
// stays out of it: a replaced container with the same address needs no reload.
func serverLines(t *text, servers []route.Server) {
	sorted := slices.Clone(servers)
	slices.SortStableFunc(sorted, func(a, b route.Server) int { return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Weight, b.Weight)) })
	for _, srv := range sorted {
		var args []string
		if srv.Weight > 1 {
			args = append(args, "weight="+strconv.Itoa(min(srv.Weight, 1000)))
		}
		t.server(srv.Addr.String(), args...)
	}
}

func poolBody(t *text, name string, o route.StreamOptions, p route.Pool) {
	allow(t, o.Allow)
	if len(p.Servers) == 0 {
		t.comment("Nothing is behind it at the moment.")
		t.set("return", "")
		return
	}
	if o.Timeout > 0 {
		t.set("proxy_timeout", millis(o.Timeout))
	}
	if o.ProxyProtocol {
		t.set("proxy_protocol", "on")
	}
	t.set("proxy_pass", name)
}

// allow writes who may come; nothing means everybody.
func allow(t *text, prefixes []netip.Prefix) {
	for _, p := range sortedPrefixes(prefixes) {
		t.set("allow", p)
	}
	if len(prefixes) > 0 {
		t.set("deny", "all")
	}
}
