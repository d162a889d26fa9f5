package stage

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/report"
)

func TestRollingReplacement(t *testing.T) {
	for _, row := range []struct {
		name string
		args []string
	}{
		{"exits at once", nil},
		{"lingers", []string{"-linger", "700ms"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newStage(t, Options{Hosts: []string{"a.test"}})
			must(t, s.StartCloud(t.Context()))
			must(t, s.StartAgent())
			version := func(n int) Container {
				c := service("alpha", strconv.Itoa(n), "a.test")
				c.Args = append(c.Args, row.args...)
				return c
			}
			run(t, s, version(1))
			answers(t, s, "a.test", "alpha 1")
			settled(t, s)
			nginx := s.NginxPID()
			load, end := unbroken(t, s, "a.test", 100)
			for n := 2; n <= 6; n++ {
				run(t, s, version(n))
				until(t, fmt.Sprintf("version %d answers", n), func() error {
					if load.Seen("alpha "+strconv.Itoa(n)) == 0 {
						return errNotYet
					}
					return nil
				})
				// The old one may go when no worker is left that knows only it.
				settled(t, s)
				old := "alpha-" + strconv.Itoa(n-1)
				must(t, s.Stop(t.Context(), old, 10))
				must(t, s.Remove(t.Context(), old))
			}
			end()
			sameNginx(t, s, nginx)
		})
	}
}

// visit asks for the front page and returns the answer's header too.
func visit(ctx context.Context, s *Stage, host string) (*http.Response, error) {
	c, err := s.Client()
	if err != nil {
		return nil, err
	}
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL(host, "/", true), nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	return resp, resp.Body.Close()
}

func TestTheOnlyContainerIsStopped(t *testing.T) {
	s, nginx := household(t, Options{})
	must(t, s.Stop(t.Context(), "alpha-1", 5))
	stopped := time.Now()
	until(t, "a.test says when to come again", func() error {
		resp, err := visit(t.Context(), s, "a.test")
		if err != nil {
			return err
		}
		if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); resp.StatusCode != 503 || err != nil || seconds < 1 {
			return fmt.Errorf("%s, Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
		}
		return nil
	})
	t.Logf("503 %s after the container had stopped", time.Since(stopped).Round(time.Millisecond))
	shows(t, s, "the host is vacant", func(st report.Status) bool {
		return len(st.Routes.Sites) == 1 && !st.Routes.VacantSince(st.Routes.Sites[0]).IsZero()
	})
	must(t, s.Remove(t.Context(), "alpha-1"))
	run(t, s, service("alpha", "2", "a.test"))
	back := time.Now()
	answers(t, s, "a.test", "alpha 2")
	t.Logf("served %s after the next one was started", time.Since(back).Round(time.Millisecond))
	sameNginx(t, s, nginx)

	// A name that nobody serves: nothing over plain HTTP, and no handshake.
	code, body, err := s.GetPlain(t.Context(), "nobody.test")
	if err != nil || code != 404 {
		t.Errorf("plain HTTP for an unknown name: %v, %d %q, want 404", err, code, body)
	}
	c, err := tls.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.HTTPSPort)), &tls.Config{ServerName: "nobody.test", InsecureSkipVerify: true})
	if err == nil {
		c.Close()
	}
	if alert := tls.AlertError(0); !errors.As(err, &alert) && (err == nil || !strings.Contains(err.Error(), "unrecognized name")) {
		t.Errorf("a handshake for an unknown name: %v, want it refused", err)
	}
}
