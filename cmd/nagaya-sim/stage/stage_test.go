package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/report"
)

// newStage sets a stage that is torn down with the test, and shows the agent's
// log if the test failed.
func newStage(t *testing.T, o Options) *Stage {
	t.Helper()
	o.Bin = bin
	s, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the agent's log:\n%s", s.AgentLog())
			nginx, _ := os.ReadFile(s.Path("log", "error.log")) // there may be none yet
			t.Logf("nginx's log:\n%s", nginx)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// service is a container that serves a host the way ECS starts one.
func service(name, version, host string) Container {
	return Container{
		Name: name + "-" + version, Args: []string{"-name", name + " " + version},
		Ports: map[string]string{"8080/tcp": "0"},
		Labels: map[string]string{
			"nagaya.host": host, "com.amazonaws.ecs.task-definition-family": name,
			"com.amazonaws.ecs.task-definition-version": version, "com.amazonaws.ecs.container-name": "web",
		},
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// status is what 'nagaya status --json' prints.
func (s *Stage) status(ctx context.Context) (report.Status, error) {
	var st report.Status
	out, code, err := s.CLI(ctx, "status", "--json")
	if err != nil {
		return st, err
	}
	if code != 0 {
		return st, fmt.Errorf("exit code %d: %s", code, out)
	}
	return st, json.Unmarshal([]byte(out), &st)
}

// answers waits until the host is served by the given household.
func answers(t *testing.T, s *Stage, host, household string) {
	t.Helper()
	must(t, Until(t.Context(), 10*time.Second, host+" is served by "+household, func() error {
		code, body, err := s.Get(t.Context(), host)
		if err != nil {
			return err
		}
		if code != 200 || len(body) < len(household) || body[:len(household)] != household {
			return fmt.Errorf("status %d, body %q", code, body)
		}
		return nil
	}))
}

func TestMainJob(t *testing.T) {
	s := newStage(t, Options{Hosts: []string{"a.test"}, Config: "address: {claim: 'tag:Name=nagaya'}\n"})
	must(t, s.StartCloud(t.Context()))
	must(t, s.StartAgent())
	_, err := s.Run(t.Context(), service("alpha", "1", "a.test"))
	must(t, err)
	answers(t, s, "a.test", "alpha 1")
	must(t, Until(t.Context(), 10*time.Second, "the address is held", func() error {
		st, err := s.status(t.Context())
		if err == nil && !st.Address.Held() {
			err = errors.New("held by " + string(st.Address.Holder.Kind))
		}
		return err
	}))
	out, code, err := s.CLI(t.Context(), "status")
	t.Logf("%v %d\n%s", err, code, out)
}
