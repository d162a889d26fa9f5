package route_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	. "github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// run is a container of "docker run" with that name and image.
func run(name, image string, port uint16, d time.Duration, more ...edit) tasks.Container {
	c := web(name, append([]edit{called(name), hostPort(port), age(d)}, more...)...)
	c.ServiceKey = tasks.ServiceKey(image, c.Labels, c.Labels, c.Env)
	return c
}

// composedAs is a container of a Compose service with that container's name.
func composedAs(name string, port uint16) tasks.Container {
	return web(name, called(name), hostPort(port), func(c *tasks.Container) {
		c.Labels[tasks.LabelComposeProject], c.Labels[tasks.LabelComposeService] = name, "web"
	})
}

// tableAt builds the table after another, that much later.
func tableAt(before Table, after time.Duration, cs ...tasks.Container) Table {
	in := input(cs...)
	in.Prev, in.Now, in.Options.Stream = before, noon.Add(after), true
	return build(in)
}

// When the container of a plain "docker run" has been removed, the next one that is ready gets its
// host. A service that may come back keeps it for the grace period, and what ECS or Compose
// started gets nothing of it before.
func TestWhoGetsTheHostOfARemovedContainer(t *testing.T) {
	blue, green := run("blue", "shop:1", 1, time.Hour), run("green", "httpd", 2, time.Minute)
	auto := run("blue", "shop:1", 1, time.Hour, func(c *tasks.Container) { c.AutoRemove = true })
	ended := func(s tasks.State) tasks.Container { return run("blue", "shop:1", 1, time.Hour, stateIs(s)) }
	ecs, service := web("task", of("shop"), hostPort(3)), composedAs("blog", 4)
	unproven := web("ecs-shop-7", called("ecs-shop-7"), hostPort(5)) // labels of ECS that nobody confirms
	for name, row := range map[string]struct {
		first tasks.Container
		// now are there instead, and why is why the host is kept at first; want has it later.
		now   []tasks.Container
		until time.Duration
		why   string
		want  string
	}{
		"removed":          {first: blue, now: []tasks.Container{green}, until: 3 * time.Second, why: "its container was removed, so the next one that docker run started gets this when it is ready", want: "name:green"},
		"too soon":         {first: blue, now: []tasks.Container{green}, until: 2 * time.Second, why: "its container was removed, so the next one that docker run started gets this when it is ready", want: "name:blue"},
		"not ready":        {first: blue, now: []tasks.Container{run("green", "httpd", 2, time.Minute, healthIs(tasks.Starting))}, until: time.Minute, why: "its container was removed, so the next one that docker run started gets this when it is ready", want: "name:blue"},
		"stopped":          {first: blue, now: []tasks.Container{ended(tasks.Exited), green}, until: 9 * time.Minute, why: "container blue is exited and may be started again", want: "name:blue"},
		"created again":    {first: blue, now: []tasks.Container{ended(tasks.Created), green}, until: 9 * time.Minute, why: "container blue is created and may be started again", want: "name:blue"},
		"being removed":    {first: blue, now: []tasks.Container{ended(tasks.Removing), green}, until: 3 * time.Second, why: "its container was removed, so the next one that docker run started gets this when it is ready", want: "name:green"},
		"run with --rm":    {first: auto, now: []tasks.Container{green}, until: 9 * time.Minute, why: "another container of it may come", want: "name:blue"},
		"of ECS":           {first: ecs, now: []tasks.Container{green}, until: 9 * time.Minute, why: "ECS may start another container of it", want: "ecs:shop"},
		"of Compose":       {first: service, now: []tasks.Container{green}, until: 9 * time.Minute, why: "Compose may start another container of it", want: "compose:blog/web"},
		"for ECS":          {first: blue, now: []tasks.Container{ecs}, until: 9 * time.Minute, why: "its container was removed, so the next one that docker run started gets this when it is ready", want: "name:blue"},
		"for Compose":      {first: blue, now: []tasks.Container{service}, until: 9 * time.Minute, why: "its container was removed, so the next one that docker run started gets this when it is ready", want: "name:blue"},
		"for who knows":    {first: blue, now: []tasks.Container{unproven}, until: 9 * time.Minute, why: "its container was removed, so the next one that docker run started gets this when it is ready", want: "name:blue"},
		"of nobody known":  {first: unproven, now: []tasks.Container{green}, until: 9 * time.Minute, why: "another container of it may come", want: "name:ecs-shop-7"},
		"after its grace":  {first: ecs, now: []tasks.Container{service}, until: 10 * time.Minute, why: "ECS may start another container of it", want: "compose:blog/web"},
		"a loop of --name": {first: blue, now: []tasks.Container{run("blue", "shop:2", 6, 0), green}, until: time.Second, why: "", want: "name:blue"},
	} {
		before := tableAt(tableAt(Table{}, 0, row.first), 0, row.first, row.now[len(row.now)-1])
		now := tableAt(before, 0, row.now...)
		if kept := now.Pools[now.Sites[0].PoolKey(now.Sites[0].Locations[0])].Kept; kept != row.why {
			t.Errorf("%s: kept because %q, want %q", name, kept, row.why)
		}
		if row.why != "" && !strings.Contains(now.Problems[len(now.Problems)-1].Text, " ("+row.why+")") && !strings.Contains(now.Problems[0].Text, " ("+row.why+")") {
			t.Errorf("%s: %+v", name, now.Problems)
		}
		now = tableAt(now, row.until, row.now...)
		if got := now.Sites[0].Family; got != row.want {
			t.Errorf("%s: of %s, want %s\n%s", name, got, row.want, lines(now))
		}
	}
	// The table says when it changes, and a port goes the same way.
	port := labels("nagaya.listen", "tcp:2222", "nagaya.port", "80")
	first, next := run("blue", "shop", 1, time.Hour, port), run("green", "httpd", 2, time.Minute, port)
	now := tableAt(tableAt(Table{}, 0, first, next), 0, next)
	if !now.Next.Equal(noon.Add(3 * time.Second)) {
		t.Errorf("next is %s", now.Next)
	}
	if now = tableAt(now, 3*time.Second, next); len(now.Streams) != 1 || now.Streams[0].Family != "name:green" {
		t.Errorf("port: %s", lines(now))
	}
	// What an agent before this one saw is not known.
	saved := tableAt(Table{}, 0, blue, green)
	saved.FreedByRemoval = nil
	if now := tableAt(tableAt(saved, 0, green), 9*time.Minute, green); now.Sites[0].Family != "name:blue" {
		t.Errorf("after a restart: %s", lines(now))
	}
}

// A family is the same with another word for a shared upstream, or none.
func TestARedeploymentWithAnotherWord(t *testing.T) {
	word := labels("nagaya.host", "a.example.com", "nagaya.upstream", "word")
	plain, shared := web("a", called("web"), age(time.Hour)), web("b", called("web"), hostPort(2), word)
	thief := web("t", called("thief"), hostPort(9), age(30*time.Minute))
	o := Options{Shared: map[string][]string{"word": {"name:web"}}}
	for name, row := range map[string]struct {
		first, then tasks.Container
		want        string
	}{
		"joins":  {plain, shared, "upstream:word"},
		"leaves": {shared, plain, "name:web"},
	} {
		before := built(built(Table{}, o, row.first), o, row.first, thief)
		both := built(before, o, thief, row.first, row.then)
		vacant := built(before, o, thief)
		for how, got := range map[string]Table{"one after the other": built(before, o, thief, row.then), "after a pause": built(vacant, o, thief, row.then)} {
			if got.Sites[0].Family != row.want || addrs(firstServers(got)) != fmt.Sprintf(" 10.0.0.5:%d", row.then.Ports[0].Host) || len(got.Problems) != 1 {
				t.Errorf("%s, %s: of %s, %s", name, how, got.Sites[0].Family, lines(got))
			}
		}
		if len(firstServers(both)) != 2 {
			t.Errorf("%s, side by side: %s", name, lines(both))
		}
	}
}

// Two containers of "docker run" share a host where their image's repository and labels are the
// same; nobody else becomes one of them.
func TestSameService(t *testing.T) {
	old := run("web", "registry:5000/shop:1", 1, time.Hour)
	for name, row := range map[string]struct {
		then tasks.Container
		want string
	}{
		"another tag":        {run("web2", "registry:5000/shop:2", 2, 0), " 10.0.0.5:1 10.0.0.5:2"},
		"a digest":           {run("web2", "registry:5000/shop@sha256:"+strings.Repeat("ab", 32), 2, 0), " 10.0.0.5:1 10.0.0.5:2"},
		"another repository": {run("web2", "registry:5000/shop2:1", 2, 0), " 10.0.0.5:1"},
		"another registry":   {run("web2", "shop:1", 2, 0), " 10.0.0.5:1"},
		"another label":      {run("web2", "registry:5000/shop:1", 2, 0, labels("nagaya.host", "a.example.com", "nagaya.path", "/x")), " 10.0.0.5:1"},
		"a task":             {web("web2", of("web2"), hostPort(2)), " 10.0.0.5:1"},
		"a service":          {composedAs("web2", 2), " 10.0.0.5:1"},
		"labels of ECS":      {web("web2", called("web2"), hostPort(2)), " 10.0.0.5:1"},
	} {
		got := tableAt(tableAt(Table{}, 0, old), 0, old, row.then)
		if addrs(firstServers(got)) != row.want || got.Sites[0].Family != "name:web" {
			t.Errorf("%s: of %s, %s", name, got.Sites[0].Family, lines(got))
		}
	}
	// The replacement by hand: the new one beside the old one, which is stopped and removed.
	next, stopped := run("web2", "registry:5000/shop:2", 2, 0), old
	stopped.State = tasks.Exited
	starting := next
	starting.Health = tasks.Starting
	steps := []struct {
		cs   []tasks.Container
		want string
	}{
		{[]tasks.Container{old}, " 10.0.0.5:1"},
		{[]tasks.Container{old, next}, " 10.0.0.5:1 10.0.0.5:2"},
		{[]tasks.Container{stopped, next}, " 10.0.0.5:2"},
		{[]tasks.Container{next}, " 10.0.0.5:2"},
	}
	var table Table
	for i, s := range steps {
		if table = tableAt(table, 0, s.cs...); addrs(firstServers(table)) != s.want || len(table.Problems) > 0 {
			t.Errorf("step %d: %s", i, lines(table))
		}
	}
	if table.Sites[0].Family != "name:web2" {
		t.Errorf("of %s", table.Sites[0].Family)
	}
	// The new one was not ready when the old one stopped.
	table = tableAt(tableAt(tableAt(Table{}, 0, old), 0, old, starting), 0, stopped, starting)
	if table = tableAt(table, 0, stopped, next); addrs(firstServers(table)) != " 10.0.0.5:2" {
		t.Errorf("stopped before: %s", lines(table))
	}
}

// Where containers are of one family, its name is that of the oldest that is there to serve.
func TestFamilyOfTheSameService(t *testing.T) {
	host := func(h string) edit { return labels("nagaya.host", h) }
	got := tableAt(Table{}, 0,
		run("a", "x", 1, time.Hour, host("a.test"), stateIs(tasks.Exited)), run("b", "x:2", 2, time.Minute, host("a.test")), run("c", "x:3", 3, time.Second, host("a.test")),
		run("d", "x", 4, time.Hour, host("d.test")),
	)
	families := maps.Clone(sitesOf(got))
	if d := cmp.Diff(map[string]string{"a.test": "name:b", "d.test": "name:d"}, families); d != "" {
		t.Errorf("families (-want +got):\n%s", d)
	}
}
