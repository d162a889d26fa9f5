package tasks

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

var equalValues = cmp.Options{cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestMerge(t *testing.T) {
	web := Container{ID: "aa", Name: "ecs-web", State: Running, Network: Bridge, Ports: []Port{{Container: 80, Protocol: "tcp", Host: 32768}}}
	vpcPause := Container{ID: "pp", Name: "pause", State: Running, Network: None, Task: TaskRef{ContainerName: "~internal~ecs~pause"}}
	vpc := Container{ID: "bb", State: Running, Network: None, NetworkOf: "pp", Ports: []Port{{Container: 8080, Protocol: "tcp"}}}
	connectPause := Container{
		ID: "qq", State: Running, Network: Bridge, Addrs: []netip.Addr{addr("172.17.0.9")},
		Ports: []Port{{Container: 80, Protocol: "tcp", Host: 40000}}, Task: TaskRef{ContainerName: "~internal~ecs~pause-web"},
	}
	connected := Container{ID: "cc", State: Running, Network: None, NetworkOf: "qq", Ports: []Port{{Container: 80, Protocol: "tcp"}}}

	tests := []struct {
		name  string
		list  []Container
		agent Agent
		want  []Container
	}{
		{name: "agent silent changes nothing", list: []Container{web}, want: []Container{web}},
		{
			name: "agent names the task",
			list: []Container{web},
			agent: Agent{Complete: true, Containers: map[string]AgentContainer{"aa": {
				// HostPort 0: the agent fell back to the task definition.
				Task: TaskRef{ARN: "arn:t", Family: "web", Revision: "3", ContainerName: "nginx"}, Ports: []Port{{Container: 80, Protocol: "tcp"}}, Addrs: []netip.Addr{addr("172.17.0.3")},
			}}},
			want: []Container{with(web, func(c *Container) {
				c.Task = TaskRef{ARN: "arn:t", Family: "web", Revision: "3", ContainerName: "nginx"}
			})},
		},
		{
			name:  "what the agent said last still holds when it went silent",
			list:  []Container{web},
			agent: Agent{Containers: map[string]AgentContainer{"aa": {Stopping: true}}},
			want:  []Container{with(web, func(c *Container) { c.Stopping = true })},
		},
		{
			name:  "the agent's containers that Docker does not have do not exist",
			agent: Agent{Complete: true, Containers: map[string]AgentContainer{"zz": {}}},
		},
		{
			name: "awsvpc: addresses from the agent, nothing published, pause hidden",
			list: []Container{vpc, vpcPause},
			agent: Agent{Complete: true, Containers: map[string]AgentContainer{"bb": {
				TaskNetwork: true, Addrs: []netip.Addr{addr("fd00::1"), addr("10.0.12.34")},
				Ports: []Port{{Container: 8080, Protocol: "tcp", Host: 8080}},
			}}},
			want: []Container{with(vpc, func(c *Container) {
				c.Network = AWSVPC
				c.Addrs = []netip.Addr{addr("10.0.12.34"), addr("fd00::1")}
			})},
		},
		{
			name:  "no awsvpc where Docker has given the container a network",
			list:  []Container{web},
			agent: Agent{Complete: true, Containers: map[string]AgentContainer{"aa": {TaskNetwork: true, Addrs: []netip.Addr{addr("10.0.12.34")}}}},
			want:  []Container{web},
		},
		{name: "awsvpc before the agent answers has no address", list: []Container{vpc, vpcPause}, want: []Container{vpc}},
		{
			name: "the pause container's network is the task's",
			list: []Container{connected, connectPause},
			want: []Container{with(connected, func(c *Container) {
				c.Network = Bridge
				c.Addrs = []netip.Addr{addr("172.17.0.9")}
				c.Ports = []Port{{Container: 80, Protocol: "tcp", Host: 40000}}
			})},
		},
		{
			name: "containers that name each other end somewhere",
			list: []Container{{ID: "x", NetworkOf: "y"}, {ID: "y", NetworkOf: "x"}},
			want: []Container{{ID: "x", NetworkOf: "y"}, {ID: "y", NetworkOf: "x"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := slices.Clone(tt.list)
			tt.agent.Heard = true
			got := Merge(Containers{At: time.Unix(9, 0), Complete: true, List: tt.list}, tt.agent, Containers{Complete: true})
			want := Snapshot{At: time.Unix(9, 0), Complete: true, Heard: true, ECSAgent: tt.agent.Complete, Containers: tt.want}
			if d := cmp.Diff(want, got, equalValues); d != "" {
				t.Errorf("Merge (-want +got):\n%s", d)
			}
			if d := cmp.Diff(before, tt.list, equalValues); d != "" {
				t.Errorf("Merge changed its input:\n%s", d)
			}
		})
	}
}

func with(c Container, change func(*Container)) Container {
	change(&c)
	return c
}

func TestMergeUnknown(t *testing.T) {
	p := problem.Problem{Code: "docker-unreachable", Severity: problem.Error}
	q := problem.Problem{Code: "a", Severity: problem.Error}
	got := Merge(Containers{Problems: []problem.Problem{p}}, Agent{Complete: true, Problems: []problem.Problem{q}}, Containers{})
	if got.Complete {
		t.Error("Merge made a complete snapshot of an incomplete list")
	}
	if d := cmp.Diff([]problem.Problem{q, p}, got.Problems); d != "" {
		t.Errorf("problems (-want +got):\n%s", d)
	}
}

// Labels of ECS count for a container that the ECS agent lists, or listed before: whoever
// starts a container can set them.
func TestLabelsOfECS(t *testing.T) {
	task := TaskRef{ARN: "arn:aws:ecs:x", Family: "shop", Revision: "7", ContainerName: "web"}
	docker := Containers{Complete: true, List: []Container{{ID: "aa", Name: "ecs-shop-7", State: Running, Task: task}}}
	listed := map[string]AgentContainer{"aa": {Task: TaskRef{Family: "shop", Revision: "7"}, Stopping: true}}
	for _, row := range []struct {
		name     string
		agent    Agent
		task     TaskRef
		unlisted bool
		code     string
	}{
		{name: "not asked yet", agent: Agent{}},
		{name: "never answered", agent: Agent{Heard: true}, code: "ecs-agent-unknown"},
		{name: "answers, and does not list it", agent: Agent{Heard: true, Complete: true, Answered: true}, unlisted: true},
		{name: "silent, and did not list it", agent: Agent{Heard: true, Answered: true}, unlisted: true},
		{name: "lists it", agent: Agent{Heard: true, Complete: true, Answered: true, Containers: listed}, task: task},
		{name: "listed it before", agent: Agent{Heard: true, Answered: true, Containers: listed}, task: task},
		{name: "the operator trusts labels", agent: Agent{Heard: true, TrustLabels: true}, task: task},
		{name: "the agent says another family", agent: Agent{Heard: true, Answered: true, Containers: map[string]AgentContainer{"aa": {Task: TaskRef{Family: "blog"}}}}, task: TaskRef{ARN: task.ARN, Family: "blog", Revision: "7", ContainerName: "web"}},
	} {
		s := Merge(docker, row.agent)
		code := ""
		if len(s.Problems) > 0 {
			code = s.Problems[0].Code
		}
		if c := s.Containers[0]; c.Task != row.task || c.Unlisted != row.unlisted || code != row.code || s.Complete != row.agent.Heard {
			t.Errorf("%s: task %+v, unlisted %v, problems %v, complete %v", row.name, c.Task, c.Unlisted, s.Problems, s.Complete)
		}
	}
}

// What the agent said of a container is known as long as Docker has that.
func TestKnown(t *testing.T) {
	docker := func(complete bool, ids ...string) Containers {
		c := Containers{Complete: complete}
		for _, id := range ids {
			c.List = append(c.List, Container{ID: id})
		}
		return c
	}
	says := func(family string, ids ...string) Agent {
		a := Agent{Complete: true, Containers: map[string]AgentContainer{}}
		for _, id := range ids {
			a.Containers[id] = AgentContainer{Task: TaskRef{Family: family}}
		}
		return a
	}
	k := Known{}
	for _, step := range []struct {
		name     string
		docker   Containers
		agent    Agent
		want     string
		answered bool
	}{
		{name: "nobody says anything", docker: docker(false), want: "map[]"},
		{name: "no agent", docker: docker(true, "a"), want: "map[]"},
		{name: "an agent", docker: docker(true, "a", "b"), agent: says("shop", "a", "gone"), want: "map[a:shop]", answered: true},
		{name: "one that has lost its state", docker: docker(true, "a", "b"), agent: says("blog", "b"), want: "map[a:shop b:blog]", answered: true},
		{name: "a silent one", docker: docker(true, "a", "b"), want: "map[a:shop b:blog]", answered: true},
		{name: "Docker is not heard", docker: docker(false), want: "map[a:shop b:blog]", answered: true},
		{name: "one that is removed", docker: docker(true, "b"), want: "map[b:blog]", answered: true},
	} {
		k = k.Next(step.docker, step.agent)
		families := map[string]string{}
		for id, c := range k.Containers {
			families[id] = c.Task.Family
		}
		if got := fmt.Sprint(families); got != step.want || k.Answered != step.answered {
			t.Errorf("%s: %s, answered %v", step.name, got, k.Answered)
		}
	}
}

func TestNormalPorts(t *testing.T) {
	in := []Port{
		{Container: 443, Protocol: "TCP", HostIP: addr("::"), Host: 10443},
		{Container: 80, Protocol: "tcp"},
		{Container: 443, Protocol: "tcp", HostIP: addr("0.0.0.0"), Host: 10443},
		{Container: 443, Protocol: "tcp"},
		{Container: 53, Protocol: "udp", HostIP: addr("127.0.0.1"), Host: 53},
		// Dynamic ports that differ between the families.
		{Container: 81, Protocol: "tcp", HostIP: addr("::"), Host: 32780},
		{Container: 81, Protocol: "tcp", HostIP: addr("0.0.0.0"), Host: 32781},
	}
	want := []Port{
		{Container: 53, Protocol: "udp", HostIP: addr("127.0.0.1"), Host: 53},
		{Container: 80, Protocol: "tcp"},
		{Container: 81, Protocol: "tcp", HostIP: addr("::"), Host: 32780},
		{Container: 81, Protocol: "tcp", Host: 32781},
		{Container: 443, Protocol: "tcp", Host: 10443},
	}
	if d := cmp.Diff(want, NormalPorts(in), equalValues); d != "" {
		t.Errorf("NormalPorts (-want +got):\n%s", d)
	}
}

func TestIsBatch(t *testing.T) {
	label := func(v string) map[string]string { return map[string]string{"nagaya.batch": v} }
	tests := []struct {
		name   string
		labels map[string]string
		env    string
		want   bool
	}{
		{name: "plain"},
		{name: "label", labels: label("true"), want: true},
		{name: "AWS Batch", env: "job-1", want: true},
		{name: "label overrides AWS Batch", labels: label("false"), env: "job-1"},
		{name: "none, in other words", labels: label(" No ")},
		{name: "in doubt it is one", labels: label("nightly"), want: true},
		{name: "in doubt it is one, for AWS Batch too", labels: label("maybe"), env: "job-1", want: true},
		{name: "docker run --label nagaya.batch", labels: label(""), want: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := Container{Labels: tt.labels, Env: map[string]string{"AWS_BATCH_JOB_ID": tt.env}}
			if got := c.IsBatch(); got != tt.want {
				t.Errorf("IsBatch = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestKeep(t *testing.T) {
	labels := map[string]string{"nagaya.host": "a", "secret": "s", "nagaya.long": strings.Repeat("x", MaxWordLen+1), LabelComposeService: "web"}
	foreign := func(name string) bool { return name == "VIRTUAL_HOST" }
	kept, env, dropped := Keep(labels, []string{"PASSWORD=x", "VIRTUAL_HOST=a=b", "AWS_BATCH_JOB_ID=1", "NOVALUE", "AWS_SECRET_ACCESS_KEY=k"}, foreign)
	if d := cmp.Diff(map[string]string{"nagaya.host": "a", LabelComposeService: "web"}, kept); d != "" {
		t.Errorf("kept (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"nagaya.long"}, dropped); d != "" {
		t.Errorf("dropped (-want +got):\n%s", d)
	}
	if d := cmp.Diff(map[string]string{"VIRTUAL_HOST": "a=b", "AWS_BATCH_JOB_ID": "1"}, env); d != "" {
		t.Errorf("env (-want +got):\n%s", d)
	}
}

func TestECSRefTakesOnlyTheAgentsForm(t *testing.T) {
	got := ECSRef(map[string]string{
		labelTaskARN: "arn:aws:ecs:eu-west-1:1:task/c/1\n", labelFamily: "web; }", labelRevision: "7", labelContainerName: "~internal~ecs~pause",
	})
	want := TaskRef{Revision: "7", ContainerName: "~internal~ecs~pause"}
	if got != want {
		t.Errorf("ECSRef = %+v, want %+v", got, want)
	}
}

func TestMergeWithFiles(t *testing.T) {
	docker := Containers{Complete: true, List: []Container{{ID: "zz"}, {ID: "aa"}}}
	files := Containers{Complete: true, List: []Container{{ID: "static-1", Origin: File, File: "x.yaml"}}, Problems: []problem.Problem{{Code: "c"}}}
	got := Merge(docker, Agent{Heard: true}, files)
	var ids []string
	for _, c := range got.Containers {
		ids = append(ids, c.ID)
	}
	if d := cmp.Diff([]string{"aa", "static-1", "zz"}, ids); d != "" || !got.Complete || len(got.Problems) != 1 {
		t.Errorf("complete %v, problems %v, ids (-want +got):\n%s", got.Complete, got.Problems, d)
	}
	if Merge(docker, Agent{Heard: true}, Containers{}).Complete {
		t.Error("complete although the files were not read")
	}
	failed := Containers{Problems: files.Problems, Silent: []string{FileIDs}}
	other := Containers{Complete: true, List: []Container{{ID: "bb"}}}
	if got := Merge(docker, Agent{Heard: true}, failed, other); !got.Complete || len(got.Containers) != 3 || !slices.Equal(got.Silent, []string{FileIDs}) {
		t.Errorf("of three sources, one of which failed from the start: %+v", got)
	}
	if got := Merge(docker, Agent{Heard: true}); !got.Complete || len(got.Containers) != 2 {
		t.Errorf("of Docker alone: %+v", got)
	}
}
