package box

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

// TestLife is the life of one machine, from its first boot to the package's removal.
func TestLife(t *testing.T) {
	s := free(t)
	began := time.Now()
	m := launch(t, s, Launch{
		Spec: simaws.InstanceSpec{
			LaunchTime: time.Now().Add(-24 * time.Hour), CreditMode: simaws.Standard, CPUPercent: 5,
			Tags: map[string]string{"nagaya:address-claim": "tag:Name=nagaya"}, UserData: firstBoot(t),
		},
		Files: map[string]File{PackageFile: deb(t, older())},
		Tasks: map[string][]string{"alpha": Task("alpha", "a.test"), "beta": Task("beta", "b.test")},
	})
	visitor, err := s.Client(simaws.DefaultPublicIP)
	must(t, err)
	back := func(m *machine, hosts ...string) {
		m.t.Helper()
		for _, host := range hosts {
			until(m.t, time.Minute, host+" is served at the Elastic IP", func() error { return visit(visitor, host) })
		}
	}
	if !t.Run("first boot", func(t *testing.T) {
		m := &machine{m.Box, t}
		back(m, "a.test", "b.test")
		t.Logf("served %s after the machine was launched", time.Since(began).Round(time.Millisecond))
		m.shows("the address is held", func(st report.Status) bool { return st.Address.Held() })
		m.is("ecs", "active")
		m.ownTime(5 * time.Second)
		t.Log("\n" + m.do("nagaya", "status"))
	}) {
		t.FailNow() // nothing else can be tested
	}
	m.sub("journal", journal)
}

// ownTime checks how long nagaya itself took: from its start until it held the address,
// and from the start of the last container until that was served.
func (m *machine) ownTime(limit time.Duration) {
	m.t.Helper()
	monotonic, err := strconv.ParseInt(m.show("nagaya", "ExecMainStartTimestampMonotonic"), 10, 64)
	must(m.t, err)
	ready, err := strconv.ParseInt(m.show("nagaya", "ActiveEnterTimestampMonotonic"), 10, 64)
	must(m.t, err)
	started := time.Duration(ready-monotonic) * time.Microsecond
	var last time.Time
	for _, text := range strings.Fields(m.do("docker", "inspect", "-f", "{{.State.StartedAt}}", "alpha", "beta")) {
		at, err := time.Parse(time.RFC3339Nano, text)
		must(m.t, err)
		if at.After(last) {
			last = at
		}
	}
	st, err := m.status()
	must(m.t, err)
	routed := st.Nginx.LoadedAt.Sub(last)
	m.t.Logf("nagaya's own time: ready %s after its start, routed %s after the last container's start: %s",
		started.Round(time.Millisecond), routed.Round(time.Millisecond), (started + routed).Round(time.Millisecond))
	if started+routed > limit {
		m.t.Errorf("that is more than %s", limit)
	}
}
