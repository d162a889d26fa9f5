package nginx

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// Render writes the configuration of that shape for the servers in the pools: one main
// file and the files of each site and stream. Equal inputs give equal trees. What cannot be
// rendered is left out and named in the tree's problems.
func Render(s Settings, b Build, shape route.Shape, pools route.Pools) Tree {
	t := Tree{settings: s.prepared(), build: b, shape: shape, pools: pools}
	sites, streams := t.usableSites(shape.Sites), t.usableStreams(shape.Streams)
	t.checkHTTP3(sites, streams)
	t.needs = needsOf(t.settings, b, sites, streams)
	if checkCertificate(shape.Unserved) == nil {
		t.needs.unserved = shape.Unserved
	}
	t.warnOfSpace()
	t.Sites = t.portFiles(sites)
	for _, site := range sites {
		t.warn(site)
		t.Sites = append(t.Sites, t.siteFile(site, pools))
	}
	for _, stream := range streams {
		at := stream.Listen.String()
		f := SiteFile{Host: at, Name: fileName(at), Family: stream.Family}
		var others, own []string
		if stream.Listen.Protocol == route.TLS {
			others, own = namesAt(stream, shape.Sites) // those that are not rendered too
		}
		f.Stream, f.Facts = t.write(func(x *text) { renderStream(x, stream, pools[stream.PoolKey()], others, own) })
		t.Sites = append(t.Sites, f)
	}
	t.Main, t.MainFacts = t.write(renderMain)
	problem.Sort(t.Problems)
	return t.finished()
}

// write returns what render writes for this tree, and the facts of it.
func (t *Tree) write(render func(*text)) (string, Facts) {
	x := &text{settings: t.settings, build: t.build, needs: t.needs}
	render(x)
	return x.out.String(), x.facts
}

// siteFile writes the files of a site.
func (t *Tree) siteFile(site route.Site, pools route.Pools) SiteFile {
	f := SiteFile{Host: site.Host, Name: siteName(site), Family: site.Family}
	f.Text, f.Facts = t.write(func(x *text) {
		x.quic = offersHTTP3(t.settings, t.build, site)
		renderSite(x, site, pools)
	})
	switch {
	case site.Passthrough != nil:
		f.Stream, f.Facts = t.write(func(x *text) {
			x.facts = f.Facts
			renderPassthrough(x, site, pools[site.PassthroughKey()])
		})
		f.SNI = sniLine(site.Host, passthroughSocket(t.settings.RunDir, site.Host))
	case t.needs.passthrough:
		f.SNI = sniLine(site.Host, tlsSocket(t.settings.RunDir))
	}
	return f
}

// usableSites returns the sites that can be rendered; the others become problems.
func (t *Tree) usableSites(all []route.Site) []route.Site {
	return slices.DeleteFunc(slices.Clone(all), func(s route.Site) bool {
		err := checkSite(s, t.build, t.settings)
		if err != nil {
			t.Problems = append(t.Problems, problem.OfHost(printable(s.Host), "site-not-rendered",
				"correct the labels of the containers that serve this host; the other sites are not affected",
				"host %q cannot be written for nginx: %v", truncated(s.Host), err))
		}
		return err != nil
	})
}

// usableStreams returns the streams that can be rendered; the others become problems.
func (t *Tree) usableStreams(all []route.Stream) []route.Stream {
	return slices.DeleteFunc(slices.Clone(all), func(s route.Stream) bool {
		err := checkStream(s, t.build)
		if err != nil {
			p := problem.Of("port "+s.Listen.String(), "stream-not-rendered",
				"correct the labels of the containers that ask for this port; the others are not affected", "port %s cannot be written for nginx: %v", s.Listen, err)
			p.Port = s.Listen.Port
			t.Problems = append(t.Problems, p)
		}
		return err != nil
	})
}

// printable bounds a host that may be anything and makes it fit to be shown.
func printable(s string) string {
	q := strconv.Quote(truncated(s))
	return fmt.Sprintf("%.255s", q[1:len(q)-1])
}

// needs is what the main file must have for the sites and streams beside it.
type needs struct {
	names []string // host names that are not expressions
	named []string // hosts that the operator has files for
	// fileOwners are, of the hosts with one name of files (route.Site), the first.
	fileOwners map[string]string
	// What the operator's files for all sites say, and the addresses that they have the
	// default server of.
	httpLevel, streamLevel level
	ownDefaults            map[string]bool
	// uses are the variables of nginx-proxy's, and its format of logs, that files of the
	// operator's use and do not define.
	uses map[string]bool
	// closed and streamClosed: a file for all sites, or all streams, is left out that may say
	// who is let in.
	closed, streamClosed bool
	closedServers        []string // names for which such a file has a server of its own
	// passthrough: some site's TLS is passed through, so the public port of HTTPS is the
	// stream section's, and the http section listens on a socket behind it.
	passthrough bool
	// udp: there is a port of UDP.
	udp     bool
	stream  bool // the stream section
	tlsPort bool // a stream that is a port with TLS
	// catchAll: a site is the default of the public port of HTTPS.
	catchAll bool
	// unserved is the certificate for names of no site; without files there is none.
	unserved certs.Pair
}

func needsOf(s Settings, b Build, sites []route.Site, streams []route.Stream) needs {
	n := needs{stream: len(streams) > 0, fileOwners: map[string]string{}}
	ofHTTP, ofStream := httpFiles(s), snippetsIn(s, streamSnippets)
	n.httpLevel, n.streamLevel = levelOf(ofHTTP...), levelOf(ofStream...)
	n.ownDefaults = ownDefaults(n.httpLevel.lines)
	n.closed, n.streamClosed, n.closedServers = closes(ofHTTP), closes(ofStream), closedServers(ofHTTP)
	n.named = namedHosts(s, n.closedServers)
	var defined map[string]bool
	n.uses, defined = words(s.Snippets)
	maps.DeleteFunc(n.uses, func(word string, _ bool) bool { return defined[word] })
	for _, stream := range streams {
		n.tlsPort = n.tlsPort || stream.Listen.Protocol == route.TLS
		n.udp = n.udp || stream.Listen.Protocol == route.UDP
	}
	for _, site := range sites {
		if first, found := n.fileOwners[site.File]; !found || site.Host < first {
			n.fileOwners[site.File] = site.Host
		}
		if !strings.HasPrefix(site.Host, "~") {
			n.names = append(n.names, site.Host)
		}
		n.passthrough = n.passthrough || site.Passthrough != nil
		if cmp.Or(site.Edge.HTTPSPort, s.HTTPSPort) == s.HTTPSPort {
			n.catchAll = n.catchAll || site.CatchAll && site.TLS
		}
	}
	n.stream = n.stream || n.passthrough
	n.stream = n.stream || b.Stream != "" && len(ofStream) > 0
	return n
}

// workerConnections is how many connections a worker has, clients and upstreams together. Behind
// the stream section a client of HTTPS takes two more, whichever site's TLS is passed through.
// Those of UDP have their own, two for a client, and all may be at one worker.
func workerConnections(n needs) int {
	all := 1024
	if n.passthrough {
		all *= 2
	}
	if n.udp {
		all += 2 * udpClients
	}
	return all
}

// renderMain writes the main file.
func renderMain(t *text) {
	s, b, n := t.settings, t.build, t.needs
	t.comment("Written by nagaya; what is changed here is lost. Your own lines belong into")
	t.comment(s.SnippetDir + "/http.d and " + s.SnippetDir + "/site.d.")
	if n.stream && b.Stream == "dynamic" {
		t.set("load_module", b.StreamModule)
	}
	t.setGiven("user", s.User)
	workers := "auto"
	if s.WorkerProcesses > 0 {
		workers = number(s.WorkerProcesses)
	}
	t.set("worker_processes", workers)
	t.comment("A proxied request holds two connections; some more files are logs and temporary files.")
	t.set("worker_rlimit_nofile", number(2*workerConnections(n)+512))
	t.set("worker_shutdown_timeout", seconds(s.ShutdownTimeout))
	t.set("pid", PIDFile(s.RunDir))
	errors, level := ErrorLog(s.LogDir), "warn"
	if s.Spaces.Logs.Low {
		level = "emerg" // clients cause the others
	}
	if s.Stderr {
		errors = "stderr"
	}
	t.set("error_log", errors, level)
	t.blank()
	t.block("events", nil, func() { t.set("worker_connections", number(workerConnections(n))) })
	t.blank()
	t.block("http", nil, func() {
		t.levels = levels{n.httpLevel}
		if slices.ContainsFunc(n.named, longName) {
			hashSizes(t, "map", n.named) // before the first map, which sets them too
		}
		connections(t)
		include(t, httpFiles(s)) // before the first map, which sets the sizes of hashes
		logVariables(t)
		hashSizes(t, "server_names", n.names)
		tlsDefaults(t, "nagaya_tls")
		tempPaths(t)
		realIP(t)
		variables(t)
		mapForeign(t)
		mapNamed(t)
		upstreamDefaults(t)
		defaultServers(t)
		statusServer(t)
		t.set("include", SitesDir+"/*.conf")
	})
	if n.stream {
		t.blank()
		t.block("stream", nil, func() { renderStreams(t) })
	}
}
