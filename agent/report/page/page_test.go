package page

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/history"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/traffic"
	"github.com/nagaya-ecs/nagaya/nginx"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

func TestMain(m *testing.M) {
	time.Local = time.UTC // the page shows the host's times
	os.Exit(m.Run())
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// hostile is a name that would be markup, a script, a terminal's control or a shell's command where it is not quoted.
const hostile = "<img src=x onerror=alert(1)>\"'`$(reboot)</script>\x1b[2J"

// sample is a status with that many hosts and something in every part.
func sample(hosts int) report.Status {
	s := report.Status{
		Version: "1.2.3", StartedAt: noon.Add(-50 * time.Hour), At: noon,
		Identity: identity.Identity{Instance: identity.Instance{Known: true, ID: "i-0a1b2c3d4e5f60718", Type: "t3.small", Zone: "eu-west-1a"}},
		Address: address.NewReport([]address.ClaimReport{{ClaimStatus: address.ClaimStatus{
			Claim: "eipalloc-0123456789abcdef0", Policy: address.Takeover, Known: true, Since: noon.Add(-26 * time.Hour), CheckedAt: noon.Add(-time.Minute),
			Address: address.Address{PublicIP: netip.MustParseAddr("203.0.113.10")}, Holder: address.Holder{Kind: address.Self, InstanceID: "i-0a1b2c3d4e5f60718", State: "running"},
		}}}),
		Tasks:   report.Tasks{At: noon.Add(-3 * time.Second), Complete: true, Running: hosts, Batches: 1, ECSAgent: true},
		Routes:  route.Table{Complete: true, Pools: route.Pools{}},
		Traffic: traffic.Report{Since: noon.Add(-50 * time.Hour), Hosts: []traffic.Host{{Host: "h0.example.com", Counts: traffic.Counts{Requests: traffic.Classes{1: 4711, 4: 3}, Bytes: 123456, Last: noon}}}},
		Nginx:   nginx.Status{Running: true, Version: "1.22.1", Generation: "0123456789abcdef", Settled: true, Reloads: 7, LoadedAt: noon.Add(-2 * time.Hour)},
		Orders:  certs.Report{On: true},
		Credit: credit.Report{
			At: noon, Known: true, Type: "t3.small", Burstable: true, Mode: credit.Standard, ModeKnown: true, Balance: 312.4, ErrorBar: 1.2,
			Max: 576, EarnPerHour: 24, SpentLastHour: credit.Spent{Services: 6.1, Batch: 2},
		},
		Gate: gate.Report{Decision: gate.Decision{
			At: noon, Since: noon.Add(-90 * time.Minute), Open: true, Known: true, Reserve: 96, Headroom: 200, Promised: 20, Free: 180,
			Reason: "batches may spend 180.0 credits (balance 312.4 ±1.2, reserve 96.0, promised 20.0)",
			Jobs: []gate.Entry{
				{Job: gate.Job{ID: "report-1", Name: "report"}, Phase: gate.Running, Expected: 12, Spent: 14.5, Since: noon.Add(-time.Hour), Changed: noon.Add(-40 * time.Minute), Reason: "running: 14.5 of 12.0 credits spent"},
				{Job: gate.Job{ID: "backup-7", Name: "backup"}, Phase: gate.Waiting, Expected: 200, Since: noon.Add(-time.Hour), Changed: noon.Add(-time.Hour), Reason: "waiting: needs 200.0 credits and 180.0 are free"},
			},
		}},
		Problems: []problem.Problem{
			{Code: "container-not-listening", Severity: problem.Error, Subject: "container web route h0.example.com", Text: "nothing answers at 172.17.0.7:8080", Hint: "let it listen on 0.0.0.0:8080", Since: noon.Add(-42 * time.Second)},
			{Code: "label-unknown", Subject: "container " + hostile, Text: "the label " + hostile + " has no meaning", Hint: "remove it", Since: noon.Add(-time.Hour)},
		},
	}
	for h := range 24 {
		s.Credit.Forecast = append(s.Credit.Forecast, credit.Point{At: noon.Add(time.Duration(h+1) * time.Hour), Balance: 312.4 + 10*float64(h), Low: 312.4 - 3*float64(h)})
	}
	for i := range hosts {
		host := fmt.Sprintf("h%d.example.com", i)
		site := route.Site{Host: host, Family: fmt.Sprintf("ecs:family-%d", i), TLS: true, Locations: []route.Location{{Path: "/"}}}
		s.Routes.Sites = append(s.Routes.Sites, site)
		s.Routes.Pools[route.PoolKey{Host: host, Path: "/"}] = route.Pool{Servers: []route.Server{{Addr: netip.MustParseAddrPort("10.0.0.10:32768"), Ref: fmt.Sprintf("family-%d:3/web", i)}}}
		s.Orders.Entries = append(s.Orders.Entries, certs.Entry{Hosts: []string{host}, Source: "acme", State: certs.Valid, NotAfter: noon.Add(61 * 24 * time.Hour), Renewal: noon.Add(31 * 24 * time.Hour)})
	}
	if hosts > 2 {
		s.Orders.Entries[1].NotAfter = noon.Add(-time.Hour) // and nobody has noted it yet
		s.Routes.Pools[route.PoolKey{Host: "h2.example.com", Path: "/"}] = route.Pool{Servers: []route.Server{{Addr: netip.MustParseAddrPort("10.0.0.10:32770"), Ref: hostile, Unhealthy: true}}}
		s.Routes.Sites[2].Family = hostile
	}
	return s
}

// year is a history of which there is an hourly record all the time.
type year struct{ err error }

func (y year) Credits(from, to time.Time, most int) (report.Series, error) {
	var all []history.Record
	l := history.Records.Levels[history.Records.Level(from, to)]
	for at := l.Start(from).Add(l.Step); at.Before(to); at = at.Add(l.Step) {
		hours := l.Step.Hours()
		day := math.Sin(2 * math.Pi * float64(at.Unix()%86400) / 86400)
		r := history.Merge(at, nil)
		r.Watched, r.Balance, r.Error = history.Value(l.Step.Seconds()), history.Value(300+200*day), 2
		r.Earned, r.Services, r.Batches, r.Discarded = history.Value(24*hours), history.Value((12+6*day)*hours), history.Value(max(0, -20*day)*hours), history.Value(max(0, 20*day-15)*hours)
		r.Charged, r.Reloads, r.Open, r.Held, r.Running = 0, 0, 1, 1, 0
		if day < 0 {
			r.Open = 0
		}
		all = append(all, r)
	}
	return history.Series(all, from, to, most), y.err
}

// Hosts have served something all the time.
func (y year) Hosts(from, to time.Time, mostOfAll, most int) (report.Served, error) {
	var hosts history.Hosts
	for i := range 200 {
		hosts[i] = history.Place{Host: fmt.Sprintf("h%d.example.com", i), Since: from}
	}
	form := history.OfServed(&hosts)
	step := form.Levels[form.Level(from, to)].Step
	var all []*history.Served
	for at := from.Truncate(step).Add(step); at.Before(to); at = at.Add(step) {
		s := &history.Served{Start: at}
		for i := range 200 {
			s.Places[i] = history.Counts{Requests: history.Value(100 + 80*math.Sin(float64(at.Unix())/9000+float64(i))), Errors: history.Value(i % 2), Bytes: 12345}
		}
		all = append(all, s)
	}
	return hosts.Series(step, all, from, to, mostOfAll, most), y.err
}

func (y year) Events(from, to time.Time, group string, most int) (all []report.Event, err error) {
	at := to.Add(-to.Sub(from) / 2)
	for _, line := range []struct {
		kind   string
		fields map[string]string
	}{
		{"address-lost", map[string]string{"address": "203.0.113.10", "holder": "another instance", "holder_id": "i-0f9e8d7c6b5a40312"}},
		{"address-held", map[string]string{"address": "203.0.113.10", "private_addr": "10.0.0.10"}},
		{"service-deployed", map[string]string{"family": "ecs:shop", "old": "shop:6/web", "new": "shop:7/web " + hostile, "servers": "2", "took": "41s"}},
		{"batch-done", map[string]string{"job_id": "report-0", "job": "report", "reason": "done", "declared": "10", "expected": "12", "spent": "11.25", "took": "20m0s"}},
	} {
		if e, ok := history.NewEvent(at, line.kind, line.fields); ok && (group == "" || e.Group() == group) && len(all) < most {
			all = append(all, e.Shown())
		}
	}
	return all, y.err
}

func serving(s report.Status) http.Handler {
	return New(Options{Status: func() report.Status { return s }, Past: year{}, Listen: "127.0.0.1:9646", Host: "status.example.com"})
}

// get asks as somebody on this host does, with other headers as given.
func get(h http.Handler, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Host = "localhost:9646"
	for i := 0; i < len(headers); i += 2 {
		switch headers[i] {
		case "Host":
			r.Host = headers[i+1]
		case "Method":
			r.Method = headers[i+1]
		case "Content-Length":
			r.ContentLength = 5
		default:
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// unread is a body of unknown length that nobody may read: unpacked, it has no end.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body of a request was read")
	return 0, io.EOF
}

func TestNoBodyIsRead(t *testing.T) {
	h := serving(sample(1))
	for _, path := range []string{"/", "/live", "/api/v1/status", "/api/v1/history", "/assets/page.js"} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut} {
			r := httptest.NewRequest(method, path, unread{t})
			r.Host = "localhost:9646"
			r.Header.Set("Content-Encoding", "gzip")
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, r); w.Code != http.StatusBadRequest && w.Code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, path, w.Code)
			}
		}
	}
}

// Who comes under another name, from another page or to change something is refused.
func TestAccess(t *testing.T) {
	for _, row := range []struct {
		name, path string
		headers    []string
		want       int
	}{
		{"localhost", "/", nil, 200},
		{"through a tunnel at another port", "/", []string{"Host", "localhost:18080"}, 200},
		{"the address", "/", []string{"Host", "127.0.0.1:9646"}, 200},
		{"the other one", "/", []string{"Host", "[::1]:9646"}, 200},
		{"the site", "/", []string{"Host", "Status.Example.com"}, 200},
		{"a name of somebody else", "/", []string{"Host", "attacker.example:9646"}, 421},
		{"one that looks like ours", "/", []string{"Host", "localhost.attacker.example"}, 421},
		{"one below the site", "/", []string{"Host", "a.status.example.com"}, 421},
		{"an address where only this host listens", "/", []string{"Host", "192.0.2.1:9646"}, 421},
		{"no name", "/", []string{"Host", ""}, 421},
		{"a name of somebody else for the API", "/api/v1/status", []string{"Host", "attacker.example"}, 421},
		{"a name of somebody else for a file", "/assets/page.js", []string{"Host", "attacker.example"}, 421},
		{"the API", "/api/v1/status", nil, 200},
		{"the API from the page", "/api/v1/status", []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://localhost:9646"}, 200},
		{"the API from the address line", "/api/v1/status", []string{"Sec-Fetch-Site", "none"}, 200},
		{"the API from another site", "/api/v1/status", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"the API from a neighbour", "/api/v1/history", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"the API from another origin", "/api/v1/history", []string{"Origin", "https://attacker.example"}, 403},
		{"the API from a file", "/api/v1/status", []string{"Origin", "null"}, 403},
		{"the API from another port", "/api/v1/status", []string{"Origin", "http://localhost:80"}, 403},
		{"the changing part from another site", "/live", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"a link from another site", "/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 200},
		{"a frame of another site", "/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, 403},
		{"a request of another site for the page", "/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "empty"}, 403},
		{"a body", "/", []string{"Content-Length", "5"}, 400},
		{"a head", "/", []string{"Method", "HEAD"}, 200},
		{"a post", "/", []string{"Method", "POST"}, 405},
		{"a post to the API", "/api/v1/status", []string{"Method", "POST"}, 405},
		{"a preflight", "/api/v1/status", []string{"Method", "OPTIONS"}, 405},
		{"a deletion", "/api/v1/history", []string{"Method", "DELETE"}, 405},
		{"a file above", "/assets/../page.go", nil, 307},
		{"a file above, hidden", "/assets/..%2fpage.html", nil, 404},
		{"a file above, hidden twice", "/assets/%252e%252e/page.html", nil, 404},
		{"a file of the host", "/assets//etc/passwd", nil, 307},
		{"the template", "/page.html", nil, 404},
		{"the directory", "/assets/", nil, 404},
		{"another version", "/api/v2/status", nil, 404},
		{"no time", "/api/v1/history?since=soon", nil, 400},
		{"too long a time", "/?since=9999w", nil, 400},
		{"a hostile time", "/?since=%3Cscript%3E", nil, 400},
	} {
		w := get(serving(sample(3)), row.path, row.headers...)
		if w.Code != row.want {
			t.Errorf("%s: %d, want %d: %s", row.name, w.Code, row.want, w.Body)
		}
		if strings.Contains(w.Body.String(), "<script>") {
			t.Errorf("%s: what was asked is in the answer: %s", row.name, w.Body)
		}
		for name, want := range headers {
			if got := w.Header().Get(name); got != want && (name != "Cache-Control" || got != "no-cache") {
				t.Errorf("%s: %s is %q", row.name, name, got)
			}
		}
		if got := w.Header().Get("Access-Control-Allow-Origin"); got != "" {
			t.Errorf("%s: another origin may read it: %s", row.name, got)
		}
	}
	// One that listens for the network is asked by addresses that it need not know: a public one is translated.
	open := New(Options{Status: func() report.Status { return sample(1) }, Past: year{}, Listen: "0.0.0.0:9646"})
	for host, want := range map[string]int{"203.0.113.10:9646": 200, "10.0.0.10": 200, "[2001:db8::1]:9646": 200, "attacker.example:9646": 421, "": 421} {
		if w := get(open, "/", "Host", host); w.Code != want {
			t.Errorf("%q where the network may come: %d, want %d", host, w.Code, want)
		}
	}
}

// The shape of each answer is an interface: what is in it stays there.
func TestAnswers(t *testing.T) {
	h := serving(sample(3))
	for name, path := range map[string]string{
		"status": "/api/v1/status", "history": "/api/v1/history?since=1h", "hosts": "/api/v1/hosts?since=1d", "events": "/api/v1/events?since=1d&group=job",
	} {
		w := get(h, path)
		if got := w.Header().Get("Content-Type"); got != "application/json" || w.Code != 200 {
			t.Fatalf("%s: %d, %s", path, w.Code, got)
		}
		var v any
		if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if name != "status" { // it depends on the present
			v = shape("", v)
		}
		got, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", name+".json")
		if *update {
			if err := os.WriteFile(file, append(got, '\n'), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), string(got)+"\n"); d != "" {
			t.Errorf("%s (-want +got); -update accepts it:\n%s", path, d)
		}
	}
}

// shape is a value with the kinds of what is in it, and of lists the first element.
func shape(key string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = shape(k, v[k])
		}
		return v
	case []any:
		if key == "columns" {
			for i := range v {
				v[i] = shape("", v[i])
			}
			return v
		}
		if len(v) > 1 {
			v = v[:1]
		}
		for i := range v {
			v[i] = shape("", v[i])
		}
		return v
	case float64:
		return "number"
	case string:
		if key == "journal" {
			return "command"
		}
		if _, err := time.Parse(time.RFC3339, v); err == nil {
			return "time"
		}
	}
	return v
}

// Every time that can be asked for is answered in spans, of which there are not too many.
func TestHistoryOfAnyLength(t *testing.T) {
	for _, since := range []string{"1m", "1h", "1d", "1w", "30d", "366d"} {
		var got answered
		if err := json.Unmarshal(get(serving(sample(1)), "/api/v1/history?since="+since).Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if n := len(got.Time); n > mostPoints+1 || since != "1m" && n < 50 {
			t.Errorf("%s: %d spans of %d s", since, n, got.Step)
		}
		for _, c := range got.Columns {
			if len(c.Values) != len(got.Time) {
				t.Errorf("%s: %s has %d values for %d times", since, c.Name, len(c.Values), len(got.Time))
			}
		}
	}
}

type answered struct {
	Step    int64
	Time    []int64
	Columns []struct {
		Name   string
		Values []*float64
	}
}

// Whoever has no JavaScript reads the state, what is wrong and the plots' numbers; nothing that a container said is markup.
func TestWithoutScripts(t *testing.T) {
	w := get(serving(sample(3)), "/?since=30d")
	text := w.Body.String()
	for _, part := range []string{
		"2 problems, 3 of 3 hosts live, gate open",
		"203.0.113.10 is held here since", "let it listen on 0.0.0.0:8080", "expired, -1 d", "valid, 61 d",
		"<caption>Recorded from 2026", "journalctl -u nagaya NAGAYA_HOST=h0.example.com", "journalctl -u nagaya NAGAYA_JOB_ID=report-1",
		"&lt;img src=x onerror=alert(1)&gt;", `aria-current="true" data-since="30d"`, "(UTC, UTC&#43;00:00)",
		"now with another instance i-0f9e8d7c6b5a40312", "ran 20m0s, spent 11.3", "<polyline points=", "What all hosts together have served; a row is 12 hours",
	} {
		if part == "<caption>Recorded from 2026" {
			part = "<caption>Recorded from " + time.Now().Add(-30*24*time.Hour).Format("2006-01")
		}
		if !strings.Contains(text, part) {
			t.Errorf("there is no %q", part)
		}
	}
	if n := strings.Count(text, "<time datetime="); n < mostRows/2 {
		t.Errorf("%d times: the plots' numbers are missing", n)
	}
	for _, markup := range []string{"<img", "onerror=alert(1)>", "style=", "javascript:", "<script>", " onclick"} {
		if strings.Contains(text, markup) {
			t.Errorf("there is %q", markup)
		}
	}
	if strings.Count(text, "<script") != strings.Count(text, `<script src="/assets/`) {
		t.Error("there is a script that is no file")
	}
}

// A history that cannot be read is said, and the rest is shown.
func TestTheHistoryCannotBeRead(t *testing.T) {
	h := New(Options{Status: func() report.Status { return sample(1) }, Past: year{errors.New("input/output <error>")}, Listen: "127.0.0.1:9646"})
	if w := get(h, "/"); w.Code != 200 || !strings.Contains(w.Body.String(), "input/output &lt;error&gt;") || !strings.Contains(w.Body.String(), "is held here") {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
	if w := get(h, "/api/v1/history"); w.Code != 500 || !strings.Contains(w.Body.String(), "input/output") {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}

// noEvents cannot read what happened.
type noEvents struct{ year }

func (noEvents) Events(time.Time, time.Time, string, int) ([]report.Event, error) {
	return nil, errors.New("input/output error")
}

// That is said as long as it is so.
func TestTheEventsCannotBeRead(t *testing.T) {
	h := New(Options{Status: func() report.Status { return sample(1) }, Past: noEvents{}, Listen: "127.0.0.1:9646"})
	for range 2 {
		if w := get(h, "/"); w.Code != 200 || !strings.Contains(w.Body.String(), "input/output error") {
			t.Errorf("%d: %s", w.Code, w.Body)
		}
	}
}

// Who hangs up while others are answered costs nothing more.
func TestClientsThatHaveGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made atomic.Int32
		busy := make(chan struct{})
		h := New(Options{Past: year{}, Listen: "127.0.0.1:9646", Status: func() report.Status {
			made.Add(1)
			<-busy
			return sample(1)
		}})
		var all sync.WaitGroup
		ask := func(ctx context.Context) {
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
			r.Host = "localhost"
			all.Go(func() { h.ServeHTTP(httptest.NewRecorder(), r) })
		}
		ask(t.Context())
		synctest.Wait()
		ctx, hangUp := context.WithCancel(t.Context())
		for range 100 {
			ask(ctx)
		}
		synctest.Wait()
		hangUp()
		close(busy)
		all.Wait()
		if n := made.Load(); n != 1 {
			t.Errorf("%d pages were made for one client", n)
		}
	})
}

// A status of which nothing is known is a page too.
func TestNothingIsKnown(t *testing.T) {
	if w := get(serving(report.Status{}), "/"); w.Code != 200 || !strings.Contains(w.Body.String(), "none is claimed") || !strings.Contains(w.Body.String(), "undecided") {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}

// A browser that has a file is not sent it again.
func TestFilesAreKept(t *testing.T) {
	h := serving(sample(1))
	first := get(h, "/assets/page.css")
	if got := get(h, "/assets/page.css", "If-None-Match", first.Header().Get("ETag")); got.Code != http.StatusNotModified || got.Body.Len() != 0 {
		t.Errorf("%d with %d bytes", got.Code, got.Body.Len())
	}
	packed := get(h, "/assets/uPlot.iife.min.js", "Accept-Encoding", "gzip, br")
	z, err := gzip.NewReader(packed.Body)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if want := get(h, "/assets/uPlot.iife.min.js").Body.String(); err != nil || string(plain) != want || packed.Header().Get("Content-Encoding") != "gzip" {
		t.Errorf("%d bytes, want %d; %v", len(plain), len(want), err)
	}
}

// weight is how many bytes a browser gets until it shows a page with that many hosts.
func weight(t *testing.T, hosts int, encoding string) (sum int) {
	t.Helper()
	h := serving(sample(hosts))
	for _, path := range []string{"/", "/assets/page.css", "/assets/page.js", "/assets/icon.svg", "/assets/uPlot.iife.min.js", "/assets/uPlot.min.css"} {
		sum += get(h, path, "Accept-Encoding", encoding).Body.Len()
	}
	return sum
}

func TestWeight(t *testing.T) {
	const most = 120 << 10
	for _, row := range []struct {
		hosts    int
		encoding string
	}{{3, "identity"}, {200, "gzip"}} {
		sum := weight(t, row.hosts, row.encoding)
		t.Logf("%d hosts, %s: %d bytes", row.hosts, row.encoding, sum)
		if sum > most {
			t.Errorf("a page with %d hosts has %d bytes (%s), at most %d may be", row.hosts, sum, row.encoding, most)
		}
	}
}

// What a reader of a year's history and of 200 hosts costs.
func BenchmarkAnswers(b *testing.B) {
	h := serving(sample(200))
	for _, path := range []string{"/", "/live", "/api/v1/status", "/api/v1/history?since=366d", "/api/v1/hosts?since=366d", "/api/v1/events?since=366d"} {
		b.Run(path, func(b *testing.B) {
			for b.Loop() {
				if w := get(h, path, "Accept-Encoding", "gzip"); w.Code != 200 {
					b.Fatal(w.Body)
				}
			}
		})
	}
}

// No name but ours is known, however it is written.
func FuzzKnown(f *testing.F) {
	for _, host := range []string{"localhost:9646", "127.0.0.1", "[::1]:80", "status.example.com.", "attacker.example", "127.0.0.1.attacker.example", "[127.0.0.1", "::1%eth0", "0x7f.1", "2130706433"} {
		f.Add(host)
	}
	p := &page{Options: Options{Listen: "127.0.0.1:9646", Host: "status.example.com"}}
	f.Fuzz(func(t *testing.T, host string) {
		name := strings.Trim(strings.ToLower(host), "[]")
		ours := strings.HasPrefix(name, "localhost") || strings.HasPrefix(name, "status.example.com") || strings.HasPrefix(name, "127.") || strings.Contains(name, ":")
		if p.known(host) && !ours {
			t.Errorf("%q is known", host)
		}
		if after, ok := strings.CutPrefix(name, "localhost"); ok && p.known(host) && after != "" && after != "." && !strings.Contains(after, ":") {
			t.Errorf("%q is known", host)
		}
	})
}
