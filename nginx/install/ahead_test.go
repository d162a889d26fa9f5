package install

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// What was tested while its container started is only loaded when it is ready.
func TestTestedAhead(t *testing.T) {
	r := newRig(t)
	tests := r.countTests()
	foreseen := latest.New[Outlook]()
	r.o.Foreseen = foreseen.C()
	r.run()
	a, b := backend(t, "a"), backend(t, "b")
	r.serve(r.tree(site("a.test", a)))
	placeholder := netip.MustParseAddrPort("198.18.0.1:80")
	both := func(b netip.AddrPort) nginx.Tree { return r.tree(site("a.test", a), site("b.test", b)) }

	foreseen.Put(Outlook{Tree: both(placeholder)})
	eventually(t, "a test ahead", func() bool { return tests() == 2 })
	r.serve(both(b))
	r.expect(r.http("b.test", "/"), 200, "b")
	r.expect(r.http("a.test", "/"), 200, "a")
	if n := tests(); n != 2 {
		t.Errorf("%d tests, want one of each shape", n)
	}
	st := &store{dir: r.o.StateDir, staging: aheadDir}
	if _, err := os.Stat(st.staged()); !missing(err) {
		t.Errorf("the staged tree is left: %v", err)
	}

	// A wrong guess costs a test and nothing else.
	foreseen.Put(Outlook{Tree: r.tree(site("a.test", a), site("b.test", b), site("c.test", placeholder))})
	foreseen.Put(Outlook{})
	r.serve(r.tree(site("a.test", a), site("d.test", b)))
	r.expect(r.http("d.test", "/"), 200, "b")
}

// willing is an nginx that accepts everything.
type willing struct {
	way
	tests int
}

func (w *willing) run(context.Context, ...string) (said string, exit int, err error) {
	w.tests++
	return "", 0, nil
}

// Containers that are made and never started cost a bounded number of tests.
func TestTestsAheadAreBounded(t *testing.T) {
	w := &willing{}
	a := &ahead{
		tester: tester{way: w, store: &store{dir: t.TempDir(), staging: aheadDir}, limit: time.Minute},
		budget: budget{burst: 3, every: func() time.Duration { return time.Hour }},
	}
	for i := range 20 {
		tree := render(nginx.Default(), nginx.Build{Version: nginx.MinVersion}, nestedTable{
			Sites: []nestedSite{site(fmt.Sprintf("h%d.test", i), netip.MustParseAddrPort("198.18.0.1:80"))},
		})
		if a.begin(t.Context(), tree); a.done != nil {
			a.ended(<-a.done)
		}
		if a.accepted.has(tree) != (i < 3) {
			t.Errorf("tree %d is accepted: %v", i, a.accepted.has(tree))
		}
	}
	if w.tests != 3 {
		t.Errorf("%d tests of twenty trees that never came", w.tests)
	}
}
