package route_test

import (
	"net/netip"
	"testing"
	"time"

	. "github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// Who asks for a path of which says who is let in gets no request for it at another path of the container's.
func TestNoOtherRouteGetsTheRequestsOfAGuardedOne(t *testing.T) {
	guarded := func(more ...string) edit {
		return func(c *tasks.Container) {
			c.Health, c.Ports, c.Networks = tasks.NoCheck, nil, []tasks.Network{{Name: "bridge", Addrs: c.Addrs}}
			labels(append([]string{"nagaya.host", "a.test", "nagaya.port", "80", "nagaya.x.host", "a.test", "nagaya.x.path", "/x", "nagaya.x.port", "9000", "nagaya.x.auth", "staff"}, more...)...)(c)
		}
	}
	at := netip.MustParseAddrPort("172.17.0.2:80")
	reached := func(in Input) Reach {
		all := Reach{}
		for _, p := range build(in).Probes {
			if p.Addr == at {
				all[p] = Reached{State: Reachable}
			}
		}
		return all
	}
	for name, row := range map[string]struct {
		of   edit
		want string
	}{
		"another port, where nothing answers": {guarded(), "a.test/x http \na.test/ http 172.17.0.2:80\nwaits a.test/x web:1/app starting\n"},
		"a mistake in it":                     {guarded("nagaya.x.auth", "", "nagaya.x.path", "/y"), "waits a.test/ web:1/app unguarded\nerror label-invalid\nerror route-not-guarded\n"},
		"a network that is none of its own":   {guarded("nagaya.x.network", "back"), "a.test/x http \na.test/ http 172.17.0.2:80\nwaits a.test/x web:1/app no-address\nerror container-no-address\n"},
		"another host, below a wildcard":      {guarded("nagaya.host", "*.test", "nagaya.x.path", "/"), "*.test/ http 172.17.0.2:80\na.test/ http \nwaits a.test/ web:1/app starting\n"},
	} {
		t.Run(name, func(t *testing.T) {
			in := input(web("a", row.of))
			in.Reach = reached(in)
			table := build(in)
			if got := lines(table); got != row.want {
				t.Errorf("got:\n%swant:\n%s", got, row.want)
			}
			live := 0
			for _, s := range table.Sites {
				if p := table.Pools[s.PoolKey(Location{Path: "/"})]; len(p.Servers) > 0 {
					live++
				}
			}
			if got := table.LiveHosts(); len(got) != live {
				t.Errorf("live are %q, want %d", got, live)
			}
		})
	}
}

// So it is where the route is left out because of what others have, and the host may be another one.
func TestAGuardedRouteThatOthersCrowdOutOpensNothing(t *testing.T) {
	onHost := func(c *tasks.Container) { c.Network, c.Ports, c.Addrs = tasks.Host, nil, nil }
	two := func(more ...string) edit {
		return labels(append([]string{"nagaya.host", "a.test", "nagaya.port", "8080", "nagaya.x.host", "a.test", "nagaya.x.path", "/x", "nagaya.x.port", "9000", "nagaya.x.allow", "10.0.0.0/8"}, more...)...)
	}
	stream := web("s", of("other"), age(time.Hour), labels("nagaya.listen", "tcp:9000"))
	const unguarded = "waits a.test/ web:1/app unguarded\n"
	for name, row := range map[string]struct {
		list []tasks.Container
		o    Options
		want string
	}{
		"its port is one of nginx's": {
			[]tasks.Container{stream, web("a", two(), onHost)},
			Options{Stream: true},
			"tcp:9000 10.0.0.5:32768\n" + unguarded + "error port-is-nginx\nerror route-not-guarded\n",
		},
		"no room": {
			[]tasks.Container{web("a", two("nagaya.x.host", "b.test,c.test", "nagaya.host", "a.test,*.test"), onHost)},
			Options{MaxOfFamily: 3},
			"a.test/ http 10.0.0.5:8080\nb.test/x http 10.0.0.5:9000\nwaits *.test/ web:1/app unguarded\nwaits c.test/x web:1/app too-many\nerror route-not-guarded\nerror routes-limited\n",
		},
		"the default host": {
			[]tasks.Container{web("a", two("nagaya.x.host", "b.test", "nagaya.x.port", "80"), onHost)},
			Options{DefaultHost: "a.test"},
			unguarded + "error port-is-nginx\nerror route-not-guarded\nwarning default-host-missing\n",
		},
		"another host": {
			[]tasks.Container{web("a", two("nagaya.x.host", "b.test", "nagaya.x.port", "80"), onHost)},
			Options{},
			"a.test/ http 10.0.0.5:8080\nerror port-is-nginx\n",
		},
		"connections that are passed on are not nginx's to guard": {
			[]tasks.Container{web("a", two("nagaya.tls", "passthrough", "nagaya.x.port", "80"), onHost)},
			Options{Stream: true},
			"a.test redirect, passed to 10.0.0.5:8080\nerror port-is-nginx\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := input(row.list...)
			in.Options = row.o
			if got := lines(build(in)); got != row.want {
				t.Errorf("got:\n%swant:\n%s", got, row.want)
			}
		})
	}
}

// A connection that says who is let in is refused while its container answers elsewhere, not taken by the site's own HTTPS.
func TestAGuardedPassthroughIsNotTerminated(t *testing.T) {
	c := web("a", labels("nagaya.host", "a.test", "nagaya.port", "80", "nagaya.x.host", "a.test", "nagaya.x.tls", "passthrough", "nagaya.x.port", "443", "nagaya.x.allow", "10.0.0.0/8"))
	c.Health, c.Ports, c.Networks = tasks.NoCheck, nil, []tasks.Network{{Name: "bridge", Addrs: c.Addrs}}
	in := input(c)
	in.Options.Stream, in.Reach = true, Reach{}
	for _, p := range build(in).Probes {
		if p.Addr.Port() == 80 {
			in.Reach[p] = Reached{State: Reachable}
		}
	}
	const want = "a.test/ http 172.17.0.2:80\na.test redirect, passed to\nwaits a.test web:1/app starting\n"
	if got := lines(build(in)); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}
