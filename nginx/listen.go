package nginx

import (
	"strconv"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// defaultServers answer for every name that is not a site's, so that nobody is
// shown another's site.
func defaultServers(t *text) {
	unknownPlain(t, func() { listen(t, t.settings.HTTPPort, asDefault(true)...) })
	unknownTLS(t, func() {
		listenTLS(t, t.settings.HTTPSPort, asDefault(!t.needs.answered)...)
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
func (t *Tree) ownPorts(sites []route.Site) (files []SiteFile) {
	s := t.settings
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
		if offersQUIC(s, t.build, site) {
			quic[p] = quic[p] || site.CatchAll
		}
	}
	add := func(kind string, port uint16, write func(x *text)) {
		at := portFile(kind, port)
		f := SiteFile{Host: at, Name: fileName(at)}
		f.Text, f.Facts = t.write(func(x *text) {
			x.comment("Unknown names at port " + strconv.Itoa(int(port)) + ", written by nagaya.")
			write(x)
		})
		files = append(files, f)
	}
	for port := range plain {
		add("http", port, func(t *text) { unknownPlain(t, func() { listen(t, port, asDefault(true)...) }) })
	}
	for port, answered := range tls {
		add("https", port, func(t *text) {
			unknownTLS(t, func() { listenTLS(t, port, asDefault(!answered)...) })
		})
	}
	for port, answered := range quic {
		add("quic", port, func(t *text) {
			t.comment("Without this file no site listens there, nor tells its clients of HTTP/3.")
			unknownTLS(t, func() { listenQUIC(t, port, append([]string{"reuseport"}, asDefault(!answered)...)...) })
			t.facts.Listens = []Listen{{Port: port, UDP: true}}
		})
	}
	return files
}

// portFile is the SiteFile.Host of a port that sites share.
func portFile(kind string, port uint16) string { return kind + ":" + strconv.Itoa(int(port)) }

// listenTLS writes where the http section takes HTTPS: at the public port, or,
// where the stream section has that, at the socket behind it.
func listenTLS(t *text, port uint16, with ...string) {
	how := []string{"ssl"}
	if t.settings.HTTP2 && t.build.HTTP2 && !t.build.HTTP2Directive {
		how = append(how, "http2")
	}
	how = append(how, with...)
	if t.needs.passed && port == t.settings.HTTPSPort {
		t.socket(TLSSocket(t.settings.RunDir), append([]string{"proxy_protocol"}, how...)...)
		return
	}
	listen(t, port, how...)
}

// listenQUIC writes where HTTP/3 is spoken. The port is noted for the file of the port.
func listenQUIC(t *text, port uint16, with ...string) {
	listenPlainly(t, port, append([]string{"quic"}, with...)...)
}

// listen writes where clients come to, by the PROXY protocol if that is set.
func listen(t *text, port uint16, with ...string) {
	if t.settings.ProxyProtocol {
		with = append([]string{"proxy_protocol"}, with...)
	}
	t.facts.Listens = append(t.facts.Listens, Listen{Port: port})
	listenPlainly(t, port, with...)
}

func listenPlainly(t *text, port uint16, with ...string) {
	p := strconv.Itoa(int(port))
	t.set("listen", append([]string{p}, with...)...)
	if t.settings.IPv6 {
		t.set("listen", append([]string{"[::]:" + p}, with...)...)
	}
}

func generationServer(t *text) {
	t.block("server", nil, func() {
		t.socket(Socket(t.settings.RunDir))
		t.set("access_log", "off")
		t.block("location", []string{"=", "/generation"}, func() { t.set("include", GenerationFile) })
		if t.build.StubStatus {
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
