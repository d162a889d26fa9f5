package route

import (
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

func TestForesee(t *testing.T) {
	made := func(c *tasks.Container) {
		c.State, c.Health, c.StartedAt, c.Ports, c.Addrs = tasks.Created, tasks.NoCheck, time.Time{}, nil, nil
	}
	for _, row := range []struct {
		name string
		list []tasks.Container
		want string // "" where nobody is on his way
		next time.Duration
	}{
		{"nobody", nil, "", 0},
		{"one that has served for long", []tasks.Container{web("c1")}, "", 0},
		{"one that was made", []tasks.Container{web("c1", age(time.Second), made)}, "a.example.com/ http 198.18.0.0:80\n", 9 * time.Second},
		{
			"one that was made, beside one that serves",
			[]tasks.Container{web("c0"), web("c1", age(time.Second), made)},
			"a.example.com/ http 10.0.0.5:32768 198.18.0.1:80\n", 9 * time.Second,
		},
		{
			"one that was made for another port",
			[]tasks.Container{web("c1", labels("nagaya.host", "a.example.com", "nagaya.port", "8443"), age(0), made)},
			"a.example.com/ https 198.18.0.0:8443\n", 10 * time.Second,
		},
		{"one that was made long ago", []tasks.Container{web("c1", age(time.Minute), made)}, "", 0},
		{"one that starts", []tasks.Container{web("c1", age(time.Second), healthIs(tasks.Starting))}, "a.example.com/ http 10.0.0.5:32768\n", 9 * time.Second},
		{"one that has started for long", []tasks.Container{web("c1", age(time.Minute), healthIs(tasks.Starting))}, "", 0},
		{"one whose probe is due", []tasks.Container{web("c1", age(time.Second), healthIs(tasks.NoCheck))}, "a.example.com/ http 10.0.0.5:32768\n", 9 * time.Second},
		{"one that is ill", []tasks.Container{web("c1", age(time.Second), healthIs(tasks.Unhealthy))}, "", 0},
		{"one that goes", []tasks.Container{web("c1", age(time.Second), healthIs(tasks.Starting), stopping)}, "", 0},
		{"one without a route", []tasks.Container{web("c1", labels(), age(time.Second), made)}, "", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			in := input(row.list...)
			got, ok := Foresee(in)
			if ok != (row.want != "") {
				t.Fatalf("ok is %v, and the table\n%s", ok, lines(got))
			}
			if !ok {
				return
			}
			if l := lines(got); l != row.want {
				t.Errorf("foresees\n%swant\n%s", l, row.want)
			}
			if d := got.Next.Sub(noon); d != row.next {
				t.Errorf("it holds for %v, want %v", d, row.next)
			}
			if in.Snapshot.Containers[0].State != row.list[0].State {
				t.Error("the snapshot was changed")
			}
		})
	}
}
