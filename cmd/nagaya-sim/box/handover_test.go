package box

import (
	"errors"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

// TestHandover moves the Elastic IP from one machine to another: on an operator's word,
// and when the holder is powered off.
func TestHandover(t *testing.T) {
	s := free(t)
	var two []*machine
	for n := range 2 {
		two = append(two, launch(t, s, Launch{
			Spec: simaws.InstanceSpec{
				LaunchTime: time.Now().Add(time.Duration(n-2) * time.Hour), UserData: firstBoot(t),
				Tags: map[string]string{"nagaya:address-claim": "tag:Name=nagaya", "nagaya:address-policy": "standby", "nagaya:address-every": "1s"},
			},
			Files: map[string]File{PackageFile: deb(t, newer())},
			Tasks: map[string][]string{"alpha": Task("alpha", "a.test")},
		}))
		if n == 0 {
			holds(t, s, two[0])
		}
	}
	for _, m := range two {
		m.shows("a.test is live", func(st report.Status) bool { return len(st.Routes.LiveHosts()) == 1 && st.Nginx.Settled })
	}
	visitor, err := s.Client(simaws.DefaultPublicIP)
	must(t, err)
	must(t, visit(visitor, "a.test"))
	end := load(t, s, "a.test")
	said := time.Now()
	two[0].do("nagaya", "leave")
	holds(t, s, two[1])
	t.Logf("held by the other %s after the word", time.Since(said).Round(time.Millisecond))
	two[1].shows("it knows", func(st report.Status) bool { return st.Address.Held() })
	end()

	two[0].do("nagaya", "leave", "--undo")
	off := time.Now()
	must(t, two[1].PowerOff(t.Context()))
	holds(t, s, two[0])
	visitor.CloseIdleConnections()
	until(t, "a.test is served by what is left", func() error { return visit(visitor, "a.test") })
	t.Logf("served %s after the holder was powered off", time.Since(off).Round(time.Millisecond))
}

// holds waits until EC2 says that the machine has the address.
func holds(t *testing.T, s *Set, m *machine) {
	t.Helper()
	until(t, m.InstanceID+" has the address", func() error {
		if a, _ := s.Cloud.State().Address(simaws.DefaultAllocation); a.InstanceID != m.InstanceID {
			return errors.New("held by " + a.InstanceID)
		}
		return nil
	})
}
