package route_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	. "github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// called makes a container without a task or project, with that name.
func called(name string) edit {
	return func(c *tasks.Container) { c.Task, c.Name = tasks.TaskRef{}, name }
}

// A name of one kind is no name of another: who may choose a container's name, or its
// project, joins no task family by it.
func TestKindsOfFamilies(t *testing.T) {
	shop := web("shop", of("shop"), age(time.Hour))
	for name, row := range map[string]struct {
		first, second tasks.Container
		want          string
	}{
		"a name":    {shop, web("thief", called("shop")), "ecs:shop"},
		"a file":    {shop, web("static-1", called("shop"), func(c *tasks.Container) { c.Origin, c.File = tasks.File, "a.yaml" }), "ecs:shop"},
		"a project": {web("shop", called("shop"), age(time.Hour)), web("thief", called("x"), func(c *tasks.Container) { c.Labels[tasks.LabelComposeProject] = "shop" }), "name:shop"},
		"a service": {composed("a", "shop", 1), web("thief", called("shop"), age(time.Second)), "compose:shop/web"},
		"a slash": {composed("a", "shop", 1), web("thief", called("x"), age(time.Second), func(c *tasks.Container) {
			c.Labels[tasks.LabelComposeProject], c.Labels[tasks.LabelComposeService] = "shop/web/", "x"
		}), "compose:shop/web"},
		"a task":       {web("shop", called("shop"), age(time.Hour)), web("thief", of("shop")), "name:shop"},
		"an upstream":  {web("shop", called("shop"), age(time.Hour)), web("thief", of("evil"), func(c *tasks.Container) { c.Labels["nagaya.upstream"] = "shop" }), "name:shop"},
		"nothing else": {web("shop", called(""), age(time.Hour)), web("thief", called("")), "id:shop"},
	} {
		got := built(Table{}, Options{}, row.first, row.second)
		if got.Sites[0].Family != row.want || !hasCode(got, "host-taken") {
			t.Errorf("%s: of %s, problems %v", name, got.Sites[0].Family, got.Problems)
		}
	}
}

// sharing makes a container ask for a path of the shared host.
func sharing(id, path string, port uint16, d time.Duration, more ...string) tasks.Container {
	words := append([]string{"nagaya.host", "a.example.com", "nagaya.upstream", "word", "nagaya.path", path}, more...)
	return web(id, of(id), hostPort(port), age(d), labels(words...))
}

// A word is shared by the families that the operator names, and what keeps clients out of a
// host or a path stays, whoever joins.
func TestSharedUpstreams(t *testing.T) {
	owner := sharing("shop", "/", 1, time.Hour, "nagaya.auth", "staff", "nagaya.allow", "10.0.0.0/8")
	listed := Options{Shared: map[string][]string{"word": {"ecs:shop", "ecs:blog"}}}
	open := Options{Shared: map[string][]string{"word": nil}}
	guard := []string{"nagaya.auth", "staff", "nagaya.allow", "10.0.0.0/8"}
	const alone = "a.example.com/ http 10.0.0.5:1\n"
	const differs = alone + "waits a.example.com%s %s:1/app differs\nerror upstream-differs\n"
	taken := "waits a.example.com/ %s:1/app taken\nerror host-taken\n"
	for _, row := range []struct {
		name string
		o    Options
		by   tasks.Container
		want string
	}{
		{"a word that the operator has not named", Options{}, sharing("blog", "/", 2, time.Second, "nagaya.weight", "1000"), alone + fmt.Sprintf(taken, "blog") + "warning upstream-not-shared\nwarning upstream-not-shared\n"},
		{"a family that the operator has not named", listed, sharing("evil", "/", 2, time.Second, guard...), alone + fmt.Sprintf(taken, "evil") + "warning upstream-not-shared\n"},
		{"without the password and the list", listed, sharing("blog", "/", 2, time.Second), fmt.Sprintf(differs, "/", "blog")},
		{"without the list", listed, sharing("blog", "/", 2, time.Second, "nagaya.auth", "staff"), fmt.Sprintf(differs, "/", "blog")},
		{"with another password", open, sharing("evil", "/", 2, time.Second, "nagaya.auth", "mine", "nagaya.allow", "10.0.0.0/8"), fmt.Sprintf(differs, "/", "evil")},
		{"below it, without them", listed, sharing("blog", "/blog", 2, time.Second), fmt.Sprintf(differs, "/blog", "blog")},
		{"by an expression, without them", open, web("evil", of("evil"), hostPort(2), age(time.Second), func(c *tasks.Container) {
			c.Labels = map[string]string{"nagaya.upstream": "word"}
			c.Env = map[string]string{"VIRTUAL_HOST": "a.example.com", "VIRTUAL_PATH": "~ ^/ad"}
		}), fmt.Sprintf(differs, "^/ad", "evil")},
		{"without TLS", open, sharing("evil", "/", 2, time.Second, append(guard, "nagaya.tls", "off")...), fmt.Sprintf(differs, "/", "evil")},
		{"with TLS of its own", open, web("evil", of("evil"), hostPort(2), age(time.Second), labels("nagaya.host", "a.example.com", "nagaya.upstream", "word", "nagaya.tls", "passthrough")), fmt.Sprintf(differs, "", "evil")},
		{"with the same", listed, sharing("blog", "/", 2, time.Second, guard...), "a.example.com/ http 10.0.0.5:1 10.0.0.5:2\n"},
		{"with the same below it", listed, sharing("blog", "/blog", 2, time.Second, guard...), "a.example.com/blog http 10.0.0.5:2\na.example.com/ http 10.0.0.5:1\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.o.Stream = true
			before := built(Table{}, row.o, owner)
			for name, got := range map[string]Table{"later": built(before, row.o, owner, row.by), "at once": built(Table{}, row.o, owner, row.by)} {
				if d := cmp.Diff(row.want, lines(got)); d != "" {
					t.Errorf("%s (-want +got):\n%s\n%v", name, d, got.Problems)
				}
				for _, l := range got.Sites[0].Locations {
					if l.Auth != "staff" || len(l.Allow) != 1 {
						t.Errorf("%s: %s asks for %q of %v", name, l.Path, l.Auth, l.Allow)
					}
				}
				checkTable(t, got)
			}
		})
	}
}

// An exact path comes before any expression, as one that has a password, and a path of whole segments is one too.
func TestNoExactPathComesBeforeAGuardedExpression(t *testing.T) {
	o := Options{Shared: map[string][]string{"word": nil}}
	by := func(id, path string, port uint16, d time.Duration, more ...string) tasks.Container {
		return web(id, of(id), hostPort(port), age(d), func(c *tasks.Container) {
			labels(append([]string{"nagaya.upstream", "word"}, more...)...)(c)
			c.Env = map[string]string{"VIRTUAL_HOST": "a.example.com", "VIRTUAL_PATH": path}
		})
	}
	owner := by("shop", "~* ^/ad", 1, time.Hour, "nagaya.auth", "staff")
	for path, row := range map[string]struct {
		c    tasks.Container
		kept bool
	}{
		"/admin":   {sharing("evil", "/admin", 2, time.Second), false},
		"= /Admin": {by("evil", "= /Admin", 2, time.Second), false},
		"/":        {sharing("evil", "/", 2, time.Second), true},
		"/admin/":  {by("evil", "/admin/", 2, time.Second), true}, // the expression comes before it
		"with it":  {by("evil", "= /admin", 2, time.Second, "nagaya.auth", "staff"), true},
	} {
		before := built(Table{}, o, owner)
		for name, got := range map[string]Table{"later": built(before, o, owner, row.c), "at once": built(Table{}, o, owner, row.c)} {
			if hasCode(got, "upstream-differs") == row.kept || len(got.Sites[0].Locations) == 2 != row.kept {
				t.Errorf("%s, %s:\n%s", path, name, lines(got))
			}
		}
	}
}

// The owner's restrictions hold while it is away, and it may change them.
func TestOwnersOfSharedHosts(t *testing.T) {
	o := Options{Shared: map[string][]string{"word": nil}}
	auth := func(file string) []string { return []string{"nagaya.auth", file} }
	shop := sharing("shop", "/", 1, time.Minute, auth("staff")...)
	evil := sharing("evil", "/", 2, time.Hour) // older
	pair := sharing("pair", "/", 3, time.Hour, auth("staff")...)
	before := built(Table{}, o, shop)
	away := built(before, o, evil)
	if d := cmp.Diff("a.example.com/ http \nwaits a.example.com/ evil:1/app differs\nerror upstream-differs\n", lines(away)); d != "" {
		t.Errorf("away (-want +got):\n%s", d)
	}
	for name, row := range map[string]struct {
		prev Table
		now  []tasks.Container
		want string // the password of the path, and its servers
	}{
		"a new revision with another password":    {before, []tasks.Container{sharing("shop", "/", 4, time.Second, auth("new")...), evil}, "new 10.0.0.5:4"},
		"a new revision with none":                {before, []tasks.Container{sharing("shop", "/", 4, time.Second), pair}, " 10.0.0.5:4"},
		"back in time":                            {away, []tasks.Container{sharing("shop", "/", 4, time.Second, auth("staff")...), evil}, "staff 10.0.0.5:4"},
		"one that was beside it goes on":          {built(before, o, shop, pair), []tasks.Container{pair, evil}, "staff 10.0.0.5:3"},
		"and the owner is back":                   {built(built(before, o, shop, pair), o, pair), []tasks.Container{shop, pair, evil}, "staff 10.0.0.5:1 10.0.0.5:3"},
		"another one may not change the password": {built(before, o, shop, pair), []tasks.Container{shop, sharing("pair", "/", 3, 0, auth("new")...)}, "staff 10.0.0.5:1"},
	} {
		got := built(row.prev, o, row.now...)
		l := got.Sites[0].Locations[0]
		if is := l.Auth + addrs(got.Pools[got.Sites[0].PoolKey(l)].Servers); is != row.want {
			t.Errorf("%s: %q, want %q; problems %v", name, is, row.want, got.Problems)
		}
	}
}

// Where the operator ends the sharing of a host, it is the owner's, whose containers may be newer.
func TestTheEndOfSharing(t *testing.T) {
	shop, blog := sharing("shop", "/", 1, time.Hour), sharing("blog", "/blog", 2, time.Minute)
	o := Options{Shared: map[string][]string{"word": nil}}
	before := built(built(Table{}, o, shop), o, shop, blog)
	renewed := sharing("shop", "/", 3, 0)
	renewed.ID = "shop2"
	before = built(before, o, shop, renewed, blog)
	for name, o := range map[string]Options{
		"the word is gone": {}, "its families are others": {Shared: map[string][]string{"word": {"ecs:news"}}}, "the owner alone has the word": {Shared: map[string][]string{"word": {"ecs:shop"}}},
		"the other one alone has the word": {Shared: map[string][]string{"word": {"ecs:blog"}}},
	} {
		got := built(before, o, renewed, blog)
		if s := got.Sites[0]; (s.Family != "ecs:shop" && s.Owner != "ecs:shop") || !strings.Contains(lines(got), "a.example.com/ http 10.0.0.5:3\n") {
			t.Errorf("%s: the host is of %s, owner %s; %s", name, s.Family, s.Owner, lines(got))
		}
	}
	// So it is where the owner has given up the word.
	alone := web("shop", of("shop"), hostPort(3))
	if got := built(built(before, o, alone, shop, blog), o, alone, blog); got.Sites[0].Family != "ecs:shop" {
		t.Errorf("the host is of %s; %s", got.Sites[0].Family, lines(got))
	}
}

// While an owner is away for a moment, nobody beside it takes the host or a path over: what it has
// set stays until routes.grace is over, also across restarts of the agent.
func TestAnOwnerComesBack(t *testing.T) {
	o := Options{Shared: map[string][]string{"word": nil}}
	guard := []string{"nagaya.auth", "staff", "nagaya.hsts", "max-age=1"}
	ask := func(family, id, path string, port uint16, d time.Duration, more ...string) tasks.Container {
		c := sharing(family, path, port, d, more...)
		c.ID, c.Name = id, id
		return c
	}
	secret := []string{"nagaya.auth", "blog", "nagaya.hsts", "max-age=1"}
	shop, blog := ask("shop", "shop1", "/", 1, time.Hour, guard...), ask("blog", "blog1", "/blog", 5, time.Hour, secret...)
	for name, lures := range map[string][]tasks.Container{
		"without a password": {ask("evil", "lure", "/", 3, 0)},
		"without TLS":        {ask("evil", "lure", "/", 3, 0, append(guard, "nagaya.tls", "off")...)},
		"a path of another":  {ask("evil", "lure", "/blog", 3, 0)},
		"another header":     {ask("evil", "lure", "/", 3, 0, "nagaya.auth", "staff", "nagaya.hsts", "max-age=9")},
	} {
		table := built(built(Table{}, o, blog), o, shop, blog)
		evil := append(lures, ask("evil", "evil1", "/", 2, time.Minute, guard...), ask("evil", "evil2", "/blog", 4, time.Minute, secret...))
		shop2, blog2 := ask("shop", "shop2", "/", 6, 0, guard...), ask("blog", "blog2", "/blog", 7, 0, secret...)
		back := append([]tasks.Container{shop2, blog2}, evil...)
		for i, now := range [][]tasks.Container{append(evil, shop, blog), evil, evil, back, back} {
			text, err := json.Marshal(Table{Shape: table.Shape, Pools: table.Pools})
			if err == nil {
				err = json.Unmarshal(text, &table)
			}
			table = built(table, o, now...)
			s := table.Sites[0]
			is := fmt.Sprint(s.Owner, " ", s.Edge.HSTS)
			for _, l := range s.Locations {
				is += fmt.Sprint(" ", l.Path, " ", l.Auth, " ", l.Owner)
			}
			if want := "ecs:blog max-age=1 /blog blog ecs:blog / staff ecs:shop"; is != want || err != nil {
				t.Errorf("%s, step %d: %s, want %s; %v %v", name, i, is, want, err, table.Problems)
			}
			if got := addrs(table.Pools[s.PoolKey(s.Locations[1])].Servers); i > 2 && !strings.Contains(got, ":6") {
				t.Errorf("%s, step %d: the owner is back, and the servers are%s", name, i, got)
			}
			checkTable(t, table)
		}
		in := input(evil...)
		in.Options, in.Prev, in.Now = o, built(table, o, evil...), noon.Add(time.Hour)
		if got := build(in); got.Sites[0].Owner != "ecs:evil" {
			t.Errorf("%s: after an hour the owner is %s", name, got.Sites[0].Owner)
		}
	}
}

// After the grace period of a shared host those that waited are served at once, not at the next change.
func TestAfterTheGraceOfASharedHost(t *testing.T) {
	shop, blog := sharing("shop", "/", 1, time.Hour, "nagaya.auth", "staff"), sharing("blog", "/", 2, time.Minute)
	o := Options{Shared: map[string][]string{"word": nil}}
	in := input(blog, web("other", of("other"), hostPort(3)))
	in.Options, in.Prev = o, built(built(Table{}, o, shop), o, blog)
	in.Now = noon.Add(time.Hour)
	got := build(in)
	in.Prev = got
	if d := cmp.Diff(lines(got), lines(build(in))); d != "" || len(got.Sites) != 1 || addrs(firstServers(got)) != " 10.0.0.5:2" {
		t.Errorf("%s, and once more (-once +twice):\n%s", lines(got), d)
	}
}

// While the owner of a path does not serve, a newcomer that speaks otherwise puts nobody out. In a
// family that shares with no other the newest counts.
func TestANewcomerPutsNobodyOut(t *testing.T) {
	o := Options{Shared: map[string][]string{"word": nil}}
	shop, blog := sharing("shop", "/", 1, time.Hour), sharing("blog", "/", 2, time.Minute)
	evil := sharing("evil", "/", 3, 0, "nagaya.scheme", "https", "nagaya.weight", "1000")
	before := built(Table{}, o, shop, blog)
	shop.Health = tasks.Starting
	if got := built(before, o, shop, blog, evil); addrs(firstServers(got)) != " 10.0.0.5:2" {
		t.Error(lines(got))
	}
	first, next := web("first"), web("next", hostPort(2), age(0), labels("nagaya.host", "a.example.com", "nagaya.scheme", "https"))
	if got := built(built(Table{}, o, first), o, first, next); addrs(firstServers(got)) != " 10.0.0.5:2" {
		t.Error(lines(got))
	}
}

// A path above another family's asks nothing of it that was there before, and one below it is
// open only where a nearer path of the same family is.
func TestPathsOfSharedHosts(t *testing.T) {
	o := Options{Shared: map[string][]string{"word": nil}}
	blog := sharing("blog", "/blog", 1, time.Minute)
	evil := sharing("evil", "/", 2, time.Hour, "nagaya.auth", "evil")
	before := built(built(Table{}, o, blog), o, blog, evil)
	for name, row := range map[string]struct {
		by     tasks.Container
		served bool
	}{
		"what was there before":      {sharing("blog", "/blog", 1, time.Minute), true},
		"below it":                   {sharing("blog", "/blog/x", 1, time.Minute), true},
		"beside it":                  {sharing("blog", "/news", 1, time.Minute), false},
		"with a password of its own": {sharing("blog", "/blog", 1, time.Minute, "nagaya.auth", "mine"), false},
		"with the other's password":  {sharing("blog", "/news", 1, time.Minute, "nagaya.auth", "evil"), true},
	} {
		got := built(before, o, row.by, evil)
		if served := !hasCode(got, "upstream-differs"); served != row.served {
			t.Errorf("%s: served %v; %s", name, served, lines(got))
		}
	}
}

// What is served does not depend on how often a table was built of the same containers: a
// family's newest container counts, however old the other families' are.
func TestSharedHostsAreTheSameTwice(t *testing.T) {
	o := Options{Shared: map[string][]string{"word": nil}}
	now := []tasks.Container{
		sharing("shop", "/", 1, time.Hour),
		web("new", of("shop"), hostPort(2), age(time.Second), labels("nagaya.host", "a.example.com", "nagaya.upstream", "word", "nagaya.auth", "staff")),
		sharing("blog", "/", 3, time.Minute, "nagaya.auth", "staff"), sharing("news", "/", 4, time.Minute),
	}
	once := built(Table{}, o, now...)
	want := "a.example.com/ http 10.0.0.5:1 10.0.0.5:2 10.0.0.5:3\nwaits a.example.com/ news:1/app differs\nerror upstream-differs\n"
	if d := cmp.Diff(want, lines(once)); d != "" {
		t.Errorf("once (-want +got):\n%s", d)
	}
	if d := cmp.Diff(lines(once), lines(built(once, o, now...))); d != "" {
		t.Errorf("twice (-once +twice):\n%s", d)
	}
}

// Equal inputs give equal tables, and equal problems.
func TestSharedHostsAreTheSameEachTime(t *testing.T) {
	o := Options{Shared: map[string][]string{"word": nil}}
	now := []tasks.Container{web("evil", of("evil"), hostPort(9), age(time.Second), func(c *tasks.Container) {
		c.Labels = map[string]string{"nagaya.upstream": "word"}
		c.Env = map[string]string{"VIRTUAL_HOST": "a.example.com", "VIRTUAL_PATH": "~ ^/x"}
	})}
	for i, path := range []string{"/", "/b", "/c", "/d", "/e"} {
		now = append(now, sharing(fmt.Sprintf("f%d", i), path, uint16(i+1), time.Hour-time.Duration(i)*time.Minute, "nagaya.auth", "staff"))
	}
	first := built(Table{}, o, now...)
	for range 50 {
		if d := cmp.Diff(first, built(Table{}, o, now...), cmpopts.EquateComparable(netip.AddrPort{}, netip.Prefix{}, netip.Addr{})); d != "" {
			t.Fatal(d)
		}
	}
}

// None of the families that share a path gets more requests than its owner.
func TestWeightsOfSharedUpstreams(t *testing.T) {
	o := Options{Shared: map[string][]string{"word": nil}}
	weights := func(cs ...tasks.Container) map[string]int {
		t.Helper()
		got, all := built(Table{}, o, cs...), map[string]int{}
		checkTable(t, got)
		for _, s := range firstServers(got) {
			all[s.Container] = s.Weight
		}
		return all
	}
	shop := sharing("shop", "/", 1, time.Hour)
	for name, row := range map[string]struct {
		others []tasks.Container
		want   map[string]int
	}{
		"the heaviest":      {[]tasks.Container{sharing("evil", "/", 2, 0, "nagaya.weight", "1000")}, map[string]int{"shop": 1000, "evil": 1000}},
		"a lighter one":     {[]tasks.Container{sharing("blog", "/", 2, 0, "nagaya.weight", "1")}, map[string]int{"shop": 1, "blog": 1}},
		"of the owner's":    {[]tasks.Container{web("own", of("shop"), hostPort(3), labels("nagaya.host", "a.example.com", "nagaya.upstream", "word", "nagaya.weight", "9"))}, map[string]int{"shop": 1, "own": 9}},
		"two of two others": {[]tasks.Container{sharing("b", "/", 2, 0, "nagaya.weight", "3"), sharing("c", "/", 3, 0)}, map[string]int{"shop": 1000, "b": 1000, "c": 1000}},
	} {
		if got := weights(append(row.others, shop)...); !maps.Equal(got, row.want) {
			t.Errorf("%s: %v, want %v", name, got, row.want)
		}
	}
	many := []tasks.Container{shop}
	for i := range 40 {
		many = append(many, web(fmt.Sprint("evil", i), of("evil"), hostPort(uint16(100+i)), labels("nagaya.host", "a.example.com", "nagaya.upstream", "word")))
	}
	got, sum := weights(many...), 0
	for id, w := range got {
		if id != "shop" {
			sum += w
		}
	}
	if sum > got["shop"] || sum < got["shop"]*9/10 {
		t.Errorf("40 of another family have %d, the owner %d", sum, got["shop"])
	}
}

// A container that is renamed, or whose kind becomes known, keeps what it serves.
func TestRenamed(t *testing.T) {
	stranger := web("thief", called("web"), hostPort(2), age(time.Second))
	o := Options{Stream: true}
	for name, row := range map[string]struct {
		is, was edit
		more    []tasks.Container
		want    string
	}{
		"docker rename":               {was: called("web"), is: called("web-old"), want: "name:web-old"},
		"and another one is named so": {was: called("web"), is: called("web-old"), more: []tasks.Container{stranger}, want: "name:web-old"},
		"ECS says whose it is":        {was: called("ecs-shop-7"), is: of("shop"), want: "ecs:shop"},
	} {
		ask := labels("nagaya.host", "a.example.com", "nagaya.git.listen", "tcp:2222", "nagaya.git.port", "22")
		before := built(Table{}, o, web("a", ask, row.was))
		got := built(before, o, append(row.more, web("a", ask, row.is))...)
		if s := got.Sites[0]; s.Family != row.want || got.Streams[0].Family != row.want || addrs(firstServers(got)) != " 10.0.0.5:32768" {
			t.Errorf("%s: %s", name, lines(got))
		}
	}
	// The host of two of which one goes on as it was is that one's.
	a, b := web("a", of("shop"), age(time.Hour)), web("b", of("shop"), hostPort(2))
	before := built(Table{}, Options{}, a, b)
	if got := built(before, Options{}, web("a", called("a"), age(time.Hour)), b); got.Sites[0].Family != "ecs:shop" {
		t.Errorf("one of two: %s", lines(got))
	}
}

// What version 0.1 wrote, where the kind was no part of a family's name.
const oldTable = `{"complete":false,"sites":[
{"host":"kept.test","family":"shop","tls":false,"plain":"serve","edge":{},"locations":[{"path":"/","scheme":"http","balance":"round-robin","body_size":1048576,"timeout":60000000000,"buffering":true,"servers":[{"addr":"10.0.0.5:32768","weight":1,"container":"kept","ref":"shop:1/app"}]}]},
{"host":"replaced.test","family":"shop","tls":false,"plain":"serve","edge":{},"locations":[{"path":"/","scheme":"http","balance":"round-robin","body_size":1048576,"timeout":60000000000,"buffering":true,"servers":[{"addr":"10.0.0.5:32769","weight":1,"container":"gone","ref":"shop:1/app"}]}]},
{"host":"composed.test","family":"blog/web","tls":false,"plain":"serve","edge":{},"locations":[{"path":"/","scheme":"http","balance":"round-robin","body_size":1048576,"timeout":60000000000,"buffering":true,"servers":[{"addr":"10.0.0.5:32770","weight":1,"container":"gone2","ref":"web"}]}]},
{"host":"shared.test","family":"upstream:nginx-proxy","tls":false,"plain":"serve","edge":{},"locations":[{"path":"/","scheme":"http","balance":"round-robin","body_size":1048576,"timeout":60000000000,"buffering":true,"servers":[{"addr":"10.0.0.5:32771","weight":1,"container":"gone3","ref":"web"}]}]},
{"host":"away.test","family":"wiki","tls":false,"plain":"serve","edge":{},"locations":[{"path":"/","scheme":"http","balance":"round-robin","body_size":1048576,"timeout":60000000000,"buffering":true,"servers":[{"addr":"10.0.0.5:32772","weight":1,"container":"gone4","ref":"wiki:1/app"}]}]}],
"streams":[{"listen":{"protocol":"tcp","port":2222},"family":"git","cert":{},"balance":"round-robin","timeout":600000000000,"servers":[{"addr":"10.0.0.5:32773","weight":1,"container":"gone5","ref":"git"}]}]}`

func TestTablesOfTheVersionBefore(t *testing.T) {
	in := input()
	if err := json.Unmarshal([]byte(oldTable), &in.Prev); err != nil {
		t.Fatal(err)
	}
	host := func(h string) edit { return labels("nagaya.host", h) }
	thief := func(h string) tasks.Container { return web("thief"+h, of("evil"), host(h), age(24*time.Hour)) }
	project := web("new2", called("blog-web-1"), func(c *tasks.Container) {
		c.Labels = map[string]string{"nagaya.host": "composed.test", tasks.LabelComposeProject: "blog", tasks.LabelComposeService: "web"}
	})
	in.Snapshot.Containers = []tasks.Container{
		web("kept", of("shop"), host("kept.test")), web("new", of("shop"), host("replaced.test")), project,
		web("new3", called("front"), env("VIRTUAL_HOST", "shared.test")), web("new5", called("git"), labels("nagaya.listen", "tcp:2222")),
		thief("kept.test"), thief("replaced.test"), thief("composed.test"), thief("shared.test"), thief("away.test"),
	}
	in.Options.Stream = true
	got := buildSharing(in, true)
	want := map[string]string{"kept.test": "shop", "replaced.test": "shop", "composed.test": "compose:blog/web", "shared.test": "shared:nginx-proxy", "away.test": "wiki"}
	if d := cmp.Diff(want, sitesOf(got)); d != "" || len(got.Streams) != 1 || got.Streams[0].Family != "name:git" {
		t.Errorf("families (-want +got):\n%s\n%v", d, got.Streams)
	}
	// And who was away comes back.
	in.Prev, in.Snapshot.Containers = got, append(in.Snapshot.Containers, web("new4", of("wiki"), host("away.test")))
	if got := buildSharing(in, true); got.Sites[0].Host != "away.test" || got.Sites[0].Family != "ecs:wiki" {
		t.Errorf("back: %s is of %s", got.Sites[0].Host, got.Sites[0].Family)
	}
}

// A container whose labels name a task that the ECS agent does not list waits, and takes nothing.
func TestUnlisted(t *testing.T) {
	unlisted := func(d time.Duration) tasks.Container {
		return web("x", called("ecs-shop-8"), age(d), func(c *tasks.Container) { c.Unlisted = true })
	}
	young, old := built(Table{}, Options{}, unlisted(time.Second)), built(Table{}, Options{}, unlisted(time.Minute))
	if d := cmp.Diff("waits a.example.com/ ecs-shop-8 unlisted\n", lines(young)); d != "" || !young.StartsExpected || !young.Next.Equal(noon.Add(9*time.Second)) {
		t.Errorf("just started (-want +got):\n%s\n%+v", d, young)
	}
	if d := cmp.Diff("waits a.example.com/ ecs-shop-8 unlisted\nerror container-not-listed\n", lines(old)); d != "" || len(old.Unrouted) > 0 {
		t.Errorf("later (-want +got):\n%s\n%v", d, old.Unrouted)
	}
}

// Where the owner asks and is not ready, the others get the host when routes.grace is over, and the table is built again then.
func TestAnOwnerThatIsNotReady(t *testing.T) {
	o := Options{Shared: map[string][]string{"word": nil}, Grace: 10 * time.Minute}
	shop := sharing("shop", "/", 1, time.Minute, "nagaya.auth", "staff")
	evil := sharing("evil", "/", 2, time.Hour, "nagaya.auth", "mine")
	at := func(before Table, after time.Duration) Table {
		in := input(shop, evil)
		in.Prev, in.Options, in.Now = before, o, noon.Add(after)
		return build(in)
	}
	before := built(built(Table{}, o, shop), o, shop, evil)
	shop.Health = tasks.Starting // a HEALTHCHECK with a long start period
	got := at(before, 0)
	if want := noon.Add(o.Grace); !got.Next.Equal(want) {
		t.Errorf("built again at %s, want %s", got.Next, want)
	}
	for after, want := range map[time.Duration]string{o.Grace - time.Second: "a.example.com/ http \n", o.Grace: "a.example.com/ http 10.0.0.5:2\n"} {
		if text := lines(at(got, after)); !strings.HasPrefix(text, want) {
			t.Errorf("after %s:\n%s", after, text)
		}
	}
}
