package nginx

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// An instance that takes the address before nginx serves its table loses the connections
// in between.
func TestServingWaitsForNginx(t *testing.T) {
	status := func(wanted string, settled bool) Status {
		return Status{Running: true, Generation: "x", Wanted: wanted, Settled: settled}
	}
	var s Serving
	for _, step := range []struct {
		name  string
		offer Offer
		nginx Status
		want  []string
	}{
		{"nothing was made of it", Offer{Table: tableOf("a.test"), Generation: ""}, status("", true), nil},
		{"nginx serves the one before", Offer{Table: tableOf("a.test"), Generation: "1"}, status("0", true), nil},
		{"a reload is under way", Offer{Table: tableOf("a.test"), Generation: "1"}, status("1", false), nil},
		{"it is confirmed", Offer{Table: tableOf("a.test"), Generation: "1"}, status("1", true), []string{"a.test"}},
		{"another host joins", Offer{Table: tableOf("a.test", "b.test"), Generation: "2"}, status("1", true), []string{"a.test"}},
		{"it is being loaded", Offer{Table: tableOf("a.test", "b.test"), Generation: "2"}, status("2", false), []string{"a.test"}},
		{"it is loaded", Offer{Table: tableOf("a.test", "b.test"), Generation: "2"}, status("2", true), []string{"a.test", "b.test"}},
		{"the first one loses its container", Offer{Table: tableOf("-a.test", "b.test"), Generation: "3"}, status("2", true), []string{"b.test"}},
		{"what is left is loaded", Offer{Table: tableOf("-a.test", "b.test"), Generation: "3"}, status("3", true), []string{"b.test"}},
		{"it gets another", Offer{Table: tableOf("a.test", "b.test"), Generation: "4"}, status("3", true), []string{"b.test"}},
	} {
		s.Newest = step.offer
		if d := cmp.Diff(step.want, s.Table(step.nginx).LiveHosts()); d != "" {
			t.Errorf("%s: %s", step.name, d)
		}
	}
}

// tableOf has one site for each word; one that begins with "-" has no server, one
// with "/" behind it has a second path without one.
func tableOf(words ...string) route.Table {
	t := route.Table{Complete: true, Pools: route.Pools{}}
	at := netip.MustParseAddrPort("172.17.0.2:80")
	for _, w := range words {
		host, vacant := strings.CutPrefix(w, "-")
		host, half := strings.CutSuffix(host, "/")
		s := route.Site{Host: host, Locations: []route.Location{{Path: "/"}}}
		if !vacant {
			t.Pools[s.PoolKey(s.Locations[0])] = route.Pool{Servers: []route.Server{{Addr: at}}}
		}
		if half {
			s.Locations = append(s.Locations, route.Location{Path: "/api"})
			t.Pools[s.PoolKey(s.Locations[1])] = route.Pool{Were: []netip.AddrPort{at}}
		}
		t.Sites = append(t.Sites, s)
	}
	return t
}

func TestNotReady(t *testing.T) {
	up := Status{Running: true, Generation: "0123456789abcdef"}
	refused := func(host string, lastGood bool) Status {
		n := up
		n.Quarantined = []Quarantine{{Host: host, LastGood: lastGood}}
		return n
	}
	unknown := tableOf("a.test")
	unknown.Complete = false
	for name, row := range map[string]struct {
		hosts []string
		table route.Table
		nginx Status
		why   string // empty: it is ready
	}{
		"one host":                       {nil, tableOf("a.test"), up, ""},
		"one of two":                     {nil, tableOf("a.test", "-b.test"), up, ""},
		"nothing yet":                    {nil, route.Table{}, Status{}, "nginx does not answer"},
		"nginx starts":                   {nil, tableOf("a.test"), Status{Running: true}, "nginx does not answer"},
		"nginx died":                     {nil, tableOf("a.test"), Status{Generation: "0"}, "nginx does not answer"},
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
			why := NotReady(row.hosts, row.table, row.nginx)
			if (why == "") != (row.why == "") || !strings.Contains(why, row.why) {
				t.Errorf("not ready: %q; want %q", why, row.why)
			}
		})
	}
}

// HTTPS counts where nginx serves it: not before the certificate is loaded, nor in quarantine.
func TestHasHTTPS(t *testing.T) {
	secure := func(hosts ...string) route.Table {
		table := tableOf(hosts...)
		for i := range table.Sites {
			table.Sites[i].Valid = true
		}
		return table
	}
	up := func(wanted string) Status {
		return Status{Running: true, Generation: "x", Wanted: wanted, Settled: true}
	}
	var s Serving
	for _, step := range []struct {
		name  string
		offer Offer
		nginx Status
		want  bool
	}{
		{"without a certificate", Offer{Table: tableOf("a.test"), Generation: "1"}, up("1"), false},
		{"it is there, and not loaded", Offer{Table: secure("a.test"), Generation: "2"}, up("1"), false},
		{"it is loaded", Offer{Table: secure("a.test"), Generation: "2"}, up("2"), true},
		{"another change is not loaded", Offer{Table: secure("a.test", "b.test"), Generation: "3"}, up("2"), true},
		{"it has expired", Offer{Table: tableOf("a.test"), Generation: "4"}, up("3"), false},
	} {
		s.Newest = step.offer
		if got := HasHTTPS(s.Table(step.nginx), step.nginx, "a.test"); got != step.want {
			t.Errorf("%s: %v", step.name, got)
		}
	}
	up1 := up("1")
	up1.Quarantined = []Quarantine{{Host: "a.test", LastGood: true}}
	if HasHTTPS(secure("a.test"), up1, "a.test") || HasHTTPS(secure("~^a"), up("1"), "~^a") || HasHTTPS(secure("a.test"), up("1"), "b.test") {
		t.Error("a site in quarantine, an expression or another host has HTTPS")
	}
}

func TestLiveHosts(t *testing.T) {
	up := Status{Running: true, Generation: "1", Quarantined: []Quarantine{{Host: "q.test"}, {Host: "tcp:2223"}}}
	all := tableOf("a.test", "-b.test", "q.test")
	for port, n := range map[uint16]int{2222: 1, 2223: 1, 2224: 0} {
		s := route.Stream{Listen: route.Listen{Protocol: route.TCP, Port: port}}
		all.Streams = append(all.Streams, s)
		all.Pools[s.PoolKey()] = route.Pool{Servers: make([]route.Server, n)}
	}
	if got := LiveHosts(all, up); !slices.Equal(got, []string{"a.test", "tcp:2222"}) {
		t.Errorf("served %q", got)
	}
	if got := LiveHosts(tableOf(), up); got == nil || len(got) != 0 {
		t.Errorf("nothing served is %#v, want none, which is known", got)
	}
	all.Complete = false
	if got := LiveHosts(all, up); got != nil {
		t.Errorf("served %q although it is not known what runs", got)
	}
}
