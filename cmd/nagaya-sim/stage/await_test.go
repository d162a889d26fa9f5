package stage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

// patience is for what should take a second or two, on a busy machine.
const patience = 30 * time.Second

func until(t *testing.T, what string, try func() error) {
	t.Helper()
	must(t, Until(t.Context(), patience, what, try))
}

// shows waits until the status is as it should be.
func shows(t *testing.T, s *Stage, what string, is func(report.Status) bool) (st report.Status) {
	t.Helper()
	until(t, what, func() (err error) {
		if st, err = s.Board(t.Context()); err != nil {
			return err
		}
		if !is(st) {
			return fmt.Errorf("problems %+v, nginx %+v, address %+v", st.Problems, st.Nginx, st.Address)
		}
		return nil
	})
	return st
}

// told waits for a problem and makes sure that it says what to do.
func told(t *testing.T, s *Stage, code, subject string) (p problem.Problem) {
	t.Helper()
	shows(t, s, "the problem "+code+" of "+subject, func(st report.Status) bool {
		i := slices.IndexFunc(st.Problems, func(p problem.Problem) bool {
			return p.Code == code && strings.Contains(p.Subject, subject)
		})
		if i >= 0 {
			p = st.Problems[i]
		}
		return i >= 0
	})
	if p.Text == "" || p.Hint == "" {
		t.Errorf("problem %s of %s has no text or no hint: %+v", p.Code, p.Subject, p)
	}
	return p
}

// settled waits until nginx has confirmed the generation that is on the disk. Until
// then workers of the one before may still take connections.
func settled(t *testing.T, s *Stage) report.Status {
	t.Helper()
	return shows(t, s, "nginx serves the newest generation", func(st report.Status) bool {
		on, err := os.Readlink(s.Path("state", "nginx", "current"))
		return err == nil && st.Nginx.Settled && st.Nginx.Generation == filepath.Base(on)
	})
}

// quiet waits until no problem of the code is left.
func quiet(t *testing.T, s *Stage, code string) {
	t.Helper()
	shows(t, s, "no problem "+code, func(st report.Status) bool {
		return !slices.ContainsFunc(st.Problems, func(p problem.Problem) bool { return p.Code == code })
	})
}

// held waits until this host holds the address, in the agent's eyes and in the cloud's.
func held(t *testing.T, s *Stage) {
	t.Helper()
	shows(t, s, "the address is held", func(st report.Status) bool { return st.Address.Held() })
	table, err := s.Addresses(t.Context())
	must(t, err)
	for ip, id := range table {
		if id != s.InstanceID {
			t.Errorf("address %s is held by %q", ip, id)
		}
	}
}

// calls counts the requests of an action that the cloud has seen.
func calls(t *testing.T, s *Stage, service, action string) int {
	t.Helper()
	var c struct {
		Counts map[string]map[string]int `json:"counts"`
	}
	must(t, s.Control(t.Context(), "GET", "/calls", nil, &c))
	return c.Counts[service][action]
}

// masters are the nginx master processes that serve from the stage's directory. A
// worker has its master's title for a moment after it was forked.
func masters(t *testing.T, s *Stage) (pids []int) {
	t.Helper()
	all := processes(t, s)
	for pid, line := range all {
		if up := parent(pid); up != 0 && strings.HasPrefix(line, masterTitle) && !strings.HasPrefix(all[up], masterTitle) {
			pids = append(pids, pid)
		}
	}
	return pids
}

const masterTitle = "nginx: master process"

// parent is the number of a process's parent, or 0 when the process has gone.
func parent(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "\nPPid:")
	line, _, _ := strings.Cut(rest, "\n")
	n, _ := strconv.Atoi(strings.TrimSpace(line))
	return n
}

// processes are those that name the stage's directory, with their command lines.
func processes(t *testing.T, s *Stage) map[int]string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	found := map[int]string{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		line := strings.ReplaceAll(string(b), "\x00", " ")
		if err != nil || !strings.Contains(line, s.Dir+"/") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		must(t, err)
		found[pid] = line
	}
	return found
}

// sameNginx fails the test unless the one nginx of the stage is the process pid.
func sameNginx(t *testing.T, s *Stage, pid int) {
	t.Helper()
	if got := masters(t, s); len(got) != 1 || got[0] != pid {
		t.Errorf("nginx masters %v, want only %d", got, pid)
	}
}

// unbroken starts a load; the returned function ends it and fails the test if
// any request failed.
func unbroken(t *testing.T, s *Stage, host string, perSecond int) (*Load, func() Result) {
	t.Helper()
	l, err := s.StartLoad(t.Context(), host, perSecond)
	must(t, err)
	ended := false
	end := func() Result {
		t.Helper()
		ended = true
		r := l.Stop()
		if r.Failed > 0 || r.Requests == 0 {
			t.Errorf("%d of %d requests to %s failed, the first with %q", r.Failed, r.Requests, host, r.First)
		}
		t.Logf("load on %s: %d requests, %d failed, answered by %v", host, r.Requests, r.Failed, r.By)
		return r
	}
	t.Cleanup(func() {
		if !ended {
			l.Stop()
		}
	})
	return l, end
}

// household starts an agent with a cloud, the service alpha on a.test and the
// address held, and returns the stage and nginx's process number.
func household(t *testing.T, o Options) (*Stage, int) {
	t.Helper()
	o.Hosts = append([]string{"a.test", "b.test"}, o.Hosts...)
	o.Config += claimConfig
	s := newStage(t, o)
	must(t, s.StartCloud(t.Context()))
	must(t, s.StartAgent())
	run(t, s, service("alpha", "1", "a.test"))
	answers(t, s, "a.test", "alpha 1")
	held(t, s)
	settled(t, s)
	return s, s.NginxPID()
}

func run(t *testing.T, s *Stage, c Container) {
	t.Helper()
	_, err := s.Run(t.Context(), c)
	must(t, err)
}

// restarted kills the agent and starts the next one.
func restarted(t *testing.T, s *Stage) {
	t.Helper()
	s.KillAgent()
	must(t, s.StartAgent())
}

var errNotYet = errors.New("not yet")

// logged waits until the agent has logged a text after the mark.
func logged(t *testing.T, s *Stage, mark int, text string) {
	t.Helper()
	until(t, fmt.Sprintf("the agent logs %q", text), func() error {
		if !strings.Contains(s.AgentLog()[mark:], text) {
			return errNotYet
		}
		return nil
	})
}

// servers counts what is behind the first path of the first host.
func servers(st report.Status) int {
	site := st.Routes.Sites[0]
	return len(st.Routes.Pools[site.PoolKey(site.Locations[0])].Servers)
}
