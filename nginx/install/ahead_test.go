package install

import (
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
	foreseen := latest.New[nginx.Tree]()
	r.o.Foreseen = foreseen.C()
	r.run()
	a, b := backend(t, "a"), backend(t, "b")
	r.serve(r.tree(site("a.test", a)))
	placeholder := netip.MustParseAddrPort("198.18.0.1:80")
	both := func(b netip.AddrPort) nginx.Tree { return r.tree(site("a.test", a), site("b.test", b)) }

	foreseen.Put(both(placeholder))
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
	foreseen.Put(r.tree(site("a.test", a), site("b.test", b), site("c.test", placeholder)))
	foreseen.Put(nginx.Tree{})
	r.serve(r.tree(site("a.test", a), site("d.test", b)))
	r.expect(r.http("d.test", "/"), 200, "b")
}

// Containers that are made and never started cost a bounded number of tests.
func TestTestsAheadAreBounded(t *testing.T) {
	r := newRig(t)
	tests := r.countTests()
	foreseen := make(chan nginx.Tree)
	r.o.Foreseen, r.o.ReloadBurst, r.o.ReloadEvery = foreseen, 3, func() time.Duration { return time.Hour }
	r.run()
	r.serve(r.tree())
	for i := range 20 {
		foreseen <- r.tree(site(fmt.Sprintf("h%d.test", i), netip.MustParseAddrPort("198.18.0.1:80")))
	}
	r.serve(r.tree(site("a.test", backend(t, "a"))))
	if n := tests(); n > 2+3 {
		t.Errorf("%d tests of twenty trees that never came", n-2)
	}
}
