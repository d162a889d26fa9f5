package apply

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// nginx gives the packets of one UDP port to its old and new workers as it happens, so
// a reload costs connections of HTTP/3 (docs/nginx.md). What must hold: a client that
// falls back to TCP, as browsers do, loses nothing; no new client gets the old
// configuration; and once the old workers are gone, nothing is lost.
func TestHTTP3ThroughReloads(t *testing.T) {
	t.Parallel()
	eachQUIC(t, func(t *testing.T, r *rig) {
		const reloads = 8
		r.run()
		p := writePair(t, "a.test")
		bodies := [2]string{"even", "odd"}
		var trees [2]nginx.Tree
		for i, body := range bodies {
			trees[i] = r.tree(withTLS(site("a.test", backend(t, body)), p, route.Redirect))
		}
		r.serve(trees[0])

		ask := func(c http.RoundTripper, patience time.Duration) (answer, error) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			return over(c, r.request("GET", r.https("a.test", "/"), "").WithContext(ctx))
		}
		var stop atomic.Bool
		var load sync.WaitGroup
		visit := func(what string, fresh bool) {
			fast, slow, tick := r.h3("127.0.0.1", p), r.client(), time.NewTicker(10*time.Millisecond)
			defer tick.Stop()
			asked, fell := 0, 0
			for ; !stop.Load(); <-tick.C {
				if fresh {
					fast.Close()
					fast = r.h3("127.0.0.1", p)
				}
				asked++
				got, err := ask(fast, time.Second)
				if err != nil {
					fell++
					got, err = ask(slow.Transport, 20*time.Second)
				}
				if err != nil || got.status != 200 {
					t.Errorf("a visitor %s is lost: %d, %v", what, got.status, err)
				}
			}
			t.Logf("%s: %d of %d requests fell back to TCP in %d reloads", what, fell, asked, reloads)
		}
		for range 2 {
			load.Go(func() { visit("on a kept connection", false) })
			load.Go(func() { visit("on a new connection each", true) })
		}
		for i := range reloads {
			n := (i + 1) % 2
			r.serve(trees[n])
			c := r.h3("127.0.0.1", p)
			if got, err := ask(c, time.Second); err == nil && got.body != bodies[n] {
				t.Errorf("after reload %d a new connection gets %q, want %q", i+1, got.body, bodies[n])
			}
			c.Close()
		}
		stop.Store(true)
		load.Wait()
		r.retired()
		for range 20 {
			c := r.h3("127.0.0.1", p)
			if got, err := ask(c, 20*time.Second); err != nil || got.body != bodies[reloads%2] {
				t.Errorf("with the old workers gone: %q, %v, want %q", got.body, err, bodies[reloads%2])
			}
			c.Close()
		}
	})
}
