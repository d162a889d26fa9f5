package route_test

import (
	"testing"
	"time"

	. "github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// built is the table of these containers, after another one.
func built(prev Table, o Options, cs ...tasks.Container) Table {
	in := input(cs...)
	in.Prev, in.Options = prev, o
	return build(in)
}

// sitesOf are the families of the sites, by host.
func sitesOf(t Table) map[string]string {
	all := map[string]string{}
	for _, s := range t.Sites {
		all[s.Host] = s.Family
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
