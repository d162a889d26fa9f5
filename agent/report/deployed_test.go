package report

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// A deployment is told once, when nothing of what ran before it is left.
func TestDeployed(t *testing.T) {
	type step struct {
		after time.Duration
		runs  []int // containers
		want  string
	}
	for name, steps := range map[string][]step{
		"the new one beside the old one": {
			{0, []int{1}, ""},
			{time.Hour, []int{1, 2}, ""},
			{40 * time.Second, []int{2}, "old=shop:1/web new=shop:2/web servers=1 took=40s"},
			{time.Second, []int{2}, ""},
		},
		"the old one first": {
			{0, []int{1}, ""},
			{time.Hour, nil, ""},
			{5 * time.Second, []int{2}, "old=shop:1/web new=shop:2/web servers=1 took=5s"},
		},
		"one after the other": {
			{0, []int{1, 2}, ""},
			{time.Hour, []int{1, 2, 3}, ""},
			{time.Minute, []int{2, 3}, ""},
			{time.Minute, []int{2, 3, 4}, ""},
			{time.Minute, []int{3, 4}, "old=shop:1/web, shop:2/web new=shop:3/web, shop:4/web servers=2 took=3m0s"},
		},
		"two deployments": {
			{0, []int{1}, ""},
			{time.Hour, []int{2}, "old=shop:1/web new=shop:2/web servers=1 took=0s"},
			{time.Minute, []int{3}, "old=shop:2/web new=shop:3/web servers=1 took=1m0s"},
		},
		"one more, and later one less": {
			{0, []int{1}, ""},
			{time.Hour, []int{1, 2}, ""},
			{time.Hour, []int{2}, ""},
		},
		"one less": {
			{0, []int{1, 2}, ""},
			{time.Hour, []int{1}, ""},
		},
		"none at first": {
			{0, nil, ""},
			{time.Second, []int{1}, ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var c Chronicle
			at := threeAM
			for i, s := range steps {
				at = at.Add(s.after)
				var servers []route.Server
				for _, n := range s.runs {
					servers = append(servers, behind(n))
				}
				now := shop(servers...)
				now.At = at
				entries, _ := c.Changes(now, nil)
				entries = slices.DeleteFunc(entries, func(e Entry) bool { return e.Fields[1] != event.ServiceDeployed })
				got := strings.Join(lines(entries), "\n")
				if want := s.want; want != "" {
					if want = "service deployed event=service-deployed family=shop " + want; got != want {
						t.Errorf("step %d: %q, want %q", i, got, want)
					}
				} else if got != "" {
					t.Errorf("step %d: %q", i, got)
				}
			}
		})
	}
}

// Where the containers have no names that differ, their ids do.
func TestNamesOfWhatWasReplaced(t *testing.T) {
	old, fresh := names(map[string]string{"aaaabbbbccccdddd": "shop-web-1"}, map[string]string{"1111222233334444": "shop-web-1"})
	if old != "shop-web-1 (aaaabbbbcccc)" || fresh != "shop-web-1 (111122223333)" {
		t.Errorf("%q, %q", old, fresh)
	}
}
