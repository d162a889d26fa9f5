package report

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/traffic"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// busy is a status with a dozen hosts under traffic, some jobs and two problems, and the one of five seconds before.
func busy() (before, now Status) {
	now = healthy()
	now.Routes.Sites, now.Routes.Pools = nil, route.Pools{}
	now.Traffic = traffic.Report{Since: now.StartedAt, Hosts: []traffic.Host{{Host: traffic.Other, Counts: traffic.Counts{Requests: traffic.Classes{0, 0, 0, 212}, Bytes: 40_000, Last: noon.Add(-4 * time.Minute)}}}}
	for i, name := range []string{"api", "blog", "books", "chat", "files", "git", "mail", "shop", "status", "tickets", "wiki", "a-name-that-is-much-longer-than-all-of-the-others"} {
		host := name + ".example.com"
		now.Routes.Sites = append(now.Routes.Sites, site(host, true))
		if name != "books" {
			now.Routes.Pools[route.PoolKey{Host: host, Path: "/"}] = pool(fmt.Sprintf("10.0.0.10:%d", 32768+i))
		}
		n := uint64(12-i) * 1000
		c := traffic.Counts{Requests: traffic.Classes{0, n, n / 10, n / 100, n / 200}, Bytes: n * 20_000, Last: noon.Add(-time.Duration(i*i) * time.Second)}
		now.Traffic.Hosts = append(now.Traffic.Hosts, traffic.Host{Host: host, Counts: c})
	}
	ssh := route.Listen{Protocol: route.TCP, Port: 2222}
	now.Routes.Streams = []route.Stream{{Listen: ssh, Family: "git"}}
	now.Traffic.Streams = []traffic.Stream{{Listen: ssh.String(), Connections: 41, Received: 9000, Sent: 1 << 20, Last: noon.Add(-3 * time.Hour)}}
	now.Nginx.Quarantined = []nginx.Quarantine{{Host: "mail.example.com", Reason: "unknown directive"}}
	now.Problems = []problem.Problem{
		{Code: "site-quarantined", Severity: problem.Error, Subject: "host mail.example.com", Text: `nginx refuses its snippet: unknown directive "proxy_bufering"`, Hint: "correct the snippet; it is tried again when it changes", Since: noon.Add(-time.Minute)},
		{Code: "label-unknown", Subject: "container web-1 label nagaya.prot", Text: `the label "nagaya.prot" has no meaning to nagaya`, Hint: "the nearest label is nagaya.port", Since: noon.Add(-time.Hour)},
	}
	now.Gate.Decision.Reserve = 96
	now.Gate.Decision.Jobs = []gate.Entry{
		{Job: gate.Job{ID: "report-1", Name: "report"}, Phase: gate.Running, Expected: 12, Spent: 4.25, Reason: "running: it was admitted at 11:40"},
		{Job: gate.Job{ID: "thumbnails-1", Name: "thumbnails-of-the-whole-archive"}, Phase: gate.Waiting, Expected: 240, Reason: "waiting: 60.0 credits are missing; it is expected to start at 16:20"},
		{Job: gate.Job{ID: "old-1", Name: "old"}, Phase: gate.Done, Expected: 1, Spent: 1},
	}
	before = now
	before.At = noon.Add(-5 * time.Second)
	before.Traffic.Hosts = nil
	for i, h := range now.Traffic.Hosts {
		h.Requests[1] -= min(h.Requests[1], uint64(i*7))
		h.Requests[4] -= min(h.Requests[4], uint64(i%4/3))
		h.Bytes -= uint64(i * 70_000)
		before.Traffic.Hosts = append(before.Traffic.Hosts, h)
	}
	return before, now
}

func texts(rows []Row) string {
	var b strings.Builder
	for _, r := range rows {
		b.WriteString(r.Text + "\n")
	}
	return b.String()
}

func TestTopGoldens(t *testing.T) {
	before, now := busy()
	quiet := healthy()
	uncounted := healthy()
	uncounted.Traffic.Unavailable = "the access log is off; set nginx.access-log to a file"
	for _, row := range []struct {
		name          string
		before, s     Status
		width, height int
	}{
		{"top-80x24", before, now, 80, 24},
		{"top-120x50", before, now, 120, 50},
		{"top-quiet", quiet, quiet, 80, 24},
		{"top-uncounted", Status{}, uncounted, 100, 30},
		{"top-unbounded", Status{}, now, 0, 0},
		{"top-empty", Status{}, Status{}, 80, 24},
	} {
		t.Run(row.name, func(t *testing.T) {
			golden(t, row.name, texts(row.s.Top(row.before, row.width, row.height)))
		})
	}
}

// Whatever the size, no row is too long and there are not too many; what could steer a terminal is in none.
func TestTopFitsAnyTerminal(t *testing.T) {
	before, now := busy()
	hostile := "\x1b]0;owned\a\x1b[2J\u202e\u200bボ\xff\n"
	now.Problems[0].Text += hostile
	now.Problems[1].Hint = hostile + now.Problems[1].Hint
	now.Gate.Decision.Jobs[0].Name = hostile
	now.Gate.Decision.Reason += hostile
	now.Routes.Sites[0].Host = hostile
	now.Identity.ECS.Cluster = hostile
	now.Traffic.Unavailable = hostile
	for width := 0; width < 200; width += 1 + width/10 {
		for height := 0; height < 60; height += 1 + height/10 {
			rows := now.Top(before, width, height)
			if height > 0 && len(rows) > height {
				t.Fatalf("%d rows at %dx%d", len(rows), width, height)
			}
			for _, r := range rows {
				if n := utf8.RuneCountInString(r.Text); width > 0 && n > width {
					t.Fatalf("%d columns at %dx%d: %q", n, width, height, r.Text)
				}
				if strings.ContainsFunc(r.Text, func(r rune) bool { return !unicode.IsPrint(r) }) {
					t.Fatalf("a row that is not clean: %q", r.Text)
				}
			}
		}
	}
	for _, r := range Lines("nobody answers\n  hint: "+hostile, 20) {
		if strings.ContainsFunc(r.Text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("a line that is not clean: %q", r.Text)
		}
	}
}

func TestTopRates(t *testing.T) {
	counted := func(since, at time.Time, ok, failed, bytes uint64) Status {
		s := healthy()
		s.At = at
		s.Traffic = traffic.Report{Since: since, Hosts: []traffic.Host{{Host: "a.example.com", Counts: traffic.Counts{Requests: traffic.Classes{1: ok, 4: failed}, Bytes: bytes}}}}
		return s
	}
	begun := noon.Add(-time.Hour)
	was := counted(begun, noon, 1000, 10, 1<<20)
	later := noon.Add(10 * time.Second)
	for _, row := range []struct {
		name      string
		before, s Status
		want      string // of the first host, from REQ/S to REQUESTS
	}{
		{"after ten seconds", was, counted(begun, later, 1995, 15, 11<<20), "100 0.5 1024 2010"},
		{"few", was, counted(begun, later, 1000, 10, 1<<20+3), "0.0 0.0 <0.1 1010"},
		{"the first look", Status{}, was, "- - - 1010"},
		{"the same look twice", was, was, "- - - 1010"},
		{"the agent has restarted", was, counted(noon, later, 7, 0, 99), "- - - 7"},
		{"the host went and came back", was, counted(begun, later, 7, 0, 99), "- - - 7"},
		{"the clock was put back", was, counted(begun, noon.Add(-time.Minute), 1995, 15, 11<<20), "- - - 2010"},
	} {
		for _, r := range row.s.Top(row.before, 0, 0) {
			if cells := strings.Fields(r.Text); len(cells) == 7 && cells[0] == "a.example.com" {
				if got := strings.Join(cells[2:6], " "); got != row.want {
					t.Errorf("%s: %q, want %q", row.name, got, row.want)
				}
				row.want = ""
			}
		}
		if row.want != "" {
			t.Errorf("%s: the host is not shown", row.name)
		}
	}
}
