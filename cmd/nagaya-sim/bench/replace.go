package bench

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

// replaceGap is how long the new container has answered when the old one is told
// to stop. ECS takes longer: it hears of the new one from its agent, then decides.
const replaceGap = 500 * time.Millisecond

// replacements replaces a container again and again under load.
func (b *bench) replacements(ctx context.Context) error {
	for _, app := range []struct {
		name string
		args []string
	}{
		{"app exits at once on SIGTERM", []string{"-abrupt"}},
		{"graceful app", nil},
	} {
		if err := b.replace(ctx, app.name, app.args); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) replace(ctx context.Context, app string, args []string) (err error) {
	p, err := b.startStage(ctx, stage.Options{Hosts: []string{"a.test"}})
	if err != nil {
		return err
	}
	defer closeInto(p, &err)
	version := func(n int) stage.Container {
		c := p.container("app"+strconv.Itoa(n), "a.test")
		c.Args = append(c.Args, args...)
		return c
	}
	old := version(0)
	if _, err := p.Run(ctx, old); err != nil {
		return err
	}
	url := p.URL("a.test", "/", true)
	if _, err := p.waitForAnswer(ctx, url); err != nil {
		return err
	}
	if err := p.waitInSync(ctx); err != nil {
		return err
	}
	before, err := p.reloads(ctx)
	if err != nil {
		return err
	}
	var loads [2]*load
	for i := range loads {
		c, err := p.Client()
		if err != nil {
			return err
		}
		loads[i] = startLoad(ctx, visitor{c: c, fresh: i == 1}, url, 200)
		defer loads[i].stop()
	}
	n := b.count(20, 5)
	for i := 1; i <= n; i++ {
		next := version(i)
		if _, err := p.Run(ctx, next); err != nil {
			return err
		}
		name := "app" + strconv.Itoa(i)
		if err := stage.Until(ctx, patience, name+" answers", func() error {
			if loads[1].seen(name) == 0 {
				return fmt.Errorf("it does not")
			}
			return nil
		}); err != nil {
			return err
		}
		if err := pause(ctx, replaceGap); err != nil {
			return err
		}
		if err := p.Stop(ctx, old.Name, 10); err != nil {
			return err
		}
		if err := p.Remove(ctx, old.Name); err != nil {
			return err
		}
		old = next
	}
	after, err := p.reloads(ctx)
	if err != nil {
		return err
	}
	for i, l := range loads {
		l.stop()
		way := [2]string{"keep-alive", "new connections"}[i]
		b.add(Row{
			What:  fmt.Sprintf("%d rolling replacements at 200 GET/s, %s; %s", n, way, app),
			Got:   fmt.Sprintf("%d of %d failed%s; %d repeated by the client, %.1f reloads each", len(l.bad), l.requests, l.first(), l.repeated, float64(after-before)/float64(n)),
			Bound: "0 failed", Missed: len(l.bad) > 0,
			Figures: map[string]float64{"failed": float64(len(l.bad)), "requests": float64(l.requests), "repeated": float64(l.repeated), "reloads": float64(after - before), "n": float64(n)},
		})
	}
	return nil
}

// reloads is how many generations went live so far.
func (p *agentStage) reloads(ctx context.Context) (int, error) {
	st, err := p.Board(ctx)
	return st.Nginx.Reloads, err
}

// badAfterKill is how long after the event nobody may see the stopped container.
const badAfterKill = 200 * time.Millisecond

// lastStop stops the only container of a host under load.
func (b *bench) lastStop(ctx context.Context) (err error) {
	p, err := b.startStage(ctx, stage.Options{})
	if err != nil {
		return err
	}
	defer closeInto(p, &err)
	url := p.URL("a.test", "/", false)
	var (
		n                = b.count(6, 3)
		bad, late, other int
		clean            spans
	)
	for range n {
		c := p.container("app", "a.test")
		c.Args = append(c.Args, "-abrupt")
		id, err := p.Run(ctx, c)
		if err != nil {
			return err
		}
		if _, err := p.waitForAnswer(ctx, url); err != nil {
			return err
		}
		if err := p.waitInSync(ctx); err != nil {
			return err
		}
		stopped, l, err := p.stopUnderLoad(ctx, id, url)
		if err != nil {
			return err
		}
		last := stopped
		for _, a := range l.bad {
			if a.status == http.StatusServiceUnavailable {
				continue
			}
			last = a.at
			bad++
			if a.status != http.StatusBadGateway {
				other++
			}
			if a.at.Sub(stopped) > badAfterKill {
				late++
			}
		}
		clean = append(clean, last.Sub(stopped))
		if err := p.checkPage(ctx, url); err != nil {
			return err
		}
		if err := p.Remove(ctx, c.Name); err != nil {
			return err
		}
	}
	b.add(Row{
		What: "docker stop of the only container; app exits at once, 200 GET/s on new connections",
		Got: fmt.Sprintf("%d × 502 in %d stops, %d later than %s after kill; the last after p50 %s, max %s; then 503 with Retry-After; %d other failures",
			bad-other, n, late, ms(badAfterKill), ms(clean.at(0.5)), ms(clean.at(1)), other),
		Bound: "503 page; no 502 later than 200 ms after kill", Missed: late > 0 || other > 0,
		Figures: map[string]float64{"bad": float64(bad), "late": float64(late), "other": float64(other), "last_p50": millis(clean.at(0.5)), "last_max": millis(clean.at(1)), "n": float64(n)},
	})
	return nil
}

// stopUnderLoad stops a container while it is asked 200 times a second, and
// returns the time of the kill event and what was answered.
func (p *agentStage) stopUnderLoad(ctx context.Context, id, url string) (time.Time, *load, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := p.Docker.Events(ctx, client.EventsListOptions{Filters: client.Filters{}.Add("container", id).Add("event", string(events.ActionKill))})
	c, err := p.Client()
	if err != nil {
		return time.Time{}, nil, err
	}
	l := startLoad(ctx, visitor{c: c, fresh: true}, url, 200)
	defer l.stop()
	if err := pause(ctx, 200*time.Millisecond); err != nil {
		return time.Time{}, nil, err
	}
	if err := p.Stop(ctx, id, 10); err != nil {
		return time.Time{}, nil, err
	}
	if err := pause(ctx, time.Second); err != nil {
		return time.Time{}, nil, err
	}
	select {
	case m := <-stream.Messages:
		return time.Unix(0, m.TimeNano), l, nil
	case err := <-stream.Err:
		return time.Time{}, nil, fmt.Errorf("reading events: %w", err)
	case <-time.After(patience):
		return time.Time{}, nil, fmt.Errorf("no kill event of %s", id)
	}
}

// checkPage makes sure that nginx says when to come again.
func (p *agentStage) checkPage(ctx context.Context, url string) error {
	c, err := p.Client()
	if err != nil {
		return err
	}
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		return fmt.Errorf("without a container: %s, Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
	}
	return nil
}
