package nginx

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

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
	t.Sites = t.ownPorts(sites)
	for _, site := range sites {
		t.Sites = append(t.Sites, t.siteFile(site, pools))
	}
	for _, stream := range streams {
		at := stream.Listen.String()
		f := SiteFile{Host: at, Name: fileName(at)}
		f.Stream, f.Facts = t.write(func(x *text) { renderStream(x, stream, pools[stream.PoolKey()]) })
		t.Sites = append(t.Sites, f)
	}
	t.Main, t.MainFacts = t.write(renderMain)
	problem.Sort(t.Problems)
	return t.sealed()
}

// write returns what render writes for this tree, and what is in it.
func (t *Tree) write(render func(*text)) (string, Facts) {
	x := &text{settings: t.settings, build: t.build, needs: t.needs}
	render(x)
	return x.written()
}

// siteFile writes the files of a site.
func (t *Tree) siteFile(site route.Site, pools route.Pools) SiteFile {
	f := SiteFile{Host: site.Host, Name: fileName(site.Host)}
	f.Text, f.Facts = t.write(func(x *text) { renderSite(x, site, pools) })
	if offersQUIC(t.settings, t.build, site) {
		f.quicPort, f.withoutQUIC = or(site.Edge.HTTPSPort, t.settings.HTTPSPort), f.Text
		f.Text, f.Facts = t.write(func(x *text) { x.quic = true; renderSite(x, site, pools) })
	}
	f.Facts.Hosts = []string{site.Host}
	switch {
	case site.Passthrough != nil:
		stream, facts := t.write(func(x *text) { renderPassthrough(x, site, pools[site.PassthroughKey()]) })
		f.Stream, f.Facts = stream, f.Facts.plus(facts)
		f.SNI = sniLine(site.Host, passSocket(t.settings.RunDir, site.Host))
	case t.needs.passed:
		f.SNI = sniLine(site.Host, TLSSocket(t.settings.RunDir))
	}
	return f
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

// renderMain writes the main file.
func renderMain(t *text) {
	s, b, n := t.settings, t.build, t.needs
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
	errors := ErrorLog(s.LogDir)
	if s.Stderr {
		errors = "stderr"
	}
	t.set("error_log", errors, "warn")
	t.blank()
	t.block("events", nil, func() { t.set("worker_connections", strconv.Itoa(s.WorkerConnections)) })
	t.blank()
	t.block("http", nil, func() {
		connections(t)
		hashes(t, "server_names", n.names)
		tls(t, "nagaya_tls")
		temp(t)
		clients(t)
		variables(t)
		upstreams(t)
		defaultServers(t)
		generationServer(t)
		includeAll(t, httpSnippets)
		t.set("include", SitesDir+"/*.conf")
	})
	if n.stream {
		t.blank()
		t.block("stream", nil, func() { renderStreams(t) })
	}
}
