package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

// proxy is a program that routes hosts to containers: nagaya, or a peer.
type proxy struct {
	name string
	// port is where it serves plain HTTP.
	port int
	// labels make it route the host to port 8080 of a container.
	labels func(host string) map[string]string
	// pid is the process that follows Docker. It is stopped while another is measured.
	pid int
	// nginx is the master process of its nginx; nil if it serves by itself.
	nginx func() int
	// reloads counts the configurations that went live; nil if the proxy does not tell.
	reloads func(context.Context) (int, error)
	// close ends it; nil for the agent, which the stage ends.
	close func() error
}

// comparison measures several proxies on one Docker Engine, each by the same requests
// of one client. A container has the labels of the proxy that is measured, and the
// processes of the others are stopped meanwhile.
type comparison struct {
	*agentStage
	client  *http.Client
	proxies []*proxy
}

// compare starts nagaya and the peers on a stage, each with one site that stays.
func (b *bench) compare(ctx context.Context, o stage.Options) (*comparison, error) {
	p, err := b.startStage(ctx, o)
	if err != nil {
		return nil, err
	}
	c := &comparison{agentStage: p}
	if err := c.startProxies(ctx, b); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *comparison) startProxies(ctx context.Context, b *bench) (err error) {
	if c.client, err = c.Client(); err != nil {
		return err
	}
	c.proxies = []*proxy{{
		name: nagayaName, port: c.HTTPPort, pid: c.AgentPID(), nginx: c.NginxPID, reloads: c.reloads,
		labels: func(host string) map[string]string { return map[string]string{"nagaya.host": host} },
	}}
	peers, err := b.startPeers(c.agentStage)
	c.proxies = append(c.proxies, peers...)
	if err != nil {
		return err
	}
	for _, x := range c.proxies {
		if _, err := c.Run(ctx, c.container(x, "resident", "resident.test")); err != nil {
			return err
		}
		if _, err := c.firstAnswer(ctx, x, "resident.test", "resident"); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the peers and the stage.
func (c *comparison) Close() error {
	var errs []error
	for _, x := range c.proxies {
		if x.close != nil {
			errs = append(errs, x.close())
		}
	}
	return errors.Join(append(errs, c.agentStage.Close())...)
}

// container is one that serves a host through one proxy.
func (c *comparison) container(x *proxy, name, host string) stage.Container {
	made := c.agentStage.container(name, host)
	delete(made.Labels, "nagaya.host")
	maps.Copy(made.Labels, x.labels(host))
	return made
}

// settleTime is how long nothing changes before a proxy is measured: longer than the peers
// collect events for.
const settleTime = time.Second

// measure stops the other proxies while do runs, a moment after the last change.
func (c *comparison) measure(ctx context.Context, x *proxy, do func() error) error {
	if err := pause(ctx, settleTime); err != nil {
		return err
	}
	for _, other := range c.proxies {
		if other != x {
			if err := syscall.Kill(other.pid, syscall.SIGSTOP); err != nil {
				return err
			}
			defer func() { _ = syscall.Kill(other.pid, syscall.SIGCONT) }() // its end is reported by what asks it next
		}
	}
	return do()
}

// pollEvery is the time between two requests that wait for an answer.
const pollEvery = 4 * time.Millisecond

// firstAnswer asks a proxy for a host until the household of that name answers. Each
// request is on a new connection.
func (c *comparison) firstAnswer(ctx context.Context, x *proxy, host, name string) (answer, error) {
	v := visitor{c: c.client, fresh: true}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; {
		a := v.ask(ctx, x.url(host))
		if a.status == http.StatusOK && a.by == name {
			return a, nil
		}
		if time.Now().After(end) {
			return a, fmt.Errorf("%s: %s does not answer for %s within %s, but %s", x.name, name, host, patience, a)
		}
		select {
		case <-ctx.Done():
			return a, ctx.Err()
		case <-tick.C:
		}
	}
}

// processes are all of a proxy.
func (x *proxy) processes() []int {
	if x.nginx == nil {
		return []int{x.pid}
	}
	return append(withChildren(x.nginx()), x.pid)
}

func (x *proxy) url(host string) string { return fmt.Sprintf("http://%s:%d/", host, x.port) }

// startTimes are how long it took until a proxy answered for a container: since Docker
// was told to start it, since Docker said that it runs, and since it listened.
type startTimes struct{ called, returned, listened time.Duration }

// start makes a container and starts it, and waits for its first answer as NAME.test.
func (c *comparison) start(ctx context.Context, x *proxy, name string) (t startTimes, id string, err error) {
	host := name + ".test"
	if id, err = c.Create(ctx, c.container(x, name, host)); err != nil {
		return t, "", err
	}
	var (
		first    answer
		notAsked error
		polling  sync.WaitGroup
	)
	polling.Go(func() { first, notAsked = c.firstAnswer(ctx, x, host, name) })
	called := time.Now()
	_, err = c.Docker.ContainerStart(ctx, id, client.ContainerStartOptions{})
	returned := time.Now()
	polling.Wait()
	if err := errors.Join(err, notAsked); err != nil {
		return t, id, err
	}
	answered := first.at.Add(first.took)
	return startTimes{answered.Sub(called), answered.Sub(returned), answered.Sub(first.listened)}, id, nil
}
