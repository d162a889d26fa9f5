package agent

import (
	"context"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/doctest"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/gate/loop"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/agent/traffic"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// credited is what the gate decides on a t3.micro that has run for an hour.
func credited(t *testing.T) (r credit.Report, d gate.Decision) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := loop.New(loop.Options{CreditFile: filepath.Join(dir, "credit.json"), GateFile: filepath.Join(dir, "gate.json"), Settings: gate.Settings{Reserve: 10}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		reports, decisions := make(chan credit.Report, 10000), make(chan gate.Decision, 10000)
		go func() {
			ended <- l.Run(ctx, func(r credit.Report) { reports <- r }, func(d gate.Decision) { decisions <- d })
		}()
		l.Identity.Put(identity.Identity{})
		begun := time.Now()
		for busy := 0.0; time.Since(begun) < time.Hour; busy += 5.0 / 60 * 0.04 {
			// CloudWatch has a point every five minutes.
			point := credit.Measure{At: begun.Add(time.Since(begun).Truncate(5 * time.Minute))}
			point.Value = 130 + point.At.Sub(begun).Hours()*(12-2.4)
			l.Readings.Put(credit.Reading{
				At: time.Now(), InstanceID: "i-0a1b2c3d4e5f60718", Type: "t3.micro", Mode: credit.Standard, ModeKnown: true,
				CPU:   credit.CPU{Known: true, Boot: "b", Meter: "m", Online: 2, Busy: busy},
				Cloud: credit.Cloud{Balance: credit.Metric{Known: true, Measure: point}},
			})
			synctest.Wait()
			time.Sleep(5 * time.Second)
			synctest.Wait()
			for len(reports) > 0 {
				r = <-reports
			}
			for len(decisions) > 0 {
				d = <-decisions
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return r, d
}

// sampleStatus is the status of an instance with three hosts, and a container of which
// the application listens on 127.0.0.1.
func sampleStatus(t *testing.T) report.Status {
	t.Helper()
	r, d := credited(t)
	now := d.At
	var containers []tasks.Container
	for i, host := range []string{"git.example.com", "shop.example.com", "www.example.com"} {
		containers = append(containers, webTask(host[:3], "1", host[:3], byte(2+i), map[string]string{"nagaya.host": host}))
	}
	broken := webTask("broken", "1", "broken", 7, map[string]string{"nagaya.host": "broken.test"})
	table := built(route.Table{}, nil, containers...)
	for i := range table.Sites {
		table.Sites[i].TLS = true
	}
	reach := route.Reach{}
	for _, p := range built(route.Table{}, route.Reach{}, broken).Probes {
		reach[p] = route.Reached{State: route.Unreachable, Detail: "connection refused"}
	}
	table.Problems = built(route.Table{}, reach, broken).Problems
	s := report.Status{
		Version: "0.1.0", At: now, StartedAt: now.Add(-70 * time.Minute), Routes: table, Credit: r, Gate: gate.Report{Decision: d},
		Identity: identity.Identity{
			Instance: identity.Instance{Known: true, ID: "i-0a1b2c3d4e5f60718", Type: "t3.micro", Zone: "ap-northeast-1a"},
			ECS:      identity.ECS{Known: true, Cluster: "default"},
		},
		Address: address.NewReport([]address.ClaimReport{{ClaimStatus: address.ClaimStatus{
			Claim: "tag:Name=nagaya", Policy: address.Takeover, Known: true, Since: now.Add(-70 * time.Minute), NextCheck: now.Add(2 * time.Minute),
			Address: address.Address{PublicIP: netip.MustParseAddr("203.0.113.10")}, Holder: address.Holder{Kind: address.Self},
			Decision: address.Decision{Action: address.Keep, Reason: "this instance holds it"},
		}, Verified: true}}),
		Tasks: report.Tasks{Complete: true, At: now.Add(-13 * time.Second), Running: 6, ECSAgent: true},
		Nginx: nginx.Status{Running: true, Version: "1.22.1", Generation: "57d6ef69609b5cfb", LoadedAt: now.Add(-50 * time.Minute), Reloads: 6, Settled: true},
	}
	s.Problems = s.Standing(nil, now.Add(-42*time.Second))
	return s
}

// The status that the README shows is what the program prints.
func TestDocsShowTheStatus(t *testing.T) {
	s := sampleStatus(t)
	for _, file := range []string{"README.md", "README.ja.md"} {
		doctest.Printed(t, file, "nagaya status", s.Text())
	}
	doctest.Printed(t, "docs/address.md", "nagaya address", s.Address.Text())
}

// The screen that docs/page.md shows is what the program draws.
func TestDocsShowTop(t *testing.T) {
	now := sampleStatus(t)
	now.Gate.Decision.Jobs = []gate.Entry{{Job: gate.Job{Name: "nightly-report"}, Phase: gate.Running, Expected: 12, Spent: 4.25, Reason: "running: it was admitted at 00:41"}}
	now.Traffic.Since = now.StartedAt
	before := now
	before.At = now.At.Add(-5 * time.Second)
	for i, host := range []string{"git.example.com", "shop.example.com", "www.example.com"} {
		n := uint64(i+1) * 9000
		c := traffic.Counts{Requests: traffic.Classes{1: n, 4: n / 1000}, Bytes: n * 14_000, Last: now.At.Add(-time.Second)}
		now.Traffic.Hosts = append(now.Traffic.Hosts, traffic.Host{Host: host, Counts: c})
		c.Requests[1] -= uint64(i*i)*31 + 4
		c.Bytes -= uint64(i*i)*434_000 + 56_000
		before.Traffic.Hosts = append(before.Traffic.Hosts, traffic.Host{Host: host, Counts: c})
	}
	var screen strings.Builder
	for _, r := range now.Top(before, 112, 40) {
		screen.WriteString(r.Text + "\n")
	}
	doctest.Printed(t, "docs/page.md", "nagaya top", screen.String())
}
