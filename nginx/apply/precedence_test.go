package apply

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// Of expressions that match one name the oldest answers, whatever they are and however they
// are spelt.
func TestTheOldestExpressionAnswers(t *testing.T) { each(t, testTheOldestExpressionAnswers) }

func testTheOldestExpressionAnswers(t *testing.T, r *rig) {
	r.run()
	old, young := backend(t, "old"), backend(t, "young")
	start := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for _, padding := range []string{"", "x?", "y?", "z?", "(x|y)?"} {
		first, second := site("~^[a-z]+[.]re[.]test$", old), site("~^"+padding+"[a-z]+[.]re[.]tes[t]$", young)
		first.Since, second.Since = start, start.Add(time.Second)
		r.serve(r.tree(first, second))
		r.expect(r.http("shop.re.test", "/"), 200, "old")
		first.Since = start.Add(time.Minute)
		r.serve(r.tree(first, second))
		r.expect(r.http("shop.re.test", "/"), 200, "young")
	}
}

// A request for a host that the operator has a password file or rules for meets them, or is
// refused, whichever site answers.
func TestTheOperatorsFilesHold(t *testing.T) { each(t, testTheOperatorsFilesHold) }

func testTheOperatorsFilesHold(t *testing.T, r *rig) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"vhost.d/denied.test", "vhost.d/part.test_location", "site.d/site.test.conf", "site.d/_.deep.test.conf", "location.d/paths.test,a.conf"} {
		r.settings.Snippets = append(r.settings.Snippets, nginx.Snippet{Name: name, Path: filepath.Join(dir, filepath.Base(name))})
		write(t, filepath.Join(dir, filepath.Base(name)), "deny all;\n")
	}
	slices.SortFunc(r.settings.Snippets, func(a, b nginx.Snippet) int { return strings.Compare(a.Name, b.Name) })
	r.settings.HostAuth = []string{"lock.test", "path.test_42099b4af021e53fd8fd4e056c2568d7c2e3ffa8"}
	for _, name := range append(r.settings.HostAuth, "guest") {
		write(t, filepath.Join(r.settings.HtpasswdDir, name), "anna:{PLAIN}secret\n")
	}
	r.run()
	named := []string{"lock.test", "LOCK.test", "path.test", "denied.test", "part.test", "site.test", "x.deep.test", "paths.test"}
	up := backend(t, "served")
	everybody := site("z.example", up)
	everybody.CatchAll = true
	for name, stranger := range map[string]nestedSite{
		"a wildcard": site("*.test", up), "an expression": site(`~^[a-z.]+\.(test|else)$`, up), "the default": everybody,
	} {
		r.serve(r.tree(stranger))
		for _, host := range named {
			if got := r.get(r.http(host, "/")); got.status != 403 {
				t.Errorf("%s answers for %s: %d %q", name, host, got.status, got.body)
			}
		}
		r.expect(r.http("free.test", "/"), 200, "served")
	}
	// The host's own site has its own rules, the wildcard's too, and a label changes nothing.
	guest := site("lock.test", up)
	guest.Locations[0].Auth = "guest"
	deep := site("*.deep.test", up)
	r.serve(r.tree(site("*.test", up), guest, deep, site("part.test", up)))
	r.expect(r.http("part.test", "/"), 403, "")
	r.expect(r.http("x.deep.test", "/"), 403, "403 Forbidden")
	for url, status := range map[string]int{r.http("lock.test", "/"): 401, r.http("free.test", "/"): 200} {
		r.expect(url, status, "")
	}
	own := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "opened by the container") }))
	t.Cleanup(own.Close)
	through := func(host string) nestedSite {
		return nestedSite{Host: host, Family: "own", Plain: route.Redirect, Passthrough: &nestedPassthrough{Pool: pool(addrOf(own))}}
	}
	r.serve(r.tree(through("*.test")))
	r.expect(r.https("free.test", "/"), 200, "opened by the container")
	for _, host := range named {
		if got := r.get(r.https(host, "/")); got.status == 200 {
			t.Errorf("TLS of %s is passed through: %q", host, got.body)
		}
	}
	for _, host := range []string{"lock.test", "path.test"} {
		if tree := render(r.settings, r.o.Build, nestedTable{Sites: []nestedSite{through(host)}}); len(tree.Problems) == 0 {
			t.Errorf("TLS of %s, which has a password file, is passed through", host)
		}
	}
}
