package route_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	. "github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// many asks for n hosts that are named after the prefix, as many in a label as there may be.
func many(prefix string, n int) edit {
	return func(c *tasks.Container) {
		c.Labels = map[string]string{}
		for i := 0; i < n; i += 32 {
			var hosts []string
			for j := i; j < min(n, i+32); j++ {
				hosts = append(hosts, fmt.Sprintf("%s%04d.example.com", prefix, j))
			}
			c.Labels[fmt.Sprintf("nagaya.r%d.host", i)] = strings.Join(hosts, ",")
		}
	}
}

// served counts the sites of each family.
func served(t Table) map[string]int {
	n := map[string]int{}
	for _, s := range t.Sites {
		n[s.Family]++
	}
	return n
}

func problems(t Table, code string) (all []problem.Problem) {
	for _, p := range t.Problems {
		if p.Code == code {
			all = append(all, p)
		}
	}
	return all
}

func TestAFamilyHasItsBound(t *testing.T) {
	greedy := web("g", of("greedy"), many("g", 300), age(time.Hour))
	in := input(greedy, web("o", of("other"), labels("nagaya.host", "g0299.example.com, o.example.com")))
	got := build(in)
	if n := served(got); n["ecs:greedy"] != 256 || n["ecs:other"] != 2 {
		t.Errorf("%v", n)
	}
	ps := problems(got, "routes-limited")
	if len(ps) != 1 || ps[0].Subject != `family "ecs:greedy"` || ps[0].Severity != problem.Error || ps[0].Text !=
		`"ecs:greedy" asks for 300 paths of hosts and ports, 44 too many, so some are left out, such as those of g0256.example.com: routes.max-per-family is 256` {
		t.Errorf("%+v", ps)
	}
	if n := len(slices.DeleteFunc(got.Waiting, func(w Waiting) bool { return w.Why != "too-many" })); n != 44 {
		t.Errorf("%d wait", n)
	}

	// Who was served before goes on beside an older one with other names.
	in.Prev = got
	in.Snapshot.Containers = append(in.Snapshot.Containers, web("x", of("greedy"), many("a", 10), age(2*time.Hour)))
	if again := build(in); len(again.Sites) != 258 || !slices.EqualFunc(again.Sites, got.Sites, func(x, y Site) bool { return x.Host == y.Host }) {
		t.Errorf("%d sites, and others than before", len(again.Sites))
	}
	in.Options.MaxOfFamily = 1000
	if n := served(build(in)); n["ecs:greedy"] != 309 {
		t.Errorf("%v", n)
	}
}

// Hosts that are kept for the grace period take no more places than others.
func TestEverNewNamesDoNotPileUp(t *testing.T) {
	other := web("o", of("other"), labels("nagaya.host", "o.example.com"))
	in := input()
	for i := range 9 {
		now := noon.Add(time.Duration(i) * time.Minute)
		in.Now, in.Snapshot.Containers = now, []tasks.Container{other, web(fmt.Sprintf("c%d", i), of("restless"), many(fmt.Sprintf("r%d-", i), 100))}
		in.Prev = build(in)
	}
	if n := served(in.Prev); n["ecs:restless"] != 256 || n["ecs:other"] != 1 {
		t.Errorf("%v", n)
	}
	for _, s := range in.Prev.Sites {
		if since := in.Prev.VacantSince(s); !since.IsZero() && since.Before(noon.Add(7*time.Minute)) {
			t.Fatalf("%s is vacant since %s", s.Host, since)
		}
	}
	if ps := problems(in.Prev, "routes-limited"); ps != nil {
		t.Errorf("%+v", ps)
	}
	// What has been forgotten is anybody's at once.
	in.Snapshot.Containers = append(in.Snapshot.Containers, web("x", of("next"), labels("nagaya.host", "r0-0000.example.com")))
	if n := served(build(in)); n["ecs:next"] != 1 {
		t.Errorf("%v", n)
	}

	// Nor do families with ever new names.
	in.Options.Max = 50
	for i := range 100 {
		in.Now, in.Snapshot.Containers = in.Now.Add(time.Second), []tasks.Container{other, web(fmt.Sprintf("f%d", i), of(fmt.Sprintf("f%d", i)), labels("nagaya.host", fmt.Sprintf("f%d.example.com", i)))}
		in.Prev = build(in)
	}
	if n := served(in.Prev); len(in.Prev.Sites) != 50 || n["ecs:other"] != 1 || n["ecs:f99"] != 1 || n["ecs:f52"] != 1 {
		t.Errorf("%d sites: %v", len(in.Prev.Sites), n)
	}
}

// Where all together ask for too much, those with most give way.
func TestFamiliesShareFairly(t *testing.T) {
	in := input()
	in.Options.Max = 400
	for i := range 5 {
		in.Snapshot.Containers = append(in.Snapshot.Containers, web(fmt.Sprintf("g%d", i), of(fmt.Sprintf("g%d", i)), many(fmt.Sprintf("g%d-", i), 200), age(time.Hour-time.Duration(i))))
	}
	in.Prev = build(in)
	if n := served(in.Prev); len(in.Prev.Sites) != 400 || n["ecs:g0"] != 80 || n["ecs:g4"] != 80 {
		t.Errorf("%v", n)
	}
	ps := problems(in.Prev, "routes-limited")
	if len(ps) != 5 || !strings.HasSuffix(ps[0].Text, "all families ask for 1000 and routes.max is 400, so those that ask for most give way") {
		t.Errorf("%+v", ps)
	}
	for _, n := range []int{1, 50} {
		in.Snapshot.Containers = append(in.Snapshot.Containers[:5:5], web("o", of("other"), many("o", n)))
		got := build(in)
		if have := served(got); have["ecs:other"] != n || len(got.Sites) != 400 {
			t.Errorf("%d: %v", n, have)
		}
		was := map[string]bool{}
		for _, s := range in.Prev.Sites {
			was[s.Host] = true
		}
		for _, s := range got.Sites {
			if !was[s.Host] && s.Family != "ecs:other" {
				t.Errorf("%s was not there before", s.Host)
			}
		}
	}
}

// Paths and ports count as hosts do, and the new paths of a host stand or fall together.
func TestPathsAndPortsHaveBounds(t *testing.T) {
	c := web("c", labels(
		"nagaya.a.host", "a.example.com", "nagaya.b.host", "b.example.com", "nagaya.c.host", "b.example.com", "nagaya.c.path", "/admin", "nagaya.c.auth", "team",
		"nagaya.d.listen", "tcp:2222", "nagaya.e.listen", "tcp:2223",
	))
	for max, want := range map[int]string{
		2: "a.example.com/ http 10.0.0.5:32768\ntcp:2222 10.0.0.5:32768\n",
		3: "a.example.com/ http 10.0.0.5:32768\nb.example.com/admin http 10.0.0.5:32768\nb.example.com/ http 10.0.0.5:32768\n",
		5: "a.example.com/ http 10.0.0.5:32768\nb.example.com/admin http 10.0.0.5:32768\nb.example.com/ http 10.0.0.5:32768\ntcp:2222 10.0.0.5:32768\ntcp:2223 10.0.0.5:32768\n",
	} {
		in := input(c)
		in.Options.Stream, in.Options.MaxOfFamily = true, max
		if got, _, _ := strings.Cut(lines(build(in)), "waits "); got != want {
			t.Errorf("%d:\n%s", max, got)
		}
	}
	// A host that has to go goes whole, at once: without /admin, all would be open.
	in := input(c, web("d", of("d"), labels("nagaya.host", "d.example.com")), web("e", of("e"), labels("nagaya.host", "e.example.com")))
	in.Prev, in.Options.Max = build(in), 4
	if n := served(build(in)); len(n) != 3 || n["ecs:web"] != 1 {
		t.Errorf("%v", n)
	}
}

// A silent source's sites are kept, and count.
func TestSilentSitesCount(t *testing.T) {
	in := input(web("c", of("big"), many("c", 200)))
	in.Prev = build(in)
	in.Snapshot = tasks.Snapshot{Complete: true, Silent: []string{""}, Containers: []tasks.Container{web("d", of("big"), many("d", 100))}}
	if n := served(build(in)); n["ecs:big"] < 200 || n["ecs:big"] > 256 {
		t.Errorf("%v", n)
	}
}

func TestProbesAreSharedFairly(t *testing.T) {
	in := input()
	noCheck := healthIs(tasks.NoCheck)
	for i := range 200 {
		kv := []string{}
		for j := range 25 {
			kv = append(kv, fmt.Sprintf("nagaya.r%d.host", j), fmt.Sprintf("h%d.example.com", j), fmt.Sprintf("nagaya.r%d.port", j), fmt.Sprint(1000+j))
		}
		in.Snapshot.Containers = append(in.Snapshot.Containers, web(fmt.Sprintf("g%d", i), of("greedy"), noCheck, labels(kv...), age(time.Hour)))
	}
	in.Snapshot.Containers = append(in.Snapshot.Containers, web("z", of("other"), noCheck, labels("nagaya.host", "z.example.com")))
	got := build(in)
	theirs := slices.ContainsFunc(got.Probes, func(p Probe) bool { return p.Container == "z" })
	if len(got.Probes) != 4096 || !theirs {
		t.Errorf("%d probes, the other's is there: %t", len(got.Probes), theirs)
	}
	ps := problems(got, "probes-limited")
	if len(ps) != 1 || !strings.HasPrefix(ps[0].Text, `"ecs:greedy" has 5000 ports and paths to be probed, 905 too many`) {
		t.Errorf("%+v", ps)
	}
	// What has been found stays.
	in.Reach = Reach{}
	for _, p := range got.Probes[2048:] {
		in.Reach[p] = Reached{State: Reachable}
	}
	again := build(in)
	for p := range in.Reach {
		if !slices.Contains(again.Probes, p) {
			t.Fatalf("%+v is not probed any more", p)
		}
	}
}
