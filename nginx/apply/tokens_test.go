package apply

import (
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// The challenges of the agent's own orders are answered before all that keeps clients out, for every
// name; without such a file a request takes its usual way.
func TestTokens(t *testing.T) { each(t, testTokens) }

func testTokens(t *testing.T, r *rig) {
	const at, token, theirs = "/.well-known/acme-challenge/", "/.well-known/acme-challenge/own_token-1", "/.well-known/acme-challenge/theirs"
	r.settings.TokenDir = nginx.TokenDir(r.settings.StateDir)
	webroot := t.TempDir()
	for dir, files := range map[string]map[string]string{
		r.settings.TokenDir: {token: "own.print"},
		webroot:             {token: "not this one", theirs: "theirs.print"},
	} {
		if err := os.MkdirAll(filepath.Join(dir, at), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			write(t, filepath.Join(dir, name), text)
		}
	}
	write(t, filepath.Join(r.settings.TokenDir, "secret"), "secret")
	write(t, filepath.Join(r.settings.HtpasswdDir, "staff"), "u:{PLAIN}p\n")
	p, up := writePair(t, "redirected.test", "terminated.test", "all.test", "clients.test"), backend(t, "container")
	nobody := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	plain := func(host string, change func(*nestedSite)) nestedSite {
		s := site(host, up)
		change(&s)
		return s
	}
	sites := []nestedSite{
		site("open.test", up),
		withTLS(site("redirected.test", up), p, route.Redirect),
		withTLS(site("terminated.test", up), p, route.Refuse),
		plain("refused.test", func(s *nestedSite) { s.Plain = route.Refuse }),
		plain("waiting.test", func(s *nestedSite) { s.Plain = route.Unavailable }),
		plain("password.test", func(s *nestedSite) { s.Locations[0].Auth = "staff" }),
		plain("listed.test", func(s *nestedSite) { s.Locations[0].Allow, s.Edge.Allow = nobody, nobody }),
		plain("vacant.test", func(s *nestedSite) { s.Locations[0].Servers = nil }),
		plain("none.test", func(s *nestedSite) { s.Edge.Challenges = route.ChallengesNone }),
		plain("path.test", func(s *nestedSite) { s.Locations[0].Path = "/.well-known" }),
	}
	all := withTLS(plain("all.test", func(s *nestedSite) { s.CatchAll = true }), p, route.Redirect)
	r.run()
	for _, dir := range []string{"", webroot} {
		for _, catchAll := range []bool{false, true} {
			r.settings.ChallengeDir = dir
			with := sites
			if catchAll {
				with = append(sites[:len(sites):len(sites)], all)
			}
			r.serve(r.tree(with...))
			for _, s := range append(with, nestedSite{Host: "unknown.test"}) {
				r.expect(r.http(s.Host, token), 200, "own.print")
				if a := r.get(r.http(s.Host, token+"/../../../secret")); a.status == 200 && a.body == "secret" {
					t.Errorf("%s: a file beside the challenges is served", s.Host)
				}
			}
			r.expect(r.https("redirected.test", token), 200, "own.print")
			r.expect(r.https("redirected.test", at+"other"), 200, "container")
			if catchAll {
				if a := r.get(r.https("waiting.test", "/")); a.status != 0 {
					t.Errorf("over HTTPS waiting.test is answered by another site: %d %q", a.status, a.body)
				}
			}
			// What others answer stays theirs.
			others := map[string]string{"open.test": "200 container", "path.test": "200 container", "password.test": "401", "redirected.test": "301", "refused.test": "403", "waiting.test": "503"}
			if dir != "" {
				others = map[string]string{"open.test": "200 theirs.print", "path.test": "200 theirs.print", "password.test": "200 theirs.print", "redirected.test": "200 theirs.print", "refused.test": "403", "waiting.test": "503", "none.test": "200 container"}
			}
			for host, want := range others {
				status, body, _ := strings.Cut(want, " ")
				if a := r.get(r.http(host, theirs)); strconv.Itoa(a.status) != status || !strings.Contains(a.body, body) {
					t.Errorf("with %q: %s: %d %q, want %s", dir, host, a.status, a.body, want)
				}
			}
			if a := r.get(r.http("waiting.test", "/")); a.status != 503 || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "waits for its certificate") {
				t.Errorf("waiting.test: %d %v %q", a.status, a.header, a.body)
			}
		}
	}
	if b, _ := os.ReadFile(filepath.Join(r.settings.LogDir, "error.log")); strings.Contains(string(b), "challenges") {
		t.Errorf("looking for files of challenges is logged:\n%s", b)
	}
}
