package nginx

import (
	"cmp"
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// defaultServers write the default servers of the public ports. They answer for every name
// that is not a site's, so that no client is shown another's site.
func defaultServers(t *text) {
	defaultServer(t, false, func() { listen(t, t.settings.HTTPPort, isDefault(true)...) })
	defaultServer(t, true, func() { listenTLS(t, t.settings.HTTPSPort, isDefault(!t.needs.catchAll)...) })
	t.blank()
}

// isDefault is the parameter of listen that makes a server the default one. Without it
// the first server of a port is the default.
func isDefault(is bool) []string {
	if is {
		return []string{"default_server"}
	}
	return nil
}

// defaultServer writes the server of the names that no site has.
func defaultServer(t *text, overTLS bool, listen func()) {
	t.block("server", nil, func() {
		listen()
		t.set("server_name", noName)
		if t.settings.ServerTokens {
			t.set("server_tokens", "off")
		}
		switch {
		case !overTLS:
		case t.needs.unserved.CertFile != "":
			t.certificate(t.needs.unserved)
		default:
			rejectHandshake(t)
			return
		}
		if !overTLS { // a certificate for an address, or for a host that has another port, is proven here too
			ofOperator := t.settings.ChallengeDir != "" && t.settings.ChallengeUnknown
			answerTokens(t)
			if ofOperator {
				answerChallenges(t)
			}
			challengeLocations(t, ofOperator)
		}
		t.set("return", number(cmp.Or(t.settings.UnservedStatus, 404)), "No site of this name is served here.\n")
	})
}

// rejectHandshake has a server open no connection over TLS.
func rejectHandshake(t *text) {
	t.set("ssl_reject_handshake", "on")
	t.set("return", "421", misdirectedPage)
}

// rejectSite writes the server for the TLS connections of a site that has no certificate of its
// own, where names of no site have one, or that waits for it, where another site would answer.
func rejectSite(t *text, site route.Site) {
	usual := cmp.Or(site.Edge.HTTPSPort, t.settings.HTTPSPort) == t.settings.HTTPSPort
	answered := t.needs.unserved.CertFile != "" || t.needs.catchAll && site.Plain == route.Unavailable
	if !answered || site.TLS || site.NoTLS || site.Passthrough != nil || !usual {
		return
	}
	t.block("server", nil, func() {
		listenTLS(t, t.settings.HTTPSPort)
		t.set("server_name", site.Host)
		rejectHandshake(t)
	})
}

// portFiles write the default servers of the ports that sites have
// instead of the usual ones, and of those of HTTP/3. Each is a file of its own, so that
// a port which another process holds affects only the sites that ask for it.
func (t *Tree) portFiles(sites []route.Site) (files []SiteFile) {
	s := t.settings
	// The ports, and whether a site is their default.
	plain, tls, quic := map[uint16]bool{}, map[uint16]bool{}, map[uint16]bool{}
	families := map[uint16]string{} // the only one at a port; empty for several
	for _, site := range sites {
		p := cmp.Or(site.Edge.HTTPSPort, s.HTTPSPort)
		for _, at := range []uint16{site.Edge.HTTPPort, p} {
			if was, found := families[at]; !found || was == site.Family {
				families[at] = site.Family
			} else {
				families[at] = ""
			}
		}
		if p := site.Edge.HTTPPort; p != 0 && p != s.HTTPPort {
			plain[p] = false
		}
		if p != s.HTTPSPort && site.TLS {
			tls[p] = tls[p] || site.CatchAll
		}
		if offersHTTP3(s, t.build, site) {
			quic[p] = quic[p] || site.CatchAll
		}
	}
	add := func(kind string, ports map[uint16]bool, listen func(x *text, port uint16, with ...string)) {
		for port, taken := range ports {
			at := portFile(kind, port)
			f := SiteFile{Host: at, Name: fileName(at), Family: families[port]}
			f.Text, f.Facts = t.write(func(x *text) {
				x.comment("Unknown names at port " + number(port) + ", written by nagaya.")
				if kind == "quic" {
					x.comment("Without this file no site listens there, nor tells its clients of HTTP/3.")
				}
				defaultServer(x, kind != "http", func() { listen(x, port, isDefault(!taken)...) })
			})
			files = append(files, f)
		}
	}
	add("http", plain, listen)
	add("https", tls, listenTLS)
	add("quic", quic, func(x *text, port uint16, with ...string) {
		listenQUIC(x, port, append([]string{"reuseport"}, with...)...)
		x.facts.Listens = []Listen{{Port: port, UDP: true}}
	})
	return files
}

// portFile is the SiteFile.Host of a port that sites share.
func portFile(kind string, port uint16) string { return kind + ":" + number(port) }

// listenTLS writes where the http section takes HTTPS: at the public port, or,
// where the stream section has that, at the socket behind it.
func listenTLS(t *text, port uint16, with ...string) {
	parameters := []string{"ssl"}
	if t.settings.HTTP2 && t.build.HTTP2 && !t.build.HTTP2Directive {
		parameters = append(parameters, "http2")
	}
	parameters = append(parameters, with...)
	if t.needs.passthrough && port == t.settings.HTTPSPort {
		t.socket(tlsSocket(t.settings.RunDir), append([]string{"proxy_protocol"}, parameters...)...)
		return
	}
	listen(t, port, parameters...)
}

// listenQUIC writes where HTTP/3 is spoken. The port is noted for the file of the port.
func listenQUIC(t *text, port uint16, with ...string) {
	listenDirect(t, port, append([]string{"quic"}, with...)...)
}

// listen writes a public port of HTTP or HTTPS, with the PROXY protocol if that is set.
func listen(t *text, port uint16, with ...string) {
	if t.settings.ProxyProtocol {
		with = append([]string{"proxy_protocol"}, with...)
	}
	t.facts.Listens = append(t.facts.Listens, Listen{Port: port})
	listenDirect(t, port, with...)
}

// listenDirect writes a public port without the PROXY protocol.
func listenDirect(t *text, port uint16, with ...string) {
	addresses := []string{number(port)}
	if t.settings.IPv6 {
		addresses = append(addresses, "[::]:"+number(port))
	}
	for _, at := range addresses {
		args := append([]string{at}, with...)
		if t.needs.ownDefaults[addressOf(at)] {
			args = slices.DeleteFunc(args, func(a string) bool { return a == "default_server" })
		}
		t.set("listen", args...)
	}
}

// statusServer writes the server that the agent asks for the generation.
func statusServer(t *text) {
	t.block("server", nil, func() {
		t.socket(Socket(t.settings.RunDir))
		t.set("access_log", "off")
		// What an operator's file says for all servers is not about this one.
		if t.levels.say("allow") || t.levels.say("deny") {
			t.set("allow", "all")
		}
		if t.levels.say("auth_basic") {
			t.set("auth_basic", "off")
		}
		t.block("location", []string{"=", "/generation"}, func() { t.set("include", GenerationFile) })
		t.block("location", []string{"=", "/status"}, func() { t.set("stub_status") })
		t.block("location", []string{"/"}, func() { t.set("return", "404") })
	})
	t.blank()
}
