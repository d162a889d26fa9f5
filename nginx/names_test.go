package nginx

import (
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/nginx/nginxtest"
)

// positions are the directives in which a container's word stands, with the words that mean
// something to nginx there. A word that is checked to begin otherwise (a path with '/', an
// address) cannot be one of them. FuzzLabelsToText tries all other words in all of them.
var positions = []struct {
	directive string
	words     []string // host names that nginx's documentation gives another meaning
	prefix    string   // of ours before the container's word
}{
	{"server_name", []string{"_", "~", "$hostname", ".test"}, ""}, // no host name begins so
	{"auth_basic", []string{"off"}, "site "},
	{"map in the directory sni", []string{"default", "include", "hostnames", "volatile"}, `\`},
	{"upstream of a site", []string{"8883", "tls", "tcp_2222"}, "nagaya_http_"},
	{"upstream of a passthrough", []string{"8883"}, "nagaya_pass_"},
	{"upstream of a stream", nil, "nagaya_tls_"},
}

// Host names that are words of nginx, or the middle of names that we make, stop nobody.
func TestHostsThatAreWordsOfNginx(t *testing.T) { nginxtest.Each(t, testHostsThatAreWordsOfNginx) }

func testHostsThatAreWordsOfNginx(t *testing.T, n nginxtest.Nginx) {
	crt, key := writePair(t)
	p := certs.Pair{Name: "default", CertFile: crt, KeyFile: key, Fingerprint: "ab"}
	var sites []nestedSite
	add := func(host string, passed bool) {
		s := nestedSite{Host: host, Family: "web", Plain: route.Serve, Locations: []nestedLocation{
			with(spot("/", server("10.0.0.1:80", 1)), func(l *nestedLocation) { l.Auth = "staff" }),
		}}
		if s.TLS, s.Cert = !passed, p; passed {
			s.Cert, s.Passthrough = certs.Pair{}, &nestedPassthrough{Pool: pool(server("10.0.0.2:443", 1))}
		}
		sites = append(sites, s)
	}
	expression := `~^a\.test$`
	add(expression, false)
	add(digest(expression), false) // the digest that stands for the expression
	add("*.p.test", true)
	add(digest("*.p.test"), true)
	for i, at := range positions {
		for _, w := range at.words {
			if usableHost(w) && !slices.ContainsFunc(sites, func(s nestedSite) bool { return s.Host == w }) {
				add(w, i%2 == 0)
			}
		}
	}
	streams := []nestedStream{
		{Listen: route.Listen{Protocol: route.TLS, Port: 8883}, Family: "mqtt", Cert: p, Pool: pool(server("10.0.0.3:1883", 1))},
		{Listen: route.Listen{Protocol: route.TCP, Port: 2222}, Family: "git", Pool: pool(server("10.0.0.3:22", 1))},
	}
	dir := t.TempDir()
	s := scene{build: n.Version, sites: sites, streams: streams}
	tree := s.render(func(set *Settings) {
		if set.User = ""; os.Getuid() == 0 {
			set.User = "root"
		}
		set.HTTPPort, set.HTTPSPort, set.HtpasswdDir = 18080, 18443, dir
		set.TrustedProxies = nil
	})
	if len(tree.Problems) > 0 {
		t.Errorf("problems: %+v", tree.Problems)
	}
	if out, err := accepts(t, n.Binary, dir, tree.Under(dir).Files()); err != nil || strings.Contains(out, "duplicate") || strings.Contains(out, "conflicting") {
		t.Errorf("nginx -t: %v\n%s", err, out)
	}
	all := tree.String()
	for _, at := range positions {
		if at.prefix != "" && !strings.Contains(all, strings.TrimPrefix(quote(at.prefix), `"`)[:len(at.prefix)]) {
			t.Errorf("%s: nothing is written after %q", at.directive, at.prefix)
		}
	}
	for _, bad := range []string{"auth_basic off", "\ndefault unix:", "\ninclude unix:"} {
		if strings.Contains(all, bad) {
			t.Errorf("%q is written", bad)
		}
	}
}

// A path's file of the operator's does not become a host's: the headers that it adds may be
// secrets between nginx and another container.
func TestFilesOfPathsAreNoFilesOfHosts(t *testing.T) {
	var sites []nestedSite
	for _, host := range []string{"shop.test", "shop.test_location", "shop.test_x_location_override"} {
		sites = append(sites, nestedSite{Host: host, Family: "web", Plain: route.Serve, Locations: []nestedLocation{spot("/", server("10.0.0.1:80", 1))}})
	}
	tree := scene{build: debian122, sites: sites}.render(func(s *Settings) {
		s.Snippets = []Snippet{{Name: "vhost.d/shop.test_location"}, {Name: "vhost.d/shop.test_x_location_override"}}
	})
	for _, f := range tree.Sites {
		if got := strings.Count(f.Text, "include "); f.Host == "shop.test" && got != 1 || f.Host != "shop.test" && got != 0 {
			t.Errorf("%s has %d files of the operator's:\n%s", f.Host, got, f.Text)
		}
	}
}

// A container whose TLS is passed through would change whose address nagaya.allow of all
// sites sees, where trusted proxies send the client's in a header.
func TestPassthroughBesideTrustedProxies(t *testing.T) {
	sites := []nestedSite{
		{Host: "a.test", Family: "web", TLS: true, Cert: pair, Plain: route.Serve, Locations: []nestedLocation{
			with(spot("/", server("10.0.0.1:80", 1)), func(l *nestedLocation) { l.Allow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} }),
		}},
		{Host: "p.test", Family: "own", Plain: route.Redirect, Passthrough: &nestedPassthrough{Pool: pool(server("10.0.0.2:443", 1))}},
	}
	for _, spoken := range []bool{false, true} {
		tree := scene{build: debian122, sites: sites}.render(func(s *Settings) {
			s.TrustedProxies, s.ProxyProtocol = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, spoken
		})
		_, served := tree.Site("p.test")
		want := "real_ip_header X-Forwarded-For;"
		if spoken {
			want = "real_ip_header proxy_protocol;"
		}
		if served != spoken || !strings.Contains(tree.Main, want) || (len(tree.Problems) == 1) == spoken {
			t.Errorf("with the PROXY protocol %v: served %v, problems %v\n%s", spoken, served, tree.Problems, tree.Main)
		}
	}
}

// A port that a client writes is passed on only if there is such a port.
func TestPortNumber(t *testing.T) {
	re := regexp.MustCompile("^" + portNumber + "$")
	for n := range 100_000 {
		if got, want := re.MatchString(fmt.Sprint(n)), n >= 1 && n <= 65535; got != want {
			t.Errorf("%d: %v, want %v", n, got, want)
		}
	}
	for _, s := range []string{"", "080", "0443", "8a", "-1", "00000"} {
		if re.MatchString(s) {
			t.Errorf("%q is a port", s)
		}
	}
}
