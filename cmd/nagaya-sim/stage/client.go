package stage

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// Client returns a client that speaks to the stage's nginx whatever the URL's host
// is, trusts the stage's authority only, and follows no redirects.
func (s *Stage) Client() (*http.Client, error) { return s.trusting(s.CAFile()) }

// trusting is Client with another authority.
func (s *Stage) trusting(caFile string) (*http.Client, error) {
	dial := &net.Dialer{Timeout: 5 * time.Second}
	return Trusting(caFile, func(ctx context.Context, port string) (c net.Conn, err error) {
		err = s.inside(func() error {
			c, err = dial.DialContext(ctx, "tcp4", net.JoinHostPort("127.0.0.1", port))
			return err
		})
		return c, err
	})
}

// Trusting returns a client that dials so whatever the URL's host is, trusts the
// authority of that file only, and follows no redirects.
func Trusting(caFile string, dial func(ctx context.Context, port string) (net.Conn, error)) (*http.Client, error) {
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &http.Client{
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 64,
			TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
				_, port, err := net.SplitHostPort(addr)
				if err != nil {
					return nil, err
				}
				return dial(ctx, port)
			},
		},
	}, nil
}

// URL returns the address of a path of a host at the stage's nginx.
func (s *Stage) URL(host, path string, secure bool) string {
	if secure {
		return fmt.Sprintf("https://%s:%d%s", host, s.HTTPSPort, path)
	}
	return fmt.Sprintf("http://%s:%d%s", host, s.HTTPPort, path)
}

// Get asks a host over HTTPS for its front page.
func (s *Stage) Get(ctx context.Context, host string) (status int, body string, err error) {
	c, err := s.Client()
	if err != nil {
		return 0, "", err
	}
	defer c.CloseIdleConnections()
	return get(ctx, c, s.URL(host, "/", true))
}

// GetPlain asks a host over plain HTTP for its front page.
func (s *Stage) GetPlain(ctx context.Context, host string) (status int, body string, err error) {
	c, err := s.Client()
	if err != nil {
		return 0, "", err
	}
	defer c.CloseIdleConnections()
	return get(ctx, c, s.URL(host, "/", false))
}

func get(ctx context.Context, c *http.Client, url string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	return resp.StatusCode, string(b), err
}

// Load is a stream of requests at a fixed rate.
type Load struct {
	stop   context.CancelFunc
	done   chan struct{}
	mu     sync.Mutex
	result Result
}

// Result is what a load met.
type Result struct {
	Requests int
	// Failed counts requests that got no answer, or another one than 200.
	Failed int
	// By counts the answers by the household that gave them.
	By map[string]int
	// First is the first failure.
	First string
}

// StartLoad sends requests to the host over HTTPS, perSecond of them, each at
// its own time whether or not the one before was answered; half of them on
// connections that are kept, half on new ones.
func (s *Stage) StartLoad(ctx context.Context, host string, perSecond int) (*Load, error) {
	kept, err := s.Client()
	if err != nil {
		return nil, err
	}
	fresh, err := s.Client()
	if err != nil {
		return nil, err
	}
	fresh.Transport.(*http.Transport).DisableKeepAlives = true
	return StartVisits(ctx, perSecond, func(n int) *http.Client {
		if n%2 == 1 {
			return fresh
		}
		return kept
	}, s.URL(host, "/", true)), nil
}

// StartVisits sends requests, perSecond of them, each with the client that is chosen
// for its number.
func StartVisits(ctx context.Context, perSecond int, client func(n int) *http.Client, url string) *Load {
	ctx, cancel := context.WithCancel(ctx)
	l := &Load{stop: cancel, done: make(chan struct{}), result: Result{By: map[string]int{}}}
	go func() {
		defer close(l.done)
		var under sync.WaitGroup
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for n := 0; ctx.Err() == nil; n++ {
			under.Go(func() { l.one(client(n), url) })
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
		under.Wait()
		client(0).CloseIdleConnections()
	}()
	return l
}

// one sends a request; it is finished even if the load is stopped meanwhile.
func (l *Load) one(c *http.Client, url string) {
	ok, by, why := ask(c, url)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.result.Requests++
	l.result.By[by]++
	if !ok {
		l.result.Failed++
		if l.result.First == "" {
			l.result.First = why
		}
	}
}

func ask(c *http.Client, url string) (ok bool, by, why string) {
	resp, err := c.Get(url)
	if err != nil {
		return false, "nobody", err.Error()
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16)); err != nil {
		return false, "nobody", err.Error()
	}
	by = resp.Header.Get("X-Household")
	if by == "" {
		by = "nginx"
	}
	return resp.StatusCode == http.StatusOK, by, resp.Status
}

// Stop ends the load and returns what it met.
func (l *Load) Stop() Result {
	l.stop()
	<-l.done
	return l.result
}

// Seen returns how many answers the named household has given so far.
func (l *Load) Seen(household string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.result.By[household]
}
