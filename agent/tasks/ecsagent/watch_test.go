package ecsagent

import (
	"bytes"
	stdcmp "cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nagaya-ecs/nagaya/agent/ecsapi"
	"github.com/nagaya-ecs/nagaya/agent/proc"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

func recorded(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// decode reads a whole answer of the agent.
func decode(body []byte) (tasks.Agent, error) {
	return ask(context.Background(), ecsapi.Client{URL: "http://agent.test", Transport: agentAt(func(time.Duration) (int, []byte, error) { return http.StatusOK, body, nil }).transport()})
}

func TestDecode(t *testing.T) {
	said, err := decode(recorded(t, "tasks-mixed.json"))
	if err != nil || said.Tasks < 4 {
		t.Fatal(said.Tasks, err)
	}
	got := said.Containers
	const arn = "arn:aws:ecs:ap-northeast-1:123456789012:task/mini/"
	digits := func(d string, n int) string { return string(bytes.Repeat([]byte(d), n)) }
	want := map[string]tasks.AgentContainer{
		"1": {
			Task:  tasks.TaskRef{ARN: arn + digits("1", 32), Family: "wiki", Revision: "7", ContainerName: "web"},
			Ports: []tasks.Port{{Container: 80, Protocol: "tcp"}}, // listed twice by the agent
			Addrs: []netip.Addr{netip.MustParseAddr("172.17.0.3")},
		},
		"2": {
			Task:  tasks.TaskRef{ARN: arn + digits("2", 32), Family: "wiki", Revision: "8", ContainerName: "web"},
			Ports: []tasks.Port{{Container: 80, Protocol: "tcp"}}, // not bound yet
		},
	}
	for id, want := range want {
		if d := cmp.Diff(want, got[digits(id, 64)], cmpopts.EquateComparable(netip.Addr{})); d != "" {
			t.Errorf("container %s (-want +got):\n%s", id, d)
		}
	}
	if c := got[digits("3", 64)]; !c.Stopping {
		t.Errorf("the task that goes away: %+v", c)
	}
	if c := got[digits("4", 64)]; !c.TaskNetwork || c.Addrs[0] != netip.MustParseAddr("10.0.12.34") {
		t.Errorf("awsvpc container = %+v", c)
	}
}

func TestDecodeRefusesWhatIsNotAListOfTasks(t *testing.T) {
	for _, body := range []string{"", "[]", "{}", `{"Tasks":null}`, `{"Tasks":7}`, string(recorded(t, "task_404.json")), "<html>"} {
		if got, err := decode([]byte(body)); err == nil {
			t.Errorf("decode(%q) = %v, want an error", body, got)
		}
	}
}

func TestAddressesThatNoTaskHas(t *testing.T) {
	own, err := proc.Addrs()
	if err != nil || len(own) == 0 {
		t.Fatal(own, err)
	}
	named := []string{
		"127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "169.254.169.254", "::ffff:169.254.169.254", "169.254.170.2",
		"fe80::1", "fe80::1%eth0", "fd00:ec2::254", "224.0.0.1", "ff02::1", "255.255.255.255", "", "localhost",
	}
	for _, a := range own {
		named = append(named, a.String())
	}
	for _, text := range append(named, "10.0.12.34") {
		body := fmt.Sprintf(`{"Tasks":[{"Containers":[{"DockerId":"a","Networks":[{"NetworkMode":"awsvpc","IPv4Addresses":[%q]},{"IPv6Addresses":[%q]}]}]}]}`, text, text)
		said, err := decode([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if got := said.Containers["a"].Addrs; (len(got) > 0) != (text == "10.0.12.34") {
			t.Errorf("%q: addresses %v", text, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(recorded(f, "tasks.json"))
	f.Add(recorded(f, "tasks-mixed.json"))
	f.Add(recorded(f, "task_404.json"))
	f.Fuzz(func(t *testing.T, b []byte) {
		said, err := decode(b)
		if err != nil {
			return
		}
		for _, c := range said.Containers {
			if c.Task != c.Task.Checked() {
				t.Errorf("hostile text got through: %+v", c)
			}
			if len(c.Ports) > tasks.MaxPorts || len(c.Addrs) > maxAddrs {
				t.Errorf("bounds exceeded: %d ports, %d addresses", len(c.Ports), len(c.Addrs))
			}
		}
	})
}

// agentAt is a pretended agent: it answers a request as its time demands.
type agentAt func(since time.Duration) (status int, body []byte, err error)

func (a agentAt) transport() http.RoundTripper {
	start := time.Now()
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.URL.Path != "/v1/tasks" {
			return nil, errors.New("asked for " + r.URL.Path)
		}
		status, body, err := a(time.Since(start))
		if err != nil {
			return nil, err
		}
		return &http.Response{StatusCode: status, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// seen is a value that Watch put, as far as the tests look at it.
type seen struct {
	Complete bool
	Tasks    int
	Problem  string
}

func watched(t *testing.T, a agentAt, d time.Duration) (values []seen) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		err := Watch(ctx, Options{URL: "http://agent.test", Transport: a.transport()}, func(v tasks.Agent) {
			s := seen{Complete: v.Complete, Tasks: v.Tasks}
			if len(v.Problems) > 0 {
				s.Problem = v.Problems[0].Code
			}
			values = append(values, s)
		})
		if err != nil {
			t.Errorf("Watch = %v, want nil", err)
		}
	})
	return values
}

func TestWatch(t *testing.T) {
	refused := errors.New("connection refused")
	one := recorded(t, "tasks.json")
	tests := []struct {
		name  string
		agent agentAt
		want  []seen
		watch time.Duration // zero is ten minutes
	}{
		{
			name:  "no agent: said once, no problem",
			agent: func(time.Duration) (int, []byte, error) { return 0, nil, refused },
			want:  []seen{{}},
		},
		{
			name:  "the same answer is put once",
			agent: func(time.Duration) (int, []byte, error) { return 200, one, nil },
			want:  []seen{{Complete: true, Tasks: 1}},
		},
		{
			name: "an agent that goes keeps its tasks, and returns",
			agent: func(since time.Duration) (int, []byte, error) {
				if since > time.Minute && since < 3*time.Minute {
					return 0, nil, refused
				}
				return 200, one, nil
			},
			want: []seen{{Complete: true, Tasks: 1}, {Tasks: 1}, {Complete: true, Tasks: 1}},
		},
		{
			name:  "an error with a JSON body is no answer",
			agent: func(time.Duration) (int, []byte, error) { return 404, one, nil },
			want:  []seen{{Problem: "ecs-agent-unreadable"}},
		},
		{
			name:  "an endless answer",
			agent: func(time.Duration) (int, []byte, error) { return 200, bytes.Repeat([]byte(" "), 9<<20), nil },
			want:  []seen{{Problem: "ecs-agent-unreadable"}},
			watch: time.Second,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, watched(t, tt.agent, stdcmp.Or(tt.watch, 10*time.Minute))); d != "" {
				t.Errorf("values (-want +got):\n%s", d)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	var asked int
	watched(t, func(time.Duration) (int, []byte, error) {
		asked++
		return 0, nil, errors.New("connection refused")
	}, 10*time.Minute)
	// 10 s, 20 s, then 30 s less jitter: 20 questions without jitter, 24 with all of it.
	if asked < 15 || asked > 26 {
		t.Errorf("asked %d times in ten minutes of silence, want about one in 30 s", asked)
	}
}

// A container that the agent may have started is asked about at once, and a few times more.
func TestAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []time.Duration
		start := time.Now()
		agent := agentAt(func(since time.Duration) (int, []byte, error) {
			asked = append(asked, since)
			return 200, recorded(t, "tasks.json"), nil
		})
		again := make(chan []string, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		go func() {
			time.Sleep(20 * time.Second)
			again <- []string{"a"}
		}()
		if err := Watch(ctx, Options{URL: "http://agent.test", Again: again, Transport: agent.transport()}, func(tasks.Agent) {}); err != nil {
			t.Error(err)
		}
		late := func(from, to time.Duration) (n int) {
			for _, at := range asked {
				if at >= from && at < to {
					n++
				}
			}
			return n
		}
		if n := late(20*time.Second, 20*time.Second+200*time.Millisecond); n != 1 {
			t.Errorf("asked %d times at once: %v", n, asked)
		}
		if n := late(20*time.Second, 24*time.Second); n < 4 || n > 6 {
			t.Errorf("asked %d times in four seconds: %v after %v", n, asked, start)
		}
		if n := late(40*time.Second, time.Minute); n > 2 {
			t.Errorf("asked %d times later: %v", n, asked)
		}
	})
}
