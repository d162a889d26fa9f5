package traffic

import (
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/nginx"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// tableOf is a table with these sites, each as "host path path".
func tableOf(sites ...string) route.Table {
	t := route.Table{Complete: true, Pools: route.Pools{}}
	for _, s := range sites {
		words := strings.Fields(s)
		site := route.Site{Host: words[0]}
		for _, p := range words[1:] {
			site.Locations = append(site.Locations, route.Location{Path: p})
		}
		t.Sites = append(t.Sites, site)
	}
	return t
}

// logsOf are the logs of a configuration.
func logsOf(s nginx.Settings, t route.Table) nginx.Logs {
	s.LogDir, s.SnippetDir = "/log", "/etc/nagaya/nginx"
	if s.AccessLog == "" {
		s.AccessLog = "/log/access.log"
	}
	tree := nginx.Render(s, nginx.Build{Stream: "static"}, t.Shape, t.Pools)
	return tree.Logs()
}

// what was counted for a host, as words.
func (c *Counter) words(name string) string {
	for _, h := range c.Report(nginx.Logs{}, "", nil).Hosts {
		if h.Host == name {
			return h.words()
		}
	}
	return "none"
}

func (c Counts) words() string {
	return fmt.Sprintf("%v %d bytes, %d failed, %d upgraded, %v %.3f s", c.Requests, c.Bytes, c.Failures, c.Websockets, c.Seconds.Buckets, c.Seconds.Sum)
}

func TestFormats(t *testing.T) {
	own, json, foreign := nginx.Settings{}, nginx.Settings{Nginx: config.Nginx{LogFormat: "json"}}, nginx.Settings{NginxProxy: true}
	says := func(format, escape string) nginx.Settings {
		return nginx.Settings{Nginx: config.Nginx{LogFormat: format, LogEscape: escape}}
	}
	const all = "[0 1 0 0 0] 1234 bytes, 0 failed, 0 upgraded, [0 1 0 0 0 0 0] 0.012 s"
	for name, row := range map[string]struct {
		settings nginx.Settings
		line     string
		want     string // for a.test; "none" for a line that is not counted
	}{
		"nagaya's":                       {own, `203.0.113.7 - - [22/Nov/2026:12:00:00 +0000] a.test "GET /x?q HTTP/1.1" 200 1234 "-" "curl/8" 0.012 10.0.0.1:80 0.011 200`, all},
		"nagaya's, of an older version":  {own, `203.0.113.7 - - [22/Nov/2026:12:00:00 +0000] a.test "GET /x?q HTTP/1.1" 200 1234 "-" "curl/8" 0.012 10.0.0.1:80 0.011`, "none"},
		"another was asked":              {own, `203.0.113.7 - - [22/Nov/2026:12:00:00 +0000] a.test "GET / HTTP/1.1" 200 1 "-" "-" 3.000 10.0.0.1:80, 10.0.0.2:80 0.000, 3.000 502, 200`, "[0 1 0 0 0] 1 bytes, 1 failed, 0 upgraded, [0 0 0 0 0 1 0] 3.000 s"},
		"nobody answered":                {own, `203.0.113.7 - - [22/Nov/2026:12:00:00 +0000] a.test "GET / HTTP/1.1" 503 9 "-" "-" 60.000 10.0.0.1:80 : 10.0.0.3:80 3.000 : 57.000 502 : 504`, "[0 0 0 0 1] 9 bytes, 1 failed, 0 upgraded, [0 0 0 0 0 0 1] 60.000 s"},
		"a websocket":                    {own, `203.0.113.7 - - [22/Nov/2026:12:00:00 +0000] a.test "GET / HTTP/1.1" 101 77 "-" "-" 600.000 10.0.0.1:80 600.000 101`, "[1 0 0 0 0] 77 bytes, 0 failed, 1 upgraded, [0 0 0 0 0 0 0] 0.000 s"},
		"a user of many words":           {own, `203.0.113.7 - x [y] b.test [22/Nov/2026:12:00:00 +0000] a.test "GET / HTTP/1.1" 200 1234 "-" "-" 0.012 - - -`, all},
		"json":                           {json, `{"time_local":"2026-11-22T12:00:00+00:00","client_ip":"","remote_addr":"203.0.113.7","host":"a.test","request":"GET / HTTP/1.1","status":"200","body_bytes_sent":"1234","request_time":"0.012","upstream_response_time":"0.011","upstream_addr":"10.0.0.1:80","http_referrer":"","http_user_agent":"\",\"status\":\"500","request_id":"x","upstream_status":"200"}`, all},
		"json, a client that quotes":     {json, `{"time_local":"2026-11-22T12:00:00+00:00","client_ip":"\",\"remote_addr\":\"1\",\"host\":\"b.test\",\"request\":\"\\","remote_addr":"203.0.113.7","host":"a.test","request":"GET /\",\"status\":\"500 HTTP/1.1","status":"200","body_bytes_sent":"1234","request_time":"0.012","upstream_response_time":"","upstream_addr":"","http_referrer":"","http_user_agent":"","request_id":"x","upstream_status":""}`, all},
		"nginx-proxy's":                  {foreign, `a.test 203.0.113.7 - - [22/Nov/2026:12:00:00 +0000] "GET / HTTP/1.1" 502 1234 "-" "curl/8" "10.0.0.1:80"`, "[0 0 0 0 1] 1234 bytes, 1 failed, 0 upgraded, [0 0 0 0 0 0 0] 0.000 s"},
		"nginx-proxy's, nobody asked":    {foreign, `a.test 203.0.113.7 - - [22/Nov/2026:12:00:00 +0000] "GET / HTTP/1.1" 502 1234 "-" "curl/8" "-"`, "[0 0 0 0 1] 1234 bytes, 0 failed, 0 upgraded, [0 0 0 0 0 0 0] 0.000 s"},
		"one's own":                      {says(`$status|${request_time}|$bytes_sent|$http_host`, ""), `200|0.012|1234|A.test:8080`, all},
		"one's own, in JSON":             {says(`{"s":$status,"t":$request_time,"b":$body_bytes_sent,"h":"$host"}`, "json"), `{"s":200,"t":0.012,"b":1234,"h":"a.test"}`, all},
		"the better one of two":          {says(`$http_host $bytes_sent $host $status $body_bytes_sent $request_time x`, ""), `b.test 99 a.test 200 1234 0.012 x`, all},
		"two without anything between":   {says(`$request_time$request_time $status $host`, ""), `0.0120.012 200 a.test`, "[0 1 0 0 0] 0 bytes, 0 failed, 0 upgraded, [0 0 0 0 0 0 0] 0.000 s"},
		"a sign that begins no variable": {says(`$ $status $host 5$`, "none"), `$ 200 a.test 5$`, "[0 1 0 0 0] 0 bytes, 0 failed, 0 upgraded, [0 0 0 0 0 0 0] 0.000 s"},
		"no host":                        {says(`$status`, ""), `200`, "none"},
		"half a line":                    {own, `203.0.113.7 - - [22/Nov/2026:12:00:00 +0000] a.test "GET / HTTP/1.1" 200 12`, "none"},
		"no status":                      {own, `203.0.113.7 - - [22/Nov/2026:12:00:00 +0000] a.test "GET / HTTP/1.1" 000 12 "-" "-" 0.000 - - -`, "none"},
		"an empty line":                  {own, ``, "none"},
	} {
		t.Run(name, func(t *testing.T) {
			table := tableOf("a.test /")
			f := Compile(logsOf(row.settings, table).Requests)
			c := New(noon)
			c.SetTable(table)
			c.Request(&f, []byte(row.line), noon)
			want := row.want
			if want == "none" {
				want = "[0 0 0 0 0] 0 bytes, 0 failed, 0 upgraded, [0 0 0 0 0 0 0] 0.000 s"
			}
			if got := c.words("a.test"); got != want {
				t.Errorf("counted %s, want %s", got, want)
			}
		})
	}
}

// What cannot be counted is said, with a remedy.
func TestUnavailable(t *testing.T) {
	table := tableOf("a.test /", "b.test /")
	says := func(name, text string) nginx.Settings {
		all, err := nginx.ParseDirectives(text)
		if err != nil {
			t.Fatal(err)
		}
		return nginx.Settings{Snippets: []nginx.Snippet{{Name: name, Text: text, Says: all}}}
	}
	for name, row := range map[string]struct {
		settings nginx.Settings
		want     string // a part of it
	}{
		"nagaya's":          {nginx.Settings{}, ""},
		"json":              {nginx.Settings{Nginx: config.Nginx{LogFormat: "json"}}, ""},
		"nginx-proxy's":     {nginx.Settings{NginxProxy: true}, ""},
		"off":               {nginx.Settings{Nginx: config.Nginx{AccessLog: "off"}}, "nginx.access-log is off"},
		"stdout":            {nginx.Settings{Nginx: config.Nginx{AccessLog: "/dev/fd/3"}}, "nginx.log-stdout"},
		"no space":          {nginx.Settings{Spaces: nginx.Spaces{Logs: nginx.Space{Dir: "/log", Low: true}}}, "too little space is left in /log"},
		"no status":         {nginx.Settings{Nginx: config.Nginx{LogFormat: "$host $request"}}, "$host and $status"},
		"no host":           {nginx.Settings{Nginx: config.Nginx{LogFormat: "$status"}}, "$host and $status"},
		"another log":       {says("http.d/x.conf", "access_log /elsewhere combined;"), "/etc/nagaya/nginx/http.d/x.conf says access_log for the whole http section; say 'access_log /log/access.log nagaya;' there too, and not off"},
		"another log too":   {says("http.d/x.conf", "access_log /elsewhere combined; access_log /log/access.log nagaya buffer=4k;"), ""},
		"off for all":       {says("http.d/x.conf", "access_log /log/access.log nagaya; access_log off;"), "and not off"},
		"one's own format":  {says("http.d/x.conf", "log_format nagaya escape=json '$host ' '$status';"), ""},
		"one's own, short":  {says("http.d/x.conf", "log_format nagaya '$status';"), "$host and $status"},
		"another of a site": {says("site.d/a.test.conf", "access_log off;"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			logs := logsOf(row.settings, table)
			c := New(noon)
			c.SetTable(table)
			r := c.Report(logs, "", nil)
			if got := r.Unavailable; row.want == "" && got != "" || !strings.Contains(got, row.want) {
				t.Errorf("unavailable: %q, want %q", got, row.want)
			}
			for _, h := range r.Hosts {
				if want := name == "another of a site" && h.Host == "a.test"; h.Elsewhere != want {
					t.Errorf("%s is logged elsewhere: %v", h.Host, h.Elsewhere)
				}
			}
		})
	}
}

// Where it is said that nothing is counted, nothing is.
func TestLinesWithoutAHost(t *testing.T) {
	table := tableOf("a.test /")
	for _, format := range []string{"$remote_addr - $status", "$status", "h=$host$status $request_time"} {
		logs := logsOf(nginx.Settings{Nginx: config.Nginx{LogFormat: format}}, table)
		c, f := New(noon), Compile(logs.Requests)
		c.SetTable(table)
		for _, text := range []string{"127.0.0.1 - 200", "200", "h=a.test200 0.001"} {
			if c.Request(&f, []byte(text), noon) {
				t.Errorf("%s counts %q", format, text)
			}
		}
		if r := c.Report(logs, "", nil); r.Unavailable == "" || len(r.Hosts) != 1 || r.Hosts[0].Requests.All() != 0 {
			t.Errorf("%s: %+v", format, r)
		}
	}
}

// What the log does not say is named, so that it is not mistaken for 0.
func TestMissing(t *testing.T) {
	ports := tableOf("a.test /")
	ports.Streams = []route.Stream{{Listen: route.Listen{Protocol: route.TCP, Port: 22}}}
	elsewhere := nginx.Settings{Snippets: []nginx.Snippet{{Name: "stream.d/x.conf", Text: "x", Says: []nginx.Directive{{Name: "access_log", Args: []string{"off"}}}}}}
	for name, row := range map[string]struct {
		settings nginx.Settings
		table    route.Table
		want     string
	}{
		"nagaya's":           {nginx.Settings{}, ports, ""},
		"json":               {nginx.Settings{Nginx: config.Nginx{LogFormat: "json"}}, ports, ""},
		"nginx-proxy's":      {nginx.Settings{NginxProxy: true}, ports, "seconds"},
		"one's own":          {nginx.Settings{Nginx: config.Nginx{LogFormat: "$host $status"}}, ports, "path bytes seconds failures"},
		"ports elsewhere":    {elsewhere, ports, "connections"},
		"there are no ports": {elsewhere, tableOf("a.test /"), ""},
		"nothing is counted": {nginx.Settings{Nginx: config.Nginx{AccessLog: "off"}}, ports, ""},
	} {
		c := New(noon)
		c.SetTable(row.table)
		if got := strings.Join(c.Report(logsOf(row.settings, row.table), "", nil).Missing, " "); got != row.want {
			t.Errorf("%s: missing %q, want %q", name, got, row.want)
		}
	}
}

// line is one of nagaya's own format.
func line(host, path string) []byte {
	return []byte(`203.0.113.7 - - [22/Nov/2026:12:00:00 +0000] ` + host + ` "GET ` + path + ` HTTP/1.1" 200 1234 "https://example.com/" "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0" 0.012 10.0.0.1:32768 0.011 200`)
}

func ownFormat() Format { return Compile(logsOf(nginx.Settings{}, tableOf()).Requests) }

func TestNames(t *testing.T) {
	table := tableOf("*.b.test /", "*.test /", "a.test /", "www.* /", `~^(x|y)\.com$ /`, `~^y.*$ /`, `~(?=pcre) /`)
	table.Sites[4].Since, table.Sites[5].Since = noon.Add(time.Hour), noon
	for name, row := range map[string]struct{ all, caught string }{
		"a.test": {"a.test", "a.test"}, "A.test:443": {"a.test", "a.test"}, "x.test": {"*.test", "*.test"}, "x.y.b.test": {"*.b.test", "*.b.test"},
		"b.test": {"*.test", "*.test"}, "test": {Other, "a.test"}, ".test": {Other, "a.test"}, "www.example.com": {"www.*", "www.*"}, "x.com": {`~^(x|y)\.com$`, `~^(x|y)\.com$`},
		"y.com": {`~^y.*$`, `~^y.*$`}, "": {Other, "a.test"}, "_": {Other, "a.test"}, "[::1]": {Other, "a.test"}, strings.Repeat("long.", 100) + "test": {Other, "a.test"},
	} {
		for catchAll, want := range map[bool]string{false: row.all, true: row.caught} {
			table.Sites[2].CatchAll = catchAll
			c, f := New(noon), ownFormat()
			c.SetTable(table)
			for range 2 { // the second time it is remembered
				c.Request(&f, line(name, "/"), noon)
			}
			if got := c.words(want); !strings.HasPrefix(got, "[0 2 0 0 0]") {
				t.Errorf("%q, catch-all %v: not counted for %s but %s", name, catchAll, want, got)
			}
		}
	}
}

func TestPaths(t *testing.T) {
	table := tableOf("a.test / /api /api/v2", "b.test /api /x")
	table.Sites[0].Locations = append(table.Sites[0].Locations,
		route.Location{Path: "/pre", Match: route.Prefix}, route.Location{Path: "/exact", Match: route.Exact},
		route.Location{Path: `\.php$`, Match: route.Regex}, route.Location{Path: `\.JPG$`, Match: route.RegexFold})
	for path, want := range map[string]string{
		"/": "/", "/apix": "/", "/api": "/api", "/api/": "/api", "/api?x=/api/v2": "/api", "/api/v2/x": "/api/v2", "/api/v22": "/api",
		"//api//v2": "/api/v2", "/x/../api/./v2": "/api/v2", "/%61pi": "/api", "/api%2fv2": "/api/v2", "/api/v2/..": "/api", "/..": "/", "/%zz%": "/",
		"/prefix": "/pre", "/exact": "= /exact", "/exact/": "/", "/api/x.php": `~ \.php$`, "/a.jpg": `~* \.JPG$`,
		"http://a.test/api/v2": "/api/v2", "http://a.test": "", "*": "", "": "", "/" + strings.Repeat("%61", 1000): "/", "/" + strings.Repeat("../", 1000): "/",
	} {
		c, f := New(noon), ownFormat()
		c.SetTable(table)
		if !c.Request(&f, line("a.test", path), noon) {
			t.Errorf("%.40q was not read", path)
		}
		got := ""
		for _, p := range c.Report(nginx.Logs{}, "", nil).Hosts[0].Paths {
			if p.Requests.All() > 0 {
				got += p.Path
			}
		}
		if got != want {
			t.Errorf("%.40q was counted for %q, want %q", path, got, want)
		}
	}
	for _, n := range []int{maxExpressions, maxExpressions + 1} {
		many := tableOf("a.test /")
		for i := range n {
			many.Sites[0].Locations = append(many.Sites[0].Locations, route.Location{Path: fmt.Sprintf(`/x*%d$`, i), Match: route.Regex})
		}
		c := New(noon)
		c.SetTable(many)
		if got := len(c.Report(nginx.Logs{}, "", nil).Hosts[0].Paths); got > 0 != (n == maxExpressions) {
			t.Errorf("%d paths are told apart where %d are expressions", got, n)
		}
	}
	c, f := New(noon), ownFormat()
	c.SetTable(table)
	c.Request(&f, line("b.test", "/"), noon)
	if h := c.Report(nginx.Logs{}, "", nil).Hosts[1]; h.Requests.All() != 1 || h.Pathless.All() != 1 || len(h.Paths) != 2 || h.Paths[0].Requests.All()+h.Paths[1].Requests.All() != 0 {
		t.Errorf("a request for no location: %+v", h)
	}
}

// People see the hosts with the most requests first, and what is not known.
func TestText(t *testing.T) {
	at := noon.In(time.FixedZone("JST", 9*3600)) // as the host's clock shows it
	r := Report{
		Since: noon.Add(-time.Hour), Missing: []string{"seconds", "failures"},
		Hosts: []Host{
			{Host: "a.test", Open: new(2), Counts: Counts{Requests: Classes{1, 7, 0, 1, 3}, Bytes: 5 << 20, Failures: 2, Last: noon.Add(-90 * time.Second), Seconds: Histogram{Buckets: [7]uint64{8, 2, 0, 0, 1}, Sum: 1.25}}, Paths: []Path{
				{Path: "/api", Counts: Counts{Requests: Classes{0, 2}, Bytes: 1023, Last: noon, Seconds: Histogram{Buckets: [7]uint64{2}, Sum: 0.001}}}, {Path: "/"},
			}},
			{Host: "b.test", Elsewhere: true},
			{Host: "c.test", Elsewhere: true, Counts: Counts{Requests: Classes{0, 100}, Last: noon.Add(time.Second), Seconds: Histogram{Buckets: [7]uint64{6: 100}, Sum: 6000}}},
		},
		Streams: []Stream{{Listen: "tcp:22", Connections: 3, Failures: 1, Received: 1 << 10, Sent: 3 << 40, Last: noon}, {Listen: "udp:53"}},
	}
	want := `Not counted, because nginx's log does not say it: times to answer, failures of containers.

HOST    PATH  REQUESTS   2XX  3XX  4XX  5XX  FAILED  SENT     MEAN    95 %     OPEN  LAST
c.test        100        100  0    0    0    0       0 B      60 s    > 10 s   -     0s ago
a.test        12         7    0    1    3    2       5.0 MiB  114 ms  ≤ 2.5 s  2     1m30s ago
        /api  2          2    0    0    0    0       1023 B   < 1 ms  ≤ 5 ms         0s ago
        /     0          0    0    0    0    0       0 B      -       -              never
b.test        elsewhere  0    0    0    0    0       0 B      -       -        -     never
c.test is logged elsewhere by a file of yours by now, and may not be counted.

PORT    CONNECTIONS  FAILED  RECEIVED  SENT     OPEN  LAST
tcp:22  3            1       1.0 KiB   3.0 TiB  -     0s ago
udp:53  0            0       0 B       0 B      -     never

since 2026-11-22 20:00:00 JST
`
	if d := cmp.Diff(want, r.Text(at, 0)); d != "" {
		t.Error(d)
	}
	if got := (Report{Unavailable: "it is off"}).Text(noon, 0); !strings.HasPrefix(got, "Requests are not counted: it is off.\n") {
		t.Errorf("%q", got)
	}
}

// The connections to a host's containers are counted once for each, however many of its locations lead there.
func TestOpenConnections(t *testing.T) {
	table := tableOf("a.test / /api", "b.test /", "c.test")
	one, other := netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:80")
	table.Sites[2].Passthrough = &route.StreamOptions{}
	table.Streams = []route.Stream{{Listen: route.Listen{Protocol: route.TCP, Port: 22}}, {Listen: route.Listen{Protocol: route.UDP, Port: 22}}}
	for key, servers := range map[route.PoolKey][]netip.AddrPort{
		{Host: "a.test", Path: "/"}: {one, other}, {Host: "a.test", Path: "/api"}: {other}, {Host: "b.test", Path: "/"}: {one}, {Host: "c.test", Match: "tls"}: {other}, {Host: "tcp:22"}: {one}, {Host: "udp:22"}: {one},
	} {
		var p route.Pool
		for _, at := range servers {
			p.Servers = append(p.Servers, route.Server{Addr: at})
		}
		table.Pools[key] = p
	}
	c := New(noon)
	c.SetTable(table)
	words := func(open map[netip.AddrPort]int) (s string) {
		r := c.Report(nginx.Logs{}, "", open)
		for _, h := range r.Hosts {
			s += h.Host + " " + opened(h.Open) + " "
		}
		for _, x := range r.Streams {
			s += x.Listen + " " + opened(x.Open) + " "
		}
		return s
	}
	for _, row := range []struct {
		open map[netip.AddrPort]int
		want string
	}{
		{nil, "a.test - b.test - c.test - tcp:22 - udp:22 - "},
		{map[netip.AddrPort]int{}, "a.test 0 b.test 0 c.test 0 tcp:22 0 udp:22 - "},
		{map[netip.AddrPort]int{one: 1, other: 20}, "a.test 21 b.test 1 c.test 20 tcp:22 1 udp:22 - "},
	} {
		if got := words(row.open); got != row.want {
			t.Errorf("%v: %s, want %s", row.open, got, row.want)
		}
	}
}

// What stays in the table goes on counting, and what goes and comes back starts over.
func TestTableChanges(t *testing.T) {
	c, f := New(noon), ownFormat()
	count := func() {
		for _, path := range []string{"/", "/api"} {
			c.Request(&f, line("a.test", path), noon)
		}
	}
	words := func() string {
		h := c.Report(nginx.Logs{}, "", nil).Hosts[0]
		s := fmt.Sprint(h.Host, " ", h.Requests.All())
		for _, p := range h.Paths {
			s += fmt.Sprint(" ", p.Path, " ", p.Requests.All())
		}
		return s
	}
	count()
	for _, step := range []struct {
		table route.Table
		want  string
	}{
		{tableOf("a.test / /api"), "a.test 2 /api 1 / 1"},
		{tableOf("a.test / /api", "b.test /"), "a.test 4 /api 2 / 2"},
		{route.Table{}, "a.test 6 /api 3 / 3"},
		{tableOf("a.test /"), "a.test 8"},
		{tableOf("a.test / /api"), "a.test 10 /api 1 / 1"},
		{tableOf(), "other 4"},
		{tableOf("a.test /"), "a.test 2"},
	} {
		c.SetTable(step.table)
		count()
		if got := words(); got != step.want {
			t.Errorf("%s, want %s", got, step.want)
		}
	}
}

func TestSessions(t *testing.T) {
	table := tableOf()
	for _, l := range []route.Listen{{Protocol: route.TCP, Port: 2222}, {Protocol: route.TLS, Port: 8883}, {Protocol: route.UDP, Port: 2222}} {
		table.Streams = append(table.Streams, route.Stream{Listen: l})
	}
	f := Compile(logsOf(nginx.Settings{}, table).Sessions)
	c := New(noon)
	c.SetTable(table)
	for line, want := range map[string]bool{
		"203.0.113.7 [22/Nov/2026:12:00:00 +0000] TCP 2222 200 100 10 0.012 10.0.0.1:22":                                         true,
		"203.0.113.7 [22/Nov/2026:12:00:00 +0000] TCP 2222 502 0 10 0.012 10.0.0.1:22, 10.0.0.2:22":                              true,
		"203.0.113.7 [22/Nov/2026:12:00:00 +0000] TCP 8883 200 1 2 0.012 10.0.0.1:22":                                            true,
		"203.0.113.7 [22/Nov/2026:12:00:00 +0000] UDP 2222 200 3 4 0.012 10.0.0.1:22":                                            true,
		"203.0.113.7 [22/Nov/2026:12:00:00 +0000] UDP 8883 200 3 4 0.012 10.0.0.1:22":                                            false,
		"203.0.113.7 [22/Nov/2026:12:00:00 +0000] TCP 67758 200 3 4 0.012 10.0.0.1:22":                                           false,
		"203.0.113.7 [22/Nov/2026:12:00:00 +0000] TCP  200 3 4 0.012 10.0.0.1:22":                                                false,
		`203.0.113.7 - - [22/Nov/2026:12:00:00 +0000] a.test "GET / HTTP/1.1" 200 1234 "-" "curl/8" 0.012 10.0.0.1:80 0.011 200`: false,
	} {
		if got := c.Session(&f, []byte(line), noon); got != want {
			t.Errorf("%s: counted %v", line, got)
		}
	}
	want := []Stream{
		{Listen: "tcp:2222", Connections: 2, Received: 20, Sent: 100, Failures: 1, Last: noon},
		{Listen: "tls:8883", Connections: 1, Received: 2, Sent: 1, Last: noon},
		{Listen: "udp:2222", Connections: 1, Received: 4, Sent: 3, Last: noon},
	}
	if d := cmp.Diff(want, c.Report(nginx.Logs{}, "", nil).Streams); d != "" {
		t.Error(d)
	}
}

// However many names and paths clients ask for, the memory stays what the table needs.
func TestManyNamesAndPaths(t *testing.T) {
	table := tableOf("*.test / /api")
	for i := range 600 {
		table.Sites = append(table.Sites, tableOf(fmt.Sprintf("h%03d.example / /api", i)).Sites...)
	}
	c, f := New(noon), ownFormat()
	c.SetTable(table)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	short := Compile(nginx.Log{Format: "$host $request_uri $status"})
	var text []byte
	before := heap()
	for i := range 1_000_000 {
		text = append(strconv.AppendInt(text[:0], int64(i), 10), []string{".test", ".evil"}[i%2]+" /api/"...)
		text = append(strconv.AppendInt(text, int64(i), 10), " 200"...)
		c.Request(&short, text, noon)
	}
	c.Request(&f, line("h599.example", "/"), noon)
	if grown := int64(heap()) - int64(before); grown > 1<<20 {
		t.Errorf("the memory has grown by %d bytes", grown)
	}
	r := c.Report(nginx.Logs{}, "", nil)
	if len(r.Hosts) != maxHosts+1 || r.Hosts[0].Requests.All() != 500_000 || r.Hosts[maxHosts].Requests.All() != 500_001 {
		t.Errorf("%d hosts, the first with %d requests", len(r.Hosts), r.Hosts[0].Requests.All())
	}
}

// escaped is a value as nginx logs it (nginx source, ngx_http_log_escape and ngx_escape_json).
func escaped(s, how string) string {
	var out strings.Builder
	for _, b := range []byte(s) {
		switch {
		case how == "json" && (b == '"' || b == '\\'):
			out.WriteString(`\` + string(b))
		case how == "json" && b < 0x20:
			fmt.Fprintf(&out, `\u%04X`, b)
		case how == "default" && (b == '"' || b == '\\' || b < 0x20 || b > 0x7e):
			fmt.Fprintf(&out, `\x%02X`, b)
		default:
			out.WriteByte(b)
		}
	}
	if s == "" && how == "default" {
		return "-"
	}
	return out.String()
}

// Whatever a client says, its request is counted for no host but its own and no status but its own, and nothing is
// counted twice.
func FuzzLine(f *testing.F) {
	f.Add("user", "GET / HTTP/1.1", "https://a.test/", "curl")
	f.Add(`x [y] b.test "GET / HTTP/1.1" 500 0`, `GET /" 500 0 "-" "-`, `" "x" 9.999`, `","status":"500"`)
	f.Add(`\`, `\`, `\`, `\`)
	table := tableOf("a.test / /api", "b.test /")
	var all []struct {
		logs nginx.Log
		f    Format
	}
	for _, s := range []nginx.Settings{{}, {Nginx: config.Nginx{LogFormat: "json"}}, {NginxProxy: true}, {Nginx: config.Nginx{LogEscape: "json", LogFormat: `"$http_user_agent" "$request" "$host" "$status" "$remote_user" `}}} {
		l := logsOf(s, table).Requests
		all = append(all, struct {
			logs nginx.Log
			f    Format
		}{l, Compile(l)})
	}
	f.Fuzz(func(t *testing.T, user, request, referer, agent string) {
		for _, one := range all {
			said := map[string]string{
				"nagaya_log_host": "a.test", "host": "a.test", "status": "204", "body_bytes_sent": "7", "request_time": "0.001", "remote_addr": "203.0.113.7", "time_local": "22/Nov/2026:12:00:00 +0000",
				"nagaya_log_user": user, "remote_user": user, "nagaya_log_request": request, "request": request, "nagaya_log_referer": referer, "nagaya_log_user_agent": agent, "http_user_agent": agent,
			}
			text := variable.ReplaceAllStringFunc(one.logs.Format, func(name string) string {
				return escaped(said[strings.Trim(name, "${}")], one.logs.Escape)
			})
			c := New(noon)
			c.SetTable(table)
			if !c.Request(&one.f, []byte(text), noon) {
				t.Fatalf("not read: %s", text)
			}
			r := c.Report(nginx.Logs{}, "", nil)
			sum := Classes{}
			for _, h := range r.Hosts {
				for i, n := range h.Requests {
					sum[i] += n
				}
				if h.Host != "a.test" && h.Requests.All() > 0 {
					t.Errorf("counted for %s: %s", h.Host, text)
				}
			}
			if sum != (Classes{0, 1, 0, 0, 0}) {
				t.Errorf("counted %v: %s", sum, text)
			}
			// A line that is anything.
			c.Request(&one.f, []byte(request), noon)
			c.Session(&one.f, []byte(request), noon)
		}
	})
}

func BenchmarkLine(b *testing.B) {
	table := tableOf("*.test / /api", "~^x / /api")
	for i := range 200 {
		table.Sites = append(table.Sites, tableOf(fmt.Sprintf("h%03d.example / /api /static /img", i)).Sites...)
	}
	c, f := New(noon), ownFormat()
	c.SetTable(table)
	for name, l := range map[string][]byte{"site": line("h100.example", "/img/logo.png?v=3"), "escaped": line("h100.example", "/a/../%61pi/x"), "expression": line("xyz.com", "/api")} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.Request(&f, l, noon)
			}
		})
	}
	b.Run("strangers", func(b *testing.B) {
		var all [4096][]byte
		for i := range all {
			all[i] = line(fmt.Sprintf("stranger%d.example", i), "/")
		}
		for i := 0; b.Loop(); i++ {
			c.Request(&f, all[i%len(all)], noon)
		}
	})
}
