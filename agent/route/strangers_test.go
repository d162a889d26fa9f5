package route_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	. "github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// built is the table of these containers, after another one.
func built(prev Table, o Options, cs ...tasks.Container) Table {
	in := input(cs...)
	in.Prev, in.Options = prev, o
	return build(in)
}

// sitesOf are the names of the families of the sites, by host.
func sitesOf(t Table) map[string]string {
	all := map[string]string{}
	for _, s := range t.Sites {
		all[s.Host] = strings.TrimPrefix(s.Family, "ecs:")
	}
	return all
}

// A name under another family's wildcard is not free: its visitors would be shown the
// wildcard's certificate.
func TestNamesUnderAWildcardOfOthers(t *testing.T) {
	shop := web("shop", of("shop"), labels("nagaya.host", "*.example.com"), age(time.Hour))
	login := web("login", of("stranger"), labels("nagaya.host", "login.example.com"), age(time.Minute))
	older := web("login", of("stranger"), labels("nagaya.host", "login.example.com"), age(2*time.Hour))
	own := web("own", of("shop"), labels("nagaya.host", "login.example.com"), age(time.Minute))
	narrower := web("narrower", of("stranger"), labels("nagaya.host", "*.login.example.com"), age(time.Minute))
	suffix := web("suffix", of("shop"), env("VIRTUAL_HOST", "www.example.*"), age(time.Hour))
	www := web("www", of("stranger"), labels("nagaya.host", "www.example.org"), age(time.Minute))
	org := web("org", of("stranger"), labels("nagaya.host", "*.org"), age(time.Minute))
	for _, row := range []struct {
		name string
		prev []tasks.Container
		o    Options
		now  []tasks.Container
		host string
		want string
	}{
		{name: "a stranger's name", now: []tasks.Container{shop, login}, host: "login.example.com"},
		{name: "a stranger's wildcard in it", now: []tasks.Container{shop, narrower}, host: "*.login.example.com"},
		{name: "a stranger's name under www.example.*", now: []tasks.Container{suffix, www}, host: "www.example.org"},
		{name: "a stranger's *.org, which nginx prefers to www.example.*", now: []tasks.Container{suffix, org}, host: "*.org"},
		{name: "the same, of two with a star behind", now: []tasks.Container{suffix, web("other", of("stranger"), env("VIRTUAL_HOST", "a.*"), age(2*time.Hour)), org}, host: "*.org"},
		{name: "a *.org that was there first", prev: []tasks.Container{org}, now: []tasks.Container{suffix, org}, host: "*.org", want: "stranger"},
		{name: "*.org beside an opened www.example.*", o: Options{OpenWildcards: []string{"www.example.*"}}, now: []tasks.Container{suffix, org}, host: "*.org", want: "stranger"},
		{name: "the family's own *.org", now: []tasks.Container{suffix, web("own", of("shop"), labels("nagaya.host", "*.org"), age(time.Minute))}, host: "*.org", want: "shop"},
		{name: "the family's own name", now: []tasks.Container{shop, own}, host: "login.example.com", want: "shop"},
		{name: "a name that was there first", now: []tasks.Container{shop, older}, host: "login.example.com", want: "stranger"},
		{name: "a wildcard that had it before, by a newer container", prev: []tasks.Container{shop}, now: []tasks.Container{web("new", of("shop"), labels("nagaya.host", "*.example.com"), age(time.Second)), login}, host: "login.example.com"},
		{name: "a wildcard whose container is away", prev: []tasks.Container{shop}, now: []tasks.Container{login}, host: "login.example.com"},
		{name: "a name that was served before", prev: []tasks.Container{login}, now: []tasks.Container{shop, login}, host: "login.example.com", want: "stranger"},
		{name: "a wildcard that the operator has opened", o: Options{OpenWildcards: []string{"*.example.com"}}, now: []tasks.Container{shop, login}, host: "login.example.com", want: "stranger"},
	} {
		t.Run(row.name, func(t *testing.T) {
			table := built(built(Table{}, row.o, row.prev...), row.o, row.now...)
			if got := sitesOf(table)[row.host]; got != row.want {
				t.Errorf("%s is of %q, want %q; problems %v", row.host, got, row.want, table.Problems)
			}
			if taken := hasCode(table, "host-taken"); taken != (row.want == "") {
				t.Errorf("host-taken is %v; problems %v", taken, table.Problems)
			}
		})
	}
}

// Of expressions that match one name nginx takes the first that it has read.
func TestTheOldestExpressionIsFirst(t *testing.T) {
	ask := func(family, expression string, since time.Duration) tasks.Container {
		return web(family, of(family), env("VIRTUAL_HOST", "~"+expression), age(since))
	}
	first, second := ask("first", `^[a-z]+\.test$`, time.Hour), ask("second", `^[a-y]+\.test$`, 2*time.Hour)
	// A container that was created before all others, and started only now.
	late := ask("late", `^[a-x]+\.test$`, 9*time.Hour)
	order := func(t Table) (families []string) {
		sites := slices.Clone(t.Sites)
		slices.SortStableFunc(sites, func(a, b Site) int { return a.Since.Compare(b.Since) })
		for _, s := range sites {
			families = append(families, s.Family)
		}
		return families
	}
	table := built(Table{}, Options{}, first)
	for _, row := range []struct {
		now  []tasks.Container
		want string
	}{
		{[]tasks.Container{first, second}, "[ecs:first ecs:second]"},
		{[]tasks.Container{first, second, late}, "[ecs:first ecs:second ecs:late]"},
		{[]tasks.Container{second, late, ask("first", `^[a-z]+\.test$`, time.Second)}, "[ecs:first ecs:second ecs:late]"},
	} {
		table = built(table, Options{}, row.now...)
		if got := fmt.Sprint(order(table)); got != row.want {
			t.Errorf("the order is %s, want %s; problems %v", got, row.want, table.Problems)
		}
	}
	if got := fmt.Sprint(order(built(Table{}, Options{}, first, second, late))); got != "[ecs:late ecs:second ecs:first]" {
		t.Errorf("without a table before, the order is %s", got)
	}
}

func hasCode(t Table, code string) bool {
	for _, p := range t.Problems {
		if p.Code == code {
			return true
		}
	}
	return false
}

// A container in the host's network is never routed to a port of nginx's or of the host's
// own: nginx would be its own upstream, or publish what trusts its neighbours.
func TestHostPortsAreNoUpstreams(t *testing.T) {
	onHost := func(c *tasks.Container) { c.Network, c.Ports = tasks.Host, nil }
	ask := func(port string) tasks.Container {
		return web("stranger", of("stranger"), onHost, labels("nagaya.host", "b.example.com", "nagaya.port", port))
	}
	stream := web("stream", of("stream"), labels("nagaya.listen", "tcp:2222"), age(time.Hour))
	sites := web("sites", of("sites"), labels("nagaya.host", "c.example.com"), age(time.Hour))
	o := Options{Stream: true, Reserved: []uint16{51678, 9646}}
	for port, want := range map[string]string{
		"80": "port-is-nginx", "443": "port-is-nginx", "2222": "port-is-nginx", "51678": "port-reserved", "9646": "port-reserved", "3000": "",
	} {
		table := built(built(Table{}, o, stream, sites), o, stream, sites, ask(port))
		served := sitesOf(table)["b.example.com"] != ""
		if served != (want == "") || want != "" && !hasCode(table, want) {
			t.Errorf("port %s: served %v, want %q; problems %v", port, served, want, table.Problems)
		}
		if len(table.Streams) != 1 || sitesOf(table)["c.example.com"] == "" {
			t.Errorf("port %s: the others are %v and %v", port, table.Streams, sitesOf(table))
		}
	}
	// Without a table before, the older one keeps the port.
	if table := built(Table{}, o, stream, ask("2222")); len(table.Streams) != 1 || !hasCode(table, "port-is-nginx") {
		t.Errorf("streams %v, problems %v", table.Streams, table.Problems)
	}
	// A port that a container of the host's network serves already is not taken from it.
	before := built(Table{}, o, ask("2222"))
	table := built(before, o, ask("2222"), stream)
	if len(table.Streams) != 0 || sitesOf(table)["b.example.com"] == "" || !hasCode(table, "host-port-taken") {
		t.Errorf("streams %v, sites %v, problems %v", table.Streams, sitesOf(table), table.Problems)
	}
}

// A container in the host's network ends before the next one starts, and so does one with a fixed
// port of the host: in between its port is nobody else's, also across restarts of the agent.
func TestAPortOfTheHostOutlivesItsContainer(t *testing.T) {
	ask := func(id string, since time.Duration) tasks.Container {
		return web(id, of("shop"), labels("nagaya.host", "a.example.com", "nagaya.port", "3000"), age(since))
	}
	onHost := func(c tasks.Container) tasks.Container {
		c.Network, c.Ports = tasks.Host, nil
		return c
	}
	published := func(c tasks.Container) tasks.Container {
		c.Ports = []tasks.Port{{Container: 3000, Protocol: "tcp", Host: 3000}}
		return c
	}
	stream := web("stranger", of("stranger"), labels("nagaya.listen", "tcp:3000", "nagaya.port", "80"), age(time.Hour))
	site := web("stranger", of("stranger"), env("VIRTUAL_HOST", "b.example.com", "EXTERNAL_HTTP_PORT", "3000"), age(time.Hour))
	own := web("own", of("shop"), labels("nagaya.listen", "tcp:3000", "nagaya.port", "80"))
	o := Options{Stream: true}
	for name, change := range map[string]func(tasks.Container) tasks.Container{"host network": onHost, "published": published} {
		for _, stranger := range []tasks.Container{stream, site} {
			first, next := change(ask("first", 2*time.Hour)), change(ask("next", time.Second))
			table := built(Table{}, o, first)
			for i, now := range [][]tasks.Container{{first, stranger}, {stranger}, {stranger}, {stranger, next}, {stranger, next}} {
				text, err := json.Marshal(Table{Shape: table.Shape, Pools: table.Pools})
				if err == nil {
					err = json.Unmarshal(text, &table)
				}
				if table = built(table, o, now...); err != nil || len(table.Streams) != 0 || sitesOf(table)["b.example.com"] != "" || sitesOf(table)["a.example.com"] == "" || !hasCode(table, "host-port-taken") {
					t.Errorf("%s, step %d: %v, sites %v, streams %v, problems %v", name, i, err, sitesOf(table), table.Streams, table.Problems)
				}
			}
			if got := addrs(table.Pools[PoolKey{Host: "a.example.com", Path: "/"}].Servers); got != " 10.0.0.5:3000" {
				t.Errorf("%s: the servers are%s; problems %v", name, got, table.Problems)
			}
		}
		before := built(Table{}, o, change(ask("first", 2*time.Hour)))
		if table := built(before, o, own); len(table.Streams) != 1 {
			t.Errorf("%s, nginx for the family itself: %v", name, table.Problems)
		}
		in := input(stream)
		in.Options, in.Prev = o, built(before, o, stream)
		in.Now = noon.Add(time.Hour)
		if table := build(in); len(table.Streams) != 1 {
			t.Errorf("%s, after the grace period: %v", name, table.Problems)
		}
	}
}

// A container without a route publishes a port of this host: between it and the next one of its
// family nobody else gets that port.
func TestAPublishedPortOutlivesItsContainer(t *testing.T) {
	publishes := func(id string, more edit) tasks.Container {
		return web(id, labels("x", "y"), more, func(c *tasks.Container) {
			c.Ports = []tasks.Port{{Container: 5432, Protocol: "tcp", Host: 5432}}
		})
	}
	stream := web("stranger", of("stranger"), labels("nagaya.listen", "tcp:5432", "nagaya.port", "80"), age(time.Hour))
	for name, row := range map[string]struct {
		first tasks.Container
		now   []tasks.Container // at once, and later
		later time.Duration
		free  bool // later
	}{
		"of ECS":                  {publishes("db", of("db")), []tasks.Container{stream}, 9 * time.Minute, false},
		"after its grace":         {publishes("db", of("db")), []tasks.Container{stream}, 10 * time.Minute, true},
		"removed":                 {run("db", "postgres", 1, time.Hour, func(c *tasks.Container) { *c = publishes("db", called("db")) }), []tasks.Container{stream}, 3 * time.Second, true},
		"only stopped":            {run("db", "postgres", 1, time.Hour, func(c *tasks.Container) { *c = publishes("db", called("db")) }), []tasks.Container{run("db", "postgres", 1, time.Hour, func(c *tasks.Container) { *c = publishes("db", called("db")); c.State = tasks.Exited }), stream}, 9 * time.Minute, false},
		"and it listens itself":   {publishes("db", of("stranger")), []tasks.Container{stream}, 0, true},
		"it has another port now": {publishes("db", of("db")), []tasks.Container{web("db2", of("db"), labels("x", "y")), stream}, 9 * time.Minute, false},
	} {
		table := tableAt(tableAt(Table{}, 0, row.first), 0, row.first, stream)
		if table = tableAt(table, 0, row.now...); len(table.Streams) != 0 != (row.later == 0) {
			t.Errorf("%s: at once %v, problems %v", name, table.Streams, table.Problems)
		}
		if row.free && row.later > 0 && !table.Next.Equal(noon.Add(row.later)) {
			t.Errorf("%s: built again at %s", name, table.Next)
		}
		if table = tableAt(table, row.later, row.now...); (len(table.Streams) == 1) != row.free || hasCode(table, "host-port-taken") == row.free {
			t.Errorf("%s: later %v, problems %v", name, table.Streams, table.Problems)
		}
	}
}

// Where a site has HTTP/3 at a port of its own, no other family's stream gets its datagrams.
func TestHTTP3KeepsItsPort(t *testing.T) {
	shop := web("shop", of("shop"), env("VIRTUAL_HOST", "a.example.com", "EXTERNAL_HTTPS_PORT", "8444", proxyLabel+"http3.enable", "true"), age(time.Hour))
	plain := web("shop", of("shop"), env("VIRTUAL_HOST", "a.example.com", "EXTERNAL_HTTPS_PORT", "8444"), age(time.Hour))
	stream := web("stream", of("stranger"), labels("nagaya.listen", "udp:8444", "nagaya.port", "53"))
	for _, row := range []struct {
		name      string
		http3     bool
		prev, now []tasks.Container
		streams   int
	}{
		{"a site that was there first", false, []tasks.Container{shop}, []tasks.Container{shop, stream}, 0},
		{"a site whose container is away", false, []tasks.Container{shop}, []tasks.Container{stream}, 0},
		{"an older site", false, nil, []tasks.Container{shop, stream}, 0},
		{"HTTP/3 for all", true, []tasks.Container{plain}, []tasks.Container{plain, stream}, 0},
		{"a site without HTTP/3", false, []tasks.Container{plain}, []tasks.Container{plain, stream}, 1},
		{"a stream that was there first", false, []tasks.Container{stream}, []tasks.Container{shop, stream}, 1},
	} {
		o := Options{Stream: true, HTTP3: row.http3}
		table := built(built(Table{}, o, row.prev...), o, row.now...)
		if len(table.Streams) != row.streams || len(table.Sites) != 1 || hasCode(table, "port-taken") != (row.streams == 0) {
			t.Errorf("%s: sites %v, streams %v, problems %v", row.name, sitesOf(table), table.Streams, table.Problems)
		}
	}
}

// A port of its own with TLS shows its certificate to whoever asks, whatever the name: so no
// name of it may be another family's.
func TestCertificatesOfOthersAtPorts(t *testing.T) {
	pairs := []certs.Pair{
		{Name: "wild", DNSNames: []string{"*.example.com"}},
		{Name: "san", DNSNames: []string{"own.test", "shop.example.com"}},
		{Name: "own", DNSNames: []string{"own.test"}},
		{Name: "login", DNSNames: []string{"login.example.com"}},
		{Name: "subject", CommonName: "shop.example.com"},
	}
	host := func(name string) tasks.Container {
		return web("shop", of("shop"), labels("nagaya.host", name), age(time.Hour))
	}
	ask := func(words ...string) tasks.Container {
		return web("stranger", of("stranger"), labels(append([]string{"nagaya.listen", "tls:8443"}, words...)...), age(time.Minute))
	}
	alsoSite := func(host string) tasks.Container {
		return web("site", of("stranger"), labels("nagaya.host", host), age(2*time.Hour))
	}
	starting := host("shop.example.com")
	starting.Health = tasks.Starting
	for _, row := range []struct {
		name      string
		prev, now []tasks.Container
		o         Options
		listens   bool
	}{
		{name: "a wildcard certificate over another's host", now: []tasks.Container{host("shop.example.com"), ask("nagaya.cert", "wild")}},
		{name: "the same, with a name of its own", now: []tasks.Container{host("shop.example.com"), ask("nagaya.host", "mine.example.com")}},
		{name: "the same, while the other one starts", now: []tasks.Container{starting, ask("nagaya.cert", "wild")}},
		{name: "one of several names", now: []tasks.Container{host("shop.example.com"), ask("nagaya.cert", "san")}},
		{name: "one of several names, and the port's is its own", now: []tasks.Container{host("shop.example.com"), ask("nagaya.host", "own.test", "nagaya.cert", "san")}},
		{name: "the subject of a certificate without names", now: []tasks.Container{host("shop.example.com"), ask("nagaya.cert", "subject")}},
		{name: "another's wildcard host", now: []tasks.Container{host("*.example.com"), ask("nagaya.cert", "wild")}},
		{name: "a name under another's wildcard host", now: []tasks.Container{host("*.example.com"), ask("nagaya.cert", "login")}},
		{name: "a name under another's www.example.*", now: []tasks.Container{web("shop", of("shop"), env("VIRTUAL_HOST", "login.example.*")), ask("nagaya.cert", "login")}},
		{name: "a wildcard certificate and another's www.example.*", now: []tasks.Container{web("shop", of("shop"), env("VIRTUAL_HOST", "login.example.*")), ask("nagaya.cert", "wild")}},
		{
			name: "another certificate at a port that it had before",
			prev: []tasks.Container{host("shop.example.com"), ask("nagaya.cert", "own")},
			now:  []tasks.Container{host("shop.example.com"), ask("nagaya.cert", "wild")},
		},
		{name: "a certificate of its own", now: []tasks.Container{host("shop.example.com"), ask("nagaya.cert", "own")}, listens: true},
		{name: "a wildcard certificate over nobody's host", now: []tasks.Container{host("a.b.example.com"), ask("nagaya.cert", "wild")}, listens: true},
		{name: "a wildcard certificate and another's host beside its domain", now: []tasks.Container{host("other.com"), ask("nagaya.cert", "wild")}, listens: true},
		{name: "its own wildcard host and another's www.example.*", now: []tasks.Container{web("shop", of("shop"), env("VIRTUAL_HOST", "login.example.*")), alsoSite("*.example.com"), ask("nagaya.cert", "wild")}},
		{
			name: "a newcomer's host under a certificate that was there first",
			prev: []tasks.Container{ask("nagaya.cert", "wild")},
			now:  []tasks.Container{host("shop.example.com"), ask("nagaya.cert", "wild")}, listens: true,
		},
		{
			name: "a host of its own under another's wildcard host",
			now:  []tasks.Container{host("*.example.com"), alsoSite("login.example.com"), ask("nagaya.cert", "login")}, listens: true,
		},
		{
			name: "a name under a wildcard host that the operator has opened", o: Options{OpenWildcards: []string{"*.example.com"}},
			now: []tasks.Container{host("*.example.com"), ask("nagaya.cert", "login")}, listens: true,
		},
		{
			name: "a refused claim under its own wildcard host",
			now: []tasks.Container{
				web("port", of("stranger"), labels("nagaya.listen", "tls:8443", "nagaya.cert", "wild")), alsoSite("*.example.com"),
				web("shop", of("shop"), labels("nagaya.host", "shop.example.com")),
			}, listens: true,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.o.Stream = true
			table := Table{}
			for _, list := range [][]tasks.Container{row.prev, row.now} {
				in := input(list...)
				in.Prev, in.Options, in.Certs.Pairs = table, row.o, pairs
				table = build(in)
			}
			if listens := len(table.Streams) == 1; listens != row.listens {
				t.Errorf("it listens: %v, want %v; problems %v", listens, row.listens, table.Problems)
			}
			if !row.listens && !hasCode(table, "host-taken") {
				t.Errorf("no host-taken; problems %v", table.Problems)
			}
		})
	}
}
