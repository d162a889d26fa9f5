package docker

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/moby/moby/api/types/container"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

const inspectWeb = `{
 "Id":"aa11","Name":"/web","Created":"2026-11-22T00:00:00.5Z","RestartCount":2,
 "State":{"Status":"running","StartedAt":"2026-11-22T00:00:01Z","FinishedAt":"0001-01-01T00:00:00Z","Health":{"Status":"starting"}},
 "Config":{"Image":"web:1","Env":["VIRTUAL_HOST=a.example.com","PASSWORD=hunter2"],"StopSignal":"SIGRTMIN+3",
  "ExposedPorts":{"80/tcp":{},"9000/tcp":{},"7/sctp":{}},
  "Labels":{"nagaya.host":"a.example.com","other":"x","com.amazonaws.ecs.task-definition-family":"web","com.amazonaws.ecs.container-name":"nginx"}},
 "HostConfig":{"NetworkMode":"default"},
 "NetworkSettings":{
  "Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"32768"},{"HostIp":"::","HostPort":"32768"}],"9000/tcp":null},
  "Networks":{"zz":{"NetworkID":"n9","IPAddress":"10.1.0.2"},"bridge":{"IPAddress":"172.17.0.2","GlobalIPv6Address":"fd00::2"},"off":{"IPAddress":""}}}}`

func TestFromInspect(t *testing.T) {
	var r container.InspectResponse
	if err := json.Unmarshal([]byte(inspectWeb), &r); err != nil {
		t.Fatal(err)
	}
	got := fromInspect(r, virtualHost)
	want := detail{
		stopSignal: 37,
		networks:   []string{"", "", "n9"},
		container: tasks.Container{
			ID: "aa11", Name: "web", Image: "web:1",
			Labels: map[string]string{"nagaya.host": "a.example.com"},
			Env:    map[string]string{"VIRTUAL_HOST": "a.example.com"},
			State:  tasks.Running, Health: tasks.Starting,
			CreatedAt: time.Date(2026, 11, 22, 0, 0, 0, 5e8, time.UTC),
			StartedAt: time.Date(2026, 11, 22, 0, 0, 1, 0, time.UTC),
			Restarts:  2,
			Network:   tasks.Bridge,
			Ports:     []tasks.Port{{Container: 80, Protocol: "tcp", Host: 32768}, {Container: 9000, Protocol: "tcp"}},
			Addrs:     []netip.Addr{netip.MustParseAddr("172.17.0.2"), netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00::2")},
			Networks: []tasks.Network{
				{Name: "bridge", Addrs: []netip.Addr{netip.MustParseAddr("172.17.0.2"), netip.MustParseAddr("fd00::2")}},
				{Name: "off"},
				{Name: "zz", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.2")}},
			},
			Task: tasks.TaskRef{Family: "web", ContainerName: "nginx"},
		},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(detail{}), cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Errorf("fromInspect (-want +got):\n%s", d)
	}
}

// What is left of too many or too long labels routes nothing: the password could be missing.
func TestAContainerWithTooManyLabelsIsNotRouted(t *testing.T) {
	many := map[string]string{"nagaya.host": "a.example.com"}
	for i := range tasks.MaxWords {
		many[fmt.Sprintf("nagaya.r%d.path", i)] = "/"
	}
	for name, labels := range map[string]map[string]string{
		"many": many, "long": {"nagaya.host": "a.example.com", "nagaya.allow": strings.Repeat("10.0.0.0/8,", 1000) + "10.0.0.0/8"},
	} {
		d := fromInspect(container.InspectResponse{ID: "a", Config: &container.Config{Labels: labels, Env: []string{"VIRTUAL_HOST=b.example.com"}}}, func(name string) bool { return name == "VIRTUAL_HOST" })
		if c := d.container; len(c.Labels) != 0 || len(c.Env) != 0 || len(d.problems) != 1 || d.problems[0].Severity != problem.Error {
			t.Errorf("%s: labels %v, variables %v, problems %v", name, c.Labels, c.Env, d.problems)
		}
	}
}

func TestNetworkMode(t *testing.T) {
	tests := []struct {
		in   string
		mode tasks.NetworkMode
		of   string
	}{
		{"", tasks.Bridge, ""},
		{"default", tasks.Bridge, ""},
		{"mynet", tasks.Bridge, ""},
		{"host", tasks.Host, ""},
		{"none", tasks.None, ""},
		{"container:abc", tasks.None, "abc"},
	}
	for _, tt := range tests {
		if mode, of := networkMode(tt.in); mode != tt.mode || of != tt.of {
			t.Errorf("networkMode(%q) = %q, %q; want %q, %q", tt.in, mode, of, tt.mode, tt.of)
		}
	}
}

func TestSignalNumber(t *testing.T) {
	tests := []struct {
		in   string
		want int
	}{
		{"15", 15},
		{"SIGTERM", 15},
		{"term", 15},
		{"SIGQUIT", 3},
		{"SIGRTMIN+3", 37},
		{"RTMAX-14", 50},
		{"RTMIN", 34},
		{"RTMIN+99", 0},
		{"", 0},
		{"65", 0},
		{"-1", 0},
		{"SIGNONSENSE", 0},
	}
	for _, tt := range tests {
		if got := signalNumber(tt.in); got != tt.want {
			t.Errorf("signalNumber(%q) = %d, want %d", tt.in, got, tt.want)
		}
	}
}

func FuzzFromInspect(f *testing.F) {
	f.Add([]byte(inspectWeb))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"State":{"Status":"x"},"NetworkSettings":{"Networks":{"a":null}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r container.InspectResponse
		if json.Unmarshal(b, &r) != nil {
			return
		}
		c := fromInspect(r, virtualHost).container
		if container.ValidateContainerState(container.ContainerState(c.State)) != nil {
			t.Errorf("state %q is not Docker's", c.State)
		}
		if len(c.Ports) > tasks.MaxPorts || len(c.Labels) > tasks.MaxWords || len(c.Env) > tasks.MaxWords {
			t.Error("bounds exceeded")
		}
		for _, p := range c.Ports {
			if p.Container == 0 {
				t.Error("a port without a number")
			}
		}
	})
}

// virtualHost is another program's vocabulary of one word.
func virtualHost(name string) bool { return name == "VIRTUAL_HOST" }
