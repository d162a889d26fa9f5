package nginx

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

const (
	misdirectedPage = "This connection was made for another name.\n"
	vacantPage      = "The service behind this site has no running container at the moment. Try again in a few seconds.\n"
	downPage        = "The service behind this site does not answer at the moment. Try again in a few seconds.\n"
	brokenPage      = "The service behind this site does not answer, or its answer cannot be passed on. Try again in a few seconds.\n"
	crookedPage     = "This path can be read in two ways.\n"
	plainPage       = "This site is served over HTTPS only.\n"
	waitingPage     = "This site waits for its certificate. Try again in a few seconds.\n"
	nothingPage     = "Nothing is served at this path.\n"
	othersPage      = "The rules for this name are not in force here.\n"
	retryAfter      = "5" // seconds
	downLocation    = "@nagaya_down"
	noName          = "_" // a server_name that no client can ask for

	// notConnected holds for a request for which no container accepted a connection:
	// $upstream_connect_time has a "-" for each that was tried. It has one too where the
	// TLS handshake with the container failed, which is no 503 (nginx.org,
	// ngx_http_upstream_module).
	notConnected = `$upstream_connect_time ~ "^[-,: ]+$"`

	// crooked is a request's path, as the client wrote it, that nginx and a container may
	// take for different ones: with a backslash, a segment of dots, or one that is only
	// parameters, which Java's servers drop; each also as an escape.
	crooked = `^[^?]*(?:\\|%5c|(?:/|%2f)(?:;|%3b|(?:\.|%2e){1,2}(?:/|%2f|;|%3b|[?#]|\z)))`
)

// siteName returns the name of the file of a site. nginx reads files in the order of their
// names and tries expressions in the order in which it read them: they come before all else, so
// that the expression of the default site is the last, and the oldest of them is the first.
func siteName(site route.Site) string {
	name := fileName(site.Host)
	if expression, ok := strings.CutPrefix(name, "+"); ok {
		return fmt.Sprintf("+%012x-%s", max(0, site.Since.UnixMilli()), expression)
	}
	return name
}

// fileName returns the name of the file of a host or a stream. A wildcard's star
// becomes '_', which is no part of a checked host. A name near
// the limit of 255 bytes that file systems have is shortened.
func fileName(host string) string {
	if strings.HasPrefix(host, "~") {
		return "+" + digest(host) + ".conf"
	}
	name := strings.NewReplacer("*", "_", ":", "~", "[", "", "]", "").Replace(host)
	if len(name) > 200 {
		name = name[:160] + "~" + digest(host)
	}
	return name + ".conf"
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}

// upstreamName returns the name of the servers behind one path of a host. A path or an
// expression may hold what a name may not, so its digest stands for it. The names of
// upstreams begin with their kind, so that no two can meet.
func upstreamName(host string, l route.Location) string {
	kind := "nagaya_http_"
	switch host[0] {
	case '~':
		kind, host = "nagaya_regex_", digest(host)
	case '[':
		kind, host = "nagaya_ipv6_", digest(host)
	}
	at := l.Path
	if l.Match != route.Segments {
		at = string(l.Match) + " " + l.Path
	}
	return kind + strings.ReplaceAll(host, "*", "_") + "_" + digest(at)
}

// renderSite writes the part of a site that is in the http section.
func renderSite(t *text, site route.Site, pools route.Pools) {
	t.comment("Site " + site.Host + " of " + truncated(site.Family) + ", written by nagaya.")
	locations := slices.Clone(site.Locations)
	slices.SortStableFunc(locations, func(a, b route.Location) int {
		return cmp.Or(cmp.Compare(len(b.Path), len(a.Path)), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Match, b.Match))
	})
	passed := passedTo(t, site)
	for _, l := range locations {
		p := pools[site.PoolKey(l)]
		keepalive := cmp.Or(l.KeepaliveFor(p), 8)
		if l.Keepalive == route.KeepaliveOff || l.Scheme == route.FastCGI || l.Scheme == route.UWSGI {
			keepalive = 0
		}
		upstream(t, upstreamName(site.Host, l), l.Balance, p, keepalive, "ip_hash")
		if len(p.Servers) > 0 {
			t.facts.Pools = append(t.facts.Pools, upstreamName(site.Host, l))
		}
		for _, name := range nginxproxy.Upstreams(site, l) {
			if passed[name] {
				delete(passed, name)
				foreignUpstream(t, name, l.Balance, p)
			}
		}
	}
	if site.TLS && site.Edge.HSTS != "" {
		t.block("map", []string{"$nagaya_https", hstsVariable(site.Edge.HSTS)}, func() {
			t.set("default", "")
			t.set("on", site.Edge.HSTS)
		})
	}
	mapOthersNames(t, site)
	files := filesForSite(t.settings, site)
	t.levels = levels{t.needs.httpLevel}
	writeServer := func() {
		answerTokens(t)
		refuseForSnippet(t, t.needs.closed || closes(files) || slices.Contains(t.needs.closedServers, site.Host))
		serverHead(t, site)
		root := slices.ContainsFunc(levelOf(files...).lines, func(d Directive) bool { return d.Name == "location" && slices.Equal(d.Args, []string{"/"}) })
		isVacant := func(l route.Location) bool { return len(pools[site.PoolKey(l)].Servers) == 0 }
		has := owners(site, locations, isVacant)
		for _, l := range locations {
			root = root || l.Match != route.Exact && strings.TrimRight(l.Path, "/") == ""
			location(t, site, l, isVacant(l), func(p place) bool { return has[p] == site.PoolKey(l) })
		}
		switch {
		case len(locations) == 0:
			t.block("location", []string{"/"}, func() { vacant(t, site) })
		case !root:
			defaultRoot(t)
		}
		debugLocation(t, site, pools)
		challengeLocations(t, hasChallenges(t.settings, site))
		t.block("location", []string{downLocation}, func() {
			answer(t, site)
			if !slices.ContainsFunc(locations, overTLS) {
				t.comment("No container took the connection, so the request has not been read.")
				t.returnIf(notConnected, "503", downPage)
			}
			t.set("return", "502", brokenPage)
		})
		include(t, files)
	}
	t.block("server", nil, func() { t.at(levelOf(files...), writeServer) })
	rejectSite(t, site)
}

// overTLS reports whether nginx speaks TLS to the containers of a location.
func overTLS(l route.Location) bool { return l.Scheme == route.HTTPS || l.Scheme == route.GRPCS }

// defaultRoot writes the answer for the paths that no location serves.
func defaultRoot(t *text) {
	answer := []string{"404", nothingPage}
	switch {
	case t.settings.DefaultRoot == "none":
		return
	case t.settings.DefaultRoot != "":
		answer = strings.Fields(t.settings.DefaultRoot)
	}
	t.block("location", []string{"/"}, func() { t.set("return", answer...) })
}

// GoneDir is the directory in a StateDir in which a file with the name of an upstream says, while it is
// there, that its last server is gone. All workers look for it, with each request: those that
// drain have connections of clients that go on, and would wait for an address at which nothing
// answers any more.
func GoneDir(stateDir string) string { return path.Join(stateDir, "gone") }

// serverHead writes the part of a site's server before its locations.
func serverHead(t *text, site route.Site) {
	e := site.Edge
	https := cmp.Or(e.HTTPSPort, t.settings.HTTPSPort)
	listen(t, cmp.Or(e.HTTPPort, t.settings.HTTPPort))
	if site.TLS {
		listenTLS(t, https, isDefault(site.CatchAll)...)
	}
	if t.quic {
		t.overQUIC(https, func() { listenQUIC(t, https, isDefault(site.CatchAll)...) })
	}
	names := []string{site.Host}
	if site.CatchAll {
		t.comment("Also for requests without a name, and for unknown names.")
		names = append(names, "", "~^")
	}
	t.set("server_name", names...)
	if own := string(e.ServerTokens); own != "" && own != onOff(t.settings.ServerTokens) {
		t.preset("server_tokens", own)
	}
	if site.TLS {
		tlsServer(t, site)
	}
	if site.Plain == route.Unavailable {
		headers(t, site, []string{"Retry-After", retryAfter, "always"})
	} else {
		headers(t, site)
	}
	if hasChallenges(t.settings, site) {
		answerChallenges(t)
	}
	refuseOthersNames(t, site)
	plainHTTP(t, site, https)
	straight(t, site)
	letIn(t, e.Allow)
	errorPages(t)
	for _, m := range upstreamModules(t.build) {
		if _, here := t.levels.inForce(parameterOf(m)); here {
			clientParameters(t, m, "", fastCGIRoot, keptConnection)
		}
	}
}

// straight writes the refusal of paths that a container may take for a guarded one although
// nginx does not: a location for other paths would pass them on as the client wrote them.
func straight(t *text, site route.Site) {
	guarded := slices.DeleteFunc(slices.Clone(site.Locations), func(l route.Location) bool {
		open := len(l.Allow) == 0 || slices.Equal(l.Allow, site.Edge.Allow) // which is for the whole site
		return strings.Trim(l.Path, "/") == "" || open && authFile(t.settings, site, l) == ""
	})
	if len(guarded) == 0 {
		return
	}
	t.comment("No other path leads to one with a password or an allow list.")
	t.returnIf("$request_uri ~* "+quote(crooked), "400", crookedPage)
	script := func(l route.Location) bool { return strings.Contains(l.Path, ".php/") }
	for _, l := range guarded {
		if l.Match == route.Regex || l.Match == route.RegexFold {
			continue
		}
		const parameters, end = `(?:;[^/]*)?`, `(?:/|\z)`
		plain := strings.Split(regexp.QuoteMeta(strings.Trim(l.Path, "/")), "/")
		read := strings.Join(plain, parameters+"/") + parameters + end
		twice := "^/(?!" + strings.Join(plain, "/") + end + ")" + read
		if !slices.ContainsFunc(guarded, script) { // which takes the path behind its own for the one that is asked for
			twice += `|\.php/` + read
		}
		t.returnIf("$uri ~ "+quote(twice), "400", crookedPage)
	}
}

// tlsServer writes the certificate of a site and how its clients use HTTPS.
func tlsServer(t *text, site route.Site) {
	e, c := site.Edge, site.Cert
	t.certificate(c)
	if site.Beside.CertFile != "" {
		t.certificate(site.Beside)
	}
	if c.DHParamFile != "" {
		t.preset("ssl_dhparam", c.DHParamFile)
	}
	if e.TLSPolicy != "" || c.DHParamFile != "" {
		tlsPolicy(t, cmp.Or(e.TLSPolicy, t.settings.TLSPolicy), c.DHParamFile != "")
	}
	if e.ClientCert != "" && c.ClientCAFile != "" {
		t.set("ssl_client_certificate", c.ClientCAFile)
		t.set("ssl_verify_client", e.ClientCert)
		t.setGiven("ssl_crl", c.CRLFile)
		t.comment("A certificate that another site has checked counts for nothing here: neither in a")
		t.comment("session that was begun there, nor on a connection without a name.")
		t.set("ssl_session_cache", "off")
		if !site.CatchAll {
			t.returnIf("$nagaya_nameless", "421", misdirectedPage)
		}
	}
	if t.build.HTTP2Directive && e.HTTP2 != "" {
		t.preset("http2", string(e.HTTP2))
	}
	if !site.CatchAll {
		t.returnIf("$nagaya_misdirected", "421", misdirectedPage)
	}
}

// plainHTTP writes the answer to plain HTTP where that is not the site itself.
func plainHTTP(t *text, site route.Site, https uint16) {
	switch site.Plain {
	case route.Redirect:
		to := "https://$host"
		if https != 443 {
			to += ":" + number(https)
		}
		to += "$request_uri"
		t.comment("308 keeps the method and the body, which browsers drop after 301.")
		t.returnIf("$nagaya_plain = get", "301", to)
		t.returnIf("$nagaya_plain = other", number(cmp.Or(site.Edge.RedirectCode, 308)), to)
	case route.Refuse:
		t.returnIf("$nagaya_plain", number(cmp.Or(t.settings.UnservedStatus, 403)), plainPage)
	case route.Unavailable:
		t.returnIf("$nagaya_plain", "503", waitingPage)
	}
}

// ownLocation writes what a location has without the operator's files.
func ownLocation(t *text, site route.Site, l route.Location, at string) {
	t.block("if (-f "+quote(path.Join(GoneDir(t.settings.StateDir), upstreamName(site.Host, l)))+")", nil, func() { vacant(t, site) })
	guard(t, site, l)
	if _, here := t.levels.inForce("add_header"); here {
		headers(t, site)
	}
	if _, here := t.levels.inForce("error_page"); here {
		errorPages(t)
	}
	t.asked(l, route.AskedBodySize, "client_max_body_size", number(l.BodySize))
	pass(t, site, l, at)
}

// guard writes who is let in to a location.
func guard(t *text, site route.Site, l route.Location) {
	networks := l.Allow
	if !slices.Equal(site.Edge.Allow, l.Allow) {
		networks = intersection(site.Edge.Allow, l.Allow)
	}
	letIn(t, networks)
	if file := authFile(t.settings, site, l); file != "" {
		t.set("auth_basic", realm(site, l, file))
		t.set("auth_basic_user_file", t.settings.HtpasswdDir+"/"+file)
	}
}

// module returns the nginx module for a scheme, by the name that its directives begin with.
func module(s route.Scheme) string {
	switch s {
	case route.GRPC, route.GRPCS:
		return "grpc"
	case route.FastCGI, route.UWSGI:
		return string(s)
	}
	return "proxy"
}

// pass writes the directives that pass a request on to the containers.
func pass(t *text, site route.Site, l route.Location, at string) {
	m := module(l.Scheme)
	if l.Timeout > 0 {
		t.asked(l, route.AskedTimeout, m+"_read_timeout", seconds(l.Timeout))
		t.asked(l, route.AskedTimeout, m+"_send_timeout", seconds(l.Timeout))
	}
	if m != "grpc" {
		t.buffering(m+"_buffering", l, !l.Buffering)
		t.buffering(m+"_request_buffering", l, !l.Buffering || t.settings.Spaces.Temp.Low)
	}
	if m == "proxy" || m == "grpc" {
		upstreamTLS(t, m, l)
	}
	if m == "grpc" && l.Timeout > 0 {
		t.comment("A stream's request body is open for as long as the stream.")
		t.asked(l, route.AskedTimeout, "client_body_timeout", seconds(l.Timeout))
	}
	to, moved := replacement(l, at)
	prefix := ""
	if moved {
		prefix = strings.TrimRight(at, "/")
	}
	connection := keptConnection
	if l.Keepalive == route.KeepaliveOff {
		connection = "$nagaya_closing"
	}
	if _, here := t.levels.inForce(parameterOf(m)); here || moved || m == "fastcgi" && l.Root != "" || m == "proxy" && connection != keptConnection {
		clientParameters(t, m, prefix, cmp.Or(l.Root, fastCGIRoot), connection)
	}
	if moved && m != "proxy" {
		rewrite(t, at, to)
	}
	name := upstreamName(site.Host, l)
	switch m {
	case "proxy":
		name = string(l.Scheme) + "://" + name + to
	case "grpc":
		name = string(l.Scheme) + "://" + name
	case "fastcgi":
		t.preset("fastcgi_index", "index.php")
		t.preset("fastcgi_split_path_info", `^(.+\.php)(/.*)$`)
	}
	t.set(m+"_pass", name)
}

// replacement returns what the part of the path that matched is replaced by; moved is false
// where the path stays as it is. nginx cannot replace what an expression matched.
func replacement(l route.Location, at string) (to string, moved bool) {
	switch {
	case l.Match == route.Regex, l.Match == route.RegexFold:
	case l.Dest != "":
		return l.Dest, true
	case l.StripPrefix && at != "":
		return "/", true
	}
	return "", false
}

// upstreamTLS writes which name a container is asked for, and how its certificate is verified.
func upstreamTLS(t *text, module string, l route.Location) {
	t.setGiven(module+"_ssl_name", l.ServerName)
	if l.Verify && overTLS(l) {
		t.set(module+"_ssl_verify", "on")
		t.set(module+"_ssl_verify_depth", "3")
		t.set(module+"_ssl_trusted_certificate", t.settings.UpstreamCA)
	}
}

// intersection returns the networks that are in both lists; an empty list has all.
func intersection(a, b []netip.Prefix) []netip.Prefix {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	var both []netip.Prefix
	for _, x := range a {
		for _, y := range b {
			if x.Overlaps(y) { // then one is in the other
				both = append(both, slices.MaxFunc([]netip.Prefix{y, x}, func(a, b netip.Prefix) int { return a.Bits() - b.Bits() }))
			}
		}
	}
	if len(both) == 0 {
		// An empty list would allow everybody.
		both = []netip.Prefix{netip.MustParsePrefix("255.255.255.255/32")}
	}
	return both
}

// rewrite replaces the prefix for the modules whose pass directive knows no URI.
func rewrite(t *text, at, to string) {
	if !strings.HasSuffix(at, "/") {
		t.set("rewrite", "(?s)^"+regexp.QuoteMeta(at)+"/?(.*)$", strings.TrimRight(to, "/")+"/$1", "break")
		return
	}
	t.set("rewrite", "(?s)^"+regexp.QuoteMeta(at)+"(.*)$", to+"$1", "break")
}

// realm is the name under which browsers keep a password; "off" alone would ask for none. That of
// a file for the host is nginx-proxy's.
// An expression could hold what nginx takes for a variable, so its digest stands for it.
func realm(site route.Site, l route.Location, file string) string {
	switch {
	case file != l.Auth:
		return nginxproxy.Realm(site, l, file)
	case strings.HasPrefix(site.Host, "~"):
		return "site " + digest(site.Host)
	}
	return "site " + site.Host
}

// vacant writes the answer of a location without a container.
func vacant(t *text, site route.Site) {
	answer(t, site)
	t.set("return", "503", vacantPage)
}
