package stage

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

const claimConfig = "address: {claim: 'tag:Name=nagaya'}\n"

// siteFile is the text of the site's file in nginx's current generation.
func siteFile(s *Stage, host string) (string, error) {
	b, err := os.ReadFile(s.Path("state", "nginx", "current", "sites", host+".conf"))
	return string(b), err
}

func siteHas(t *testing.T, s *Stage, host, text string) {
	t.Helper()
	until(t, fmt.Sprintf("the site %s has %q", host, text), func() error {
		got, err := siteFile(s, host)
		if err == nil && !strings.Contains(got, text) {
			err = errNotYet
		}
		return err
	})
	settled(t, s)
}

func TestConfigurationChanges(t *testing.T) {
	s, nginx := household(t, Options{})
	_, end := unbroken(t, s, "a.test", 100)
	agent := s.AgentPID()
	began := time.Now()
	must(t, s.WriteConfig(claimConfig+"routes: {timeout: 7s}\n"))
	siteHas(t, s, "a.test", "proxy_read_timeout 7s;")
	t.Logf("in force %s after the file was written", time.Since(began).Round(time.Millisecond))

	must(t, s.WriteConfig(claimConfig+"routes: {timeout: soon}\n"))
	if p := told(t, s, "config-invalid", "configuration"); !strings.Contains(p.Text, "routes.timeout") || !strings.Contains(p.Text, "nagaya.yaml:") {
		t.Errorf("the problem names neither the setting nor the line: %q", p.Text)
	}
	if text, err := siteFile(s, "a.test"); err != nil || !strings.Contains(text, "proxy_read_timeout 7s;") {
		t.Errorf("%v; the configuration from before is not in force any more", err)
	}
	// An address that cannot be one must not end the agent either.
	text, err := os.ReadFile(s.ConfigFile())
	must(t, err)
	must(t, os.WriteFile(s.ConfigFile(), bytes.Replace(text, []byte(s.dockerH), []byte("tcp://"), 1), 0o644))
	shows(t, s, "the mistake is another one", func(st report.Status) bool {
		return slices.ContainsFunc(st.Problems, func(p problem.Problem) bool {
			return p.Code == "config-invalid" && strings.Contains(p.Text, "docker.host")
		})
	})
	must(t, s.WriteConfig(claimConfig+"routes: {timeout: 9s}\n"))
	siteHas(t, s, "a.test", "proxy_read_timeout 9s;")
	quiet(t, s, "config-invalid")
	held(t, s)
	end()
	sameNginx(t, s, nginx)
	if s.AgentPID() != agent || s.agent.ended() {
		t.Error("the agent did not survive")
	}
	if n := calls(t, s, "ec2", "AssociateAddress"); n != 1 {
		t.Errorf("the address was associated %d times, want once", n)
	}
}

func TestJobOutlivesAChangeOfTheConfiguration(t *testing.T) {
	gate := quickGate(t)
	s, _ := household(t, Options{Config: gate})
	must(t, s.SetBalance(t.Context(), 288))
	p := job(t, s, "night", "1", fmt.Sprintf("while [ ! -e %s ]; do sleep 0.05; done", s.Path("leave")))
	stands(t, s, "night", "running")
	must(t, s.WriteConfig(claimConfig+gate+"routes: {timeout: 7s}\n"))
	siteHas(t, s, "a.test", "proxy_read_timeout 7s;")
	stands(t, s, "night", "running")
	must(t, os.WriteFile(s.Path("leave"), nil, 0o644))
	endsWell(t, p)
}

func TestStateMoves(t *testing.T) {
	s, nginx := household(t, Options{})
	// The same file with another directory for what is kept.
	text, err := os.ReadFile(s.ConfigFile())
	must(t, err)
	moved := strings.Replace(string(text), s.Path("state"), s.Path("elsewhere"), 1)
	must(t, os.WriteFile(s.ConfigFile(), []byte(moved), 0o644))
	st := shows(t, s, "another nginx serves from there", func(st report.Status) bool {
		return st.Nginx.Settled && st.Nginx.PID != nginx && len(st.Problems) == 0
	})
	answers(t, s, "a.test", "alpha 1")
	sameNginx(t, s, st.Nginx.PID)
}

func TestInstanceTags(t *testing.T) {
	s := newStage(t, Options{Hosts: []string{"a.test"}, Config: "routes: {grace: 1m}\n"})
	must(t, s.StartCloud(t.Context()))
	of := "/instances/" + s.InstanceID
	must(t, s.Control(t.Context(), "PUT", of+"/metadata", map[string]any{"tags": true}, nil))
	must(t, s.Control(t.Context(), "PUT", of+"/tags", map[string]string{
		"Name": "nagaya", "nagaya:address-claim": "tag:Name=nagaya", "nagaya:routes-timeout": "11s", "nagaya:routes-grace": "2m",
		"nagaya:log-levle": "debug",
	}, nil))
	run(t, s, service("alpha", "1", "a.test"))
	must(t, s.StartAgent())
	siteHas(t, s, "a.test", "proxy_read_timeout 11s;")
	held(t, s)
	if p := told(t, s, "tag-invalid", "instance tags"); !strings.Contains(p.Text, "nagaya:log-levle") {
		t.Errorf("the problem does not name the tag: %q", p.Text)
	}
}

// exitOf waits for a process and returns its exit code.
func exitOf(t *testing.T, p *process) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatalf("it does not end; its log is %s", p.log)
	}
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		return exit.ExitCode()
	}
	must(t, p.err)
	return 0
}

func TestFaultTwoAgentsOnOneHost(t *testing.T) {
	for _, row := range []struct{ name, flag, dir, want string }{
		{"all the same", "--log-level", "info", "another agent works in this state directory"},
		{"another run-dir", "--run-dir", "other-run", "another agent works in this state directory"},
		{"another state-dir", "--state-dir", "other-state", "another agent answers"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, nginx := household(t, Options{Config: "gate: {ecs: true}\n"})
			shows(t, s, "ECS was told", func(st report.Status) bool {
				for _, o := range st.Gate.Published.Outlets {
					if o.Name == "ecs-attribute" {
						return o.Known
					}
				}
				return false
			})
			puts := calls(t, s, "ecs", "PutAttributes")
			_, end := unbroken(t, s, "a.test", 100)
			value := row.dir
			if strings.HasSuffix(row.flag, "-dir") {
				value = s.Path(row.dir)
			}
			other, err := begin(s.Path("log", "other.log"), s.agentEnv(), filepath.Join(s.Bin, "nagaya"),
				"agent", "--config", s.ConfigFile(), row.flag, value, "--metrics-listen", "")
			must(t, err)
			t.Cleanup(other.kill)
			code := exitOf(t, other)
			text, err := os.ReadFile(other.log)
			must(t, err)
			if code != 1 || !strings.Contains(string(text), row.want) {
				t.Errorf("the second agent ended with %d, want 1 and %q in\n%s", code, row.want, text)
			}
			end()
			sameNginx(t, s, nginx)
			held(t, s)
			if n := calls(t, s, "ec2", "AssociateAddress"); n != 1 {
				t.Errorf("the address was associated %d times, want once", n)
			}
			if n := calls(t, s, "ecs", "PutAttributes"); n != puts {
				t.Errorf("ECS was told %d times more", n-puts)
			}
			if b, err := os.ReadFile(s.Path("run", "gate.json")); err != nil || strings.Contains(string(b), "not running") {
				t.Errorf("%v; the gate's file says %s", err, b)
			}
		})
	}
}

func listening(s *Stage) bool {
	c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", fmt.Sprint(s.HTTPSPort)))
	if err == nil {
		c.Close()
	}
	return err == nil
}

func TestStopTakesNginxAlong(t *testing.T) {
	s, _ := household(t, Options{})
	p := s.agent
	began := time.Now()
	must(t, s.StopAgent())
	t.Logf("ended %s after SIGTERM", time.Since(began).Round(time.Millisecond))
	if code := exitOf(t, p); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if left := processes(t, s); len(left) > 1 || listening(s) { // one is the cloud
		t.Errorf("left running: %v", left)
	}
	must(t, s.StartAgent())
	answers(t, s, "a.test", "alpha 1")
}

func TestStopLeavesNginx(t *testing.T) {
	s, nginx := household(t, Options{Config: "  stop-on-exit: false\n"})
	_, end := unbroken(t, s, "a.test", 50)
	must(t, s.StopAgent())
	sameNginx(t, s, nginx)
	must(t, s.StartAgent())
	converged(t, s, nginx)
	// An agent that is to take it along does, whoever started it.
	must(t, s.WriteConfig(claimConfig))
	logged(t, s, 0, "configuration taken")
	shows(t, s, "the configuration is in force", func(st report.Status) bool { return st.Nginx.Settled })
	end()
	sameNginx(t, s, nginx)
	must(t, s.StopAgent())
	if left := masters(t, s); len(left) > 0 || listening(s) {
		t.Errorf("left running: %v", left)
	}
}
