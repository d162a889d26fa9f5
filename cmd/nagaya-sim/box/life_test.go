package box

import (
	"fmt"
	"net/http"
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
			Type: unbusy, LaunchTime: time.Now().Add(-24 * time.Hour), CreditMode: simaws.Standard, CPUPercent: 5,
			Tags: map[string]string{"nagaya:address-claim": "tag:Name=nagaya"}, UserData: firstBoot(t),
		},
		Files: map[string]File{PackageFile: deb(t, older()), "/root/newer.deb": deb(t, newer())},
		Tasks: map[string][]string{"alpha": Task("alpha", "a.test"), "beta": Task("beta", "b.test")},
	})
	visitor, err := s.Client(simaws.DefaultPublicIP)
	must(t, err)
	back := func(m *machine, hosts ...string) {
		m.t.Helper()
		for _, host := range hosts {
			until(m.t, host+" is served at the Elastic IP", func() error { return visit(visitor, host) })
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
	m.sub("nginx is taken over", takenOver)
	m.sub("healthy day", healthyDay)
	m.sub("watchdog", func(m *machine) {
		m.dropIn("nagaya.service", "Service", "WatchdogSec=2", "RestartSec=100ms")
		m.do("systemctl", "restart", "nagaya")
		agent, end := m.pid("nagaya"), load(m.t, s, "a.test")
		m.sh(fmt.Sprintf("kill -STOP %d", agent))
		m.replaced(agent)
		m.is("nagaya", "active")
		end()
		if out := m.do("journalctl", "-u", "nagaya", "-b", "--no-pager"); !strings.Contains(out, "Watchdog timeout") {
			m.t.Error("the journal knows of no watchdog")
		}
	})
	m.sub("killed 50 times", func(m *machine) {
		nginx, end := m.pid("nagaya-nginx"), load(m.t, s, "a.test")
		m.sh(`pid() { systemctl show --value -p MainPID nagaya; }
for n in $(seq 50); do
	was=$(pid)
	kill -KILL "$was"
	until now=$(pid); [ "$now" != 0 ] && [ "$now" != "$was" ]; do sleep 0.05; done
done`)
		m.is("nagaya", "active")
		end()
		if now := m.pid("nagaya-nginx"); now != nginx {
			m.t.Errorf("nginx is process %d, want %d untouched", now, nginx)
		}
	})
	m.sub("restart and upgrade", func(m *machine) {
		m.do("rm", "-rf", "/etc/systemd/system/nagaya.service.d")
		m.do("systemctl", "daemon-reload")
		m.sh("echo 'log-level: debug' >>/etc/nagaya/nagaya.yaml")
		withUsers := beforeUsers(m)
		back(m, "a.test", "b.test")
		end := load(m.t, s, "a.test")
		m.do("systemctl", "restart", "nagaya")
		agent := m.pid("nagaya")
		withUsers()
		m.do("dpkg", "-i", "/root/newer.deb")
		m.replaced(agent)
		m.shows("the new version runs", func(st report.Status) bool {
			return st.Version == "1.0.0" && len(st.Routes.LiveHosts()) == 2 && st.Nginx.Settled
		})
		end()
		if out := m.do("tail", "-n", "1", "/etc/nagaya/nagaya.yaml"); out != "log-level: debug" {
			m.t.Errorf("the configuration ends with %q", out)
		}
		newUsers(m)
	})
	m.sub("reboot without Docker", func(m *machine) {
		m.do("systemctl", "mask", "docker.service", "docker.socket")
		must(m.t, m.Reboot(m.t.Context()))
		until(m.t, "a.test is known", func() error {
			resp, err := visitor.Get("https://a.test/")
			if err != nil {
				return err
			}
			resp.Body.Close()
			// Its containers are gone with Docker: nginx has the site, and nobody to ask.
			if resp.StatusCode != http.StatusBadGateway && resp.StatusCode != http.StatusServiceUnavailable && resp.StatusCode != http.StatusGatewayTimeout {
				return fmt.Errorf("%s", resp.Status)
			}
			return nil
		})
		if out, code := m.try("docker", "version"); code == 0 {
			m.t.Errorf("Docker answers: %s", out)
		}
		m.is("nagaya", "active")
		m.problem("docker-unreachable")
		if _, err := visitor.Get("https://nobody.test/"); err == nil {
			m.t.Error("nobody.test is known too")
		}
		// Without the network an agent starts as well.
		m.do("ip", "link", "set", "eth0", "down")
		m.do("systemctl", "restart", "nagaya")
		m.problem("imds-unreachable")
		m.sh("ip link set eth0 up; ip route replace default via 169.254.1.1 dev eth0 onlink src " + m.Private.String())
		m.do("systemctl", "unmask", "docker.service", "docker.socket")
		m.do("systemctl", "start", "docker.socket", "docker", "ecs")
		back(m, "a.test", "b.test")
	})
	m.sub("dockerd restarts", dockerRestarts)
	m.sub("nightly timer", nightly)
	m.sub("slowed job", slowed)
	m.sub("members of the group", members)
	m.sub("disk full", func(m *machine) { diskFull(m, back) })
	m.sub("removal", removal)
	m.sub("nginx comes later", nginxComes)
}

// dropIn adds settings to a unit.
func (m *machine) dropIn(unit, section string, lines ...string) {
	m.t.Helper()
	must(m.t, m.Put(m.t.Context(), map[string]File{
		"/etc/systemd/system/" + unit + ".d/test.conf": Text("[" + section + "]\n" + strings.Join(lines, "\n") + "\n"),
	}))
	m.do("systemctl", "daemon-reload")
}

// replaced waits until the agent is another process.
func (m *machine) replaced(agent int) {
	m.t.Helper()
	until(m.t, "another agent runs", func() error {
		if pid := m.pid("nagaya"); pid == 0 || pid == agent {
			return errNotYet
		}
		return nil
	})
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
