package nginx

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
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
)

// fileName returns the name of a host's file. A wildcard's star becomes '_',
// which no checked host begins with. A name near the limit of 255 bytes that
// file systems have is shortened.
func fileName(host string) string {
	name := strings.Replace(host, "*", "_", 1)
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
func upstreamName(host, path string) string {
	return "nagaya_" + strings.Replace(host, "*", "_", 1) + "_" + digest(path)
}

func renderSite(s Settings, b Build, site route.Site) string {
	var t text
	t.comment("Site " + site.Host + " of " + cut(site.Family) + ", written by nagaya.")
	locations := slices.Clone(site.Locations)
	slices.SortStableFunc(locations, func(a, b route.Location) int {
		return cmp.Or(cmp.Compare(len(b.Path), len(a.Path)), cmp.Compare(a.Path, b.Path))
	})
	for _, l := range locations {
		if len(l.Servers) > 0 {
			upstream(&t, site.Host, l)
		}
	}
	t.block("server", nil, func() {
		serverHead(&t, s, b, site)
		root := false
		for _, l := range locations {
			root = root || strings.TrimRight(l.Path, "/") == ""
			location(&t, s, site, l)
		}
		switch {
		case len(locations) == 0:
			t.block("location", []string{"/"}, func() { vacant(&t) })
		case !root:
			t.block("location", []string{"/"}, func() { t.set("return", "404", nothingPage) })
		}
		t.block("location", []string{downLocation}, func() {
			t.set("add_header", "Retry-After", retryAfter, "always")
			t.comment("The status stays the one that brought the client here.")
			t.set("return", "502", downPage)
		})
		for _, sn := range s.Snippets {
			if snippetName(sn.Name) && sn.Name == "site.d/"+fileName(site.Host) {
				include(&t, s, sn)
			}
		}
	})
	return t.String()
}

func serverHead(t *text, s Settings, b Build, site route.Site) {
	listen(t, s, s.HTTPPort)
	if site.TLS {
		listen(t, s, s.HTTPSPort, tlsListen(s, b)...)
	}
	t.set("server_name", site.Host)
	if site.TLS {
		t.comment("Certificate " + cut(site.Cert.Name) + ", SHA-256 " + site.Cert.Fingerprint)
		t.set("ssl_certificate", site.Cert.CertFile)
		t.set("ssl_certificate_key", site.Cert.KeyFile)
		t.condition("$nagaya_misdirected", func() { t.set("return", "421", misdirectedPage) })
	}
	switch site.Plain {
	case route.Redirect:
		to := "https://$host"
		if s.HTTPSPort != 443 {
			to += ":" + strconv.Itoa(int(s.HTTPSPort))
		}
		to += "$request_uri"
		t.comment("308 keeps the method and the body, which browsers drop after 301.")
		t.condition("$nagaya_plain = get", func() { t.set("return", "301", to) })
		t.condition("$nagaya_plain = other", func() { t.set("return", "308", to) })
	case route.Refuse:
		t.condition("$nagaya_plain", func() { t.set("return", "403", plainPage) })
	}
	t.set("error_page", "502", "504", downLocation)
}

// condition writes an if; its words are constants of this package.
func (t *text) condition(words string, body func()) {
	t.block("if ("+words+")", nil, body)
}

// upstream writes the servers of one path. Which container is behind an address
// stays out of it: a replaced container with the same address needs no reload.
func upstream(t *text, host string, l route.Location) {
	t.block("upstream", []string{upstreamName(host, l.Path)}, func() {
		switch l.Balance {
		case route.LeastConn:
			t.set("least_conn")
		case route.IPHash:
			t.set("ip_hash")
		}
		servers := slices.Clone(l.Servers)
		slices.SortStableFunc(servers, func(a, b route.Server) int { return a.Addr.Compare(b.Addr) })
		for _, srv := range servers {
			args := []string{srv.Addr.String()}
			if srv.Weight > 1 {
				args = append(args, "weight="+strconv.Itoa(min(srv.Weight, 1000)))
			}
			t.set("server", args...)
		}
		if l.Scheme != route.FastCGI {
			t.comment("Shorter than what applications keep idle connections for (two seconds and more),")
			t.comment("so that no request meets a connection that the other side is closing.")
			t.set("keepalive", "8")
			t.set("keepalive_timeout", "1s")
		}
	})
}

// location writes a path prefix. nginx's own prefixes know no path segments, so
// "/app" becomes two of them: exactly "/app", and all below "/app/"; "/apple"
// is in neither.
func location(t *text, s Settings, site route.Site, l route.Location) {
	base := strings.TrimRight(l.Path, "/")
	if base == "" {
		t.block("location", []string{"/"}, func() { locationBody(t, s, site, l, "") })
		return
	}
	t.block("location", []string{"=", base}, func() {
		if l.StripPrefix && len(l.Servers) > 0 && (l.Scheme == route.HTTP || l.Scheme == route.HTTPS) {
			t.comment("Relative links of a page at / are right only below a closing slash.")
			t.condition("$nagaya_get", func() { t.set("return", "301", base+"/$is_args$args") })
		}
		locationBody(t, s, site, l, base)
	})
	t.block("location", []string{base + "/"}, func() { locationBody(t, s, site, l, base+"/") })
}

// locationBody writes what happens to a request that matched at, which is empty
// for the whole site.
func locationBody(t *text, s Settings, site route.Site, l route.Location, at string) {
	if len(l.Servers) == 0 {
		vacant(t)
		return
	}
	for _, p := range sortedPrefixes(l.Allow) {
		t.set("allow", p)
	}
	if len(l.Allow) > 0 {
		t.set("deny", "all")
	}
	if l.Auth != "" {
		t.set("auth_basic", site.Host)
		t.set("auth_basic_user_file", s.HtpasswdDir+"/"+l.Auth)
	}
	t.set("client_max_body_size", strconv.FormatInt(l.BodySize, 10))
	strip := l.StripPrefix && at != ""
	name := upstreamName(site.Host, l.Path)
	switch l.Scheme {
	case route.HTTP, route.HTTPS:
		timeouts(t, "proxy", l)
		if !l.Buffering {
			t.set("proxy_buffering", "off")
			t.set("proxy_request_buffering", "off")
		}
		if strip {
			toUpstream(t, "proxy", strings.TrimRight(at, "/"))
			name += "/"
		}
		t.set("proxy_pass", string(l.Scheme)+"://"+name)
	case route.GRPC, route.GRPCS:
		timeouts(t, "grpc", l)
		if l.Timeout > 0 {
			t.comment("A stream's request body is open for as long as the stream.")
			t.set("client_body_timeout", millis(l.Timeout))
		}
		if strip {
			toUpstream(t, "grpc", strings.TrimRight(at, "/"))
			stripBefore(t, at)
		}
		t.set("grpc_pass", string(l.Scheme)+"://"+name)
	case route.FastCGI:
		timeouts(t, "fastcgi", l)
		if !l.Buffering {
			t.set("fastcgi_buffering", "off")
			t.set("fastcgi_request_buffering", "off")
		}
		if strip {
			toUpstream(t, "fastcgi", strings.TrimRight(at, "/"))
			stripBefore(t, at)
		}
		t.set("fastcgi_index", "index.php")
		t.set("fastcgi_split_path_info", `^(.+\.php)(/.*)$`)
		t.set("fastcgi_pass", name)
	}
}

func timeouts(t *text, kind string, l route.Location) {
	if l.Timeout > 0 {
		t.set(kind+"_read_timeout", millis(l.Timeout))
		t.set(kind+"_send_timeout", millis(l.Timeout))
	}
}

// stripBefore cuts the prefix for the modules whose pass directive knows no URI.
func stripBefore(t *text, at string) {
	if !strings.HasSuffix(at, "/") {
		t.set("rewrite", "^", "/", "break")
		return
	}
	t.set("rewrite", "(?s)^"+regexp.QuoteMeta(at)+"(.*)$", "/$1", "break")
}

func vacant(t *text) {
	t.set("add_header", "Retry-After", retryAfter, "always")
	t.set("return", "503", vacantPage)
}
