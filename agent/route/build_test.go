package route_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/config"
	requests "github.com/nagaya-ecs/nagaya/agent/labels"
	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	. "github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

var (
	local       = netip.MustParseAddr("10.0.0.5")
	noon        = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	equalValues = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})}
)

// web is a healthy bridge container with a dynamic host port, started a minute
// before noon; change makes it another one.
func web(id string, change ...func(*tasks.Container)) tasks.Container {
	c := tasks.Container{
		ID: id, Name: id,
		Labels:    map[string]string{"nagaya.host": "a.example.com"},
		State:     tasks.Running,
		Health:    tasks.Healthy,
		CreatedAt: noon.Add(-time.Minute), StartedAt: noon.Add(-time.Minute),
		Network: tasks.Bridge,
		Ports:   []tasks.Port{{Container: 80, Protocol: "tcp", Host: 32768}},
		Addrs:   []netip.Addr{netip.MustParseAddr("172.17.0.2")},
		Task:    tasks.TaskRef{Family: "web", Revision: "1", ContainerName: "app"},
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

type edit = func(*tasks.Container)

func labels(kv ...string) edit {
	return func(c *tasks.Container) {
		c.Labels = map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			c.Labels[kv[i]] = kv[i+1]
		}
	}
}

func env(kv ...string) edit {
	return func(c *tasks.Container) {
		c.Labels, c.Env = nil, map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			c.Env[kv[i]] = kv[i+1]
		}
	}
}

func hostPort(n uint16) edit { return func(c *tasks.Container) { c.Ports[0].Host = n } }

func healthIs(h tasks.Health) edit { return func(c *tasks.Container) { c.Health = h } }

func stateIs(s tasks.State) edit { return func(c *tasks.Container) { c.State = s } }

func stopping(c *tasks.Container) { c.Stopping = true }

func of(family string) edit { return func(c *tasks.Container) { c.Task.Family = family } }

func age(d time.Duration) edit {
	return func(c *tasks.Container) { c.CreatedAt, c.StartedAt = noon.Add(-d), noon.Add(-d) }
}

func input(cs ...tasks.Container) Input {
	return Input{
		Snapshot: tasks.Snapshot{Complete: true, Containers: cs},
		Certs:    certs.Inventory{Complete: true},
		Nginx:    NginxNetwork{Host: local}, Now: noon,
	}
}

// build reads what the containers ask for and makes the table of it.
func build(in Input) Table { return buildSharing(in, false) }

// expressive are the defaults where containers may use regular expressions.
func expressive() requests.Defaults {
	d := requests.Configured(config.Default())
	d.Expressions = true
	return d
}

func buildSharing(in Input, share bool) Table {
	in.Requests = requests.Requests(in.Snapshot.Containers, expressive(), nginxproxy.Reader(share))
	return Build(in)
}

const (
	proxyLabel  = "com.github.nginx-proxy.nginx-proxy."
	proxyHSTS   = "max-age=31536000"
	maxProblems = 8
)

func addrs(servers []Server) string {
	var b strings.Builder
	for _, s := range servers {
		b.WriteString(" " + s.Addr.String())
	}
	return b.String()
}

// firstServers are those of the first path of the first site.
func firstServers(t Table) []Server {
	return t.Pools[t.Sites[0].PoolKey(t.Sites[0].Locations[0])].Servers
}

// lines is the table in short: a line for each location, then what waits, then
// the problems as "severity code".
func lines(t Table) string {
	var b strings.Builder
	for _, s := range t.Sites {
		for _, l := range s.Locations {
			var to []string
			for _, srv := range t.Pools[s.PoolKey(l)].Servers {
				to = append(to, srv.Addr.String())
			}
			fmt.Fprintf(&b, "%s%s %s %s\n", s.Host, l.Path, l.Scheme, strings.Join(to, " "))
		}
		if s.Passthrough != nil {
			fmt.Fprintf(&b, "%s %s, passed to%s\n", s.Host, s.Plain, addrs(t.Pools[s.PassthroughKey()].Servers))
		}
	}
	for _, s := range t.Streams {
		fmt.Fprintf(&b, "%s%s\n", s.Listen, addrs(t.Pools[s.PoolKey()].Servers))
	}
	for _, w := range t.Waiting {
		fmt.Fprintf(&b, "waits %s%s %s %s\n", w.Host, w.Path, w.Ref, w.Why)
	}
	for _, p := range t.Problems {
		fmt.Fprintf(&b, "%s %s\n", p.Severity, p.Code)
	}
	return b.String()
}

func TestBuild(t *testing.T) {
	tests := []struct {
		name string
		list []tasks.Container
		want string
	}{
		{name: "nothing"},
		{"published port: the local address", []tasks.Container{web("a")}, "a.example.com/ http 10.0.0.5:32768\n"},
		{
			"nothing published: the container's address",
			[]tasks.Container{web("a", hostPort(0))},
			"a.example.com/ http 172.17.0.2:80\n",
		},
		{
			"published on loopback only: the container's address",
			[]tasks.Container{web("a", func(c *tasks.Container) { c.Ports[0].HostIP = netip.MustParseAddr("127.0.0.1") })},
			"a.example.com/ http 172.17.0.2:80\n",
		},
		{
			"published on one address: that address",
			[]tasks.Container{web("a", func(c *tasks.Container) { c.Ports[0].HostIP = netip.MustParseAddr("10.9.9.9") })},
			"a.example.com/ http 10.9.9.9:32768\n",
		},
		{
			"a container with an address of IPv6 only",
			[]tasks.Container{web("a", hostPort(0), func(c *tasks.Container) { c.Addrs = []netip.Addr{netip.MustParseAddr("fd00::2")} })},
			"a.example.com/ http [fd00::2]:80\n",
		},
		{
			"several networks: the first address, IPv4 before IPv6",
			[]tasks.Container{web("a", hostPort(0), func(c *tasks.Container) {
				c.Addrs = []netip.Addr{netip.MustParseAddr("172.18.0.2"), netip.MustParseAddr("172.19.0.2"), netip.MustParseAddr("fd00::2")}
			})},
			"a.example.com/ http 172.18.0.2:80\n",
		},
		{
			"no network: nowhere to go",
			[]tasks.Container{web("a", hostPort(0), func(c *tasks.Container) { c.Network, c.Addrs = tasks.None, nil })},
			"waits a.example.com/ web:1/app no-address\nerror container-no-address\n",
		},
		{
			"other programs' labels are none of nagaya's business",
			[]tasks.Container{web("a", labels("nagaya.host", "a.example.com", "traefik.enable", "true", "traefik.http.routers.x.rule", "Host(`x`)", "caddy", "x.test", "nagayax.host", "b.test"))},
			"a.example.com/ http 10.0.0.5:32768\n",
		},
		{
			"another dynamic port for IPv6: that of the local address's family",
			[]tasks.Container{web("a", func(c *tasks.Container) {
				six := c.Ports[0]
				six.HostIP, six.Host = netip.IPv6Unspecified(), 32767
				c.Ports = append([]tasks.Port{six}, c.Ports...)
			})},
			"a.example.com/ http 10.0.0.5:32768\n",
		},
		{
			"published on IPv6 only: the container's address",
			[]tasks.Container{web("a", func(c *tasks.Container) { c.Ports[0].HostIP = netip.IPv6Unspecified() })},
			"a.example.com/ http 172.17.0.2:80\n",
		},
		{
			"host mode: the local address and the container port",
			[]tasks.Container{web("a", labels("nagaya.host", "a.example.com", "nagaya.port", "8080"), func(c *tasks.Container) { c.Network, c.Ports, c.Addrs = tasks.Host, nil, nil })},
			"a.example.com/ http 10.0.0.5:8080\n",
		},
		{
			"host mode without a port",
			[]tasks.Container{web("a", func(c *tasks.Container) { c.Network, c.Ports, c.Addrs = tasks.Host, nil, nil })},
			"error port-unclear\n",
		},
		{
			"a path without a port",
			[]tasks.Container{web("a", labels("nagaya.host", "a.example.com", "nagaya.port", "8080", "nagaya.x.host", "a.example.com", "nagaya.x.path", "/x"),
				func(c *tasks.Container) { c.Network, c.Ports, c.Addrs = tasks.Host, nil, nil })},
			"a.example.com/ http 10.0.0.5:8080\nerror port-unclear\n",
		},
		{
			"a path without a port that is not for everybody: no other route gets its requests",
			[]tasks.Container{web("a", labels("nagaya.host", "a.example.com,b.example.com", "nagaya.port", "8080", "nagaya.x.host", "a.example.com", "nagaya.x.path", "/x", "nagaya.x.allow", "10.0.0.0/8"),
				func(c *tasks.Container) { c.Network, c.Ports, c.Addrs = tasks.Host, nil, nil })},
			"b.example.com/ http 10.0.0.5:8080\nwaits a.example.com/ web:1/app unguarded\nerror port-unclear\nerror route-not-guarded\n",
		},
		{
			"host mode with nginx's own port would be a loop",
			[]tasks.Container{web("a", labels("nagaya.host", "a.example.com", "nagaya.port", "80"), func(c *tasks.Container) { c.Network, c.Ports = tasks.Host, nil })},
			"error port-is-nginx\n",
		},
		{
			"awsvpc: the task's own address",
			[]tasks.Container{web("a", hostPort(0), func(c *tasks.Container) {
				c.Network, c.Addrs = tasks.AWSVPC, []netip.Addr{netip.MustParseAddr("10.0.12.34")}
			})},
			"a.example.com/ http 10.0.12.34:80\n",
		},
		{
			"awsvpc before the agent told the address",
			[]tasks.Container{web("a", hostPort(0), func(c *tasks.Container) { c.Network, c.Addrs = tasks.None, nil })},
			"waits a.example.com/ web:1/app no-address\nerror container-no-address\n",
		},
		{
			"https by the port",
			[]tasks.Container{web("a", func(c *tasks.Container) { c.Ports[0].Container = 443 })},
			"a.example.com/ https 10.0.0.5:32768\n",
		},
		{
			"two ports, one of them 80",
			[]tasks.Container{web("a", func(c *tasks.Container) {
				c.Ports = append(c.Ports, tasks.Port{Container: 9000, Protocol: "tcp", Host: 32769})
			})},
			"a.example.com/ http 10.0.0.5:32768\n",
		},
		{
			"two ports, none of them 80",
			[]tasks.Container{web("a", func(c *tasks.Container) {
				c.Ports = []tasks.Port{{Container: 8000, Protocol: "tcp", Host: 1}, {Container: 9000, Protocol: "tcp", Host: 2}}
			})},
			"error port-unclear\n",
		},
		{
			"a published port of SSH among others",
			[]tasks.Container{web("a", func(c *tasks.Container) {
				c.Ports = []tasks.Port{{Container: 22, Protocol: "tcp", Host: 2222}, {Container: 80, Protocol: "tcp"}, {Container: 443, Protocol: "tcp"}}
			})},
			"a.example.com/ http 172.17.0.2:80\n",
		},
		{
			"a database beside the only other port",
			[]tasks.Container{web("a", func(c *tasks.Container) {
				c.Ports = []tasks.Port{{Container: 5432, Protocol: "tcp", Host: 5432}, {Container: 8080, Protocol: "tcp"}}
			})},
			"a.example.com/ http 172.17.0.2:8080\n",
		},
		{
			"several routes of one container",
			[]tasks.Container{web("a", labels("nagaya.web.host", "a.example.com", "nagaya.api.host", "a.example.com", "nagaya.api.path", "/api/", "nagaya.api.port", "9000", "nagaya.api.strip-prefix", "true"))},
			"a.example.com/api http 172.17.0.2:9000\na.example.com/ http 10.0.0.5:32768\n",
		},
		{
			"one broken route of two",
			[]tasks.Container{web("a", labels("nagaya.web.host", "a.example.com", "nagaya.api.host", "b.example.com", "nagaya.api.port", "http"))},
			"a.example.com/ http 10.0.0.5:32768\nerror label-invalid\n",
		},
		{
			"a hostile container harms nobody",
			[]tasks.Container{web("a"), web("b", of("evil"), labels("nagaya.host", "x.test; return 200 injected; } server {", "nagaya.path", "/../../etc"))},
			"a.example.com/ http 10.0.0.5:32768\nerror label-invalid\nerror label-invalid\n",
		},
		{
			"a host that another family holds: the earliest keeps it",
			[]tasks.Container{web("a", age(time.Hour)), web("b", of("evil"), age(2*time.Minute), hostPort(1000))},
			"a.example.com/ http 10.0.0.5:32768\nwaits a.example.com/ evil:1/app taken\nerror host-taken\n",
		},
		{
			"no path of a host that another family holds, however free it is",
			[]tasks.Container{web("a", age(time.Hour)), web("b", of("evil"), hostPort(1000), labels("nagaya.host", "a.example.com,b.example.com", "nagaya.path", "/login"))},
			"a.example.com/ http 10.0.0.5:32768\nb.example.com/login http 10.0.0.5:1000\nwaits a.example.com/login evil:1/app taken\nerror host-taken\n",
		},
		{
			"a family may spread a host over its containers by path",
			[]tasks.Container{web("a"), web("b", hostPort(1000), labels("nagaya.host", "a.example.com", "nagaya.path", "/api"))},
			"a.example.com/api http 10.0.0.5:1000\na.example.com/ http 10.0.0.5:32768\n",
		},
		{
			"a holder that is not ready holds too",
			[]tasks.Container{web("a", age(time.Hour), healthIs(tasks.Starting)), web("b", of("evil"), hostPort(1000))},
			"waits a.example.com/ evil:1/app taken\nwaits a.example.com/ web:1/app starting\nerror host-taken\n",
		},
		{
			"two containers of a family share the load",
			[]tasks.Container{web("a"), web("b", hostPort(32769))},
			"a.example.com/ http 10.0.0.5:32768 10.0.0.5:32769\n",
		},
		{
			"going containers are out",
			[]tasks.Container{web("a"), web("b", hostPort(2), stopping), web("c", hostPort(3), stateIs(tasks.Paused)), web("d", hostPort(4), stateIs(tasks.Created))},
			"a.example.com/ http 10.0.0.5:32768\nwaits a.example.com/ web:1/app stopping\nwaits a.example.com/ web:1/app paused\n",
		},
		{
			"an unhealthy one is out while a healthy one is there",
			[]tasks.Container{web("a"), web("b", hostPort(2), healthIs(tasks.Unhealthy))},
			"a.example.com/ http 10.0.0.5:32768\nwaits a.example.com/ web:1/app unhealthy\nwarning container-unhealthy\n",
		},
		{
			"all unhealthy: better some answer than none",
			[]tasks.Container{web("a", healthIs(tasks.Unhealthy)), web("b", hostPort(2), healthIs(tasks.Unhealthy)), web("c", hostPort(3), healthIs(tasks.Starting))},
			"a.example.com/ http 10.0.0.5:2 10.0.0.5:32768\nwaits a.example.com/ web:1/app starting\nerror container-unhealthy\n",
		},
		{
			"starting: not routed yet",
			[]tasks.Container{web("a", healthIs(tasks.Starting))},
			"waits a.example.com/ web:1/app starting\n",
		},
		{
			"crash loop",
			[]tasks.Container{web("a", stateIs(tasks.Restarting), func(c *tasks.Container) { c.ExitCode, c.OOMKilled = 137, true })},
			"waits a.example.com/ web:1/app restarting\nerror container-exited\n",
		},
		{
			"crashed",
			[]tasks.Container{web("a", stateIs(tasks.Exited), func(c *tasks.Container) { c.ExitCode, c.FinishedAt = 2, noon.Add(-time.Second) })},
			"error container-exited\n",
		},
		{
			"crashed long ago",
			[]tasks.Container{web("a", stateIs(tasks.Exited), func(c *tasks.Container) { c.ExitCode, c.FinishedAt = 2, noon.Add(-time.Hour) })},
			"",
		},
		{
			"stopped on purpose",
			[]tasks.Container{web("a", stateIs(tasks.Exited), stopping, func(c *tasks.Container) { c.ExitCode, c.FinishedAt = 143, noon.Add(-time.Second) })},
			"",
		},
		{
			"replaced",
			[]tasks.Container{web("a", stateIs(tasks.Exited), func(c *tasks.Container) { c.ExitCode, c.FinishedAt = 143, noon.Add(-time.Second) }), web("b")},
			"a.example.com/ http 10.0.0.5:32768\n",
		},
		{
			"batch containers have no routes",
			[]tasks.Container{web("a", func(c *tasks.Container) { c.Env = map[string]string{"AWS_BATCH_JOB_ID": "1"} })},
			"",
		},
		{
			"a container that takes nginx's port",
			[]tasks.Container{web("a", hostPort(443))},
			"a.example.com/ http 10.0.0.5:443\nerror host-port-taken\n",
		},
		{
			"unknown label",
			[]tasks.Container{web("a", labels("nagaya.host", "a.example.com", "nagaya.prot", "80"))},
			"a.example.com/ http 10.0.0.5:32768\nwarning label-unknown\n",
		},
		{
			"a misspelt allow does not open the route",
			[]tasks.Container{web("a", labels("nagaya.host", "a.example.com", "nagaya.alow", "10.0.0.0/8"))},
			"error label-unknown\n",
		},
		{
			"no host, no route",
			[]tasks.Container{web("a", labels("nagaya.port", "80"))},
			"warning route-without-host\n",
		},
		{
			"an nginx without its stream module",
			[]tasks.Container{web("a", labels("nagaya.host", "a.example.com", "nagaya.tls", "passthrough")), web("b", labels("nagaya.listen", "tcp:2222"))},
			"error nginx-without-stream\nerror nginx-without-stream\n",
		},
		{
			"nginx-proxy's words",
			[]tasks.Container{web("a", env("VIRTUAL_HOST", "A.example.com b.example.com", "VIRTUAL_PORT", "9000", "VIRTUAL_PROTO", "https", "VIRTUAL_PATH", "/x/", "VIRTUAL_DEST", "/", "LETSENCRYPT_HOST", "anything;"))},
			"a.example.com/x/ https 172.17.0.2:9000\nb.example.com/x/ https 172.17.0.2:9000\n",
		},
		{
			"nginx-proxy's words with a label over them",
			[]tasks.Container{web("a", env("VIRTUAL_HOST", "a.example.com", "VIRTUAL_PORT", "9000"), func(c *tasks.Container) { c.Labels = map[string]string{"nagaya.port": "80"} })},
			"a.example.com/ http 10.0.0.5:32768\n",
		},
		{
			"a Python image behind nginx-proxy's words, and one with a mistake in them",
			[]tasks.Container{web("a", env("VIRTUAL_HOST", "a.example.com", "VIRTUAL_ENV", "/opt/venv")), web("b", of("b"), env("VIRTUAL_HOST", "b.example.com", "VIRTUAL_PROT", "80"))},
			"a.example.com/ http 10.0.0.5:32768\nb.example.com/ http 10.0.0.5:32768\nwarning label-unknown\n",
		},
		{
			"a regular expression of nginx-proxy",
			[]tasks.Container{web("a", env("VIRTUAL_HOST", `~^www[0-9]+\.`))},
			"~^www[0-9]+\\./ http 10.0.0.5:32768\n",
		},
		{
			"labels before nginx-proxy's words",
			[]tasks.Container{web("a", env("VIRTUAL_HOST", "b.example.com", "VIRTUAL_PORT", "garbage"), func(c *tasks.Container) { c.Labels = map[string]string{"nagaya.host": "a.example.com"} })},
			"a.example.com/ http 10.0.0.5:32768\n",
		},
		{
			"a new version that speaks another scheme replaces the old one at once",
			[]tasks.Container{web("old", age(time.Hour)), web("new", hostPort(2), labels("nagaya.host", "a.example.com", "nagaya.scheme", "https"))},
			"a.example.com/ https 10.0.0.5:2\nwaits a.example.com/ web:1/app other-version\n",
		},
		{
			"a Compose service is a family",
			[]tasks.Container{composed("a", "shop", 1), composed("b", "shop", 2)},
			"a.example.com/ http 10.0.0.5:1 10.0.0.5:2\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := build(input(tt.list...))
			if d := cmp.Diff(tt.want, lines(got)); d != "" {
				t.Errorf("table (-want +got):\n%s\n%+v", d, got.Problems)
			}
			checkTable(t, got)
		})
	}
}

func composed(id, project string, host uint16) tasks.Container {
	return web(id, hostPort(host), func(c *tasks.Container) {
		c.Task = tasks.TaskRef{}
		c.Labels[tasks.LabelComposeProject], c.Labels[tasks.LabelComposeService] = project, "web"
	})
}

func TestLocationOfAllLabels(t *testing.T) {
	c := web("a", labels(
		"nagaya.host", "a.example.com", "nagaya.path", "/api", "nagaya.strip-prefix", "true", "nagaya.port", "80",
		"nagaya.scheme", "grpc", "nagaya.weight", "7", "nagaya.balance", "least-conn", "nagaya.body-size", "10m",
		"nagaya.timeout", "5m", "nagaya.buffering", "off", "nagaya.auth", "team", "nagaya.allow", "10.1.2.3/8, 192.0.2.1",
	))
	want := Table{Complete: true, Shape: Shape{Sites: []Site{{
		Host: "a.example.com", Family: "ecs:web", Plain: Serve,
		Locations: []Location{{
			Path: "/api", StripPrefix: true, Scheme: GRPC, Balance: LeastConn,
			BodySize: 10 << 20, Timeout: 5 * time.Minute, Auth: "team",
			Asked: []string{AskedBodySize, AskedBuffering, AskedTimeout},
			Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32")},
		}},
	}}}, Pools: Pools{{Host: "a.example.com", Path: "/api"}: {Servers: []Server{{
		Addr: netip.MustParseAddrPort("10.0.0.5:32768"), Weight: 7, Container: "a", Ref: "web:1/app",
	}}}}}
	got := build(input(c))
	if d := cmp.Diff(want, got, equalValues, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(Table{}, "Published")); d != "" {
		t.Errorf("table (-want +got):\n%s", d)
	}
	plain := build(input(web("a"))).Sites[0].Locations[0]
	if plain.BodySize != 1<<20 || plain.Timeout != time.Minute || !plain.Buffering {
		t.Errorf("defaults = %+v", plain)
	}
}

func TestReadinessByProbe(t *testing.T) {
	young := web("a", healthIs(tasks.NoCheck), age(2*time.Second))
	old := web("a", healthIs(tasks.NoCheck))
	path := web("a", labels("nagaya.host", "*.example.com,b.example.com", "nagaya.health", "/up"))
	tcp := func(c tasks.Container) Probe {
		// The probe goes to the container, the requests to the published port.
		return Probe{Addr: netip.MustParseAddrPort("172.17.0.2:80"), Container: "a", Started: c.StartedAt, Scheme: HTTP}
	}
	get := tcp(path)
	get.Path, get.Scheme, get.Host = "/up", HTTP, "b.example.com"

	tests := []struct {
		name  string
		c     tasks.Container
		probe Probe
		state ReachState
		want  string
		next  time.Time
	}{
		{name: "not tried", c: young, probe: tcp(young), want: "waits a.example.com/ web:1/app starting\n", next: noon.Add(8 * time.Second)},
		{name: "refused, young", c: young, probe: tcp(young), state: Unreachable, want: "waits a.example.com/ web:1/app starting\n", next: noon.Add(8 * time.Second)},
		{name: "refused, late", c: old, probe: tcp(old), state: Unreachable, want: "waits a.example.com/ web:1/app not-listening\nerror container-not-listening\n"},
		{name: "connects", c: young, probe: tcp(young), state: Reachable, want: "a.example.com/ http 10.0.0.5:32768\n"},
		{name: "the answer of its predecessor does not count", c: old, probe: tcp(young), state: Reachable, want: "waits a.example.com/ web:1/app starting\n"},
		{name: "health path good", c: path, probe: get, state: Reachable, want: "*.example.com/ http 10.0.0.5:32768\nb.example.com/ http 10.0.0.5:32768\n"},
		{name: "health path fails: kept, being the only one", c: path, probe: get, state: Failing, want: "*.example.com/ http 10.0.0.5:32768\nb.example.com/ http 10.0.0.5:32768\nerror container-unhealthy\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := input(tt.c)
			in.Reach = Reach{tt.probe: {State: tt.state, Detail: "connection refused"}}
			got := build(in)
			if d := cmp.Diff(tt.want, lines(got)); d != "" {
				t.Errorf("table (-want +got):\n%s", d)
			}
			if tt.name != "the answer of its predecessor does not count" && !slices.Equal(got.Probes, []Probe{tt.probe}) {
				t.Errorf("probes = %+v, want %+v", got.Probes, tt.probe)
			}
			if !got.Next.Equal(tt.next) {
				t.Errorf("next = %s, want %s", got.Next, tt.next)
			}
		})
	}
}

// What is no HTTP is routed all the same, and the route's state and a problem say it.
func TestAContainerThatSpeaksSomethingElse(t *testing.T) {
	ssh := "SSH-2.0-OpenSSH_9.2p1 \x1b[31m\r\n"
	for scheme, want := range map[string]string{
		"http":  `a.example.com expects HTTP on port 22, and what answers at 172.17.0.2:22 speaks something else: it begins with "SSH-2.0-OpenSSH_9.2p1 \x1b[31m\r\n"`,
		"https": `a.example.com expects HTTPS on port 22, and what answers at 172.17.0.2:22 speaks something else: it begins with "SSH-2.0-OpenSSH_9.2p1 \x1b[31m\r\n"`,
	} {
		in := input(web("a", healthIs(tasks.NoCheck), labels("nagaya.host", "a.example.com", "nagaya.port", "22", "nagaya.scheme", scheme)))
		in.Reach = Reach{build(in).Probes[0]: {State: Reachable, Said: ssh}}
		got := build(in)
		if d := cmp.Diff("a.example.com/ "+scheme+" 172.17.0.2:22\nerror container-wrong-protocol\n", lines(got)); d != "" {
			t.Errorf("table (-want +got):\n%s", d)
		}
		if text := strings.Fields(got.Text(0)); got.Problems[0].Text != want || !slices.Contains(text, "wrong-protocol") {
			t.Errorf("%s\n%s\nwant %s", got.Text(0), got.Problems[0].Text, want)
		}
	}
	in := input(web("a", healthIs(tasks.NoCheck), labels("nagaya.host", "a.example.com", "nagaya.listen", "tcp:2222", "nagaya.port", "22")))
	in.Options.Stream = true
	if p := build(in).Probes[0]; p.Scheme != "" {
		t.Errorf("a port without HTTP is asked for %s", p.Scheme)
	}
}

func TestOneBadNameCostsItselfAlone(t *testing.T) {
	got := build(input(web("a", labels("nagaya.host", "a.example.com,a..b.example.com, b.example.com,x!", "nagaya.b.host", "_"))))
	if d := cmp.Diff("a.example.com/ http 10.0.0.5:32768\nb.example.com/ http 10.0.0.5:32768\nerror label-invalid\nerror label-invalid\n", lines(got)); d != "" {
		t.Error(d)
	}
	want := `"a..b.example.com" is not a DNS name (letters, digits, hyphens, underscores and dots; *. or a dot only in front), nor an IPv6 address in brackets; wrong too: "x!"; the others are used`
	if !slices.ContainsFunc(got.Problems, func(p problem.Problem) bool { return strings.HasSuffix(p.Text, want) }) {
		t.Errorf("%+v", got.Problems)
	}
}

func TestHolderKeepsItsHost(t *testing.T) {
	newcomer := web("b", of("evil"), age(time.Hour), hostPort(2), labels("nagaya.host", "a.example.com", "nagaya.path", "/login")) // created earlier
	in := input(web("a", age(time.Minute)))
	in.Prev = build(in)
	in.Snapshot.Containers = append(in.Snapshot.Containers, newcomer)
	taken := "waits a.example.com/login evil:1/app taken\nerror host-taken\n"
	if d := cmp.Diff("a.example.com/ http 10.0.0.5:32768\n"+taken, lines(build(in))); d != "" {
		t.Errorf("beside the holder (-want +got):\n%s", d)
	}

	// The holder's last container goes: the host is its own for the grace period.
	in.Snapshot.Containers = []tasks.Container{newcomer}
	in.Prev = build(in)
	in.Now = noon.Add(9 * time.Minute)
	got := build(in)
	if d := cmp.Diff("a.example.com/ http \n"+taken, lines(got)); d != "" || got.Sites[0].Family != "ecs:web" {
		t.Errorf("within the grace period of %s (-want +got):\n%s", got.Sites[0].Family, d)
	}
	if !got.Next.Equal(noon.Add(10 * time.Minute)) {
		t.Errorf("next = %s, want the end of the grace period", got.Next)
	}

	back := in
	back.Snapshot.Containers = []tasks.Container{newcomer, web("new", hostPort(3), age(-9*time.Minute))}
	if d := cmp.Diff("a.example.com/ http 10.0.0.5:3\n"+taken, lines(build(back))); d != "" {
		t.Errorf("the holder is back in time (-want +got):\n%s", d)
	}

	in.Prev, in.Now = got, noon.Add(11*time.Minute)
	got = build(in)
	if d := cmp.Diff("a.example.com/login http 10.0.0.5:2\n", lines(got)); d != "" || got.Sites[0].Family != "ecs:evil" {
		t.Errorf("after the grace period (-want +got):\n%s", d)
	}

	// Who has it now keeps it, although the other one is back.
	in.Prev = got
	in.Snapshot.Containers = append(in.Snapshot.Containers, web("a", age(2*time.Hour)))
	if d := cmp.Diff("a.example.com/login http 10.0.0.5:2\nwaits a.example.com/ web:1/app taken\nerror host-taken\n", lines(build(in))); d != "" {
		t.Errorf("the old holder is back too late (-want +got):\n%s", d)
	}
}

// A host that changes hands starts over: its new holder answers 404 until it is
// ready, and not 503 or HTTPS in the name of the one before.
func TestNewHolderInheritsNothing(t *testing.T) {
	in := input(web("a"))
	in.Certs.Pairs = []certs.Pair{{Name: "a", DNSNames: []string{"a.example.com"}}}
	in.Prev = build(in)
	in.Snapshot.Containers = nil
	in.Prev = build(in)
	in.Now = noon.Add(11 * time.Minute)
	in.Snapshot.Containers = []tasks.Container{web("b", of("other"), healthIs(tasks.Starting))}
	if d := cmp.Diff("waits a.example.com/ other:1/app starting\n", lines(build(in))); d != "" {
		t.Errorf("table (-want +got):\n%s", d)
	}
}

func TestNotStarted(t *testing.T) {
	created := func(d time.Duration, more ...edit) tasks.Container {
		return web("b", append([]edit{stateIs(tasks.Created), hostPort(0), age(d), func(c *tasks.Container) { c.StartedAt = time.Time{} }}, more...)...)
	}
	byHand := func(c *tasks.Container) { c.Task = tasks.TaskRef{} }
	took := func(d time.Duration, more ...edit) tasks.Container {
		return web("a", append([]edit{age(time.Hour), func(c *tasks.Container) { c.CreatedAt = c.StartedAt.Add(-d) }}, more...)...)
	}
	problem := "warning container-not-started\n"
	serves := "a.example.com/ http 10.0.0.5:32768\n"
	tests := []struct {
		name string
		list []tasks.Container
		want string
		next time.Time
	}{
		{"about to be started", []tasks.Container{created(59*time.Second, byHand)}, "", noon.Add(time.Second)},
		{"too late, and others may still start", []tasks.Container{created(time.Minute, byHand)}, problem, noon.Add(time.Minute)},
		{"too late", []tasks.Container{created(2*time.Minute, byHand)}, problem, time.Time{}},
		{"by ECS, which waits for what it depends on", []tasks.Container{created(2 * time.Minute)}, "", noon.Add(time.Minute)},
		{"by ECS, too late", []tasks.Container{created(3 * time.Minute)}, problem, time.Time{}},
		{"its family takes long", []tasks.Container{took(2 * time.Minute), created(5 * time.Minute)}, serves, noon.Add(time.Minute)},
		{"everything takes long here", []tasks.Container{took(time.Minute, of("other"), labels("x", "y")), created(2*time.Minute, byHand)}, "", noon.Add(time.Minute)},
		{"beside one that was started again after months", []tasks.Container{took(1000*time.Hour, of("other"), labels("x", "y")), created(2*time.Minute, byHand)}, problem, time.Time{}},
		{"without a route", []tasks.Container{created(time.Minute, labels("x", "y"))}, "", time.Time{}},
		{"a batch", []tasks.Container{created(time.Minute, labels("nagaya.host", "a.example.com", "nagaya.batch", "true"))}, "", time.Time{}},
		{"beside an older one", []tasks.Container{web("a", age(time.Hour)), created(3 * time.Minute)}, serves + problem, time.Time{}},
		{"a newer one was started", []tasks.Container{created(time.Hour), web("a")}, serves, time.Time{}},
		{"given up by the ECS agent", []tasks.Container{created(time.Minute, stopping)}, problem, noon.Add(9 * time.Minute)},
		{"given up long ago", []tasks.Container{created(10*time.Minute, stopping)}, "", time.Time{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := build(input(tt.list...))
			if d := cmp.Diff(tt.want, lines(got)); d != "" {
				t.Errorf("table (-want +got):\n%s", d)
			}
			if !got.Next.Equal(tt.next) {
				t.Errorf("next = %s, want %s", got.Next, tt.next)
			}
		})
	}
}

func TestVacancy(t *testing.T) {
	in := input(web("a"), web("b", labels("nagaya.host", "b.example.com")))
	in.Prev = build(in)
	in.Snapshot.Containers = in.Snapshot.Containers[1:]

	in.Now = noon.Add(time.Second)
	vacant := build(in)
	if d := cmp.Diff("a.example.com/ http \nb.example.com/ http 10.0.0.5:32768\n", lines(vacant)); d != "" {
		t.Fatalf("just vacated (-want +got):\n%s", d)
	}
	if since := vacant.VacantSince(vacant.Sites[0]); !since.Equal(in.Now) || !vacant.Next.Equal(in.Now.Add(10*time.Minute)) {
		t.Errorf("vacant since %s, next %s", since, vacant.Next)
	}

	in.Prev = vacant
	in.Now = noon.Add(10 * time.Minute)
	if d := cmp.Diff(vacant, build(in), equalValues); d != "" {
		t.Errorf("within the grace period nothing changes (-before +after):\n%s", d)
	}
	in.Now = noon.Add(10*time.Minute + time.Second)
	if d := cmp.Diff("b.example.com/ http 10.0.0.5:32768\n", lines(build(in))); d != "" {
		t.Errorf("after the grace period (-want +got):\n%s", d)
	}
	in.Snapshot.Containers = append(in.Snapshot.Containers, web("a", healthIs(tasks.Starting)))
	got := build(in)
	if len(got.Sites) != 2 || len(firstServers(got)) != 0 {
		t.Errorf("a site that is claimed again stays until it is served: %s", lines(got))
	}
}

func TestNoGraceAtAll(t *testing.T) {
	in := input(web("a"))
	in.Options.Grace = -1
	in.Prev = build(in)
	in.Snapshot.Containers = nil
	if got := lines(build(in)); got != "" {
		t.Errorf("the last container is gone: %s", got)
	}
}

func TestUnknownTakesNothingAway(t *testing.T) {
	in := input(web("a"))
	in.Prev = build(in)
	for name, change := range map[string]func(*Input){
		"docker":       func(in *Input) { in.Snapshot = tasks.Snapshot{} },
		"certificates": func(in *Input) { in.Certs = certs.Inventory{} },
	} {
		in := in
		change(&in)
		got := build(in)
		if got.Complete || len(got.Sites) != 1 || len(firstServers(got)) != 1 {
			t.Errorf("%s unknown: complete %v, %s", name, got.Complete, lines(got))
		}
	}
}

func TestSilentSourceFreezesItsSitesAlone(t *testing.T) {
	listed := func(n, host, listen string) tasks.Container {
		return web("static-"+strings.Repeat(n, 32), of("file "+n), func(c *tasks.Container) {
			c.Origin, c.Network, c.Addrs = tasks.File, tasks.Direct, []netip.Addr{netip.MustParseAddr("10.0.0.9")}
			c.Labels = map[string]string{"nagaya.port": "80", "nagaya.host": host}
			if listen != "" {
				c.Labels = map[string]string{"nagaya.port": "80", "nagaya.listen": listen}
			}
		})
	}
	file, stream := listed("0", "file.example.com", ""), listed("1", "", "tcp:2222")
	in := input(web("a"), file, stream)
	in.Options.Stream = true
	in.Prev = build(in)
	if len(in.Prev.Sites) != 2 || len(in.Prev.Streams) != 1 {
		t.Fatalf("before: %s", lines(in.Prev))
	}
	before := lines(in.Prev)
	thief := web("c", of("thief"), func(c *tasks.Container) { c.Labels = map[string]string{"nagaya.host": "file.example.com"} })
	in.Snapshot.Silent = []string{tasks.FileIDs}
	in.Snapshot.Containers = []tasks.Container{web("a"), thief}
	got := build(in)
	if d := cmp.Diff(before+"waits file.example.com/ thief:1/app taken\nerror host-taken\n", lines(got)); d != "" || !got.Complete {
		t.Errorf("complete %v; (-before +with a silent source):\n%s", got.Complete, d)
	}
	in.Now = in.Now.Add(time.Hour)
	in.Prev, in.Snapshot.Containers = got, nil
	if d := cmp.Diff("a.example.com/ http \nfile.example.com/ http 10.0.0.9:80\ntcp:2222 10.0.0.9:80\n", lines(build(in))); d != "" {
		t.Errorf("without Docker's containers (-want +got):\n%s", d)
	}
	in.Snapshot.Silent = []string{tasks.FileIDs + "0"}
	if d := cmp.Diff("a.example.com/ http \nfile.example.com/ http 10.0.0.9:80\ntcp:2222\n", lines(build(in))); d != "" {
		t.Errorf("the source lists nothing now, and is silent about one file (-want +got):\n%s", d)
	}
	in.Snapshot.Silent = nil
	if d := cmp.Diff("a.example.com/ http \nfile.example.com/ http \ntcp:2222\n", lines(build(in))); d != "" {
		t.Errorf("the source lists nothing now (-want +got):\n%s", d)
	}
}

func TestTLS(t *testing.T) {
	pair := func(name string, hosts ...string) certs.Pair { return certs.Pair{Name: name, DNSNames: hosts} }
	some := certs.Inventory{Complete: true, Pairs: []certs.Pair{pair("a", "a.example.com"), pair("other", "x.test")}}
	other := certs.Inventory{Complete: true, Pairs: []certs.Pair{pair("other", "x.test")}}
	none := certs.Inventory{Complete: true}
	tests := []struct {
		name    string
		change  edit
		certs   certs.Inventory
		cert    string
		plain   Plain
		problem string
	}{
		{"auto with a certificate", nil, some, "a", Redirect, ""},
		{"auto without", nil, other, "", Serve, "warning no-certificate"},
		{"auto where nobody has one", nil, none, "", Serve, ""},
		{"off", labels("nagaya.host", "a.example.com", "nagaya.tls", "off"), some, "", Serve, ""},
		{"terminate", labels("nagaya.host", "a.example.com", "nagaya.tls", "terminate"), some, "a", Refuse, ""},
		{"terminate without", labels("nagaya.host", "a.example.com", "nagaya.tls", "terminate"), none, "", Refuse, "error no-certificate"},
		{"noredirect", env("VIRTUAL_HOST", "a.example.com", "HTTPS_METHOD", "noredirect"), some, "a", Serve, ""},
		{"nohttp", env("VIRTUAL_HOST", "a.example.com", "HTTPS_METHOD", "nohttp"), some, "a", Refuse, ""},
		{"nohttp without", env("VIRTUAL_HOST", "a.example.com", "HTTPS_METHOD", "nohttp"), other, "", Serve, "warning no-certificate"},
		{"nohttp without, and no plain HTTP", env("VIRTUAL_HOST", "a.example.com", "HTTPS_METHOD", "nohttp", "ENABLE_HTTP_ON_MISSING_CERT", "false"), other, "", Refuse, "error no-certificate"},
		{"nohttps", env("VIRTUAL_HOST", "a.example.com", "HTTPS_METHOD", "nohttps"), some, "", Serve, ""},
		{"CERT_NAME", env("VIRTUAL_HOST", "a.example.com", "CERT_NAME", "other"), some, "other", Redirect, ""},
		{"CERT_NAME of none", env("VIRTUAL_HOST", "a.example.com", "CERT_NAME", "gone"), some, "", Serve, "warning no-certificate"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := web("a")
			if tt.change != nil {
				tt.change(&c)
			}
			in := input(c)
			in.Certs = tt.certs
			got := build(in)
			s := got.Sites[0]
			if s.TLS != (tt.cert != "") || s.Cert.Name != tt.cert || s.Plain != tt.plain {
				t.Errorf("TLS %v, certificate %q, plain %q; want %q and %q", s.TLS, s.Cert.Name, s.Plain, tt.cert, tt.plain)
			}
			said := ""
			for _, p := range got.Problems {
				said = p.Severity.String() + " " + p.Code
			}
			if said != tt.problem {
				t.Errorf("problem %q, want %q", said, tt.problem)
			}
		})
	}
}

// A remedy names what the one who reads it can change: the agent's page has no label.
func TestRemedyWithoutACertificate(t *testing.T) {
	for tls, want := range map[string]string{"terminate": "certs.acme.email", "auto": "nagaya.tls=off"} {
		in := input(web("a", labels("nagaya.host", "a.test", "nagaya.tls", tls)))
		in.Certs.Pairs = []certs.Pair{{Name: "other", DNSNames: []string{"x.test"}}}
		got := build(in)
		if len(got.Problems) != 1 || !strings.Contains(got.Problems[0].Hint, want) || tls == "terminate" && strings.Contains(got.Problems[0].Text+got.Problems[0].Hint, "nagaya.tls") {
			t.Errorf("%q: %+v", tls, got.Problems)
		}
	}
}

// Sites without a certificate are one problem in all, however many they are.
func TestManySitesWithoutACertificate(t *testing.T) {
	in := input()
	in.Certs.Pairs = []certs.Pair{{Name: "other", DNSNames: []string{"x.test"}}}
	for i := range 40 {
		in.Snapshot.Containers = append(in.Snapshot.Containers, web(fmt.Sprint("c", i), of(fmt.Sprint("f", i)), labels("nagaya.host", fmt.Sprintf("h%02d.test", i)), hostPort(uint16(2000+i))))
	}
	got := build(in)
	if len(got.Sites) != 40 || len(got.Problems) != 1 {
		t.Fatalf("%d sites, problems %+v", len(got.Sites), got.Problems)
	}
	want := "no certificate covers 40 hosts, so they are served without HTTPS: h00.test, h01.test, h02.test, h03.test, h04.test, h05.test, h06.test, h07.test, h08.test, h09.test and 30 more"
	if p := got.Problems[0]; p.Code != "no-certificate" || p.Severity != problem.Warning || p.Text != want {
		t.Errorf("%+v", p)
	}
}

func TestSiteThatIsNotThereYetNeedsNoCertificate(t *testing.T) {
	in := input(web("a", healthIs(tasks.Starting)))
	in.Certs.Pairs = []certs.Pair{{Name: "other", DNSNames: []string{"x.test"}}}
	if d := cmp.Diff("waits a.example.com/ web:1/app starting\n", lines(build(in))); d != "" {
		t.Errorf("table (-want +got):\n%s", d)
	}
}

func TestVacantSiteKeepsItsHTTPS(t *testing.T) {
	in := input(web("a"))
	in.Certs.Pairs = []certs.Pair{{Name: "a", DNSNames: []string{"a.example.com"}, Fingerprint: "1"}}
	in.Prev = build(in)
	in.Snapshot.Containers = nil
	in.Certs.Pairs = []certs.Pair{{Name: "a", DNSNames: []string{"a.example.com"}, Fingerprint: "2"}}
	s := build(in).Sites[0]
	if !s.TLS || s.Cert.Fingerprint != "2" || s.Plain != Redirect {
		t.Errorf("vacant site = %+v, want HTTPS with the renewed certificate", s)
	}
	in.Certs.Pairs = nil
	in.Prev = build(in)
	if s := in.Prev.Sites[0]; s.TLS || s.Plain != Refuse {
		t.Errorf("vacant site whose certificate is gone = %+v, want that plain HTTP is refused", s)
	}
	in.Snapshot.Containers = []tasks.Container{web("b")}
	if s := build(in).Sites[0]; s.TLS || s.Plain != Refuse {
		t.Errorf("the site when it is back = %+v, want that plain HTTP is refused", s)
	}
}

// A site that had HTTPS is not opened over plain HTTP, unless its containers or the
// operator ask for that.
func TestSiteThatHadHTTPSKeepsIt(t *testing.T) {
	host, pair := []string{"nagaya.host", "a.example.com"}, certs.Pair{Name: "a", DNSNames: []string{"a.example.com"}, Fingerprint: "1"}
	for _, row := range []struct {
		name   string
		labels []string
		pairs  []certs.Pair
		cert   string
		plain  Plain
		said   string
	}{
		{"its certificate is gone", nil, nil, "", Refuse, "error no-certificate"},
		{"it names other hosts now", nil, []certs.Pair{{Name: "a", DNSNames: []string{"b.test"}, Fingerprint: "2"}}, "", Refuse, "error no-certificate"},
		{"a label names one that is not there", []string{"nagaya.cert", "typo"}, []certs.Pair{pair}, "a", Redirect, "warning no-certificate"},
		{"a label names one that is not there, and its own is gone", []string{"nagaya.cert", "typo"}, nil, "", Refuse, "error no-certificate"},
		{"it was for HTTPS alone", []string{"nagaya.tls", "terminate"}, nil, "", Refuse, "error no-certificate"},
		{"HTTPS is not wanted any more", []string{"nagaya.tls", "off"}, nil, "", Serve, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			in := input(web("a", labels(host...)))
			in.Certs.Pairs = []certs.Pair{pair}
			in.Prev = build(in)
			in.Snapshot.Containers = []tasks.Container{web("b", labels(slices.Concat(host, row.labels)...))}
			in.Certs.Pairs = row.pairs
			for range 3 { // it is remembered, a restart included
				text, err := json.Marshal(build(in))
				if err != nil {
					t.Fatal(err)
				}
				in.Prev = Table{}
				if err := json.Unmarshal(text, &in.Prev); err != nil {
					t.Fatal(err)
				}
			}
			said := ""
			for _, p := range build(in).Problems {
				said = p.Severity.String() + " " + p.Code
			}
			s := build(in).Sites[0]
			if s.Cert.Name != row.cert || s.TLS != (row.cert != "") || s.Plain != row.plain || said != row.said {
				t.Errorf("certificate %q, plain HTTP %q, problem %q; want %q, %q, %q", s.Cert.Name, s.Plain, said, row.cert, row.plain, row.said)
			}
			if row.plain == Serve { // and forgotten, too
				in.Prev, in.Snapshot.Containers = build(in), []tasks.Container{web("c", labels(host...))}
				if s := build(in).Sites[0]; s.Plain != Serve {
					t.Errorf("plain HTTP %q after nagaya.tls=off", s.Plain)
				}
			}
		})
	}
}

func TestEqualInputsGiveEqualTables(t *testing.T) {
	cs := []tasks.Container{
		web("a"), web("b", hostPort(2)), web("c", of("api"), labels("nagaya.host", "a.example.com,c.example.com", "nagaya.path", "/c")),
		web("d", of("evil"), hostPort(4)), web("e", of("bad"), labels("nagaya.host", "!", "nagaya.x", "1", "nagaya.y", "2")),
		web("f", healthIs(tasks.NoCheck), hostPort(5)), web("g", stateIs(tasks.Restarting)),
	}
	first := build(input(cs...))
	for range 20 {
		slices.Reverse(cs)
		if d := cmp.Diff(first, build(input(cs...)), equalValues); d != "" {
			t.Fatalf("the same containers gave another table (-first +now):\n%s", d)
		}
	}
}

func TestOneContainerCannotDrownTheProblems(t *testing.T) {
	c := web("a")
	for i := range 100 {
		c.Labels[fmt.Sprintf("nagaya.x%d", i)] = "1"
	}
	got := build(input(c))
	if len(got.Problems) != maxProblems+1 {
		t.Errorf("%d problems, want %d", len(got.Problems), maxProblems+1)
	}
}

func TestEveryProblemHasARemedy(t *testing.T) {
	check := func(ps []problem.Problem) {
		for _, p := range ps {
			if p.Code == "" || p.Subject == "" || p.Text == "" || p.Hint == "" {
				t.Errorf("incomplete problem %+v", p)
			}
		}
	}
	check(build(input(
		web("a", labels("nagaya.host", "a.b", "nagaya.weight", "0")), web("b", healthIs(tasks.Unhealthy)), web("c", of("x")),
		web("d", stateIs(tasks.Restarting)), web("e", labels("nagaya.listen", "tcp:1")), web("f", env("VIRTUAL_HOST", "~", "VIRTUAL_ROOT", "/")),
	)).Problems)
}

func TestText(t *testing.T) {
	in := input(web("a"), web("b", hostPort(32769)), web("c", of("api"), hostPort(0), labels("nagaya.host", "*.api.example.com", "nagaya.scheme", "grpc")),
		web("d", of("slow"), healthIs(tasks.Starting), labels("nagaya.host", "slow.example.com")))
	in.Certs.Pairs = []certs.Pair{{Name: "a", DNSNames: []string{"a.example.com"}}}
	want := `
HOST               PATH  TLS       UPSTREAM               STATE     TASK
*.api.example.com  /     off       grpc://172.17.0.2:80   ready     api:1/app
a.example.com      /     redirect  http://10.0.0.5:32768  ready     web:1/app
a.example.com      /     redirect  http://10.0.0.5:32769  ready     web:1/app
slow.example.com   /     -         10.0.0.5:32768         starting  slow:1/app
`
	// The columns are as wide as their widest cell, so compare word by word.
	if d := cmp.Diff(strings.Fields(want), strings.Fields(build(in).Text(0))); d != "" {
		t.Errorf("text (-want +got):\n%s", d)
	}
	rows := strings.Split(strings.TrimSuffix(build(in).Text(0), "\n"), "\n")
	for _, r := range rows[1:] {
		if r[strings.Index(rows[0], "PATH")] != '/' {
			t.Errorf("the columns are not aligned:\n%s", strings.Join(rows, "\n"))
			break
		}
	}
}

// One long name makes no line longer than the terminal, which cuts nothing that others say.
func TestTextOfATerminal(t *testing.T) {
	long := strings.Repeat("a-long-name.", 12) + "example.com"
	in := input(web("a", labels("nagaya.host", long)), web("b", of("blog"), hostPort(2), labels("nagaya.host", "b.example.com")))
	table := build(in)
	want := `
HOST                         PATH  TLS  UPSTREAM               STATE  TASK
a-long-name.a-long-name.a-…  /     off  http://10.0.0.5:32768  ready  web:1/app
b.example.com                /     off  http://10.0.0.5:2      ready  blog:1/app
`
	if d := cmp.Diff(want, "\n"+table.Text(80)); d != "" {
		t.Errorf("80 columns (-want +got):\n%s", d)
	}
	// The end of an address is not cut for other columns, however long their cells are.
	in = input(web("a", of(strings.Repeat("long-", 6)+"task"), labels("nagaya.host", long)))
	if text := build(in).Text(80); !strings.Contains(text, " http://10.0.0.5:32768 ") {
		t.Errorf("the port is cut:\n%s", text)
	}
	if !strings.Contains(table.Text(0), long) {
		t.Error("a pipe gets it cut")
	}
	for _, line := range strings.Split(table.Explained(10), "\n") {
		if n := len([]rune(line)); n > 6*8+5*2 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

func TestWhyContainersHaveNoRoute(t *testing.T) {
	got := build(input(
		web("a"), web("b", healthIs(tasks.Starting)), web("c", labels(), of("quiet")), web("d", labels("nagaya.host", "!"), of("wrong")),
		web("e", of("job"), func(c *tasks.Container) { c.Env = map[string]string{"AWS_BATCH_JOB_ID": "1"} }),
		web("f", of("unclear"), func(c *tasks.Container) { c.Network, c.Ports, c.Addrs = tasks.Host, nil, nil }),
		web("g", labels(), of("over"), stateIs(tasks.Exited)), web("h", labels("nagaya.port", "80"), of("hostless")),
	))
	want := []Unrouted{
		{"hostless:1/app", "refused"}, {"job:1/app", "batch"}, {"quiet:1/app", "silent"}, {"unclear:1/app", "refused"}, {"wrong:1/app", "refused"},
	}
	if d := cmp.Diff(want, got.Unrouted); d != "" {
		t.Errorf("unrouted (-want +got):\n%s", d)
	}
	text := got.Explained(0)
	for _, u := range want {
		if !strings.Contains(text, u.Ref) {
			t.Errorf("%s is not in\n%s", u.Ref, text)
		}
	}
	if text := build(input(web("a"))).Explained(0); !strings.Contains(text, "Every container") {
		t.Errorf("nothing unrouted:\n%s", text)
	}
}

func TestPublishedPortForAnIPv6Host(t *testing.T) {
	in := input(web("a", func(c *tasks.Container) {
		c.Ports = []tasks.Port{
			{Container: 80, Protocol: "tcp", Host: 32768},
			{Container: 80, Protocol: "tcp", HostIP: netip.IPv6Unspecified(), Host: 32769},
		}
	}))
	in.Nginx.Host = netip.MustParseAddr("fd00::5")
	if got := lines(build(in)); got != "a.example.com/ http [fd00::5]:32769\n" {
		t.Errorf("got %s, want the port for IPv6", got)
	}
	in.Snapshot.Containers[0].Ports = in.Snapshot.Containers[0].Ports[:1]
	if got := lines(build(in)); got != "a.example.com/ http [fd00::5]:32768\n" {
		t.Errorf("got %s, want the port for every address", got)
	}
}

func TestStartsExpected(t *testing.T) {
	created := func(c *tasks.Container) {
		c.State, c.Health, c.StartedAt, c.Ports, c.Addrs = tasks.Created, tasks.NoCheck, time.Time{}, nil, nil
	}
	for _, row := range []struct {
		name string
		list []tasks.Container
		want bool
	}{
		{"none", nil, false},
		{"one that has served for long", []tasks.Container{web("c1")}, false},
		{"one that was created", []tasks.Container{web("c1", age(time.Second), created)}, true},
		{"one that was created, beside one that serves", []tasks.Container{web("c0"), web("c1", age(time.Minute), created)}, true},
		{"one that was created long ago", []tasks.Container{web("c1", age(2*time.Minute), created)}, false},
		{"one that starts", []tasks.Container{web("c1", age(time.Second), healthIs(tasks.Starting))}, true},
		{"one that has started for long", []tasks.Container{web("c1", age(time.Minute), healthIs(tasks.Starting))}, false},
		{"one whose probe is due", []tasks.Container{web("c1", age(time.Second), healthIs(tasks.NoCheck))}, true},
		{"an unhealthy one", []tasks.Container{web("c1", age(time.Second), healthIs(tasks.Unhealthy))}, false},
		{"one that is stopped", []tasks.Container{web("c1", age(time.Second), healthIs(tasks.Starting), stopping)}, false},
		{"one without a route", []tasks.Container{web("c1", labels(), age(time.Second), created)}, false},
		{"a batch", []tasks.Container{web("c1", labels("nagaya.host", "a.test", "nagaya.batch", "true"), age(time.Second), created)}, false},
	} {
		if got := build(input(row.list...)).StartsExpected; got != row.want {
			t.Errorf("%s: %v, want %v", row.name, got, row.want)
		}
	}
}
