package apply

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/nginx/nginxtest"
)

// eachQUIC runs a test with the nginx that has HTTP/3, and offers it for all sites.
func eachQUIC(t *testing.T, test func(t *testing.T, r *rig)) {
	nginxtest.EachWith(t, nginxtest.HTTP3, func(t *testing.T, n nginxtest.Nginx) {
		r := newRigOf(t, n)
		r.settings.HTTP3 = true
		test(t, r)
	})
}

// h3 speaks HTTP/3 with the nginx under test, at that local address, and trusts these
// certificates alone.
func (r *rig) h3(at string, trusted ...certs.Pair) *http3.Transport {
	r.t.Helper()
	roots := x509.NewCertPool()
	for _, p := range trusted {
		b, err := os.ReadFile(p.CertFile)
		if err != nil {
			r.t.Fatal(err)
		}
		roots.AppendCertsFromPEM(b)
	}
	t := &http3.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		QUICConfig:      &quic.Config{HandshakeIdleTimeout: 5 * time.Second, MaxIdleTimeout: 5 * time.Second},
		Dial: func(ctx context.Context, addr string, with *tls.Config, config *quic.Config) (*quic.Conn, error) {
			_, port, _ := net.SplitHostPort(addr)
			return quic.DialAddr(ctx, net.JoinHostPort(at, port), with, config)
		},
	}
	r.t.Cleanup(func() { t.Close() })
	return t
}

// over sends a request by that transport and reads the answer.
func over(t http.RoundTripper, req *http.Request) (answer, error) {
	ctx, cancel := context.WithTimeout(req.Context(), 20*time.Second)
	defer cancel()
	res, err := t.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, string(b), res.Header}, err
}

// unrecognized reports whether nginx refused the name of a connection. A TLS alert is a
// QUIC error from 0x100 on (RFC 9001, section 4.8), and 112 is unrecognized_name
// (RFC 6066, section 3).
func unrecognized(err error) bool {
	var refused *quic.TransportError
	return errors.As(err, &refused) && refused.Remote && refused.ErrorCode == 0x100+112
}

func TestHTTP3ToClients(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.settings.HTTP3 = true
		r.run()
		pa, pb, rest := writePair(t, "a.test"), writePair(t, "b.test"), writePair(t, "old.test", "off.test", "closed.test", "vacant.test")
		a := withTLS(site("a.test", echoServer(t)), pa, route.Redirect)
		b := withTLS(site("b.test", backend(t, "b")), pb, route.Redirect)
		old := withTLS(site("old.test", backend(t, "old")), rest, route.Redirect)
		old.Edge.TLSPolicy = "AWS-TLS-1-2-2017-01"
		off := withTLS(site("off.test", backend(t, "off")), rest, route.Redirect)
		off.Edge.HTTP3 = route.Off
		closed := withTLS(site("closed.test", backend(t, "closed")), rest, route.Redirect)
		closed.Edge.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		vacant := withTLS(site("vacant.test"), rest, route.Redirect)
		own := withTLS(site("own.test", echoServer(t)), writePair(t, "own.test"), route.Redirect)
		own.Edge.HTTPSPort = freePort(t)
		ownURL := fmt.Sprintf("https://own.test:%d/", own.Edge.HTTPSPort)
		tree := render(r.settings, r.o.Build, nestedTable{Sites: []nestedSite{a, b, old, off, closed, vacant, own}})
		if s := r.serve(tree); len(s.Quarantined) > 0 {
			t.Fatalf("quarantined: %+v", s.Quarantined)
		}
		port := r.settings.HTTPSPort
		offer := fmt.Sprintf(`h3=":%d"; ma=86400`, port)
		for host, want := range map[string]string{"a.test": offer, "b.test": offer, "old.test": "", "off.test": "", "closed.test": offer, "vacant.test": offer} {
			if !r.o.Build.HTTP3 {
				want = ""
			}
			for name, c := range map[string]*http.Client{"HTTP/1.1 or 2": r.client(), "HTTP/2": r.h2()} {
				res, err := c.Get(r.https(host, "/"))
				if err != nil {
					t.Errorf("%s over %s: %v", host, name, err)
					continue
				}
				res.Body.Close()
				if got := res.Header.Values("Alt-Svc"); strings.Join(got, "|") != want {
					t.Errorf("%s over %s: Alt-Svc %q, want %q", host, name, got, want)
				}
			}
		}
		if !r.o.Build.HTTP3 {
			return
		}

		for _, row := range []struct {
			name    string
			trusted certs.Pair // of this site alone
			req     *http.Request
			status  int
			body    string
		}{
			{"headers are overwritten", pa, forged(r.request("POST", r.https("a.test", "/p?q=1"), "body")), 200, fmt.Sprintf(
				"POST /p?q=1 host=a.test:%d for=127.0.0.1 proto=https fhost=a.test:%d port=%d prefix= real=127.0.0.1 forwarded= proxy= body=4", port, port, port)},
			{"a large body", pa, r.request("POST", r.https("a.test", "/"), strings.Repeat("x", 1<<20)), 200, "body=1048576"},
			{"the other site", pb, r.request("GET", r.https("b.test", "/"), ""), 200, "b"},
			{"not allowed", rest, r.request("GET", r.https("closed.test", "/"), ""), 403, ""},
			{"at a port of its own", own.Cert, r.request("GET", ownURL, ""), 200, fmt.Sprintf("host=own.test:%d for=127.0.0.1 proto=https fhost=own.test:%d port=%d ", own.Edge.HTTPSPort, own.Edge.HTTPSPort, own.Edge.HTTPSPort)},
			{"vacant", rest, r.request("GET", r.https("vacant.test", "/"), ""), 503, "no running container"},
		} {
			t.Run(row.name, func(t *testing.T) {
				got, err := over(r.h3("127.0.0.1", row.trusted), row.req)
				if err != nil || got.status != row.status || !strings.Contains(got.body, row.body) {
					t.Errorf("%d %q, %v, want %d with %q", got.status, got.body, err, row.status, row.body)
				}
				if strings.Contains(got.header.Get("Server"), "/") {
					t.Errorf("the version is shown: %s", got.header.Get("Server"))
				}
			})
		}
		t.Run("a connection made for another name", func(t *testing.T) {
			c := r.h3("127.0.0.1", pa)
			c.TLSClientConfig.ServerName = "a.test"
			if got, err := over(c, r.request("GET", r.https("b.test", "/"), "")); err != nil || got.status != 421 {
				t.Errorf("b.test on a connection for a.test: %d %q, %v, want 421", got.status, got.body, err)
			}
		})
		if got, want := r.get(ownURL).header.Get("Alt-Svc"), fmt.Sprintf(`h3=":%d"; ma=86400`, own.Edge.HTTPSPort); got != want {
			t.Errorf("own.test: Alt-Svc %q, want %q", got, want)
		}
		for _, name := range []string{"unknown.test", "old.test", "off.test", "own.test", "127.0.0.1"} {
			t.Run("refused: "+name, func(t *testing.T) {
				c := r.h3("127.0.0.1")
				c.TLSClientConfig.InsecureSkipVerify = true
				c.TLSClientConfig.VerifyConnection = func(s tls.ConnectionState) error {
					return fmt.Errorf("shown: the certificate of %v", s.PeerCertificates[0].DNSNames)
				}
				got, err := over(c, r.request("GET", r.https(name, "/"), ""))
				if !unrecognized(err) {
					t.Errorf("%d %q, %v, want the alert unrecognized_name", got.status, got.body, err)
				}
			})
		}
	})
}

// UDP has neither a PROXY protocol nor a stream section in front, so HTTP/3 must be the same
// with and without them at the same TCP port.
func TestHTTP3BesideOthersOfThePort(t *testing.T) {
	for _, row := range []struct {
		name            string
		balance, passed bool
	}{
		{"passthrough", false, true},
		{"the PROXY protocol", true, false},
		{"the PROXY protocol and passthrough", true, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			eachQUIC(t, func(t *testing.T, r *rig) {
				locals := []string{"127.0.0.1"}
				if l, err := net.ListenPacket("udp6", "[::1]:0"); err == nil {
					l.Close()
					locals = append(locals, "::1")
					r.settings.IPv6 = true
				}
				if row.balance {
					r.settings.ProxyProtocol = true
					r.settings.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
				}
				own := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "own certificate") }))
				t.Cleanup(own.Close)
				p, port := writePair(t, "a.test"), r.settings.HTTPSPort
				sites := []nestedSite{withTLS(site("a.test", echoServer(t)), p, route.Redirect)}
				if row.passed {
					sites = append(sites, nestedSite{Host: "p.test", Family: "own", Plain: route.Redirect, Passthrough: &nestedPassthrough{Pool: pool(addrOf(own))}})
				}
				r.run()
				r.serve(r.tree(sites...))
				for _, at := range locals {
					got, err := over(r.h3(at, p), forged(r.request("GET", r.https("a.test", "/x"), "")))
					want := fmt.Sprintf("GET /x host=a.test:%d for=%s proto=https fhost=a.test:%d port=%d prefix= real=%s ", port, at, port, port, at)
					if err != nil || got.status != 200 || !strings.HasPrefix(got.body, want) {
						t.Errorf("to %s: %d %q, %v, want %q", at, got.status, got.body, err, want)
					}
					// What is passed on over TCP is not served over QUIC, and not with another's certificate.
					if got, err := over(r.h3(at, p), r.request("GET", r.https("p.test", "/"), "")); !unrecognized(err) {
						t.Errorf("p.test to %s: %d %q, %v, want the alert unrecognized_name", at, got.status, got.body, err)
					}
				}
				if !row.balance {
					r.expect(r.https("a.test", "/x"), 200, "real=127.0.0.1")
					r.expect(r.https("p.test", "/"), 200, "own certificate")
				}
			})
		})
	}
}

// retired waits until the old workers of the last reload are gone.
func (r *rig) retired() {
	r.t.Helper()
	if r.last.WorkersDraining == 0 {
		return
	}
	r.await("the end of the old workers", func(s nginx.Status) bool { return s.WorkersDraining == 0 })
}

// A UDP port that another process holds affects HTTP/3 only.
func TestHTTP3PortHeldByAnotherProcess(t *testing.T) {
	t.Parallel()
	eachQUIC(t, func(t *testing.T, r *rig) {
		l, err := net.ListenPacket("udp", fmt.Sprintf("0.0.0.0:%d", r.settings.HTTPSPort))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		r.o.RetryQuarantine = 2 * time.Second
		p := writePair(t, "a.test", "b.test")
		a := withTLS(site("a.test", backend(t, "one")), p, route.Redirect)
		b := withTLS(site("b.test", backend(t, "two")), p, route.Redirect)
		file := fmt.Sprintf("quic:%d", r.settings.HTTPSPort)
		for when, tree := range []nginx.Tree{r.tree(a), r.tree(a, b)} {
			r.run()
			s := r.serve(tree)
			if len(s.Quarantined) != 1 || s.Quarantined[0].Host != file || !strings.Contains(s.Quarantined[0].Reason, fmt.Sprintf("UDP port %d is held by process %d ", r.settings.HTTPSPort, os.Getpid())) {
				t.Errorf("time %d: quarantined %+v", when, s.Quarantined)
			}
			if got := r.get(r.https("a.test", "/")); got.status != 200 || got.body != "one" || got.header.Get("Alt-Svc") != "" {
				t.Errorf("time %d: %d %q, Alt-Svc %q, want the page and no offer of HTTP/3", when, got.status, got.body, got.header.Get("Alt-Svc"))
			}
			if when == 0 {
				r.crash()
			}
		}
		l.Close()
		r.await("the port is taken", func(s nginx.Status) bool { return s.Settled && len(s.Quarantined) == 0 })
		r.retired()
		if got, err := over(r.h3("127.0.0.1", p), r.request("GET", r.https("a.test", "/"), "")); err != nil || got.body != "one" || got.header.Get("Alt-Svc") == "" {
			t.Errorf("when the port is free: %+v, %v", got, err)
		}

		// With what is on the disk, where both generations offer HTTP/3, before a tree is wanted.
		r.serve(r.tree(a))
		r.crash()
		r.stopNginx()
		if l, err = net.ListenPacket("udp", fmt.Sprintf("0.0.0.0:%d", r.settings.HTTPSPort)); err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		r.run()
		s := r.await("nginx is started", func(s nginx.Status) bool { return s.Generation != "" })
		if len(s.Quarantined) != 1 || s.Quarantined[0].Host != file {
			t.Errorf("after a restart: quarantined %+v", s.Quarantined)
		}
		if got := r.get(r.https("a.test", "/")); got.status != 200 || got.body != "one" || got.header.Get("Alt-Svc") != "" {
			t.Errorf("after a restart: %d %q, Alt-Svc %q, want the page and no offer of HTTP/3", got.status, got.body, got.header.Get("Alt-Svc"))
		}
	})
}
