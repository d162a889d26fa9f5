package report

import (
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/nginx"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

func TestMain(m *testing.M) {
	time.Local = time.UTC // the text shows local times
	os.Exit(m.Run())
}

var (
	noon    = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	elastic = netip.MustParseAddr("203.0.113.10")
)

func site(host string, tls bool) route.Site {
	return route.Site{Host: host, Family: "web", TLS: tls, Plain: route.Serve, Locations: []route.Location{{Path: "/", Scheme: route.HTTP}}}
}

func pool(servers ...string) route.Pool {
	p := route.Pool{Servers: []route.Server{}}
	for _, s := range servers {
		p.Servers = append(p.Servers, route.Server{Addr: netip.MustParseAddrPort(s), Weight: 1, Container: "c", Ref: "web:3/app"})
	}
	return p
}

// healthy is a status in which all is well.
func healthy() Status {
	return Status{
		Version: "1.2.3", PID: 4711, StartedAt: noon.Add(-50 * time.Hour), At: noon,
		Config: Config{File: "/etc/nagaya/nagaya.yaml", LoadedAt: noon.Add(-50 * time.Hour)},
		Identity: identity.Identity{
			Host:     identity.Host{Name: "ip-10-0-0-10", LocalAddr: netip.MustParseAddr("10.0.0.10"), CPUs: 2},
			Instance: identity.Instance{Known: true, ID: "i-0a1b2c3d4e5f60718", Type: "t3.small", Region: "eu-west-1", Zone: "eu-west-1a"},
			ECS:      identity.ECS{Known: true, Cluster: "default"},
		},
		Address: address.Report{ClaimStatus: address.ClaimStatus{
			Claim: "tag:Name=nagaya", Policy: address.Takeover, Known: true, Since: noon.Add(-26 * time.Hour), CheckedAt: noon.Add(-time.Minute), Moves: 1,
			Address: address.Address{AllocationID: "eipalloc-0123456789abcdef0", PublicIP: elastic},
			Holder:  address.Holder{Kind: address.Self, InstanceID: "i-0a1b2c3d4e5f60718", State: "running"},
		}},
		Tasks: Tasks{At: noon.Add(-3 * time.Second), Complete: true, Running: 5, Batches: 1, ECSAgent: true},
		Routes: route.Table{Complete: true, Shape: route.Shape{Sites: []route.Site{site("a.example.com", true), site("b.example.com", false)}}, Pools: route.Pools{
			{Host: "a.example.com", Path: "/"}: pool("10.0.0.10:32768", "10.0.0.10:32769"), {Host: "b.example.com", Path: "/"}: pool("10.0.0.10:32770"),
		}},
		Certs: certs.Inventory{Complete: true, Pairs: []certs.Pair{{Name: "a", DNSNames: []string{"a.example.com"}, NotAfter: noon.Add(60 * 24 * time.Hour)}}},
		Nginx: nginx.Status{Running: true, PID: 4720, Version: "1.22.1", Generation: "0123456789abcdef", Wanted: "0123456789abcdef", Settled: true, Reloads: 7, LoadedAt: noon.Add(-2 * time.Hour)},
		Credit: credit.Report{
			At: noon, Known: true, Type: "t3.small", Burstable: true, VCPUs: 2, Mode: credit.Standard, ModeKnown: true,
			Balance: 312.44, ErrorBar: 1.2, Max: 576, EarnPerHour: 24, SpentLastHour: credit.Spent{Services: 6.1, Batch: 2}, AnchorAt: noon.Add(-7 * time.Minute),
		},
		Gate: gate.Report{Decision: gate.Decision{
			At: noon.Add(-10 * time.Second), Since: noon.Add(-90 * time.Minute), Open: true, Known: true, Headroom: 200, Reason: "batches may spend 180.0 credits (balance 312.4 ±1.2, reserve 96.0, promised 20.0)",
			Jobs: []gate.Entry{{Phase: gate.Running}, {Phase: gate.Waiting}, {Phase: gate.Waiting}, {Phase: gate.Done}},
		}},
	}
}

// ailing is a status in which much is wrong.
func ailing() Status {
	s := healthy()
	s.StartedAt = noon.Add(-95 * time.Second)
	s.Identity.Notices = []identity.Notice{{Kind: identity.SpotInterruption, Text: "terminate"}}
	s.Address.Holder = address.Holder{Kind: address.Other, InstanceID: "i-0f9e8d7c6b5a40312", State: "running"}
	s.Address.Decision = address.Decision{Action: address.Stay, Reason: "this instance is leaving"}
	s.Tasks = Tasks{At: noon.Add(-70 * time.Second), Complete: true, Problems: []problem.Problem{
		{Code: "docker-unreachable", Severity: problem.Error, Subject: "docker", Text: "the Docker Engine does not answer", Hint: "systemctl status docker"},
	}}
	s.Routes.Pools[s.Routes.Sites[1].PoolKey(s.Routes.Sites[1].Locations[0])] = route.Pool{}
	s.Nginx.Settled, s.Nginx.Wanted = false, "fedcba9876543210"
	s.Nginx.Quarantined = []nginx.Quarantine{{Host: "c.example.com", Reason: "unknown directive"}}
	s.Credit.Mode, s.Credit.Balance, s.Credit.Surplus = credit.Unlimited, 0, 3.5
	s.Gate.Decision = gate.Decision{At: noon, Since: noon.Add(-30 * time.Second), Reason: "held: this instance is about to be taken away"}
	s.Config.Problems = []problem.Problem{{Code: "config-invalid", Severity: problem.Error, Subject: "configuration log-level", Text: `"loud" is none of debug, info, warn, error`, Hint: "correct it"}}
	s.Routes.Problems = []problem.Problem{{Code: "label-unknown", Subject: "container web-1 label nagaya.prot", Text: `the label "nagaya.prot" has no meaning to nagaya`, Hint: "the nearest label is nagaya.port"}}
	s.Problems = s.Standing([]problem.Problem{{Code: "label-unknown", Subject: "container web-1 label nagaya.prot", Since: noon.Add(-72 * time.Hour)}}, noon.Add(-61*time.Second))
	return s
}

func TestGoldens(t *testing.T) {
	stopped := healthy()
	stopped.Address = address.Report{ClaimStatus: address.ClaimStatus{Claim: "eipalloc-0123456789abcdef0"}}
	stopped.Identity.Instance, stopped.Identity.ECS = identity.Instance{}, identity.ECS{}
	stopped.Nginx = nginx.Status{LastError: "bind() to 0.0.0.0:80 failed"}
	stopped.Credit = credit.Report{Type: "t3.small", Burstable: true}
	service := healthy()
	service.Address.Holder = address.Holder{Kind: address.Service}
	service.Address.Decision.Reason = "it is held by a NAT gateway, a load balancer or another service"
	service.Credit = credit.Report{Type: "m5.large"}
	behind := healthy()
	behind.Routes.Sites = behind.Routes.Sites[1:]
	behind.Nginx.Settled, behind.Nginx.Reloads, behind.Nginx.LastError = false, 1, "writing generation fedcba9876543210 failed: no space left on device"
	behind.Problems = []problem.Problem{{Code: "disk-full", Severity: problem.Error, Subject: "/var/lib/nagaya/nginx", Text: behind.Nginx.LastError, Hint: "free some space"}}
	several := healthy()
	mine := several.Address
	several.Address = address.NewReport([]address.ClaimReport{
		{Released: true, ClaimStatus: address.ClaimStatus{Claim: mine.Claim, Policy: mine.Policy, Known: true, Address: mine.Address, Holder: mine.Holder, Since: mine.Since}},
		{ClaimStatus: address.ClaimStatus{
			Claim: "203.0.113.11@10.0.0.11", Policy: mine.Policy, Known: true, Address: address.Address{PublicIP: elastic.Next()},
			Holder:   address.Holder{Kind: address.Other, InstanceID: "i-0f9e8d7c6b5a40312", State: "running"},
			Decision: address.Decision{Action: address.Stay, Reason: "its holder i-0f9e8d7c6b5a40312 is not older than this instance"},
		}},
		{ClaimStatus: address.ClaimStatus{Claim: "203.0.113.12", Policy: mine.Policy}},
	})
	for name, s := range map[string]Status{
		"healthy": healthy(), "ailing": ailing(), "empty": {}, "stopped": stopped, "behind": behind, "service": service, "several": several,
	} {
		t.Run(name, func(t *testing.T) {
			got := s.Text() + "\n" + s.Line() + "\n"
			golden(t, name, got)
		})
	}
}

// golden compares a text with the file of that name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("text (-want +got); -update accepts it:\n%s", d)
	}
}

func TestStanding(t *testing.T) {
	one := func(code, subject, text string, since time.Time) problem.Problem {
		return problem.Problem{Code: code, Severity: problem.Error, Subject: subject, Text: text, Hint: "h", Since: since}
	}
	var s Status
	s.Config.Problems = []problem.Problem{one("c", "x", "1", time.Time{})}
	s.Identity.Problems = []problem.Problem{one("i", "x", "1", time.Time{})}
	s.Address.Problems = []problem.Problem{one("a", "x", "1", time.Time{})}
	s.Tasks.Problems = []problem.Problem{one("t", "x", "1", time.Time{}), one("t", "y", "1", time.Time{})}
	s.Routes.Problems = []problem.Problem{one("r", "x", "1", time.Time{})}
	s.Certs.Problems = []problem.Problem{one("e", "x", "1", time.Time{}), one("e", "x", "2", time.Time{}), one("e", "x", "1", time.Time{})}
	s.Nginx.Problems = []problem.Problem{one("n", "x", "1", time.Time{})}
	s.Credit.Problems = []problem.Problem{one("d", "x", "1", time.Time{})}
	s.Gate.Decision.Problems = []problem.Problem{one("g", "x", "1", time.Time{})}
	s.Gate.Published.Problems = []problem.Problem{one("p", "x", "1", time.Time{})}
	s.Upkeep = []problem.Problem{one("u", "x", "1", time.Time{})}

	first := s.Standing(nil, noon)
	// Every part is in it, in order, and what is said twice is said once.
	var order string
	for _, p := range first {
		order += p.Code
		if !p.Since.Equal(noon) {
			t.Errorf("%s began at %s, want now", p.Code, p.Since)
		}
	}
	if order != "acdeeginprttu" {
		t.Errorf("problems of %q", order)
	}
	if !s.Tasks.Problems[0].Since.IsZero() {
		t.Error("the part of the status was changed")
	}

	// A minute later one has another text, which is the same problem still, one is
	// gone, one is new.
	s.Nginx.Problems = []problem.Problem{one("n", "x", "another text", time.Time{})}
	s.Upkeep = nil
	s.Tasks.Problems = append(s.Tasks.Problems, one("t", "z", "1", time.Time{}))
	second := s.Standing(first, noon.Add(time.Minute))
	since := map[string]time.Time{}
	for _, p := range second {
		since[p.Code+p.Subject] = p.Since
	}
	if !since["nx"].Equal(noon) || !since["ty"].Equal(noon) || !since["tz"].Equal(noon.Add(time.Minute)) || len(since) != 12 {
		t.Errorf("since %v", since)
	}

	// What comes back starts over.
	s.Upkeep = []problem.Problem{one("u", "x", "1", time.Time{})}
	for _, p := range s.Standing(second, noon.Add(time.Hour)) {
		if p.Code == "u" && !p.Since.Equal(noon.Add(time.Hour)) {
			t.Errorf("a problem that came back began at %s", p.Since)
		}
	}
	// A script that goes through the list needs one, empty as it may be.
	if got := (Status{}).Standing(nil, noon); got == nil || len(got) != 0 {
		t.Errorf("an empty status has problems %#v", got)
	}
}

func TestCounts(t *testing.T) {
	s := ailing()
	if live, all := s.LiveSites(); live != 1 || all != 2 {
		t.Errorf("%d of %d sites live", live, all)
	}
	if severe, all := s.Severe(); severe != 2 || all != 3 {
		t.Errorf("%d of %d problems are severe", severe, all)
	}
}

// What 'status --json' prints can be read back: it is what the socket carries.
func TestStatusSurvivesJSON(t *testing.T) {
	for name, s := range map[string]Status{"healthy": healthy(), "ailing": ailing(), "empty": {}} {
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var got Status
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(s, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); d != "" {
			t.Errorf("%s (-before +after):\n%s", name, d)
		}
	}
}
