package stage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

// converged checks how everything must stand after the agent was killed: one
// nginx, the one from before, and the address taken once in all.
func converged(t *testing.T, s *Stage, nginx int) {
	t.Helper()
	st := shows(t, s, "nginx is as wanted", func(st report.Status) bool { return st.Nginx.Settled && st.Nginx.Running })
	if severe, _ := st.Severe(); severe > 0 {
		t.Errorf("problems %+v", st.Problems)
	}
	if nginx != 0 {
		sameNginx(t, s, nginx)
	} else if got := masters(t, s); len(got) != 1 || got[0] != st.Nginx.PID {
		t.Errorf("nginx masters %v, want only %d", got, st.Nginx.PID)
	}
	held(t, s)
	if n := calls(t, s, "ec2", "AssociateAddress"); n != 1 {
		t.Errorf("the address was associated %d times, want once", n)
	}
}

func TestKilledInItsFirstSecond(t *testing.T) {
	s := newStage(t, Options{Hosts: []string{"a.test"}, Config: "address: {claim: 'tag:Name=nagaya'}\n"})
	must(t, s.StartCloud(t.Context()))
	run(t, s, service("alpha", "1", "a.test"))
	must(t, s.StartAgent())
	for _, text := range []string{"agent starts", "docker engine answers", "address decision"} {
		mark := len(s.AgentLog())
		restarted(t, s)
		logged(t, s, mark, text)
	}
	mark := len(s.AgentLog())
	restarted(t, s)
	until(t, "nginx was started, or is adopted from one who was killed at that", func() error {
		if log := s.AgentLog()[mark:]; !strings.Contains(log, "nginx started") && !strings.Contains(log, "running nginx adopted") {
			return errNotYet
		}
		return nil
	})
	restarted(t, s)
	answers(t, s, "a.test", "alpha 1")
	converged(t, s, 0)
}

func TestKilledAgainAndAgain(t *testing.T) {
	s, nginx := household(t, Options{})
	_, end := unbroken(t, s, "a.test", 50)
	for _, text := range []string{"", "agent starts", "running nginx adopted", "docker engine answers", "certificates read", "address decision"} {
		mark := len(s.AgentLog())
		restarted(t, s)
		logged(t, s, mark, text)
	}
	restarted(t, s)
	converged(t, s, nginx)
	end()
}

func TestKilledAfterTheClaim(t *testing.T) {
	s := newStage(t, Options{Hosts: []string{"a.test"}, Config: "address: {claim: 'tag:Name=nagaya'}\n"})
	must(t, s.StartCloud(t.Context()))
	must(t, s.StartAgent())
	until(t, "the address is associated", func() error {
		if calls(t, s, "ec2", "AssociateAddress") == 0 {
			return errNotYet
		}
		return nil
	})
	restarted(t, s)
	run(t, s, service("alpha", "1", "a.test"))
	answers(t, s, "a.test", "alpha 1")
	converged(t, s, 0)
}

func TestKilledWhileContainersStart(t *testing.T) {
	s, nginx := household(t, Options{})
	_, end := unbroken(t, s, "a.test", 50)
	slow := service("beta", "1", "b.test")
	slow.Args = append(slow.Args, "-delay", "1s")
	run(t, s, slow)
	shows(t, s, "beta is awaited", func(st report.Status) bool { return len(st.Routes.Waiting) > 0 })
	restarted(t, s)
	answers(t, s, "b.test", "beta 1")
	// And one that starts while there is no agent at all.
	s.KillAgent()
	run(t, s, service("alpha", "2", "a.test"))
	must(t, s.StartAgent())
	answers(t, s, "a.test", "alpha 2")
	converged(t, s, nginx)
	end()
}

func TestKilledDuringAReplacement(t *testing.T) {
	s, nginx := household(t, Options{})
	load, end := unbroken(t, s, "a.test", 100)
	next := service("alpha", "2", "a.test")
	next.Args = append(next.Args, "-delay", "500ms")
	run(t, s, next)
	restarted(t, s)
	until(t, "alpha 2 is in", func() error {
		if load.Seen("alpha 2") == 0 {
			return errNotYet
		}
		return nil
	})
	settled(t, s)
	// The old one is told to go while nobody watches: nginx alone must cope.
	s.KillAgent()
	must(t, s.Stop(t.Context(), "alpha-1", 5))
	must(t, s.Remove(t.Context(), "alpha-1"))
	must(t, s.StartAgent())
	shows(t, s, "only alpha 2 is behind a.test", func(st report.Status) bool {
		return len(st.Routes.Sites) == 1 && servers(st) == 1 && st.Nginx.Settled
	})
	// Once more, killed while the old one lingers.
	run(t, s, service("alpha", "3", "a.test"))
	until(t, "alpha 3 is in", func() error {
		if load.Seen("alpha 3") == 0 {
			return errNotYet
		}
		return nil
	})
	settled(t, s)
	stopped := make(chan error, 1)
	go func(ctx context.Context) { stopped <- s.Stop(ctx, "alpha-2", 5) }(t.Context())
	restarted(t, s)
	must(t, <-stopped)
	shows(t, s, "only alpha 3 is behind a.test", func(st report.Status) bool {
		return len(st.Routes.Sites) == 1 && servers(st) == 1 && st.Nginx.Settled
	})
	converged(t, s, nginx)
	end()
}

// quickGate makes the gate follow the balance within seconds, on a machine that
// has nothing to do: how busy this one is must not decide what a job may spend.
func quickGate(t *testing.T) string {
	t.Helper()
	proc := t.TempDir()
	must(t, os.WriteFile(filepath.Join(proc, "stat"), []byte("cpu  1000 0 1000 9000000 0 0 0 0 0 0\ncpu0 500 0 500 4500000\ncpu1 500 0 500 4500000\n"), 0o644))
	return "credit: {every: 1s, cloudwatch: 1s, proc-dir: " + proc + "}\ngate: {dwell: 1s}\n"
}

// job starts 'nagaya gate run' of a shell command in the background.
func job(t *testing.T, s *Stage, name, need, script string) *process {
	t.Helper()
	p, err := begin(s.Path("log", name+".log"), append(s.agentEnv(), "NAGAYA_CONFIG="+s.ConfigFile()), filepath.Join(s.Bin, "nagaya"),
		"gate", "run", "--name", name, "--need", need, "--", "/bin/sh", "-c", script)
	must(t, err)
	t.Cleanup(p.kill)
	return p
}

// stands waits until the job of that name is in the phase.
func stands(t *testing.T, s *Stage, name string, phase gate.Phase) gate.Entry {
	t.Helper()
	var e gate.Entry
	shows(t, s, fmt.Sprintf("job %s is %s", name, phase), func(st report.Status) bool {
		i := slices.IndexFunc(st.Gate.Decision.Jobs, func(e gate.Entry) bool { return e.Name == name && e.Phase == phase })
		if i >= 0 {
			e = st.Gate.Decision.Jobs[i]
		}
		return i >= 0
	})
	return e
}

func endsWell(t *testing.T, p *process) {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatal("the job does not end")
	}
	if p.err != nil {
		b, _ := os.ReadFile(p.log)
		t.Errorf("the job ended with %v:\n%s", p.err, b)
	}
}

func TestKilledWhileJobsWaitAndRun(t *testing.T) {
	s, nginx := household(t, Options{Config: quickGate(t)})
	leave, went := s.Path("leave"), s.Path("went")
	// More than half of the largest balance spares, and less than a full one.
	p := job(t, s, "night", "100", fmt.Sprintf("echo once >>%s; while [ ! -e %s ]; do sleep 0.05; done", went, leave))
	shows(t, s, "the credits are known", func(st report.Status) bool { return st.Gate.Decision.Known })
	waits := stands(t, s, "night", gate.Waiting)

	restarted(t, s)
	if again := stands(t, s, "night", gate.Waiting); !again.Since.Equal(waits.Since) {
		t.Errorf("its place in the queue is from %s, was from %s", again.Since, waits.Since)
	}
	must(t, s.SetBalance(t.Context(), 288))
	ran := stands(t, s, "night", gate.Running)

	restarted(t, s)
	// Known from what was kept: the job itself speaks only every half minute.
	if again := stands(t, s, "night", gate.Running); !again.Heard.Equal(ran.Heard) {
		t.Errorf("heard at %s, was heard at %s", again.Heard, ran.Heard)
	}
	if p.ended() {
		t.Fatal("the job did not outlive the agent")
	}
	must(t, os.WriteFile(leave, nil, 0o644))
	endsWell(t, p)
	stands(t, s, "night", gate.Done)
	b, err := os.ReadFile(went)
	must(t, err)
	if n := strings.Count(string(b), "once"); n != 1 {
		t.Errorf("the command was run %d times", n)
	}
	converged(t, s, nginx)
}
