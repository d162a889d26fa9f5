package nginx

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/nginx/nginxtest"
)

// Paths that are compared in two ways may ask for one location of nginx, as nagaya.path=/app and
// VIRTUAL_PATH=/app/ do: nginx would refuse the site, and with it whoever else is there. What has a container has the location.
func TestPathsThatMeet(t *testing.T) { nginxtest.Each(t, testPathsThatMeet) }

func testPathsThatMeet(t *testing.T, n nginxtest.Nginx) {
	at := func(match route.Match, path string, servers ...route.Server) nestedLocation {
		return with(spot(path, servers...), func(l *nestedLocation) { l.Match = match })
	}
	one, two := server("10.0.0.1:80", 1), server("10.0.0.2:80", 1)
	for name, row := range map[string]struct {
		locations []nestedLocation
		want      []string // each location, and the path whose containers it leads to
	}{
		"a prefix":            {[]nestedLocation{at(route.Segments, "/app", one), at(route.Prefix, "/app/", two)}, []string{"/app/ prefix /app/", "= /app /app"}},
		"a prefix that left":  {[]nestedLocation{at(route.Segments, "/app", one), at(route.Prefix, "/app/")}, []string{"= /app /app", "/app/ /app"}},
		"segments that left":  {[]nestedLocation{at(route.Segments, "/app"), at(route.Prefix, "/app/", two)}, []string{"/app/ prefix /app/", "= /app "}},
		"one path":            {[]nestedLocation{at(route.Segments, "/app", one), at(route.Exact, "/app", two)}, []string{"= /app /app", "/app/ /app"}},
		"segments, then path": {[]nestedLocation{at(route.Segments, "/app"), at(route.Exact, "/app", two)}, []string{"/app/ ", "= /app exact /app"}},
		"both left":           {[]nestedLocation{at(route.Segments, "/app"), at(route.Prefix, "/app/")}, []string{"/app/ ", "= /app "}},
		"they do not meet":    {[]nestedLocation{at(route.Segments, "/app", one), at(route.Prefix, "/app", two)}, []string{"= /app /app", "/app/ /app", "/app prefix /app"}},
		"the root":            {[]nestedLocation{at(route.Segments, "/", one), at(route.Exact, "/", two)}, []string{"/ /", "= / exact /"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := scene{build: n.Version, sites: []nestedSite{{Host: "a.test", Family: "web", Plain: route.Serve, Locations: row.locations}}}
			tree := s.render(func(set *Settings) {
				if set.User = ""; os.Getuid() == 0 {
					set.User = "root"
				}
				set.HTTPPort, set.HTTPSPort = 18080, 18443
			})
			site, _ := tree.Site("a.test")
			says, err := ParseDirectives(site.Text)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			eachDirective(says, func(d Directive) {
				if d.Name != "location" || strings.HasPrefix(d.Args[0], "@") {
					return
				}
				to := ""
				eachDirective(d.Block, func(in Directive) {
					for _, l := range row.locations {
						if in.Name == "proxy_pass" && in.Args[0] == "http://"+upstreamName("a.test", l.Location) {
							to = strings.TrimLeft(string(l.Match)+" "+l.Path, " ")
						}
					}
				})
				got = append(got, strings.Join(d.Args, " ")+" "+to)
			})
			if !slices.Contains(got, "/ /") { // the answer for all other paths
				got = got[:len(got)-1]
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("locations %q, want %q", got, row.want)
			}
			dir := t.TempDir()
			if out, err := accepts(t, n.Binary, dir, tree.Under(dir).Files()); err != nil {
				t.Errorf("nginx -t: %v\n%s", err, out)
			}
		})
	}
}

// A path behind a script of PHP that has a password of its own is no other way to another one.
func TestAGuardedPathBehindAScriptIsAsked(t *testing.T) {
	for path, want := range map[string]bool{"/x": true, "/index.php/admin": false} {
		guarded := func(path string) nestedLocation {
			return with(spot(path, server("10.0.0.1:80", 1)), func(l *nestedLocation) { l.Auth = "staff" })
		}
		s := scene{build: debian122, sites: []nestedSite{{Host: "a.test", Family: "web", Plain: route.Serve, Locations: []nestedLocation{guarded("/admin"), guarded(path)}}}}
		tree := s.render(func(*Settings) {})
		site, _ := tree.Site("a.test")
		if got := strings.Contains(string(site.Text), `|\\.php/admin`); got != want {
			t.Errorf("%s: refuses scripts before /admin: %v\n%s", path, got, site.Text)
		}
	}
}

// Where the whole site has one list of clients, no path leads past it.
func TestPathsOfAGuardedSiteAreNotRefused(t *testing.T) {
	all := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for path, allow := range map[string][]netip.Prefix{"/a": all, "/b": {netip.MustParsePrefix("10.0.0.1/32")}} {
		l := with(spot(path, server("10.0.0.1:80", 1)), func(l *nestedLocation) { l.Allow = allow })
		tree := scene{build: debian122, sites: []nestedSite{{
			Host: "a.test", Family: "web", Plain: route.Serve, Edge: route.Edge{Allow: all}, Locations: []nestedLocation{l},
		}}}.render(func(*Settings) {})
		if site, _ := tree.Site("a.test"); strings.Contains(string(site.Text), crookedPage[:20]) != (path == "/b") {
			t.Errorf("%s:\n%s", path, site.Text)
		}
	}
}
