package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

// badContainer is a container that does what none should.
type badContainer struct {
	name string
	args []string
	// labels are set beside a host of its own.
	labels  map[string]string
	restart bool
}

func badContainers() []badContainer {
	health := map[string]string{"nagaya.health": "/"}
	return []badContainer{
		{name: "silent", args: []string{"-hostile", "silent"}, labels: health},
		{name: "reset", args: []string{"-hostile", "reset"}, labels: health},
		{name: "garbage", args: []string{"-hostile", "garbage"}, labels: health},
		{name: "flood", args: []string{"-hostile", "flood"}, labels: health},
		{name: "deaf", args: []string{"-listen", ""}},
		{name: "crashing", args: []string{"-exit", "1"}, restart: true},
		{name: "thief", labels: map[string]string{"nagaya.host": "h0.test"}},
		{name: "injector", labels: map[string]string{"nagaya.host": "x.test; } server { listen 80; server_name h1.test"}},
		{name: "meddler", labels: map[string]string{"nagaya.timeout": "0s; return 500", "nagaya.auth": "../../etc/passwd"}},
	}
}

// hostiles lets bad containers in beside good sites: many at once, then one that
// comes and goes.
func (b *bench) hostiles(ctx context.Context) error {
	return errors.Join(b.crowd(ctx), b.flapping(ctx))
}

// crowd lets many in at once, and asks them and the good sites.
func (b *bench) crowd(ctx context.Context) (err error) {
	hosts := names("h%d.test", 4)
	p, err := b.startStage(ctx, stage.Options{Hosts: hosts})
	if err != nil {
		return err
	}
	defer closeInto(p, &err)
	for _, h := range hosts {
		if _, err := p.Run(ctx, p.container("good", h)); err != nil {
			return err
		}
	}
	if err := p.waitForRoutes(ctx, len(hosts)); err != nil {
		return err
	}
	var loads []*load
	for _, h := range hosts {
		c, err := p.Client()
		if err != nil {
			return err
		}
		l := startLoad(ctx, visitor{c: c, fresh: true}, p.URL(h, "/", true), 20)
		defer l.stop()
		loads = append(loads, l)
	}
	all := badContainers()
	unnamed, err := p.runBadContainers(ctx, all)
	if err != nil {
		return err
	}
	affected, failed, requests, first := 0, 0, 0, ""
	for _, l := range loads {
		l.stop()
		requests += l.requests
		if strangers := l.requests - l.by["good"]; strangers > 0 {
			affected++
			failed += strangers
			first = l.first()
		}
	}
	got := fmt.Sprintf("%d of %d sites affected, %d of %d requests failed%s; %d of %d culprits named", affected, len(hosts), failed, requests, first, len(all)-len(unnamed), len(all))
	if len(unnamed) > 0 {
		got += "; not named: " + strings.Join(unnamed, ", ")
	}
	b.add(Row{
		What: fmt.Sprintf("%d hostile or broken containers at once; 4 TLS sites asked 80 times a second", len(all)),
		Got:  got, Bound: "0 other sites affected; culprit named", Missed: affected > 0 || len(unnamed) > 0,
		Figures: map[string]float64{"affected": float64(affected), "failed": float64(failed), "requests": float64(requests), "badContainers": float64(len(all)), "unnamed": float64(len(unnamed))},
	})
	return nil
}

// noticed is how long it may take until a bad container is named: one that does not
// listen yet has ten seconds to begin.
const noticed = 30 * time.Second

// runBadContainers runs bad containers, asks for their sites all the time, and returns those that
// no problem names.
func (p *agentStage) runBadContainers(ctx context.Context, all []badContainer) (unnamed []string, err error) {
	visitors, end := context.WithCancel(ctx)
	var pestering sync.WaitGroup
	defer pestering.Wait()
	defer end()
	for _, v := range all {
		host := v.name + ".test"
		c := p.container(v.name, host)
		c.Args, c.Restart = append(c.Args, v.args...), v.restart
		for k, w := range v.labels {
			c.Labels[k] = w
		}
		if _, err := p.Run(ctx, c); err != nil {
			return nil, err
		}
		for range 2 {
			pestering.Go(func() { p.askRepeatedly(visitors, p.URL(host, "/", false)) })
		}
	}
	_ = stage.Until(ctx, noticed, "all are named", func() error {
		st, err := p.Board(ctx)
		if err != nil {
			return err
		}
		var subjects strings.Builder
		for _, x := range st.Problems {
			subjects.WriteString(x.Subject + "\n")
		}
		unnamed = nil
		for _, v := range all {
			if !strings.Contains(subjects.String(), v.name) {
				unnamed = append(unnamed, v.name)
			}
		}
		if len(unnamed) > 0 {
			return fmt.Errorf("not named: %v", unnamed)
		}
		return nil
	})
	return unnamed, ctx.Err()
}

// askRepeatedly asks for a site again and again, whatever comes.
func (p *agentStage) askRepeatedly(ctx context.Context, url string) {
	c, err := p.Client()
	if err != nil {
		return
	}
	defer c.CloseIdleConnections()
	c.Timeout = 5 * time.Second
	for ctx.Err() == nil {
		if req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil); err == nil {
			if resp, err := c.Do(req); err == nil {
				resp.Body.Close()
			}
		}
		_ = pause(ctx, 10*time.Millisecond)
	}
}
