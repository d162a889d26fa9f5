package apply

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/proc"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// notes is a Runtime that notes what is asked of nginx.
type notes struct {
	Runtime
	dirs nginx.Dirs

	mu      sync.Mutex
	tests   int // but those of trials
	trials  int
	reloads []noted
}

// noted is a reload: how many tests came before it, and what was the current generation.
type noted struct {
	tests int
	text  string
}

func (n *notes) Command(ctx context.Context, args ...string) (string, int, error) {
	n.mu.Lock()
	switch words := strings.Join(args, " "); {
	case !strings.HasPrefix(words, "-t"):
	case strings.Contains(words, trialDir):
		n.trials++
	default:
		n.tests++
	}
	n.mu.Unlock()
	return n.Runtime.Command(ctx, args...)
}

func (n *notes) Signal(ctx context.Context, pid int, s nginx.Signal) error {
	if s == nginx.Reload {
		var text strings.Builder
		files, _ := filepath.Glob(filepath.Join(n.dirs.State, nginx.CurrentLink, nginx.SitesDir, "*.conf"))
		for _, f := range files {
			b, _ := os.ReadFile(f)
			text.Write(b)
		}
		n.mu.Lock()
		n.reloads = append(n.reloads, noted{n.tests, text.String()})
		n.mu.Unlock()
	}
	return n.Runtime.Signal(ctx, pid, s)
}

// tried returns how many tests trials have begun.
func (n *notes) tried() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.trials
}

// begin forgets what was noted.
func (n *notes) begin() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tests, n.trials, n.reloads = 0, 0, nil
}

// before returns how many tests and reloads came before the reload that served a host, in a
// generation that nginx did not refuse.
func (n *notes) before(t *testing.T, host string) (tests, reloads int) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, r := range n.reloads {
		if strings.Contains(r.text, "server_name "+host+";") && !strings.Contains(r.text, "nonsense") {
			return r.tests, i
		}
	}
	t.Fatalf("no reload had %s", host)
	return 0, 0
}

// hostile are n sites of one family that nginx refuses, each version with another text, and one
// that it accepts.
func hostile(r *rig, version, n int, at netip.AddrPort) (sites []nestedSite, spoil func(nginx.Tree) nginx.Tree) {
	for i := range n + 1 {
		s := site(fmt.Sprintf("evil%03d.test", i), at)
		s.Family = "evil"
		sites = append(sites, s)
	}
	return sites, func(tree nginx.Tree) nginx.Tree {
		var bad []nginx.SiteFile
		for i := range n {
			f, ok := tree.Site(fmt.Sprintf("evil%03d.test", i))
			if !ok {
				r.t.Fatal("the site is not there")
			}
			f.Text += fmt.Sprintf("nonsense %d;\n", version)
			bad = append(bad, f)
		}
		return tree.With(bad...)
	}
}

// A family with 128 hosts that nginx refuses changes again and again, each time in the same
// tree as another family's new host. That is served after two tests the first time, and
// without any test and any reload more than it takes alone from then on. All the same what is
// at fault is found in the end, and the family's good host is served.
func TestRefusedSitesDelayNoOther(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *rig) {
		const bad = 128
		note := &notes{}
		r.o.note = note
		r.run()
		up, changed := backend(t, "one"), backend(t, "changed")
		others := []nestedSite{site("other.test", up)}
		evil, _ := hostile(r, 0, bad, up)
		r.serve(r.tree(append(others, evil...)...))
		for round := range 4 {
			host := fmt.Sprintf("new%d.test", round)
			others = append(others, site(host, up))
			evil, spoil := hostile(r, round, bad, changed)
			tree := spoil(r.tree(append(slices.Clone(others), evil...)...))
			note.begin()
			r.wanted.Put(tree)
			s := r.await("the others", func(s nginx.Status) bool { return s.Settled && s.Wanted == tree.Generation })
			r.expect(r.http(host, "/"), 200, "one")
			r.expect(r.http("evil000.test", "/"), 200, "one")
			tests, reloads := note.before(t, host)
			// The first time the reload that is refused, and its rollback.
			if round == 0 && (tests > 3 || reloads > 2) || round > 0 && tests+reloads > 0 {
				t.Errorf("round %d: %d tests and %d reloads before %s was served", round, tests, reloads, host)
			}
			if round == 0 && !hasProblem(s, "sites-waiting") {
				t.Errorf("problems %v", s.Problems)
			}
		}
		few := 8
		evil, spoil := hostile(r, 9, few, changed)
		s := r.serve(spoil(r.tree(append(others, evil...)...)))
		if len(s.Quarantined) != few {
			t.Errorf("%d sites in quarantine, want %d", len(s.Quarantined), few)
		}
		for _, q := range s.Quarantined {
			if !q.LastGood || !strings.HasPrefix(q.Host, "evil") || !strings.Contains(q.Reason, "nonsense") {
				t.Fatalf("quarantined %+v", q)
			}
		}
		r.expect(r.http(fmt.Sprintf("evil%03d.test", few), "/"), 200, "changed")
	})
}

// A trial that nginx takes long for ends when another family changes, and goes on after that.
func TestTrialMakesWayForOthers(t *testing.T) {
	r := newRig(t)
	gate := filepath.Join(r.settings.SnippetDir, "gate")
	write(t, gate, "")
	slow := filepath.Join(r.settings.SnippetDir, "nginx")
	write(t, slow, fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *%s*) while [ -e %s ]; do sleep .02; done;; esac\nexec %s \"$@\"\n", trialDir, gate, r.o.Binary))
	if err := os.Chmod(slow, 0o755); err != nil {
		t.Fatal(err)
	}
	r.o.Binary = slow
	note := &notes{}
	r.o.note = note
	r.run()
	up := backend(t, "one")
	others := []nestedSite{site("other.test", up)}
	evil, spoil := hostile(r, 0, 3, up)
	evil = evil[:4]
	r.serve(r.tree(others...))
	r.wanted.Put(spoil(r.tree(append(slices.Clone(others), evil...)...)))
	for i := range 3 {
		eventually(t, "a trial", func() bool { return note.tried() > i })
		others = append(others, site(fmt.Sprintf("new%d.test", i), up))
		tree := spoil(r.tree(append(slices.Clone(others), evil...)...))
		r.wanted.Put(tree)
		r.await("the others", func(s nginx.Status) bool { return s.Settled && s.Wanted == tree.Generation })
		r.expect(r.http(fmt.Sprintf("new%d.test", i), "/"), 200, "one")
		r.expect(r.http("evil003.test", "/"), 404, "")
	}
	if err := os.Remove(gate); err != nil {
		t.Fatal(err)
	}
	r.await("the end of the trial", func(s nginx.Status) bool { return len(s.Quarantined) == 3 && !waits(s) })
	r.expect(r.http("evil003.test", "/"), 200, "one")
}

// Where what is served would be refused too, a family that is tried is not to blame.
func TestTrialBlamesNoneForAnothersFile(t *testing.T) {
	r := newRig(t)
	r.run()
	up, better := backend(t, "one"), backend(t, "better")
	p := writePair(t, "other.test")
	other := withTLS(site("other.test", up), p, "serve")
	evil, spoil := hostile(r, 0, 1, up)
	r.serve(r.tree(append(evil, other)...))
	if s := r.serve(spoil(r.tree(append(evil, other)...))); len(s.Quarantined) != 1 {
		t.Fatalf("quarantined %+v", s.Quarantined)
	}
	if err := os.Remove(p.CertFile); err != nil {
		t.Fatal(err)
	}
	evil, _ = hostile(r, 1, 1, better)
	s := r.serve(r.tree(append(evil, other)...))
	if len(s.Quarantined) != 1 || s.Quarantined[0].Host != "other.test" {
		t.Errorf("quarantined %+v", s.Quarantined)
	}
	r.expect(r.http("evil000.test", "/"), 200, "better")
}

// A family is a suspect until nothing of it has been refused for a while.
func TestSuspectsAreForgotten(t *testing.T) {
	now := time.Unix(1000, 0)
	bad := nginx.SiteFile{Host: "a.test", Family: "a"}
	q := quarantine{
		sites: map[string]refused{
			"a.test":   {site: bad, retryAt: now.Add(5 * time.Minute)},
			"tcp:2222": {site: nginx.SiteFile{Host: "tcp:2222", Family: "port"}, retryAt: now.Add(time.Minute), blocked: true},
		},
		suspects: map[string]*suspect{
			"a": {last: now, next: now},
			"b": {last: now, next: now.Add(8 * time.Second), waiting: []nginx.SiteFile{{Host: "b.test", Family: "b"}}},
			"c": {last: now, next: now},
		},
	}
	look := func(after time.Duration) string {
		at := now.Add(after)
		q.forget(at, 5*time.Minute)
		family, sites, when := q.dueTrial(at)
		return fmt.Sprintf("%d %d %q %d %v", len(q.sites), len(q.suspects), family, len(sites), when.Sub(now))
	}
	for _, row := range []struct {
		after time.Duration
		want  string
	}{
		{time.Second, `2 3 "" 0 8s`},
		{8 * time.Second, `2 3 "b" 1 8s`},
		{time.Minute, `1 3 "b" 1 8s`},
		{5*time.Minute + 1, `1 2 "b" 1 8s`},
	} {
		if got := look(row.after); got != row.want {
			t.Errorf("after %v: %s, want %s", row.after, got, row.want)
		}
	}
	q.suspects["b"].waiting = nil
	if got, want := look(6*time.Minute), `1 1 "a" 1 5m0s`; got != want {
		t.Errorf("when b is done: %s, want %s", got, want)
	}
	clear(q.sites)
	if got, want := look(6*time.Minute), `0 0 "" 0 -277777h46m40s`; got != want && len(q.suspects) > 0 {
		t.Errorf("in the end: %s", got)
	}
}

// A family with a thousand sites with TLS, all of which it changes each time, costs another's
// new host no test, and no reload but the one that has it.
func TestAFamilyWithAThousandSites(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	note := &notes{}
	r.o.note = note
	r.run()
	up := backend(t, "one")
	pair := writePair(t, "*.test")
	other := site("other.test", up)
	many := func(plain route.Plain) nginx.Tree {
		return manySites(t, r, 1000, securedBy(pair), func(_ int, s *nestedSite) { s.Family, s.Plain = "many", plain }).With(r.tree(other).Sites...)
	}
	r.serve(r.tree(other))
	r.serve(many(route.Serve))
	for i, plain := range []route.Plain{route.Redirect, route.Serve} {
		host := fmt.Sprintf("new%d.test", i)
		note.begin()
		s := r.serve(many(plain).With(r.tree(site(host, up)).Sites...))
		if _, reloads := note.before(t, host); reloads > 0 || len(s.Problems) > 0 || s.Reloads != 3+i {
			t.Errorf("%d reloads before, %d in all, problems %v", reloads, s.Reloads, s.Problems)
		}
		r.expect(r.http(host, "/"), 200, "one")
	}
}

// What nginx may take grows with the number of sites.
func TestPatience(t *testing.T) {
	r := newRig(t)
	st := &store{dir: r.o.StateDir}
	if err := errors.Join(st.prepare(r.o.RunDir, r.o.LogDir), st.stage(manySites(t, r, 500))); err != nil {
		t.Fatal(err)
	}
	if got := patience(10*time.Second, st.stagingPath()); got != 20*time.Second {
		t.Errorf("%v for 500 sites", got)
	}
	if got := patience(10*time.Second, "nowhere"); got != 10*time.Second {
		t.Errorf("%v for none", got)
	}
}

// A port that many sites ask for is looked at once, and one that nginx has not at all.
func TestHeldPortsCostOneLook(t *testing.T) {
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	var tree nginx.Tree
	for i := range 300 {
		host := fmt.Sprintf("h%03d.test", i)
		tree = tree.With(nginx.SiteFile{Host: host, Name: host + ".conf", Facts: nginx.Facts{Listens: []nginx.Listen{{Port: port}}}})
	}
	a := newApplier(newRig(t).o.forRun(t), func(nginx.Status) {})
	a.master.net = proc.Own
	faults := a.blocked(tree, false)
	one := faults["h000.test"]
	for host, f := range faults {
		if f != one || one == nil {
			t.Fatalf("%s has a fault of its own", host)
		}
	}
	if len(faults) != 300 {
		t.Errorf("%d sites are blocked", len(faults))
	}
	a.live, a.master.pid = tree, 1
	if faults := a.blocked(tree, false); len(faults) > 0 {
		t.Errorf("%d sites are blocked by nginx itself", len(faults))
	}
}

// A container may run as the number of nginx's user, and the agent cannot see whose socket it is.
func TestHeldByAProcessWithTheNumberOfNginxsUser(t *testing.T) {
	testenv.NeedRoot(t)
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	other := exec.CommandContext(t.Context(), "sleep", "1000")
	other.ExtraFiles = []*os.File{socket}
	if err := errors.Join(other.Start(), socket.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	defer other.Wait()
	defer other.Process.Kill()
	tree := nginx.Tree{}.With(nginx.SiteFile{Host: "evil.test", Name: "evil.test.conf", Facts: nginx.Facts{Listens: []nginx.Listen{{Port: port}}}})
	a := newApplier(newRig(t).o.forRun(t), func(nginx.Status) {})
	a.live, a.master.pid, a.master.net, a.master.account = nginx.Tree{}.With(), 1, proc.Own, &nginx.Account{}
	_ = asNobody(t, func() error {
		if len(a.blocked(tree, false)) == 0 {
			t.Error("a port that nginx does not have is taken for nginx's")
		}
		a.master.unconfirmed = true // nginx may have it by now
		if len(a.blocked(tree, false)) > 0 {
			t.Error("a port that nginx may have is taken for another's")
		}
		return nil
	})
}
