package route_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	. "github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

func TestNetworkOfNginx(t *testing.T) {
	local, gateway, own := netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("172.18.0.1"), netip.MustParseAddr("172.18.0.9")
	list := []tasks.Container{
		{ID: "on-host", Network: tasks.Host},
		{ID: "bridged", Network: tasks.Bridge, Networks: []tasks.Network{{Name: "back"}, {Name: "front", Gateway: gateway}}, Addrs: []netip.Addr{own}},
		{ID: "sharing", Network: tasks.None, NetworkOf: "bridged"},
		{ID: "orphan", Network: tasks.None, NetworkOf: "gone"},
	}
	bridged := func(host netip.Addr) NginxNetwork {
		return NginxNetwork{Container: true, Networks: []string{"back", "front"}, Host: host}
	}
	for _, row := range []struct {
		name, id string
		local    netip.Addr
		want     NginxNetwork
		ok       bool
	}{
		{"nginx on the host", "", local, NginxNetwork{Host: local}, true},
		{"nginx in a container with the host's network", "on-host", local, NginxNetwork{Host: local}, true},
		{"nginx on bridges, the host's address known", "bridged", local, bridged(local), true},
		{"nginx on bridges, no address known", "bridged", netip.Addr{}, bridged(gateway), true},
		{"nginx on bridges, no address known but its own", "bridged", own, bridged(gateway), true},
		{"nginx in the network of another", "sharing", netip.Addr{}, bridged(gateway), true},
		{"nginx in the network of one that is not listed", "orphan", local, NginxNetwork{Host: local}, false},
		{"a container that is not listed", "other", local, NginxNetwork{Host: local}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, ok := NetworkOfNginx(row.id, list, row.local)
			if d := cmp.Diff(row.want, got, equalValues); d != "" || ok != row.ok {
				t.Errorf("ok %v, want %v; network (-want +got):\n%s", ok, row.ok, d)
			}
		})
	}
}

func TestOwnContainer(t *testing.T) {
	list := []tasks.Container{
		{ID: "aaaa1111", State: tasks.Running}, {ID: "bbbb2222", State: tasks.Running}, {ID: "cccc3333", State: tasks.Exited},
	}
	for _, row := range []struct {
		name    string
		guesses []string
		want    string
		ok      bool
	}{
		{"on the host", nil, "", true},
		{"the whole id", []string{"bbbb2222"}, "bbbb2222", true},
		{"a short id", []string{"dddd", "aaaa"}, "aaaa1111", true},
		{"the best guess first", []string{"bbbb2222", "aaaa"}, "bbbb2222", true},
		{"one that has ended", []string{"cccc"}, "", false},
		{"another engine's", []string{"dddd"}, "", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got, ok := OwnContainer(row.guesses, list); got != row.want || ok != row.ok {
				t.Errorf("got %q, %v; want %q, %v", got, ok, row.want, row.ok)
			}
		})
	}
}

func TestBesideEngine(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("172.17.0.1")}
	on := func(gateway string) []tasks.Container {
		return []tasks.Container{{Network: tasks.Host}, {Networks: []tasks.Network{{Name: "x", Gateway: netip.MustParseAddr(gateway)}}}}
	}
	if !BesideEngine(on("172.17.0.1"), own) {
		t.Error("the bridge is here")
	}
	if BesideEngine(on("172.18.0.1"), own) {
		t.Error("the bridge is elsewhere")
	}
	if !BesideEngine([]tasks.Container{{Network: tasks.Host}}, own) {
		t.Error("there is nothing to tell by")
	}
}

// A container on several networks is reached where this host, or an nginx in a container, is too;
// nagaya.network names another one.
func TestTheNetworkOnWhichAContainerIsReached(t *testing.T) {
	alan := tasks.Network{Name: "alan", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.9")}, Apart: true}
	front := tasks.Network{Name: "front", Addrs: []netip.Addr{netip.MustParseAddr("172.18.0.2"), netip.MustParseAddr("fd00::2")}}
	six := tasks.Network{Name: "a6", Addrs: []netip.Addr{netip.MustParseAddr("fd00:6::2")}}
	blog := tasks.Network{Name: "blog_front", Addrs: []netip.Addr{netip.MustParseAddr("172.19.0.2")}}
	for _, row := range []struct {
		name, network string
		published     bool
		nginx         []string
		on            []tasks.Network
		want          string
	}{
		{name: "macvlan is first by name", on: []tasks.Network{alan, front}, want: " 172.18.0.2:80"},
		{name: "IPv4 comes first", on: []tasks.Network{six, alan, front}, want: " 172.18.0.2:80"},
		{name: "IPv6 that is near before IPv4 that is not", on: []tasks.Network{six, alan}, want: " [fd00:6::2]:80"},
		{name: "nothing else", on: []tasks.Network{alan}, want: " 192.0.2.9:80"},
		{name: "published", published: true, on: []tasks.Network{alan, front}, want: " 10.0.0.5:32768"},
		{name: "named", network: "alan", published: true, on: []tasks.Network{alan, front}, want: " 192.0.2.9:80"},
		{name: "named without its project", network: "front", on: []tasks.Network{alan, blog}, want: " 172.19.0.2:80"},
		{name: "nginx is on it", nginx: []string{"alan"}, on: []tasks.Network{alan, front}, want: " 192.0.2.9:80"},
		{name: "nginx is on both", nginx: []string{"alan", "front"}, network: "front", on: []tasks.Network{alan, front}, want: " 172.18.0.2:80"},
	} {
		c := web("a", func(c *tasks.Container) {
			c.Networks, c.Addrs = row.on, nil
			for _, n := range row.on {
				c.Addrs = append(c.Addrs, n.Addrs...)
			}
			c.Addrs = tasks.IPv4First(c.Addrs)
			c.Labels[tasks.LabelComposeProject] = "blog"
			if row.network != "" {
				c.Labels["nagaya.network"] = row.network
			}
			if !row.published {
				c.Ports[0].Host = 0
			}
		})
		in := input(c)
		in.Nginx.Container, in.Nginx.Networks = row.nginx != nil, row.nginx
		if got := build(in); len(got.Sites) != 1 || addrs(firstServers(got)) != row.want {
			t.Errorf("%s: %s, want%s", row.name, lines(got), row.want)
		}
	}
	c := web("a", labels("nagaya.host", "a.example.com", "nagaya.network", "back"), func(c *tasks.Container) { c.Networks = []tasks.Network{alan, front} })
	got := build(input(c))
	if d := cmp.Diff("waits a.example.com/ web:1/app no-address\nerror container-no-address\n", lines(got)); d != "" {
		t.Errorf("a network that the container is not on (-want +got):\n%s", d)
	}
	if want := "a.example.com cannot be routed because nagaya.network is back, and the container is on alan, front"; got.Problems[0].Text != want {
		t.Errorf("%s, want %s", got.Problems[0].Text, want)
	}
}
