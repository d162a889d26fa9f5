package agent

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

func TestVantageOf(t *testing.T) {
	local, gateway := netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("172.18.0.1")
	list := []tasks.Container{
		{ID: "on-host", Network: tasks.Host},
		{ID: "bridged", Network: tasks.Bridge, Networks: []tasks.Network{{Name: "back"}, {Name: "front", Gateway: gateway}}},
	}
	bridged := route.Vantage{Container: true, Networks: []string{"back", "front"}}
	for _, row := range []struct {
		name, id string
		local    netip.Addr
		from     route.Vantage
		at       netip.Addr
		ok       bool
	}{
		{"nginx on the host", "", local, route.Vantage{}, local, true},
		{"nginx in a container with the host's network", "on-host", local, route.Vantage{}, local, true},
		{"nginx on bridges, the host's address known", "bridged", local, bridged, local, true},
		{"nginx on bridges, no address known", "bridged", netip.Addr{}, bridged, gateway, true},
		{"a container that is not listed", "other", local, route.Vantage{}, local, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			from, at, ok := vantageOf(row.id, list, row.local)
			if d := cmp.Diff(row.from, from); d != "" || at != row.at || ok != row.ok {
				t.Errorf("vantage %s; at %v, ok %v; want at %v, ok %v", d, at, ok, row.at, row.ok)
			}
		})
	}
}
