package route_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	. "github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

func family2(c *tasks.Container) { c.Task = tasks.TaskRef{Family: "other", ContainerName: "app"} }

func TestStreams(t *testing.T) {
	publishing := func(c *tasks.Container) {
		c.Ports = append(c.Ports, tasks.Port{Container: 22, Protocol: "tcp", Host: 2222})
	}
	udp := func(c *tasks.Container) {
		c.Ports = []tasks.Port{{Container: 53, Protocol: "udp", Host: 32800}, {Container: 80, Protocol: "tcp"}}
	}
	for _, row := range []struct {
		name string
		list []tasks.Container
		want string
	}{
		{"a port of its own", []tasks.Container{web("a", labels("nagaya.listen", "tcp:2222"))}, "tcp:2222 10.0.0.5:32768\n"},
		{"beside HTTP", []tasks.Container{web("a", labels("nagaya.host", "a.example.com", "nagaya.ssh.listen", "tcp:2222", "nagaya.ssh.port", "22"))}, "a.example.com/ http 10.0.0.5:32768\ntcp:2222 172.17.0.2:22\nwarning no-certificate\n"},
		{"UDP finds the UDP port and needs no probe", []tasks.Container{web("a", labels("nagaya.listen", "udp:53"), udp, healthIs(tasks.NoCheck))}, "udp:53 10.0.0.5:32800\n"},
		{"UDP without a UDP port", []tasks.Container{web("a", labels("nagaya.listen", "udp:53"))}, "error port-unclear\n"},
		{"TLS with the certificate of its host", []tasks.Container{web("a", labels("nagaya.listen", "tls:8883", "nagaya.host", "mq.example.com"))}, "tls:8883 10.0.0.5:32768\n"},
		{"TLS without a certificate", []tasks.Container{web("a", labels("nagaya.listen", "tls:8883", "nagaya.host", "mq.example.org"))}, "error no-certificate\n"},
		{"TLS in the name of another family's host", []tasks.Container{web("a", labels("nagaya.host", "mq.example.com"), age(time.Hour)), web("b", labels("nagaya.listen", "tls:8443", "nagaya.host", "mq.example.com"), family2)}, "mq.example.com/ http 10.0.0.5:32768\nwaits tls:8443 other:/app taken\nerror host-taken\n"},
		{"TLS with another family's certificate", []tasks.Container{web("a", labels("nagaya.host", "mq.example.com"), age(time.Hour)), web("b", labels("nagaya.listen", "tls:8443", "nagaya.host", "own.test", "nagaya.cert", "mq"), family2)}, "mq.example.com/ http 10.0.0.5:32768\nwaits tls:8443 other:/app taken\nerror host-taken\n"},
		{"TLS in the name of its own host", []tasks.Container{web("a", labels("nagaya.host", "mq.example.com", "nagaya.mq.listen", "tls:8443", "nagaya.mq.host", "mq.example.com"))}, "mq.example.com/ http 10.0.0.5:32768\ntls:8443 10.0.0.5:32768\n"},
		{"a port that is nginx's", []tasks.Container{web("a", labels("nagaya.listen", "tcp:443"))}, "error port-reserved\n"},
		{"a port that the operator keeps", []tasks.Container{web("a", labels("nagaya.listen", "tcp:22"))}, "error port-reserved\n"},
		{"a port that a container publishes", []tasks.Container{web("a", labels("nagaya.listen", "tcp:2222"), publishing)}, "error host-port-taken\n"},
		{"a port of another family", []tasks.Container{web("a", labels("nagaya.listen", "tcp:2222"), age(time.Hour)), web("b", labels("nagaya.listen", "tcp:2222"), family2)}, "tcp:2222 10.0.0.5:32768\nwaits tcp:2222 other:/app taken\nerror host-taken\n"},
		{"a shared upstream", []tasks.Container{web("a", labels("nagaya.host", "a.example.com", "nagaya.upstream", "pair")), web("b", hostPort(7), labels("nagaya.host", "a.example.com", "nagaya.upstream", "pair"), family2)}, "a.example.com/ http 10.0.0.5:7 10.0.0.5:32768\nwarning no-certificate\n"},
		{"joining an upstream that did not ask for it", []tasks.Container{web("a", age(time.Hour)), web("b", labels("nagaya.host", "a.example.com", "nagaya.upstream", "web"), family2)}, "a.example.com/ http 10.0.0.5:32768\nwaits a.example.com/ other:/app taken\nerror host-taken\nwarning no-certificate\nwarning upstream-not-shared\n"},
		{"a container that is named as an operator's file names something", []tasks.Container{web("web", age(time.Hour), func(c *tasks.Container) { c.File, c.Task = "x.yaml", tasks.TaskRef{} }), web("b", hostPort(7), func(c *tasks.Container) { c.Name, c.Task = "web", tasks.TaskRef{} })}, "a.example.com/ http 10.0.0.5:32768\nwaits a.example.com/ web taken\nerror host-taken\nwarning no-certificate\n"},
		{"a port where another family speaks something else", []tasks.Container{web("a", labels("nagaya.listen", "tls:8883", "nagaya.host", "mq.example.com"), age(time.Hour)), web("b", labels("nagaya.listen", "tcp:8883"), family2)}, "tls:8883 10.0.0.5:32768\nwaits tcp:8883 other:/app taken\nerror port-taken\n"},
		{"a port that another family's site has", []tasks.Container{web("a", env("VIRTUAL_HOST", "a.example.com", "EXTERNAL_HTTP_PORT", "8080"), age(time.Hour)), web("b", labels("nagaya.listen", "tcp:8080"), family2)}, "a.example.com/ http 10.0.0.5:32768\nwaits tcp:8080 other:/app taken\nerror port-taken\nwarning no-certificate\n"},
		{"plain HTTP where another family's site speaks HTTPS", []tasks.Container{web("a", env("VIRTUAL_HOST", "a.example.com", "EXTERNAL_HTTPS_PORT", "8443"), age(time.Hour)), web("b", env("VIRTUAL_HOST", "b.example.com", "EXTERNAL_HTTP_PORT", "8443"), family2)}, "a.example.com/ http 10.0.0.5:32768\nwaits b.example.com/ other:/app taken\nerror port-taken\nwarning no-certificate\n"},
		{"two families' sites at one port", []tasks.Container{web("a", env("VIRTUAL_HOST", "a.example.com", "EXTERNAL_HTTP_PORT", "8080")), web("b", env("VIRTUAL_HOST", "b.example.com", "EXTERNAL_HTTP_PORT", "8080"), hostPort(7), family2)}, "a.example.com/ http 10.0.0.5:32768\nb.example.com/ http 10.0.0.5:7\nwarning no-certificate\n"},
		{"the same number for UDP", []tasks.Container{web("a", labels("nagaya.t.listen", "tcp:53", "nagaya.u.listen", "udp:53", "nagaya.u.port", "53"), udp)}, "tcp:53 172.17.0.2:80\nudp:53 10.0.0.5:32800\n"},
		{"a site at a port that the operator keeps", []tasks.Container{web("a", env("VIRTUAL_HOST", "a.example.com", "EXTERNAL_HTTP_PORT", "22"))}, "error port-reserved\n"},
		{"a site at a port that a container publishes", []tasks.Container{web("a", env("VIRTUAL_HOST", "a.example.com", "EXTERNAL_HTTP_PORT", "2222"), publishing)}, "error host-port-taken\n"},
		{"plain HTTP at the port of HTTPS", []tasks.Container{web("a", env("VIRTUAL_HOST", "a.example.com", "EXTERNAL_HTTP_PORT", "443"))}, "error port-reserved\n"},
		{"one port for HTTP and HTTPS", []tasks.Container{web("a", env("VIRTUAL_HOST", "a.example.com", "EXTERNAL_HTTP_PORT", "8080", "EXTERNAL_HTTPS_PORT", "8080"))}, "error label-invalid\n"},
		{"the usual ports, said", []tasks.Container{web("a", env("VIRTUAL_HOST", "a.example.com", "EXTERNAL_HTTP_PORT", "80", "EXTERNAL_HTTPS_PORT", "443"))}, "a.example.com/ http 10.0.0.5:32768\nwarning no-certificate\n"},
		{"a password that cannot be asked for", []tasks.Container{web("a", labels("nagaya.host", "a.example.com", "nagaya.tls", "passthrough", "nagaya.auth", "staff")), web("b", labels("nagaya.listen", "tcp:2222", "nagaya.auth", "staff"), family2)}, "error label-without-effect\nerror label-without-effect\n"},
		{"words that a stream has no use for", []tasks.Container{web("a", labels("nagaya.listen", "tcp:2222", "nagaya.path", "/x"))}, "tcp:2222 10.0.0.5:32768\nwarning label-without-effect\n"},
		{"a name where no client says one", []tasks.Container{web("a", labels("nagaya.listen", "tcp:2222", "nagaya.host", "git.example.com"))}, "tcp:2222 10.0.0.5:32768\nwarning label-without-effect\n"},
		{"the PROXY protocol over UDP", []tasks.Container{web("a", labels("nagaya.listen", "udp:53", "nagaya.proxy-protocol", "true"), udp)}, "udp:53 10.0.0.5:32800\nwarning label-without-effect\n"},
		{"a certificate for what is passed through", []tasks.Container{web("a", labels("nagaya.host", "a.example.com", "nagaya.tls", "passthrough", "nagaya.cert", "mq"))}, "a.example.com redirect, passed to 10.0.0.5:32768\nwarning label-without-effect\n"},
		{"the PROXY protocol over HTTP", []tasks.Container{web("a", labels("nagaya.host", "mq.example.com", "nagaya.proxy-protocol", "true"))}, "mq.example.com/ http 10.0.0.5:32768\nwarning label-without-effect\n"},
		{"a certificate to verify where there is none", []tasks.Container{web("a", labels("nagaya.host", "mq.example.com", "nagaya.verify", "true"))}, "mq.example.com/ http 10.0.0.5:32768\nwarning label-without-effect\n"},
		{"passthrough", []tasks.Container{web("a", labels("nagaya.host", "a.example.com", "nagaya.tls", "passthrough"))}, "a.example.com redirect, passed to 10.0.0.5:32768\n"},
		{"passthrough beside plain HTTP", []tasks.Container{web("a", labels("nagaya.host", "a.example.com", "nagaya.tls", "passthrough", "nagaya.web.host", "a.example.com", "nagaya.web.tls", "off"))}, "a.example.com/ http 10.0.0.5:32768\na.example.com serve, passed to 10.0.0.5:32768\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			in := input(row.list...)
			in.Options = Options{Stream: true, Reserved: []uint16{22}, Shared: map[string][]string{"pair": nil}}
			in.Certs.Pairs = []certs.Pair{{Name: "mq", DNSNames: []string{"mq.example.com"}}}
			got := build(in)
			if d := cmp.Diff(row.want, lines(got)); d != "" {
				t.Errorf("table (-want +got):\n%s\n%+v", d, got.Problems)
			}
			checkTable(t, got)
		})
	}
}

// Who has a port keeps it, in the grace period too; his own next revision may
// speak something else there.
func TestWhoHasAPortKeepsIt(t *testing.T) {
	in := input(web("a", labels("nagaya.listen", "tcp:8883")))
	in.Options.Stream = true
	in.Certs.Pairs = []certs.Pair{{Name: "mq", DNSNames: []string{"mq.example.com"}}}
	in.Prev = build(in)
	tls := labels("nagaya.listen", "tls:8883", "nagaya.host", "mq.example.com")
	older := web("b", tls, family2, age(time.Hour))
	in.Snapshot.Containers = append(in.Snapshot.Containers, older)
	if d := cmp.Diff("tcp:8883 10.0.0.5:32768\nwaits tls:8883 other:/app taken\nerror port-taken\n", lines(build(in))); d != "" {
		t.Errorf("beside the holder (-want +got):\n%s", d)
	}
	in.Snapshot.Containers = []tasks.Container{older}
	in.Now = noon.Add(time.Minute)
	if d := cmp.Diff("tcp:8883\nwaits tls:8883 other:/app taken\nerror port-taken\n", lines(build(in))); d != "" {
		t.Errorf("the holder is gone for a moment (-want +got):\n%s", d)
	}
	in.Snapshot.Containers = []tasks.Container{web("next", tls, hostPort(7))}
	if d := cmp.Diff("tls:8883 10.0.0.5:7\n", lines(build(in))); d != "" {
		t.Errorf("the holder's next revision (-want +got):\n%s", d)
	}
}

func TestAClientOfUDPIsForgottenSooner(t *testing.T) {
	in := input(web("a", labels("nagaya.t.listen", "tcp:53", "nagaya.u.listen", "udp:53", "nagaya.u.port", "53"), func(c *tasks.Container) {
		c.Ports = append(c.Ports, tasks.Port{Container: 53, Protocol: "udp", Host: 32800})
	}))
	in.Options.Stream = true
	got := build(in).Streams
	if len(got) != 2 || got[0].Timeout != 10*time.Minute || got[1].Timeout != 30*time.Second {
		t.Errorf("streams: %+v", got)
	}
}

// What lost its last container is answered for until the grace is over.
func TestStreamsAndPassthroughAreVacantForAWhile(t *testing.T) {
	in := input(web("a", labels("nagaya.listen", "tcp:2222", "nagaya.p.host", "p.example.com", "nagaya.p.tls", "passthrough")))
	in.Options.Stream = true
	in.Prev = build(in)
	in.Snapshot.Containers = nil
	for _, row := range []struct {
		after time.Duration
		want  string
	}{
		{0, "p.example.com redirect, passed to\ntcp:2222\n"},
		{9 * time.Minute, "p.example.com redirect, passed to\ntcp:2222\n"},
		{10 * time.Minute, ""},
	} {
		in.Now = noon.Add(row.after)
		got := build(in)
		if d := cmp.Diff(row.want, lines(got)); d != "" {
			t.Errorf("after %v (-want +got):\n%s", row.after, d)
		}
		if row.want != "" && !got.Next.Equal(noon.Add(10*time.Minute)) {
			t.Errorf("after %v it is to be built again at %v", row.after, got.Next)
		}
		in.Prev = got
	}
}

func TestWhereNginxInAContainerReachesOthers(t *testing.T) {
	shared, apartNet := netip.MustParseAddr("172.20.0.3"), netip.MustParseAddr("172.21.0.3")
	on := func(nets ...tasks.Network) edit { return func(c *tasks.Container) { c.Networks = nets } }
	for _, row := range []struct {
		name string
		c    tasks.Container
		want string
	}{
		{"a shared network", web("a", on(tasks.Network{Name: "back", Addrs: []netip.Addr{apartNet}}, tasks.Network{Name: "front", Addrs: []netip.Addr{shared}})), "a.example.com/ http 172.20.0.3:80\n"},
		{"no shared network, but published", web("a", on(tasks.Network{Name: "back", Addrs: []netip.Addr{apartNet}})), "a.example.com/ http 10.0.0.5:32768\n"},
		{"neither", web("a", hostPort(0), on(tasks.Network{Name: "back", Addrs: []netip.Addr{apartNet}})), "waits a.example.com/ web:1/app no-address\nerror container-no-address\n"},
		{"the host's network", web("a", func(c *tasks.Container) { c.Network = tasks.Host; c.Labels["nagaya.port"] = "8080" }), "a.example.com/ http 10.0.0.5:8080\n"},
		{"a task network interface", web("a", func(c *tasks.Container) {
			c.Network = tasks.AWSVPC
			c.Addrs = []netip.Addr{netip.MustParseAddr("10.0.3.3")}
		}), "a.example.com/ http 10.0.3.3:80\n"},
		{"not in Docker", web("a", func(c *tasks.Container) {
			c.Network = tasks.Direct
			c.Addrs = []netip.Addr{netip.MustParseAddr("10.9.9.9")}
		}), "a.example.com/ http 10.9.9.9:80\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			in := input(row.c)
			in.Nginx = NginxNetwork{Container: true, Networks: []string{"front"}, Host: local}
			if d := cmp.Diff(row.want, lines(build(in))); d != "" {
				t.Errorf("table (-want +got):\n%s", d)
			}
		})
	}
}

func TestDefaultHost(t *testing.T) {
	in := input(web("a"))
	in.Options.DefaultHost = "a.example.com"
	if got := build(in); !got.Sites[0].CatchAll || len(got.Problems) > 0 {
		t.Errorf("the default host: %+v, problems %v", got.Sites[0], got.Problems)
	}
	in.Options.DefaultHost = "b.example.com"
	if got := lines(build(in)); got != "a.example.com/ http 10.0.0.5:32768\nwarning default-host-missing\n" {
		t.Errorf("a default host that is not there:\n%s", got)
	}
}
