package install

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// nginx gives the packets of one UDP port to its old and new workers as it happens, so
// a reload costs connections of HTTP/3 (docs/nginx.md). What must hold all the same: who
// falls back to TCP, as browsers do, loses nothing; nobody who comes new gets the old
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

		ask := func(c http.RoundTripper) (answer, error) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
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
				got, err := ask(fast)
				if err != nil {
					fell++
					got, err = ask(slow.Transport)
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
			if got, err := ask(c); err == nil && got.body != bodies[n] {
				t.Errorf("after reload %d a new connection gets %q, want %q", i+1, got.body, bodies[n])
			}
			c.Close()
		}
		stop.Store(true)
		load.Wait()
		r.retired()
		for range 20 {
			c := r.h3("127.0.0.1", p)
			if got, err := ask(c); err != nil || got.body != bodies[reloads%2] {
				t.Errorf("with the old workers gone: %q, %v, want %q", got.body, err, bodies[reloads%2])
			}
			c.Close()
		}
	})
}

// A download that a reload cuts ends with an error, and never looks whole.
func TestHTTP3DownloadThroughAReload(t *testing.T) {
	t.Parallel()
	eachQUIC(t, func(t *testing.T, r *rig) {
		const downloads, size = 6, 2 << 20
		half := strings.Repeat("x", size/2)
		rest := make(chan struct{})
		up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			fmt.Fprint(w, half)
			w.(http.Flusher).Flush()
			select {
			case <-rest:
				fmt.Fprint(w, half)
			case <-req.Context().Done():
			}
		}))
		t.Cleanup(up.Close)
		t.Cleanup(up.CloseClientConnections)
		p := writePair(t, "a.test")
		a := withTLS(speaking(site("a.test", addrOf(up)), route.HTTP, func(l *nestedLocation) { l.Buffering = false }), p, route.Redirect)
		r.run()
		r.serve(r.tree(a))
		begun := make(chan error, downloads)
		ends := make(chan error, downloads)
		for range downloads {
			go func() {
				c := r.h3("127.0.0.1", p)
				c.QUICConfig.MaxIdleTimeout = 2 * time.Second
				res, err := c.RoundTrip(r.request("GET", r.https("a.test", "/"), ""))
				if err == nil {
					defer res.Body.Close()
					_, err = io.CopyN(io.Discard, res.Body, size/2)
				}
				begun <- err
				if err != nil {
					return
				}
				n, err := io.Copy(io.Discard, res.Body)
				if err == nil && n != size/2 {
					t.Errorf("a download of %d bytes looks whole", size/2+n)
				}
				ends <- err
			}()
		}
		for range downloads {
			if err := <-begun; err != nil {
				t.Fatal(err)
			}
		}
		r.serve(r.tree(a, site("b.test")))
		close(rest)
		cut := map[string]int{}
		for range downloads {
			if err := <-ends; err != nil {
				cut[err.Error()]++
			}
		}
		t.Logf("of %d downloads a reload cuts %v", downloads, cut)
	})
}
