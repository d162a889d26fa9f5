package agent

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// An instance that took the address when its table was ready, and not when nginx
// served it, lost every connection in between.
func TestServingWaitsForNginx(t *testing.T) {
	status := func(wanted string, settled bool) nginx.Status {
		return nginx.Status{Running: true, Generation: "x", Wanted: wanted, Settled: settled}
	}
	var s serving
	for _, step := range []struct {
		name  string
		offer offer
		nginx nginx.Status
		want  []string
	}{
		{"nothing was made of it", offer{tableOf("a.test"), ""}, status("", true), nil},
		{"nginx serves the one before", offer{tableOf("a.test"), "1"}, status("0", true), nil},
		{"a reload is under way", offer{tableOf("a.test"), "1"}, status("1", false), nil},
		{"it is confirmed", offer{tableOf("a.test"), "1"}, status("1", true), []string{"a.test"}},
		{"another host joins", offer{tableOf("a.test", "b.test"), "2"}, status("1", true), []string{"a.test"}},
		{"it is being loaded", offer{tableOf("a.test", "b.test"), "2"}, status("2", false), []string{"a.test"}},
		{"it is loaded", offer{tableOf("a.test", "b.test"), "2"}, status("2", true), []string{"a.test", "b.test"}},
		{"the first one loses its container", offer{tableOf("-a.test", "b.test"), "3"}, status("2", true), []string{"b.test"}},
		{"what is left is loaded", offer{tableOf("-a.test", "b.test"), "3"}, status("3", true), []string{"b.test"}},
		{"it gets another", offer{tableOf("a.test", "b.test"), "4"}, status("3", true), []string{"b.test"}},
	} {
		s.newest = step.offer
		if d := cmp.Diff(step.want, s.see(step.nginx).LiveHosts()); d != "" {
			t.Errorf("%s: %s", step.name, d)
		}
	}
}
