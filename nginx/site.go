package nginx

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

const (
	misdirectedPage = "This connection was made for another name.\n"
	vacantPage      = "The service behind this site has no running container at the moment. Try again in a few seconds.\n"
	downPage        = "The service behind this site does not answer at the moment. Try again in a few seconds.\n"
	plainPage       = "This site is served over HTTPS only.\n"
	nothingPage     = "Nothing is served at this path.\n"
	retryAfter      = "5" // seconds
	downLocation    = "@nagaya_down"
	nobody          = "_" // a name that no client can ask for

	// notTaken holds for a request to whose containers no connection came about:
	// $upstream_connect_time has a "-" for each that was tried. It has one too where a
	// container's TLS does not please, which is no 503 (nginx.org, ngx_http_upstream_module).
	notTaken = `$upstream_connect_time ~ "^[-,: ]+$"`
)

// fileName returns the name of the file of a host or a stream. A wildcard's star
// becomes '_', which no checked host has. Expressions come first, so that the
// expression of the site that catches all is the last that nginx tries. A name near
// the limit of 255 bytes that file systems have is shortened.
func fileName(host string) string {
	if strings.HasPrefix(host, "~") {
		return "+" + digest(host) + ".conf"
	}
	name := strings.NewReplacer("*", "_", ":", "~").Replace(host)
	if len(name) > 200 {
		name = name[:160] + "~" + digest(host)
	}
	return name + ".conf"
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}

// upstreamName returns the name of the servers behind one path of a host. A
// path may hold what a name may not, so its digest stands for it.
func upstreamName(host string, l route.Location) string {
	if strings.HasPrefix(host, "~") {
		host = digest(host)
	}
	at := l.Path
	if l.Match != route.Segments {
		at = string(l.Match) + " " + l.Path
	}
	return "nagaya_" + strings.ReplaceAll(host, "*", "_") + "_" + digest(at)
}

// renderSite writes the part of a site that is in the http section.
func renderSite(t *text, site route.Site, pools route.Pools) {
	t.comment("Site " + site.Host + " of " + cut(site.Family) + ", written by nagaya.")
	locations := slices.Clone(site.Locations)
	slices.SortStableFunc(locations, func(a, b route.Location) int {
		return cmp.Or(cmp.Compare(len(b.Path), len(a.Path)), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Match, b.Match))
	})
	for _, l := range locations {
		if p := pools[site.PoolKey(l)]; len(p.Servers) > 0 {
			upstream(t, site.Host, l, p)
		}
	}
	if site.TLS && site.Edge.HSTS != "" {
		t.block("map", []string{"$nagaya_proto", hstsVariable(site.Edge.HSTS)}, func() {
			t.set("default", "")
			t.set("https", site.Edge.HSTS)
		})
	}
	t.block("server", nil, func() {
		serverHead(t, site)
		root := false
		for _, l := range locations {
			root = root || l.Match != route.Exact && strings.TrimRight(l.Path, "/") == ""
			location(t, site, l, len(pools[site.PoolKey(l)].Servers) == 0)
		}
		switch {
		case len(locations) == 0:
			t.block("location", []string{"/"}, func() { vacant(t, site) })
		case !root:
			defaultRoot(t)
		}
		t.block("location", []string{downLocation}, func() {
			headers(t, site)
			t.set("add_header", "Retry-After", retryAfter, "always")
			if !slices.ContainsFunc(locations, overTLS) {
				t.comment("Nobody took the connection, so nobody has read the request.")
				t.condition(notTaken, func() { t.set("return", "503", downPage) })
			}
			t.set("return", "502", downPage)
		})
		siteIncludes(t, site)
	})
}

// overTLS reports whether nginx speaks TLS to the containers of a location.
func overTLS(l route.Location) bool { return l.Scheme == route.HTTPS || l.Scheme == route.GRPCS }

// defaultRoot writes what is answered where nothing is served.
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

func serverHead(t *text, site route.Site) {
	e := site.Edge
	https := or(e.HTTPSPort, t.settings.HTTPSPort)
	listen(t, or(e.HTTPPort, t.settings.HTTPPort))
	if site.TLS {
		listenTLS(t, https, asDefault(site.CatchAll)...)
	}
	if t.quic {
		listenQUIC(t, https, asDefault(site.CatchAll)...)
	}
	names := []string{site.Host}
	if site.CatchAll {
		t.comment("Also for requests without a name, and for names that nobody has.")
		names = append(names, "", "~^")
	}
	t.set("server_name", names...)
	if e.ServerTokens == route.On {
		t.set("server_tokens", "on")
	}
	if site.TLS {
		certificate(t, site)
	}
	headers(t, site)
	plain(t, site, https)
	allow(t, e.Allow)
	t.set("error_page", "502", "=", downLocation) // which decides about the status
	t.set("error_page", "504", downLocation)
}

// headers writes what clients are told in every answer. nginx inherits these lines
// only where a location has none of its own.
func headers(t *text, site route.Site) {
	if t.quic {
		t.set("add_header", "Alt-Svc", `h3=":`+strconv.Itoa(int(or(site.Edge.HTTPSPort, t.settings.HTTPSPort)))+`"; ma=86400`, "always")
	}
	if site.TLS && site.Edge.HSTS != "" {
		t.set("add_header", "Strict-Transport-Security", hstsVariable(site.Edge.HSTS), "always")
	}
}

// hstsVariable has the header's value over HTTPS only: over plain HTTP the header
// must not be sent (RFC 6797, section 7.2). Sites with one value share the variable.
func hstsVariable(value string) string { return "$nagaya_hsts_" + digest(value) }

// certificate writes what a site shows to the clients of HTTPS, and asks of them.
func certificate(t *text, site route.Site) {
	e, c := site.Edge, site.Cert
	t.comment("Certificate " + cut(c.Name) + ", SHA-256 " + c.Fingerprint)
	t.certificate(c.CertFile)
	t.set("ssl_certificate_key", c.KeyFile)
	if c.DHParamFile != "" {
		t.set("ssl_dhparam", c.DHParamFile)
	}
	if e.TLSPolicy != "" {
		policy(t, e.TLSPolicy)
	}
	if e.ClientCert != "" && c.ClientCAFile != "" {
		t.set("ssl_client_certificate", c.ClientCAFile)
		t.set("ssl_verify_client", e.ClientCert)
		if c.CRLFile != "" {
			t.set("ssl_crl", c.CRLFile)
		}
	}
	if t.build.HTTP2Directive && e.HTTP2 != route.Unset {
		t.set("http2", string(e.HTTP2))
	}
	if !site.CatchAll {
		t.condition("$nagaya_misdirected", func() { t.set("return", "421", misdirectedPage) })
	}
}

// plain writes what plain HTTP gets.
func plain(t *text, site route.Site, https uint16) {
	switch site.Plain {
	case route.Redirect:
		to := "https://$host"
		if https != 443 {
			to += ":" + strconv.Itoa(int(https))
		}
		to += "$request_uri"
		t.comment("308 keeps the method and the body, which browsers drop after 301.")
		t.condition("$nagaya_plain = get", func() { t.set("return", "301", to) })
		t.condition("$nagaya_plain = other", func() { t.set("return", strconv.Itoa(or(site.Edge.RedirectCode, 308)), to) })
	case route.Refuse:
		t.condition("$nagaya_plain", func() { t.set("return", "403", plainPage) })
	}
}

// condition writes an if; its words are constants of this package.
func (t *text) condition(words string, body func()) {
	t.block("if ("+words+")", nil, body)
}

// upstream writes the servers of one path.
func upstream(t *text, host string, l route.Location, p route.Pool) {
	t.block("upstream", []string{upstreamName(host, l)}, func() {
		switch l.Balance {
		case route.LeastConn:
			t.set("least_conn")
		case route.IPHash:
			t.set("ip_hash")
		}
		serverLines(t, p.Servers)
		if l.Scheme != route.FastCGI && l.Scheme != route.UWSGI {
			t.comment("Shorter than what applications keep idle connections for (two seconds and more),")
			t.comment("so that no request meets a connection that the other side is closing.")
			t.set("keepalive", strconv.Itoa(or(l.KeepaliveFor(p), 8)))
			t.set("keepalive_timeout", "1s")
		}
	})
}

// location writes a path prefix. nginx's own prefixes know no path segments, so
// "/app" becomes two of them: exactly "/app", and all below "/app/"; "/apple"
// is in neither.
func location(t *text, site route.Site, l route.Location, isVacant bool) {
	at := map[route.Match][]string{
		route.Prefix: {l.Path}, route.Exact: {"=", l.Path}, route.Regex: {"~", l.Path}, route.RegexFold: {"~*", l.Path},
	}[l.Match]
	if at != nil {
		t.block("location", at, func() { locationBody(t, site, l, isVacant, l.Path) })
		return
	}
	base := strings.TrimRight(l.Path, "/")
	if base == "" {
		t.block("location", []string{"/"}, func() { locationBody(t, site, l, isVacant, "") })
		return
	}
	t.block("location", []string{"=", base}, func() {
		if l.StripPrefix && !isVacant && (l.Scheme == route.HTTP || l.Scheme == route.HTTPS) {
			t.comment("Relative links of a page at / are right only below a closing slash.")
			t.condition("$nagaya_get", func() { t.set("return", "301", base+"/$is_args$args") })
		}
		locationBody(t, site, l, isVacant, base)
	})
	t.block("location", []string{base + "/"}, func() { locationBody(t, site, l, isVacant, base+"/") })
}

// locationBody writes what happens to a request that matched at, which is empty
// for the whole site.
func locationBody(t *text, site route.Site, l route.Location, isVacant bool, at string) {
	if isVacant {
		vacant(t, site)
		return
	}
	if overridden(t, site, l) {
		return
	}
	allow(t, narrower(site.Edge.Allow, l.Allow))
	if file := authFile(t.settings, site, l); file != "" {
		t.set("auth_basic", realm(site.Host))
		t.set("auth_basic_user_file", t.settings.HtpasswdDir+"/"+file)
	}
	t.set("client_max_body_size", strconv.FormatInt(l.BodySize, 10))
	pass(t, site, l, at)
	locationIncludes(t, site, l)
}

// pass writes how the request goes to the containers.
func pass(t *text, site route.Site, l route.Location, at string) {
	to, moved := rewritten(l, at)
	prefix := strings.TrimRight(at, "/")
	name := upstreamName(site.Host, l)
	switch l.Scheme {
	case route.HTTP, route.HTTPS:
		timeouts(t, "proxy", l)
		unbuffered(t, "proxy", l)
		verified(t, "proxy", l)
		if moved {
			toUpstream(t, "proxy", prefix)
			name += to
		}
		t.set("proxy_pass", string(l.Scheme)+"://"+name)
	case route.GRPC, route.GRPCS:
		timeouts(t, "grpc", l)
		verified(t, "grpc", l)
		if l.Timeout > 0 {
			t.comment("A stream's request body is open for as long as the stream.")
			t.set("client_body_timeout", millis(l.Timeout))
		}
		if moved {
			toUpstream(t, "grpc", prefix)
			rewrite(t, at, to)
		}
		t.set("grpc_pass", string(l.Scheme)+"://"+name)
	case route.FastCGI:
		timeouts(t, "fastcgi", l)
		unbuffered(t, "fastcgi", l)
		if !moved {
			prefix = ""
		}
		if moved || l.Root != "" {
			fastCGIParams(t, or(l.Root, fastCGIRoot), prefix)
		}
		if moved {
			rewrite(t, at, to)
		}
		t.set("fastcgi_index", "index.php")
		t.set("fastcgi_split_path_info", `^(.+\.php)(/.*)$`)
		t.set("fastcgi_pass", name)
	case route.UWSGI:
		timeouts(t, "uwsgi", l)
		unbuffered(t, "uwsgi", l)
		if moved {
			toUpstream(t, "uwsgi", prefix)
			rewrite(t, at, to)
		}
		t.set("uwsgi_pass", name)
	}
}

// rewritten says what the part of the path that matched becomes; moved is false
// where the path stays as it is. nginx cannot replace what an expression matched.
func rewritten(l route.Location, at string) (to string, moved bool) {
	switch {
	case l.Match == route.Regex, l.Match == route.RegexFold:
		return "", false
	case l.Dest != "":
		return l.Dest, true
	}
	return "/", l.StripPrefix && at != ""
}

func unbuffered(t *text, kind string, l route.Location) {
	if !l.Buffering {
		t.set(kind+"_buffering", "off")
		t.set(kind+"_request_buffering", "off")
	}
}

// verified writes what is asked of a container's certificate.
func verified(t *text, kind string, l route.Location) {
	if l.ServerName != "" {
		t.set(kind+"_ssl_name", l.ServerName)
	}
	if l.Verify && (l.Scheme == route.HTTPS || l.Scheme == route.GRPCS) {
		t.set(kind+"_ssl_verify", "on")
		t.set(kind+"_ssl_verify_depth", "3")
		t.set(kind+"_ssl_trusted_certificate", t.settings.UpstreamCA)
	}
}

// narrower lets in only who is in both lists; an empty list lets everybody in.
func narrower(a, b []netip.Prefix) []netip.Prefix {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	var both []netip.Prefix
	for _, x := range a {
		for _, y := range b {
			switch {
			case !x.Overlaps(y):
			case x.Bits() > y.Bits():
				both = append(both, x)
			default:
				both = append(both, y)
			}
		}
	}
	if len(both) == 0 {
		// Nobody is in both; an empty list would say everybody.
		both = []netip.Prefix{netip.MustParsePrefix("255.255.255.255/32")}
	}
	return both
}

func timeouts(t *text, kind string, l route.Location) {
	if l.Timeout > 0 {
		t.set(kind+"_read_timeout", millis(l.Timeout))
		t.set(kind+"_send_timeout", millis(l.Timeout))
	}
}

// rewrite replaces the prefix for the modules whose pass directive knows no URI.
func rewrite(t *text, at, to string) {
	if !strings.HasSuffix(at, "/") {
		t.set("rewrite", "(?s)^"+regexp.QuoteMeta(at)+"/?(.*)$", strings.TrimRight(to, "/")+"/$1", "break")
		return
	}
	t.set("rewrite", "(?s)^"+regexp.QuoteMeta(at)+"(.*)$", to+"$1", "break")
}

// realm is the name under which browsers keep a password; of an expression it is
// none that nginx could take for a variable.
func realm(host string) string {
	if strings.HasPrefix(host, "~") {
		return "site " + digest(host)
	}
	return host
}

func vacant(t *text, site route.Site) {
	headers(t, site)
	t.set("add_header", "Retry-After", retryAfter, "always")
	t.set("return", "503", vacantPage)
}
