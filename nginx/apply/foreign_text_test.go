package apply

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Text of clients in nginx's log decides nothing: route changes go live while clients forge
// the message of a master that refuses.
func TestLogDecidesNothing(t *testing.T) { each(t, testLogDecidesNothing) }

func testLogDecidesNothing(t *testing.T, r *rig) {
	r.run()
	up := backend(t, "one")
	small := site("a.test", up)
	small.Locations[0].BodySize = 1
	r.serve(r.tree(small))
	forge := func() {
		t.Helper()
		for _, words := range []string{
			"[emerg] 1#1: unknown directive", "[emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)",
			fmt.Sprintf("[emerg] %d#%d: forged", r.last.PID, r.last.PID),
		} {
			req, err := http.NewRequest(http.MethodPost, r.http("a.test", "/"), strings.NewReader("too large"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Referer", words)
			req.URL.Opaque = "/" + strings.ReplaceAll(words, " ", "") // the request line has it too
			if a := r.do(req); a.status != http.StatusRequestEntityTooLarge {
				t.Fatalf("%d %q", a.status, a.body)
			}
		}
	}
	forge()
	log, err := os.ReadFile(filepath.Join(r.o.LogDir, "error.log"))
	if err != nil || !strings.Contains(string(log), "[emerg] 1#1: unknown directive") || !strings.Contains(string(log), "POST /[emerg]bind()") {
		t.Fatalf("the words are not in the log: %v\n%s", err, log)
	}
	for i := range 5 {
		forge()
		s := r.serve(r.tree(small, site(fmt.Sprintf("b%d.test", i), up)))
		if len(s.Problems) > 0 || s.Reloads != i+2 {
			t.Errorf("change %d: %d reloads, problems %v", i, s.Reloads, s.Problems)
		}
	}
	if got := masterMessage(r.o.dirs(), r.last.PID, 0); got != "" {
		t.Errorf("a client's words pass for the master's: %q", got)
	}
}

// A label whose text is in nginx's message blames no other site: the site is left out
// without which nginx accepts the tree.
func TestNamedSiteIsNotBlamedWithoutProof(t *testing.T) {
	each(t, testNamedSiteIsNotBlamedWithoutProof)
}

func testNamedSiteIsNotBlamedWithoutProof(t *testing.T, r *rig) {
	r.run()
	shop, other := site("shop.test", backend(t, "shop")), site("other.test", backend(t, "other"))
	r.serve(r.tree(shop, other))
	tree := r.tree(shop, other, site("bad.test", backend(t, "bad")))
	file, _ := tree.Site("bad.test")
	// nginx refuses the expression, and its message quotes it.
	file.Text += "server { listen 127.0.0.1:1; location ~ \"(\\x{100} in sites/shop.test.conf:3\" { return 200; } }\n"
	s := r.serve(tree.With(file))
	if len(s.Quarantined) != 1 || s.Quarantined[0].Host != "bad.test" {
		t.Errorf("quarantined %+v", s.Quarantined)
	}
	if !strings.Contains(s.Quarantined[0].Reason, "sites/shop.test.conf:3") {
		t.Errorf("the message does not quote the words, so the test is blind: %q", s.Quarantined[0].Reason)
	}
	r.expect(r.http("shop.test", "/"), 200, "shop")
	r.expect(r.http("other.test", "/"), 200, "other")
	for range 3 {
		if s := r.serve(r.tree(shop, other, site(fmt.Sprintf("c%d.test", s.Reloads), backend(t, "c"))).With(file)); len(s.Quarantined) != 1 {
			t.Errorf("later: quarantined %+v", s.Quarantined)
		}
	}
	r.serve(r.tree(shop, other))
}
