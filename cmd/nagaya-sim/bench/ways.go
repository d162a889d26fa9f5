package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

// ways compares the two addresses at which a published port can be reached: the
// host's own, which the kernel forwards, and loopback, where Docker's userland
// proxy copies every byte.
func (b *bench) ways(ctx context.Context) (err error) {
	var plays [2]*agentStage
	for i, config := range []string{"", "local-address: 127.0.0.1\n"} {
		p, err := b.startStage(ctx, stage.Options{Config: config})
		if err != nil {
			return err
		}
		defer closeInto(p, &err)
		plays[i] = p
	}
	// Both agents see it, and both route to it: it is no container of ECS, which only one agent's ECS agent would list.
	app := plays[0].container("app", "a.test")
	app.Labels = map[string]string{"nagaya.host": "a.test"}
	if _, err := plays[0].Run(ctx, app); err != nil {
		return err
	}
	for _, p := range plays {
		if _, err := p.waitForAnswer(ctx, p.URL("a.test", "/", false)); err != nil {
			return err
		}
		if err := p.waitInSync(ctx); err != nil {
			return err
		}
	}
	// In turns, so that what else the machine does hits both alike.
	var each [2][]float64
	for range b.count(7, 3) {
		for i, p := range plays {
			rate, err := p.perSecond(ctx, b.span(3*time.Second, time.Second))
			if err != nil {
				return err
			}
			each[i] = append(each[i], rate)
		}
	}
	local, loopback := median(each[0]), median(each[1])
	b.add(Row{
		What:    "requests per CPU-second of the whole host; by its own address, and by 127.0.0.1 (userland proxy)",
		Got:     fmt.Sprintf("own address %.0f; 127.0.0.1 %.0f; ratio %.2f", local, loopback, local/loopback),
		Figures: map[string]float64{"local": local, "loopback": loopback, "ratio": local / loopback},
	})
	return nil
}

func median(samples []float64) float64 {
	return slices.Sorted(slices.Values(samples))[len(samples)/2]
}

// perSecond asks as fast as eight connections can, and returns how many answers
// there were for each second of CPU time of everything on this host.
func (p *agentStage) perSecond(ctx context.Context, span time.Duration) (float64, error) {
	c, err := p.Client()
	if err != nil {
		return 0, err
	}
	defer c.CloseIdleConnections()
	var (
		askers sync.WaitGroup
		mu     sync.Mutex
		total  int
		failed error
		before = hostCPU()
		end    = time.Now().Add(span)
	)
	for range 8 {
		askers.Go(func() {
			n, err := askUntil(ctx, c, p.URL("a.test", "/", false), end)
			mu.Lock()
			defer mu.Unlock()
			if total += n; err != nil {
				failed = err
			}
		})
	}
	askers.Wait()
	spent := hostCPU() - before
	if failed == nil && spent <= 0 {
		failed = fmt.Errorf("/proc/stat counts no CPU time here")
	}
	if failed != nil {
		return 0, failed
	}
	return float64(total) / spent, nil
}

func askUntil(ctx context.Context, c *http.Client, url string, end time.Time) (n int, err error) {
	for time.Now().Before(end) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return n, err
		}
		resp, err := c.Do(req)
		if err != nil {
			return n, err
		}
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16))
		resp.Body.Close()
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s", resp.Status)
		}
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
