package agent

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// tableOf has one site for each word; one that begins with "-" has no server, one
// with "/" behind it has a second path without one.
func tableOf(words ...string) route.Table {
	t := route.Table{Complete: true, Pools: route.Pools{}}
	for _, w := range words {
		host, vacant := strings.CutPrefix(w, "-")
		host, half := strings.CutSuffix(host, "/")
		s := route.Site{Host: host, Locations: []route.Location{{Path: "/"}}}
		if !vacant {
			t.Pools[s.PoolKey(s.Locations[0])] = route.Pool{Servers: []route.Server{{Addr: netip.MustParseAddrPort("172.17.0.2:80")}}}
		}
		if half {
			s.Locations = append(s.Locations, route.Location{Path: "/api"})
		}
		t.Sites = append(t.Sites, s)
	}
	return t
}

func TestReady(t *testing.T) {
	up := nginx.Status{Running: true, Generation: "0123456789abcdef"}
	refused := func(host string, lastGood bool) nginx.Status {
		n := up
		n.Quarantined = []nginx.Quarantine{{Host: host, LastGood: lastGood}}
		return n
	}
	unknown := tableOf("a.test")
	unknown.Complete = false
	for name, row := range map[string]struct {
		hosts []string
		table route.Table
		nginx nginx.Status
		why   string // empty: it is ready
	}{
		"one host":                       {nil, tableOf("a.test"), up, ""},
		"one of two":                     {nil, tableOf("a.test", "-b.test"), up, ""},
		"nothing yet":                    {nil, route.Table{}, nginx.Status{}, "nginx does not answer"},
		"nginx starts":                   {nil, tableOf("a.test"), nginx.Status{Running: true}, "nginx does not answer"},
		"nginx died":                     {nil, tableOf("a.test"), nginx.Status{Generation: "0"}, "nginx does not answer"},
		"containers unknown":             {nil, unknown, up, "not known yet"},
		"no site":                        {nil, tableOf(), up, "no route is live"},
		"only vacant ones":               {nil, tableOf("-a.test"), up, "no route is live"},
		"only half a host":               {nil, tableOf("a.test/"), up, "no route is live"},
		"in quarantine":                  {nil, tableOf("a.test"), refused("a.test", false), "no route is live"},
		"the last good one is served":    {nil, tableOf("a.test"), refused("a.test", true), ""},
		"another one is in quarantine":   {nil, tableOf("a.test", "b.test"), refused("b.test", false), ""},
		"named and live":                 {[]string{"a.test", "b.test"}, tableOf("a.test", "b.test", "-c.test"), up, ""},
		"named and vacant":               {[]string{"a.test", "b.test"}, tableOf("a.test", "-b.test"), up, "host b.test (address.ready)"},
		"named and unknown":              {[]string{"c.test"}, tableOf("a.test"), up, "host c.test (address.ready)"},
		"named and in quarantine":        {[]string{"a.test"}, tableOf("a.test", "b.test"), refused("a.test", false), "host a.test (address.ready)"},
		"named and last good one served": {[]string{"a.test"}, tableOf("a.test"), refused("a.test", true), ""},
	} {
		t.Run(name, func(t *testing.T) {
			ok, why := ready(row.hosts, row.table, row.nginx)
			if ok != (row.why == "") || !strings.Contains(why, row.why) || ok != (why == "") {
				t.Errorf("ready %v, %q; want %q", ok, why, row.why)
			}
		})
	}
}

func TestWhatIsServed(t *testing.T) {
	up := nginx.Status{Running: true, Generation: "1", Quarantined: []nginx.Quarantine{{Host: "q.test"}, {Host: "tcp:2223"}}}
	all := tableOf("a.test", "-b.test", "q.test")
	for port, n := range map[uint16]int{2222: 1, 2223: 1, 2224: 0} {
		s := route.Stream{Listen: route.Listen{Protocol: route.TCP, Port: port}}
		all.Streams = append(all.Streams, s)
		all.Pools[s.PoolKey()] = route.Pool{Servers: make([]route.Server, n)}
	}
	if got := served(all, up); !slices.Equal(got, []string{"a.test", "tcp:2222"}) {
		t.Errorf("served %q", got)
	}
	if got := served(tableOf(), up); got == nil || len(got) != 0 {
		t.Errorf("nothing served is %#v, want none, which is known", got)
	}
	all.Complete = false
	if got := served(all, up); got != nil {
		t.Errorf("served %q although it is not known what runs", got)
	}
}

func TestReadinessTellsOnlyNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReadiness(nil)
		var told []address.Situation
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.run(ctx, func(s address.Situation) { told = append(told, s) }) }()
		want := func(n int, ready bool, when string) {
			t.Helper()
			synctest.Wait()
			if len(told) != n || told[n-1].Ready != ready {
				t.Fatalf("%s: told %+v, want %d, the last ready %v", when, told, n, ready)
			}
		}
		who := identity.Identity{Instance: identity.Instance{Known: true, ID: "i-1"}}
		r.identity.Put(who)
		want(1, false, "the identity")
		r.offers.Put(offer{tableOf("a.test"), "1"})
		want(1, false, "a table without nginx")
		r.nginx.Put(nginx.Status{Running: true, Generation: "0", Wanted: "0", Settled: true})
		r.nginx.Put(nginx.Status{Running: true, Generation: "0", Wanted: "1"})
		synctest.Wait()
		if last := told[len(told)-1]; last.Ready || !strings.Contains(last.Unready, "no route is live") {
			t.Fatalf("nginx serves no route yet: %+v", last)
		}
		told = told[:1]
		r.nginx.Put(nginx.Status{Running: true, Generation: "1", Wanted: "1", Settled: true})
		want(2, true, "nginx")
		r.nginx.Put(nginx.Status{Running: true, Generation: "1", Wanted: "2", Reloads: 1})
		r.offers.Put(offer{tableOf("a.test", "-b.test"), "2"})
		want(2, true, "what does not matter to the address")
		if told[1].Identity.Instance.ID != "i-1" || !slices.Equal(told[1].LiveHosts, []string{"a.test"}) {
			t.Errorf("told %+v", told[1])
		}
		r.nginx.Put(nginx.Status{Running: true, Generation: "2", Wanted: "2", Settled: true})
		r.offers.Put(offer{tableOf("a.test", "b.test"), "3"})
		want(2, true, "another host that nginx does not serve yet")
		r.nginx.Put(nginx.Status{Running: true, Generation: "3", Wanted: "3", Settled: true})
		want(3, true, "another host")
		if !slices.Equal(told[2].LiveHosts, []string{"a.test", "b.test"}) {
			t.Errorf("told %+v", told[2])
		}
		r.nginx.Put(nginx.Status{})
		want(4, false, "nginx died")
		if told[3].LiveHosts != nil {
			t.Errorf("hosts %q are served without nginx", told[3].LiveHosts)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
