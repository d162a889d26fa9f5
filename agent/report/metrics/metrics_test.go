package metrics

import (
	"bufio"
	"context"
	"flag"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	who "github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/traffic"
	"github.com/nagaya-ecs/nagaya/nginx"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// sample is a status with something in every part.
func sample() report.Status {
	server := route.Server{Addr: netip.MustParseAddrPort("10.0.0.10:32768")}
	return report.Status{
		Version: "1.2.3",
		Identity: who.Identity{
			Instance: who.Instance{Known: true, ID: "i-0a1b2c3d4e5f60718", Type: "t3.small", Region: "eu-west-1", Zone: "eu-west-1a"},
			ECS:      who.ECS{Known: true, Cluster: "default"},
			Notices:  []who.Notice{{Kind: who.Rebalance}},
		},
		Address: address.NewReport([]address.ClaimReport{
			{ClaimStatus: address.ClaimStatus{
				Claim: "eipalloc-0123456789abcdef0", Known: true, Moves: 2, Policy: address.Takeover, Since: noon, CheckedAt: noon.Add(500 * time.Millisecond),
				Address: address.Address{PublicIP: netip.MustParseAddr("203.0.113.10")}, Holder: address.Holder{Kind: address.Self, InstanceID: "i-0a1b2c3d4e5f60718"},
			}},
			{Released: true, ClaimStatus: address.ClaimStatus{
				Claim: "203.0.113.11", Known: true, Policy: address.Takeover, Since: noon, CheckedAt: noon,
				Address: address.Address{PublicIP: netip.MustParseAddr("203.0.113.11")}, Holder: address.Holder{Kind: address.Nobody},
			}},
			{ClaimStatus: address.ClaimStatus{Claim: "203.0.113.12", Policy: address.Takeover}},
		}),

		Tasks: report.Tasks{At: noon, Complete: true, Running: 5, Batches: 2},
		Routes: route.Table{Complete: true, Shape: route.Shape{Sites: []route.Site{
			{Host: "*.b.example.com", Locations: []route.Location{{Path: "/"}}},
			{Host: "a.example.com", Locations: []route.Location{{Path: "/api"}, {Path: "/"}}},
		}}, Pools: route.Pools{
			{Host: "a.example.com", Path: "/api"}: {Servers: []route.Server{server}},
			{Host: "a.example.com", Path: "/"}:    {Servers: []route.Server{server, server}},
		}},
		Certs: certs.Inventory{Complete: true, Pairs: []certs.Pair{{Name: "a", NotAfter: noon.Add(time.Hour)}, {Name: "b", NotAfter: noon.Add(2 * time.Hour)}}},
		Orders: certs.Report{
			On: true, Orders: map[certs.Result]uint64{certs.Issued: 3},
			Entries: []certs.Entry{
				{Hosts: []string{"a.example.com", "b.example.com"}, Source: "acme", KeyType: certs.ECDSA, NotAfter: noon.Add(90 * 24 * time.Hour), Renewal: noon.Add(60 * 24 * time.Hour)},
				{Hosts: []string{"c.example.com"}, Source: "acme", KeyType: certs.ECDSA, Renewal: noon.Add(time.Hour)},
			},
		},
		Nginx: nginx.Status{
			Running: true, Settled: true, Generation: "0123456789abcdef", Reloads: 7, LoadedAt: noon, WorkersDraining: 3,
			Quarantined: []nginx.Quarantine{{Host: "c.example.com"}},
		},
		Traffic: traffic.Report{
			Since: noon,
			Hosts: []traffic.Host{
				{Host: "*.b.example.com", Counts: traffic.Counts{Requests: traffic.Classes{1, 2, 3, 4, 5}, Bytes: 1 << 40, Failures: 3, Websockets: 1, Last: noon, Seconds: traffic.Histogram{Buckets: [7]uint64{1, 2, 3, 4, 3, 0, 1}, Sum: 12.5}}, Pathless: traffic.Classes{1, 2, 3, 4, 5}, Open: new(4)},
				{Host: "a.example.com", Counts: traffic.Counts{Requests: traffic.Classes{0, 9, 0, 1}}, Pathless: traffic.Classes{0, 0, 0, 1}, Paths: []traffic.Path{
					{Path: "/api", Counts: traffic.Counts{Requests: traffic.Classes{0, 5}}}, {Path: "/", Counts: traffic.Counts{Requests: traffic.Classes{0, 4}}},
				}},
				{Host: "elsewhere.example.com", Elsewhere: true},
			},
			Streams: []traffic.Stream{{Listen: "tcp:2222", Connections: 3, Open: new(2), Received: 100, Sent: 200, Failures: 1, Last: noon}},
		},
		Credit: credit.Report{
			Known: true, Type: "t3.small", Burstable: true, Balance: 312.5, ErrorBar: 1.25, Surplus: 0, Max: 576, EarnPerHour: 24,
			SpentLastHour: credit.Spent{Services: 6, Batch: 2}, AnchorAt: noon,
		},
		Gate: gate.Report{Decision: gate.Decision{At: noon, Open: true, Known: true, Headroom: 180, Surplus: &gate.Surplus{Limit: 100, Charged: 12.5, Left: 87.5}, Jobs: []gate.Entry{{Phase: gate.Running}, {Phase: gate.Waiting}, {Phase: gate.Waiting}, {Phase: gate.Done}}}},
		Problems: []problem.Problem{
			{Code: "host-taken", Severity: problem.Error, Subject: `container "x" route a/`, Text: "1", Since: noon},
			{Code: "host-taken", Severity: problem.Error, Subject: `container "x" route a/`, Text: "2", Since: noon},
			{Code: "no-certificate", Subject: "site b", Since: noon.Add(time.Minute)},
		},
	}
}

func TestScrape(t *testing.T) {
	for name, s := range map[string]report.Status{"sample": sample(), "empty": {}} {
		t.Run(name, func(t *testing.T) {
			got := scrape(t, s)
			file := filepath.Join("testdata", name+".prom")
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
				t.Errorf("metrics (-want +got); -update accepts it:\n%s", d)
			}
		})
	}
}

// serve answers on loopback until the test ends, and returns the URL.
func serve(t *testing.T, s report.Status) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(ctx, l, func() report.Status { return s }, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}

// scrape returns what Prometheus would get over HTTP, without the metrics of the
// Go runtime and the process, which differ from machine to machine.
func scrape(t *testing.T, s report.Status) string {
	t.Helper()
	resp, err := http.Get(serve(t, s) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v:\n%s", resp.StatusCode, err, b)
	}
	own := ""
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), "nagaya_") {
			own += line
		}
	}
	for _, runtime := range []string{"go_goroutines ", "process_resident_memory_bytes "} {
		if !strings.Contains(string(b), "\n"+runtime) {
			t.Errorf("%s is missing", runtime)
		}
	}
	return own
}

func TestOtherPaths(t *testing.T) {
	url := serve(t, report.Status{})
	for path, want := range map[string]int{"/": 418, "/debug/pprof/": 418, "/metrics/": 418} {
		resp, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d", path, resp.StatusCode, want)
		}
	}
	resp, err := http.Post(url+"/metrics", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusTeapot {
		t.Errorf("POST: status %d", resp.StatusCode)
	}
}

// The names follow Prometheus's conventions.
func TestLint(t *testing.T) {
	problems, err := promlint.New(strings.NewReader(scrape(t, sample()))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// A table or an inventory with the same name twice, or with text that is no UTF-8,
// costs at most one metric and never the scrape.
func TestStrangeStatusesCanBeScraped(t *testing.T) {
	for name, change := range map[string]func(*report.Status){
		"two sites of one name":  func(s *report.Status) { s.Routes.Sites = append(s.Routes.Sites, s.Routes.Sites...) },
		"two certificates alike": func(s *report.Status) { s.Certs.Pairs = append(s.Certs.Pairs, s.Certs.Pairs...) },
		"two problems alike":     func(s *report.Status) { s.Problems = append(s.Problems, s.Problems...) },
		"one problem of two severities": func(s *report.Status) {
			p := s.Problems[0]
			p.Severity = problem.Warning
			s.Problems = append(s.Problems, p)
		},
		"a cluster that is no UTF-8":     func(s *report.Status) { s.Identity.ECS.Cluster = "\xff" },
		"a problem that is no UTF-8":     func(s *report.Status) { s.Problems[0].Subject = "x\xffy" },
		"a certificate that is no UTF-8": func(s *report.Status) { s.Certs.Pairs[0].Name = "\xff" },
	} {
		t.Run(name, func(t *testing.T) {
			s := sample()
			change(&s)
			got := scrape(t, s)
			for _, want := range []string{"\nnagaya_nginx_up 1\n", "nagaya_host_servers{host=\"a.example.com\"} 3\n", "nagaya_info{"} {
				if !strings.Contains(got, want) {
					t.Errorf("%q is not in\n%s", want, got)
				}
			}
		})
	}
}

// The page has every metric, as a scrape describes it.
func TestDocsNameEveryMetric(t *testing.T) {
	const page = "../../../docs/metrics.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), "<!-- metrics -->\n")
	_, after, ended := strings.Cut(rest, "<!-- end -->")
	if !ok || !ended {
		t.Fatalf("%s has no place for them", page)
	}
	var table strings.Builder
	table.WriteString("| metric | labels | what it is |\n|---|---|---|\n")
	labels := map[string]string{}
	scraped := scrape(t, sample())
	for line := range strings.Lines(scraped) {
		if name, rest, ok := strings.Cut(line, "{"); ok && !strings.HasPrefix(line, "#") {
			var keys []string
			for _, m := range labelKey.FindAllStringSubmatch(rest, -1) {
				keys = append(keys, "`"+m[1]+"`")
			}
			labels[strings.TrimSuffix(name, "_bucket")] = strings.Join(keys, ", ")
		}
	}
	for line := range strings.Lines(scraped) {
		if help, ok := strings.CutPrefix(line, "# HELP "); ok {
			name, what, _ := strings.Cut(strings.TrimSpace(help), " ")
			table.WriteString("| `" + name + "` | " + labels[name] + " | " + what + " |\n")
		}
	}
	want := before + "<!-- metrics -->\n" + table.String() + "<!-- end -->" + after
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(want, string(text)); d != "" {
		t.Errorf("%s (-want +is; -update corrects it):\n%s", page, d)
	}
}

var labelKey = regexp.MustCompile(`([a-z_]+)="`)

// One status that cannot be read fails one scrape, and none that come later.
func TestAScrapeThatFails(t *testing.T) {
	broken := true
	p := &page{status: func() report.Status {
		if broken {
			panic("a part that was not thought of")
		}
		return report.Status{}
	}}
	scrape := func() (failed bool) {
		defer func() { failed = recover() != nil }()
		p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil))
		return false
	}
	if !scrape() {
		t.Fatal("the status could be read")
	}
	if !p.mu.TryLock() {
		t.Fatal("a later scrape waits forever")
	}
	p.mu.Unlock()
	if broken = false; scrape() {
		t.Error("it fails again")
	}
}

// A client that reads slowly keeps nobody else waiting.
func TestASlowClientDelaysNoOther(t *testing.T) {
	p := &page{status: sample}
	w := slow{httptest.NewRecorder(), func() {
		if !p.mu.TryLock() {
			t.Fatal("while one client reads, others wait")
		}
		p.mu.Unlock()
	}}
	p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Body.Len() == 0 {
		t.Error("nothing was written")
	}
}

// slow calls a function while it is written to.
type slow struct {
	*httptest.ResponseRecorder
	meanwhile func()
}

func (w slow) Write(b []byte) (int, error) {
	w.meanwhile()
	return w.ResponseRecorder.Write(b)
}

// counting counts the connections of a listener that are open.
type counting struct {
	net.Listener
	open, most, accepted atomic.Int64
}

func (l *counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
		if n := l.open.Add(1); n > l.most.Load() {
			l.most.Store(n) // one accepts at a time
		}
		c = &counted{c, sync.OnceFunc(func() { l.open.Add(-1) })}
	}
	return c, err
}

type counted struct {
	net.Conn
	closed func()
}

func (c *counted) Close() error {
	c.closed()
	return c.Conn.Close()
}

// However many clients hold connections, the agent keeps memory and files for the rest of its work, and those who wait come in
// as others go.
func TestManyConnections(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &counting{Listener: tcp}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(ctx, l, func() report.Status { return report.Status{} }, http.NotFoundHandler())
	}()
	var all []net.Conn
	for range 2 * mostConnections {
		c, err := net.Dial("tcp", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		all = append(all, c)
	}
	for i, c := range all {
		if i >= mostConnections {
			all[i-mostConnections].Close()
		}
		if _, err := io.WriteString(c, "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if r, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || r.StatusCode != http.StatusNotFound {
			t.Fatalf("connection %d: %v, %v", i, r, err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := l.most.Load(); n > mostConnections || l.accepted.Load() != 2*mostConnections {
		t.Errorf("%d connections were open at once, %d in all", n, l.accepted.Load())
	}
}
