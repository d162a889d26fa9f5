package apply

import (
	"crypto/tls"
	"fmt"
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
		r.settings.Snippets = append(r.settings.Snippets, nginx.Snippet{Name: name, Path: filepath.Join(dir, filepath.Base(name)), Text: "deny all;\n"})
	}
	slices.SortFunc(r.settings.Snippets, func(a, b nginx.Snippet) int { return strings.Compare(a.Name, b.Name) })
	r.settings.HostAuth, r.settings.Passwords = true, []string{"lock.test", "path.test_42099b4af021e53fd8fd4e056c2568d7c2e3ffa8", "guest"}
	for _, name := range r.settings.Passwords {
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

// At a port with TLS a client that asks for the name of another family's host gets nothing.
func TestOthersNamesAtAPortWithTLS(t *testing.T) { each(t, testOthersNamesAtAPortWithTLS) }

func testOthersNamesAtAPortWithTLS(t *testing.T, r *rig) {
	r.run()
	p := writePair(t, "*.a.test", "a.test")
	port := freePort(t)
	mq := nestedStream{Listen: route.Listen{Protocol: route.TLS, Port: port}, Family: "mq", Host: "mq.a.test", Cert: p, Pool: pool(lines(t, "mq"))}
	up := backend(t, "site")
	of := func(family, host string) nestedSite {
		s := site(host, up)
		s.Family = family
		return s
	}
	said := func(name string) string {
		c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		return ask(c, "hello")
	}
	for _, row := range []struct {
		sites  []nestedSite
		served map[string]bool
	}{
		{nil, map[string]bool{"": true, "mq.a.test": true, "shop.a.test": true}},
		{
			[]nestedSite{of("shop", "shop.a.test"), of("mq", "own.a.test"), of("shop", "else.test"), of("shop", "mq.a.test")},
			map[string]bool{"": true, "mq.a.test": true, "a.test": true, "own.a.test": true, "free.a.test": true, "shop.a.test": false, "SHOP.a.test": false},
		},
		{[]nestedSite{of("shop", "*.a.test"), of("mq", "own.a.test")}, map[string]bool{"": true, "mq.a.test": true, "own.a.test": true, "a.test": true, "x.a.test": false}},
		{[]nestedSite{of("shop", strings.Repeat("x", 60)+".a.test")}, map[string]bool{"y.a.test": true, strings.Repeat("x", 60) + ".a.test": false}},
	} {
		r.serve(r.table(nestedTable{Sites: row.sites, Streams: []nestedStream{mq}}))
		for name, served := range row.served {
			if got := said(name); (got == "mq: hello") != served {
				t.Errorf("a client that asks for %q gets %q, served should be %v", name, got, served)
			}
		}
	}
}
