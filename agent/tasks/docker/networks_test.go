package docker

import (
	"fmt"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// On which of its networks this host reaches a container is what the engine says of these.
func TestNetworksThatThisHostIsNotOn(t *testing.T) {
	for name, row := range map[string]struct{ networks, want string }{
		"macvlan":  {`[{"Id":"n1","Driver":"macvlan"},{"Id":"n2","Driver":"bridge","Internal":true}]`, "true false"},
		"ipvlan":   {`[{"Id":"n1","Driver":"bridge"},{"Id":"n2","Driver":"ipvlan"}]`, "false true"},
		"overlay":  {`[{"Id":"n1","Driver":"overlay"},{"Id":"n2","Driver":"weave"}]`, "true false"},
		"isolated": {`[{"Id":"n1","Driver":"bridge","Options":{"com.docker.network.bridge.gateway_mode_ipv4":"isolated"}},{"Id":"n2","Driver":"bridge"}]`, "true false"},
		"unknown":  {`[`, "false false"},
		"gone":     {`[]`, "false false"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t)
			e.places, e.networks = `"alan":{"NetworkID":"n1","IPAddress":"192.0.2.9"},"front":{"NetworkID":"n2","IPAddress":"172.18.0.2"}`, row.networks
			e.set("a", "running")
			e.start(t)
			until := watching(t, Options{Host: "unix://" + e.socket, Resync: time.Hour})
			got := until("the list", func(c tasks.Containers) bool { return c.Complete && len(c.List) == 1 }).List[0].Networks
			if apart := fmt.Sprint(got[0].Apart, " ", got[1].Apart); apart != row.want {
				t.Errorf("this host is not on alan and front: %s, want %s", apart, row.want)
			}
			e.set("b", "running")
			e.emit("start", "b", "")
			until("the next list", func(c tasks.Containers) bool { return len(c.List) == 2 })
			if e.mu.Lock(); e.asked != 1 && name != "unknown" {
				t.Errorf("asked %d times for the same networks", e.asked)
			}
			e.mu.Unlock()
		})
	}
}
