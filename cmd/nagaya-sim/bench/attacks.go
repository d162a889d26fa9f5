package bench

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

// attack is one deployment of the hostile family: a container that asks for what it should
// not get, or does what none should.
type attack struct {
	name   string
	labels map[string]string
	env    []string
	args   []string
	// host is for a container in the host's network.
	host bool
	// during is done to the container again and again while it is there.
	during func(ctx context.Context, p *agentStage, id string)
}

// The hostile family, its own host, and the family of a Compose service that it would like to be.
const (
	hostileName    = "mallory"
	hostileHost    = "mallory.test"
	victimProject  = "victims"
	compositeEvery = 5 // of so many sites one is a Compose service and one a task of ECS
)

// attacks are all of them; those whom they are meant for have the hosts.
func attacks(p *agentStage, hosts []string) []attack {
	host := func(of string) map[string]string { return map[string]string{"nagaya.host": of} }
	own := func(more ...string) map[string]string {
		l := host(hostileHost)
		for i := 0; i+1 < len(more); i += 2 {
			l[more[i]] = more[i+1]
		}
		return l
	}
	virtual := func(of string, more ...string) []string { return append([]string{"VIRTUAL_HOST=" + of}, more...) }
	plain, secure := strconv.Itoa(p.HTTPPort), strconv.Itoa(p.HTTPSPort)
	one := hosts[0]
	all := []attack{
		{name: "another's host", labels: host(one)},
		{name: "all hosts of others", labels: host(strings.Join(hosts, ","))},
		{name: "a path of another's host", labels: map[string]string{"nagaya.host": one, "nagaya.path": "/", "nagaya.strip-prefix": "true"}},
		{name: "another's host in capitals", labels: host(strings.ToUpper(one) + ".")},
		{name: "a wildcard over all", labels: host("*.test")},
		{name: "a wildcard below another", labels: host("*." + one)},
		{name: "a name below another's", labels: host("login." + one)},
		{name: "a wildcard at the end", env: virtual("site00.*")},
		{name: "an expression of all", env: virtual(`~^.*$`)},
		{name: "an expression of others", env: virtual(`~^site[0-9]+\.test$`)},
		{name: "an expression of names of others", env: virtual(`~^(site00|site01)\.test$`)},
		{name: "an expression that takes long", env: virtual(`~^(([a-z])+.)+[A-Z]([a-z])+$`)},
		{name: "an expression as a path", env: virtual(hostileHost, `VIRTUAL_PATH=~^/(a+)+$`)},
		{name: "the default host", env: virtual("default")},
		{name: "another's upstream", labels: map[string]string{"nagaya.host": one, "nagaya.upstream": p.familyName(siteName(0))}},
		{name: "another's service", labels: map[string]string{"nagaya.host": one, "com.docker.compose.project": victimProject, "com.docker.compose.service": siteName(1)}},
		{name: "another's ECS family", labels: map[string]string{"nagaya.host": hosts[2], "com.amazonaws.ecs.task-definition-family": p.familyName(siteName(2)), "com.amazonaws.ecs.task-arn": "arn:aws:ecs:eu-west-1:123456789012:task/default/0123456789abcdef0123456789abcdef"}},
		{name: "nginx's words as hosts", labels: host("default,include,hostnames,volatile,off,localhost,_")},
		{name: "many hosts", labels: host(strings.Join(names("m%04d.test", 600), ","))},
		{name: "many routes", labels: own(manyRoutes(100)...)},
		{name: "a label of 200 KiB", labels: own("nagaya.allow", strings.Repeat("10.0.0.0/8,", 20_000))},
		{name: "labels of 400 KiB", labels: own("x", strings.Repeat("x", 400<<10))},
		{name: "many labels", labels: own(manyLabels(500)...)},
		{name: "a directive in a host", labels: host("x.test; } server { listen 80; server_name " + one)},
		{name: "lines in a host", labels: host("x.test\n" + one + "\r\n\x1b[2J")},
		{name: "a directive in each word", labels: own("nagaya.path", "/x { } location /", "nagaya.timeout", "1s; return 500", "nagaya.hsts", "max-age=1\"; return 500", "nagaya.auth", "../../etc/passwd", "nagaya.cert", "../"+one)},
		{name: "another's certificate", labels: own("nagaya.cert", one)},
		{name: "another's certificate at a port", labels: map[string]string{"nagaya.listen": "tls:8443", "nagaya.cert": one}},
		{name: "the port of HTTP", labels: map[string]string{"nagaya.listen": "tcp:" + plain}},
		{name: "the port of HTTPS", labels: map[string]string{"nagaya.listen": "tls:" + secure, "nagaya.cert": one}},
		{name: "the ports of HTTP, by variables", env: virtual(hostileHost, "EXTERNAL_HTTP_PORT="+secure, "EXTERNAL_HTTPS_PORT="+plain)},
		{name: "many ports", labels: manyPorts(60)},
		{name: "TLS of all, passed through", labels: map[string]string{"nagaya.host": "*.test," + one, "nagaya.tls": "passthrough"}},
		{name: "its own TLS, passed through", labels: own("nagaya.tls", "passthrough")},
		{name: "nginx as its upstream", labels: own("nagaya.port", plain), host: true, args: []string{"-listen", ""}},
		{name: "nginx's HTTPS as its upstream", labels: own("nagaya.port", secure, "nagaya.scheme", "https"), host: true, args: []string{"-listen", ""}},
		{name: "the agent's metrics as its upstream", labels: own("nagaya.port", "9646"), host: true, args: []string{"-listen", ""}},
		{name: "the largest limits", labels: own("nagaya.body-size", "0", "nagaya.buffering", "off", "nagaya.timeout", "24h", "nagaya.weight", "1000000", "com.github.nginx-proxy.nginx-proxy.keepalive", "100000")},
		{name: "the smallest limits", labels: own("nagaya.body-size", "1", "nagaya.timeout", "1s", "nagaya.weight", "0")},
		{name: "nginx's container", labels: own("nagaya.nginx", "true", "com.github.nginx-proxy.nginx-proxy.nginx", "")},
		{name: "an old policy for all", env: virtual(hostileHost, "SSL_POLICY=Mozilla-Old", "HTTPS_METHOD=noredirect")},
		{name: "HTTP/3 and HSTS for all", labels: own("nagaya.http3", "on", "nagaya.http2", "off", "nagaya.hsts", "max-age=1; includeSubDomains; preload")},
		{name: "a health check that never ends", labels: own("nagaya.health", "/"), args: []string{"-slow", "1h"}},
		{name: "silence", labels: own(), args: []string{"-hostile", "silent"}},
		{name: "no answer", labels: own(), args: []string{"-hostile", "reset"}},
		{name: "no HTTP", labels: own(), args: []string{"-hostile", "garbage"}},
		{name: "a header without an end", labels: own(), args: []string{"-hostile", "flood"}},
		{name: "nobody listens", labels: own(), args: []string{"-listen", ""}},
	}
	for _, f := range flaps() {
		all = append(all, attack{name: f.name, labels: own(), during: func(ctx context.Context, p *agentStage, id string) {
			_, _ = f.down(ctx, p, id), f.up(ctx, p, id) // Docker refuses some in a crowd
		}})
	}
	return append(all, attack{name: "renamed", labels: own(), during: func(ctx context.Context, p *agentStage, id string) {
		for _, name := range []string{siteName(0), hostileName} {
			_, _ = p.Docker.ContainerRename(ctx, id, client.ContainerRenameOptions{NewName: p.familyName(name) + "-again"})
		}
	}})
}

func manyRoutes(n int) (words []string) {
	for i := range n {
		words = append(words, fmt.Sprintf("nagaya.r%d.host", i), fmt.Sprintf("r%d.test", i), fmt.Sprintf("nagaya.r%d.path", i), strings.Repeat("/x", i+1))
	}
	return words
}

func manyLabels(n int) (words []string) {
	for i := range n {
		words = append(words, fmt.Sprintf("nagaya.x%d", i), strings.Repeat("\"';{}$", 50))
	}
	return words
}

func manyPorts(n int) map[string]string {
	l := map[string]string{}
	for i := range n {
		l[fmt.Sprintf("nagaya.r%d.listen", i)] = fmt.Sprintf("tcp:%d", 30_100+i)
	}
	return l
}

// siteName is the household of a site of others.
func siteName(i int) string { return fmt.Sprintf("site%02d", i) }

// familyName is the name of a container, which no other stage has.
func (p *agentStage) familyName(name string) string {
	return p.Dir[strings.LastIndexByte(p.Dir, '/')+1:] + "-" + name
}

// named is a container whose household and family have that name.
func (p *agentStage) named(name string, labels map[string]string) stage.Container {
	l := map[string]string{"nagaya.port": "8080"}
	maps.Copy(l, labels)
	return stage.Container{Name: p.familyName(name), Args: []string{"-name", name}, Labels: l}
}

// deploy lets the hostile family's container be so for that long, and removes it. It reports
// whether Docker took it.
func (a attack) deploy(ctx context.Context, p *agentStage, span time.Duration) bool {
	c := p.named(hostileName, a.labels)
	c.Env, c.Args, c.HostNetwork, c.NotByECS = a.env, append(c.Args, a.args...), a.host, true
	if a.env != nil {
		c.Env = append(c.Env, "VIRTUAL_PORT=8080")
	}
	defer func() {
		_ = p.Remove(context.WithoutCancel(ctx), c.Name)
		_ = p.Remove(context.WithoutCancel(ctx), c.Name+"-again")
		_ = p.Remove(context.WithoutCancel(ctx), p.familyName(siteName(0))+"-again")
	}()
	id, err := p.Run(ctx, c)
	if err != nil {
		return false
	}
	for end := time.Now().Add(span); time.Now().Before(end) && ctx.Err() == nil; {
		step := time.Until(end)
		if a.during != nil {
			a.during(ctx, p, id)
			step = min(step, flapEvery/2)
		}
		_ = pause(ctx, step)
	}
	return true
}
