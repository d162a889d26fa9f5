package box

import (
	"encoding/json"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/journalwords"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

// healthyDay counts the lines of the journal, systemd's about the unit too, that what a
// healthy day is made of causes, and adds them up: a start, twenty services that are deployed once
// each, a restart, a certificate that is renewed, and hours in which nothing happens.
// What the gate and three jobs write in a day is a test of package agent.
func healthyDay(m *machine) {
	const most, here, services, deployed = 200, 2, 20, 3
	var seen []string
	count := func(what string) map[string]int {
		m.t.Helper()
		lines := map[string]int{}
		for line := range strings.Lines(m.do(append([]string{"journalctl", "-u", "nagaya", "-b", "-o", "json", "--no-pager"}, seen...)...)) {
			var e struct {
				Cursor string `json:"__CURSOR"`
				Event  string `json:"NAGAYA_EVENT"`
				By     string `json:"SYSLOG_IDENTIFIER"`
				Level  string `json:"PRIORITY"`
			}
			must(m.t, json.Unmarshal([]byte(line), &e))
			seen = []string{"--after-cursor=" + e.Cursor}
			if e.Event == "" {
				e.Event = e.By
			}
			switch e.Event {
			case event.GateOpened, event.GateClosed, event.GateNoted: // counted for a whole day
			default:
				lines[e.Event]++
			}
		}
		m.t.Logf("%s: %d lines %v", what, sum(lines), lines)
		return lines
	}
	live := func(servers int) func(report.Status) bool {
		return func(st report.Status) bool {
			have := 0
			for _, site := range st.Routes.Sites {
				for _, at := range site.Locations {
					have += len(st.Routes.Pools[site.PoolKey(at)].Servers)
				}
			}
			return have == servers && len(st.Routes.LiveHosts()) == here && st.Nginx.Settled
		}
	}
	m.shows("the ECS agent answers, and all is live", func(st report.Status) bool { return !has(st, "ecs-agent-unknown") && live(2)(st) })
	// Of what is said of each service there are more.
	all := func(lines map[string]int) int {
		return sum(lines) + (lines[event.RouteAdded]+lines[event.RouteVacant])*(services-here)/here
	}
	total := all(count("start"))

	for _, step := range [][2]string{{"alpha", "next"}, {"next", "third"}, {"third", "alpha"}} {
		m.sh("docker run -d --name " + step[1] + " " + quoted(Task("alpha", "a.test")))
		m.shows("both are live", live(3))
		m.sh("docker stop " + step[0] + "; docker rm " + step[0])
		m.shows("one is left", live(2))
	}
	deployments := count("three deployments")
	// What the start said a second time is written a minute after it, so here if the machine is slow.
	for _, of := range []string{event.CertificatesRead, event.DockerAnswers, event.ECSAgentAnswers, event.IdentityKnown} {
		total += deployments[of]
		delete(deployments, of)
	}
	each := float64(sum(deployments)) / deployed

	m.do("systemctl", "restart", "nagaya")
	m.shows("all is live", live(2))
	again := count("restart")
	if n := again[event.RouteVacant]; n > 0 {
		m.t.Errorf("%d services are called vacant by a restart", n)
	}
	total += all(again)

	// An hour of questions to AWS, and as many other looks as fit beside them.
	m.sh("cp /etc/nagaya/nagaya.yaml /root/before.yaml; printf 'address: {every: 1s}\ncredit: {every: 1s, cloudwatch: 1s}\n' >/etc/nagaya/nagaya.yaml; nagaya reload")
	m.shows("all is live", live(2))
	asked := func(points, addresses int) {
		m.t.Helper()
		points += m.set.Cloud.Count("cloudwatch", "GetMetricStatistics")
		addresses += m.set.Cloud.Count("ec2", "DescribeAddresses")
		until(m.t, "AWS is asked", func() error {
			if m.set.Cloud.Count("cloudwatch", "GetMetricStatistics") < points || m.set.Cloud.Count("ec2", "DescribeAddresses") < addresses {
				return errNotYet
			}
			return nil
		})
	}
	asked(4, 0)
	count("another configuration")
	asked(12, 1)
	quiet := count("idle")
	m.sh("mv /root/before.yaml /etc/nagaya/nagaya.yaml; nagaya reload")

	ofGate := 0
	for _, k := range journalwords.Kinds {
		switch k.Name {
		case event.GateOpened, event.GateClosed, event.GateNoted, event.OfJob("waiting"), event.OfJob("admitted"), event.OfJob("running"), event.OfJob("done"):
			ofGate += k.Daily
		}
	}
	day := total + int(services*each+0.5) + ofGate + 24*sum(quiet)
	m.t.Logf("a healthy day has %d lines: start and restart %d, twenty deployments of %.1f, gate and jobs %d, idle hours 24 of %d", day, total, each, ofGate, sum(quiet))
	if day >= most || each < 2 {
		m.t.Errorf("%d lines; want less than %d, and a count that is not blind", day, most)
	}
}

func sum(lines map[string]int) (n int) {
	for _, c := range lines {
		n += c
	}
	return n
}
