package discover

import (
	"net/netip"
	"os"
	"testing"
)

func TestLocalAddr(t *testing.T) {
	addr := netip.MustParseAddr
	none := netip.Addr{}
	own := []netip.Addr{addr("127.0.0.1"), addr("::1"), addr("fe80::1"), addr("169.254.172.1"), addr("10.0.0.5"), addr("172.17.0.1")}
	for name, row := range map[string]struct {
		primary netip.Addr
		own     []netip.Addr
		route   netip.Addr
		want    netip.Addr
	}{
		"what EC2 says":                       {addr("172.17.0.1"), own, addr("10.0.0.5"), addr("172.17.0.1")},
		"in a container EC2 speaks of others": {addr("10.9.9.9"), own, addr("10.0.0.5"), addr("10.0.0.5")},
		"EC2 says nothing":                    {none, own, addr("10.0.0.5"), addr("10.0.0.5")},
		"no default route":                    {none, own, none, addr("10.0.0.5")},
		"no default route, not on EC2":        {addr("10.9.9.9"), own, none, addr("10.0.0.5")},
		"only loopback and link-local":        {none, own[:4], none, none},
		"nothing":                             {none, nil, none, none},
	} {
		t.Run(name, func(t *testing.T) {
			if got := localAddr(row.primary, row.own, row.route); got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
		})
	}
}

func TestWhatTheHostSays(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	set := netip.MustParseAddr("192.0.2.1")
	w := &watcher{o: Options{LocalAddr: set}}
	if h := w.host(netip.MustParseAddr("127.0.0.1")); h.LocalAddr != set || h.Name != name || h.CPUs < 1 {
		t.Errorf("host %+v; want the address that was set, and %s", h, name)
	}
	// Every machine has a loopback address, so EC2 can be made to say one.
	w.o.LocalAddr = netip.Addr{}
	if h := w.host(netip.MustParseAddr("127.0.0.1")); h.LocalAddr != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("local address %s; want the one that EC2 says", h.LocalAddr)
	}
	if a := routeSource(); a.IsLoopback() || a.IsUnspecified() && a.IsValid() {
		t.Errorf("the default route leaves from %s", a)
	}
}
