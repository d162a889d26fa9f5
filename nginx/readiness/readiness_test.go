package readiness

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

// tableOf has a site with a server for each host; one that begins with "-" has none.
func tableOf(hosts ...string) route.Table {
	t := route.Table{Complete: true, Pools: route.Pools{}}
	for _, h := range hosts {
		host, vacant := strings.CutPrefix(h, "-")
		s := route.Site{Host: host, Locations: []route.Location{{Path: "/"}}}
		if t.Sites = append(t.Sites, s); !vacant {
			t.Pools[s.PoolKey(s.Locations[0])] = route.Pool{Servers: []route.Server{{Addr: netip.MustParseAddrPort("172.17.0.2:80")}}}
		}
	}
	return t
}

func TestOnlyNewSituationsArePut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewInputs()
		var told []address.Situation
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Run(ctx, nil, r, func(s address.Situation) { told = append(told, s) }) }()
		want := func(n int, ready bool, when string) {
			t.Helper()
			synctest.Wait()
			if len(told) != n || told[n-1].Ready != ready {
				t.Fatalf("%s: told %+v, want %d, the last ready %v", when, told, n, ready)
			}
		}
		who := identity.Identity{Instance: identity.Instance{Known: true, ID: "i-1"}}
		r.Identity.Put(who)
		want(1, false, "the identity")
		r.Offers.Put(nginx.Offer{Table: tableOf("a.test"), Generation: "1"})
		want(1, false, "a table without nginx")
		r.Nginx.Put(nginx.Status{Running: true, Generation: "0", Wanted: "0", Settled: true})
		r.Nginx.Put(nginx.Status{Running: true, Generation: "0", Wanted: "1"})
		synctest.Wait()
		if last := told[len(told)-1]; last.Ready || !strings.Contains(last.Unready, "no route is live") {
			t.Fatalf("nginx serves no route yet: %+v", last)
		}
		told = told[:1]
		r.Nginx.Put(nginx.Status{Running: true, Generation: "1", Wanted: "1", Settled: true})
		want(2, true, "nginx")
		r.Nginx.Put(nginx.Status{Running: true, Generation: "1", Wanted: "2", Reloads: 1})
		r.Offers.Put(nginx.Offer{Table: tableOf("a.test", "-b.test"), Generation: "2"})
		want(2, true, "what does not matter to the address")
		if told[1].Identity.Instance.ID != "i-1" || !slices.Equal(told[1].LiveHosts, []string{"a.test"}) {
			t.Errorf("told %+v", told[1])
		}
		r.Nginx.Put(nginx.Status{Running: true, Generation: "2", Wanted: "2", Settled: true})
		r.Offers.Put(nginx.Offer{Table: tableOf("a.test", "b.test"), Generation: "3"})
		want(2, true, "another host that nginx does not serve yet")
		r.Nginx.Put(nginx.Status{Running: true, Generation: "3", Wanted: "3", Settled: true})
		want(3, true, "another host")
		if !slices.Equal(told[2].LiveHosts, []string{"a.test", "b.test"}) {
			t.Errorf("told %+v", told[2])
		}
		secure := tableOf("a.test", "b.test")
		secure.Sites[1].Valid = true
		r.Offers.Put(nginx.Offer{Table: secure, Generation: "4"})
		r.Nginx.Put(nginx.Status{Running: true, Generation: "4", Wanted: "4", Settled: true})
		want(4, true, "a certificate")
		if !slices.Equal(told[3].LiveHosts, []string{"a.test", "b.test:"}) {
			t.Errorf("told %+v", told[3])
		}
		r.Nginx.Put(nginx.Status{})
		want(5, false, "nginx died")
		if told[4].LiveHosts != nil {
			t.Errorf("hosts %q are served without nginx", told[4].LiveHosts)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
