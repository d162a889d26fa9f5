package stage

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/report"
)

// newRelay makes a relay that is not there yet, and the address to give the agent.
func newRelay(t *testing.T) (*Relay, string) {
	t.Helper()
	r, err := NewRelay()
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	return r, r.Host()
}

// A second demonstration beside one that was left running says how to end that.
func TestANameThatWasLeft(t *testing.T) {
	left, s := newStage(t, Options{}), newStage(t, Options{})
	c := Container{Name: "left", NotByECS: true}
	_, err := left.Create(t.Context(), c)
	must(t, err)
	if _, err := s.Create(t.Context(), c); err == nil || !strings.Contains(err.Error(), "nagaya-sim demo --end "+left.Dir) {
		t.Errorf("error %v", err)
	}
}

func TestDockerComesLate(t *testing.T) {
	line, host := newRelay(t)
	s := newStage(t, Options{Hosts: []string{"a.test"}, DockerHost: host})
	must(t, s.StartCloud(t.Context()))
	must(t, s.StartAgent())
	run(t, s, service("alpha", "1", "a.test"))
	if p := told(t, s, "docker-unreachable", "docker"); !strings.Contains(p.Text, line.path) {
		t.Errorf("the problem does not name the socket: %q", p.Text)
	}
	must(t, line.Join())
	began := time.Now()
	answers(t, s, "a.test", "alpha 1")
	t.Logf("served %s after the engine appeared", time.Since(began).Round(time.Millisecond))
	quiet(t, s, "docker-unreachable")
}

func TestDockerGoesAway(t *testing.T) {
	line, host := newRelay(t)
	must(t, line.Join())
	s, nginx := household(t, Options{DockerHost: host})
	run(t, s, service("beta", "1", "b.test"))
	answers(t, s, "b.test", "beta 1")
	settled(t, s)
	agent := s.AgentPID()
	_, endA := unbroken(t, s, "a.test", 50)
	_, endB := unbroken(t, s, "b.test", 50)

	line.Cut()
	cut := time.Now()
	p := told(t, s, "docker-unreachable", "docker")
	t.Logf("noticed after %s: %s", time.Since(cut).Round(time.Millisecond), p.Text)
	run(t, s, service("alpha", "2", "a.test"))
	// Long enough for the pauses between attempts to have reached their limit.
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	<-ctx.Done()
	if st, err := s.Board(t.Context()); err != nil || len(st.Routes.LiveHosts()) != 2 {
		t.Errorf("%v; live hosts %v without Docker, want both", err, st.Routes.LiveHosts())
	}

	must(t, line.Join())
	back := time.Now()
	until(t, "alpha 2 is served", func() error {
		st, err := s.Board(t.Context())
		if err == nil && (len(st.Routes.Sites) != 2 || servers(st) != 2 || !st.Nginx.Settled) {
			err = errNotYet
		}
		return err
	})
	took := time.Since(back)
	t.Logf("cut for %s, caught up %s after Docker was back", back.Sub(cut).Round(time.Millisecond), took.Round(time.Millisecond))
	if took > 20*time.Second { // 2 s on a machine that is not crowded
		t.Errorf("it took %s to catch up", took)
	}
	quiet(t, s, "docker-unreachable")
	answers(t, s, "a.test", "alpha 2")
	endA()
	endB()
	sameNginx(t, s, nginx)
	if s.AgentPID() != agent || s.agent.ended() {
		t.Error("the agent did not survive")
	}
}

func TestDockerGoesAwayWhileTheAgentIsDead(t *testing.T) {
	line, host := newRelay(t)
	must(t, line.Join())
	s, nginx := household(t, Options{DockerHost: host})
	_, end := unbroken(t, s, "a.test", 50)
	s.KillAgent()
	line.Cut()
	must(t, s.StartAgent())
	told(t, s, "docker-unreachable", "docker")
	// What nobody could list is not gone.
	shows(t, s, "nginx is adopted", func(st report.Status) bool { return st.Nginx.PID == nginx })
	must(t, line.Join())
	shows(t, s, "a.test is live", func(st report.Status) bool { return len(st.Routes.LiveHosts()) == 1 && st.Nginx.Settled })
	end()
	sameNginx(t, s, nginx)
}
