package report

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

var threeAM = time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)

func idOf(n int) string { return fmt.Sprintf("%064d", n) }

func behind(n int) route.Server {
	return route.Server{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 17, 0, byte(n)}), 80), Container: idOf(n), Ref: fmt.Sprintf("shop:%d/web", n)}
}

func shop(servers ...route.Server) Status {
	pool := route.Pool{Servers: servers}
	if len(servers) == 0 {
		pool.Kept = "ECS"
	}
	return Status{At: threeAM, Routes: route.Table{Complete: true, Shape: route.Shape{Sites: []route.Site{
		{Host: "shop.test", Family: "shop", Locations: []route.Location{{Path: "/"}}},
	}}, Pools: route.Pools{{Host: "shop.test", Path: "/"}: pool}}}
}

// lines are entries as they are logged, with what all of them have cut away.
func lines(entries []Entry) []string {
	var all []string
	for _, e := range entries {
		line := e.Message
		if e.Warning {
			line = "warning: " + line
		}
		if e.Error {
			line = "error: " + line
		}
		for i := 0; i < len(e.Fields); i += 2 {
			line += fmt.Sprintf(" %v=%v", e.Fields[i], e.Fields[i+1])
		}
		all = append(all, strings.ReplaceAll(line, strings.Repeat("0", 60), ""))
	}
	return all
}

func TestChronicleOfRoutes(t *testing.T) {
	running := []tasks.Container{{ID: idOf(1), Name: "ecs-shop-1", Task: tasks.TaskRef{ARN: "arn:1"}}, {ID: idOf(2), Name: "ecs-shop-2", Task: tasks.TaskRef{ARN: "arn:2"}}}
	var c Chronicle
	for _, step := range []struct {
		name string
		now  Status
		runs []tasks.Container
		want []string
	}{
		{"nothing is known", Status{At: threeAM}, nil, nil},
		{"the first container", shop(behind(1)), running, []string{
			"route added event=route-added host=shop.test path=/ servers=1 container_name=ecs-shop-1 container=0001 task=arn:1 family=shop addr=172.17.0.1:80",
		}},
		{"nothing new", shop(behind(1)), running, nil},
		{"unknown is not none", Status{At: threeAM}, nil, nil},
		{"a second one", shop(behind(1), behind(2)), running, []string{
			"container routed event=server-added host=shop.test path=/ servers=2 container_name=ecs-shop-2 container=0002 task=arn:2 family=shop addr=172.17.0.2:80",
		}},
		{"the first goes, and is forgotten", shop(behind(2)), running[1:], []string{
			"container not routed any more event=server-removed host=shop.test path=/ servers=1 container_name=ecs-shop-1 container=0001 task=arn:1 family=shop addr=172.17.0.1:80",
			"service deployed event=service-deployed family=shop old=shop:1/web new=shop:2/web servers=1 took=0s",
		}},
		{"the last goes", shop(), nil, []string{
			`warning: route without a container event=route-vacant host=shop.test path=/ servers=0 container_name=ecs-shop-2 container=0002 task=arn:2 family=shop addr=172.17.0.2:80 kept=ECS`,
		}},
		{"one of the operator's", shop(route.Server{Addr: behind(3).Addr, Container: "static-1", Ref: "a.yaml:shop"}), nil, []string{
			"route added event=route-added host=shop.test path=/ servers=1 container_name=a.yaml:shop container=static-1 family=shop addr=172.17.0.3:80",
			"service deployed event=service-deployed family=shop old=shop:2/web new=a.yaml:shop servers=1 took=0s",
		}},
		{"the site is gone", Status{At: threeAM, Routes: route.Table{Complete: true}}, nil, []string{
			"route removed event=route-removed host=shop.test path=/",
		}},
		{"a port and a passed host", Status{At: threeAM, Routes: route.Table{
			Complete: true, Shape: route.Shape{
				Sites:   []route.Site{{Host: "tls.test", Passthrough: &route.StreamOptions{}}},
				Streams: []route.Stream{{Listen: route.Listen{Protocol: route.TCP, Port: 2222}}},
			}, Pools: route.Pools{
				{Host: "tcp:2222"}: {Servers: []route.Server{behind(2)}},

				route.Site{Host: "tls.test"}.PassthroughKey(): {Servers: []route.Server{behind(1)}},
			},
		}}, nil, []string{
			"route added event=route-added host=tcp:2222 servers=1 container_name=shop:2/web container=0002 family= addr=172.17.0.2:80",
			"route added event=route-added host=tls.test servers=1 container_name=shop:1/web container=0001 family= addr=172.17.0.1:80",
		}},
	} {
		entries, again := c.Changes(step.now, step.runs)
		if diff := cmp.Diff(step.want, lines(entries)); diff != "" || !again.IsZero() {
			t.Errorf("%s: look again at %v (-want +got):\n%s", step.name, again, diff)
		}
	}
}

func TestChronicleOfProblems(t *testing.T) {
	deaf := problem.Problem{Code: "container-not-listening", Severity: problem.Error, Subject: "container shop:1/web route shop.test/a", Container: "shop:1/web", Host: "shop.test", Text: "nothing answers", Hint: "listen", Since: threeAM}
	late := problem.Problem{Code: "job-late", Subject: "job report-1", Job: "report-1", Text: "late", Hint: "smaller", Since: threeAM.Add(time.Second)}
	runs := []tasks.Container{{ID: idOf(1), Name: "ecs-shop-1", Task: tasks.TaskRef{ARN: "arn:1", Family: "shop", Revision: "1", ContainerName: "web"}}}
	at := func(after time.Duration, ps ...problem.Problem) Status {
		return Status{At: threeAM.Add(after), Problems: ps}
	}
	var c Chronicle
	for _, step := range []struct {
		name  string
		now   Status
		want  []string
		again time.Duration
	}{
		{"too young", at(time.Second, deaf), nil, 3 * time.Second},
		{"gone before it was told", at(2 * time.Second), nil, 0},
		{"it stands", at(3*time.Second, deaf, late), []string{
			"error: problem event=container-not-listening problem=container-not-listening subject=container shop:1/web route shop.test/a text=nothing answers hint=listen container_name=ecs-shop-1 container=0001 task=arn:1 host=shop.test",
		}, 4 * time.Second},
		{"another, with other words for the first", at(4*time.Second, problem.Problem{Code: deaf.Code, Subject: deaf.Subject, Text: "now refused", Since: threeAM}, late), []string{
			"warning: problem event=job-late problem=job-late subject=job report-1 text=late hint=smaller job_id=report-1",
		}, 0},
		{"both are over", at(time.Minute), []string{
			"problem over event=problem-over problem=container-not-listening subject=container shop:1/web route shop.test/a after=1m0s container_name=ecs-shop-1 container=0001 task=arn:1 host=shop.test",
			"problem over event=problem-over problem=job-late subject=job report-1 after=59s job_id=report-1",
		}, 0},
		{"nothing", at(2 * time.Minute), nil, 0},
	} {
		entries, again := c.Changes(step.now, runs)
		if diff := cmp.Diff(step.want, lines(entries)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
		var want time.Time
		if step.again > 0 {
			want = threeAM.Add(step.again)
		}
		if !again.Equal(want) {
			t.Errorf("%s: look again at %v, want %v", step.name, again, want)
		}
	}
}

func TestFieldsOfAProblem(t *testing.T) {
	for name, row := range map[string]struct {
		p    problem.Problem
		want []any
	}{
		"nothing that has a field": {problem.Problem{Subject: "nginx"}, nil},
		"container":                {problem.Problem{Container: "web"}, []any{"container_name", "web"}},
		"route":                    {problem.Problem{Container: "web", Host: "shop.test"}, []any{"container_name", "web", "host", "shop.test"}},
		"site":                     {problem.Problem{Host: "shop.test"}, []any{"host", "shop.test"}},
		"address":                  {problem.Problem{Claim: "eipalloc-1"}, []any{"claim", "eipalloc-1"}},
		"job":                      {problem.Problem{Job: "report-1"}, []any{"job_id", "report-1"}},
		"file":                     {problem.Problem{File: "shop.crt"}, []any{"file", "shop.crt"}},
	} {
		if got := about(row.p, nil); !slices.Equal(got, row.want) {
			t.Errorf("%s: %q; want %q", name, got, row.want)
		}
	}
}
