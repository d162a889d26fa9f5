package acme

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/certs"
)

// A CA that fails gets 5 requests a call at most, and what it says is passed on.
func TestFailingCA(t *testing.T) {
	type ask = func(context.Context, *liar, *CA) error
	names := []string{"a.test"}
	account := keyed(t, "")
	csr := request(t, certs.ECDSA, names)
	asks := map[string]ask{
		"Register": func(ctx context.Context, _ *liar, ca *CA) error {
			_, err := ca.Register(ctx, account, certs.Binding{})
			return err
		},
		"Begin": func(ctx context.Context, _ *liar, ca *CA) error {
			_, err := ca.Begin(ctx, account, certs.Order{Names: names}, byHTTP)
			return err
		},
		"Finish": func(ctx context.Context, l *liar, ca *CA) error {
			_, err := ca.Finish(ctx, account, certs.Pending{URL: l.base + "order", Names: names}, csr)
			return err
		},
		"Renewal": func(ctx context.Context, _ *liar, ca *CA) error {
			_, err := ca.Renewal(ctx, "a.b")
			return err
		},
	}
	type answer = func(http.ResponseWriter, *http.Request) bool
	for _, row := range []struct {
		name   string
		answer answer
		status int
		kind   string
		retry  time.Duration
		most   int // requests
		text   string
	}{
		{"500", func(w http.ResponseWriter, _ *http.Request) bool { http.Error(w, "oops", 500); return true }, 500, "", 0, 5, "internal server error"},
		{"500 with a problem", func(w http.ResponseWriter, _ *http.Request) bool {
			return problem(w, 500, "serverInternal", "oops\x1b[1m")
		}, 500, "serverInternal", 0, 5, `oops\x1b[1m`},
		{"503 until", func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Retry-After", "120")
			return problem(w, 503, "rateLimited", "busy")
		}, 503, certs.RateLimited, 2 * time.Minute, 3, "busy"},
		{"429 in seconds", func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Retry-After", "3600")
			return problem(w, 429, "rateLimited", "too many certificates")
		}, 429, certs.RateLimited, time.Hour, 3, "too many certificates"},
		{"429 with a date", func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Retry-After", time.Now().Add(10*time.Hour).UTC().Format(http.TimeFormat))
			return problem(w, 429, "rateLimited", "")
		}, 429, certs.RateLimited, 10 * time.Hour, 3, ""},
		{"429 forever", func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Retry-After", "2000000000")
			http.Error(w, "", http.StatusTooManyRequests)
			return true
		}, 429, "", mostLeft, 3, ""},
		{"malformed", func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"status":`)
			return true
		}, 200, "", 0, 3, "JSON"},
		{"a page", func(w http.ResponseWriter, _ *http.Request) bool { fmt.Fprint(w, `<html>`); return true }, 200, "", 0, 3, ""},
		{"an endless answer", func(w http.ResponseWriter, _ *http.Request) bool {
			for b := bytes.Repeat([]byte(" "), 1<<16); ; {
				if _, err := w.Write(b); err != nil {
					return true
				}
			}
		}, 0, "", 0, 4, "larger than 1048576 bytes"},
		{"an endless page of a failure", func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(400)
			_, _ = w.Write(bytes.Repeat([]byte("x"), 1<<19))
			return true
		}, 400, "", 0, 3, "bad request"},
		{"hanging", func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }, 0, "", 0, 3, "no answer within 20s"},
		{"redirect to another host", func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Location", "https://other.test/dir")
			w.WriteHeader(307)
			return true
		}, 307, "", 0, 5, "redirects"},
		{"redirect to plain HTTP", func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Location", "http://ca.test"+r.URL.Path)
			w.WriteHeader(308)
			return true
		}, 308, "", 0, 5, "redirects"},
		{"redirect to itself", func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Location", r.URL.Path)
			w.WriteHeader(302)
			return true
		}, 302, "", 0, 15, "redirects"},
		{"every nonce is bad", func(w http.ResponseWriter, _ *http.Request) bool { return problem(w, 400, "badNonce", "bad nonce") }, 400, "badNonce", 0, 7, "bad nonce"},
		{"refused", func(w http.ResponseWriter, _ *http.Request) bool {
			return problem(w, 403, "unauthorized", "not you")
		}, 403, "unauthorized", 0, 3, "not you"},
	} {
		for what, ask := range asks {
			for _, at := range []string{"the directory", "all else"} {
				t.Run(row.name+"/"+what+"/"+at, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						l, ca := startLiar(t, names...)
						l.answer = func(w http.ResponseWriter, r *http.Request) bool {
							first := strings.HasSuffix(r.URL.Path, "/dir")
							if (at == "the directory") != first || strings.HasSuffix(r.URL.Path, "/nonce") {
								return false
							}
							return row.answer(w, r)
						}
						start := time.Now()
						err := ask(t.Context(), l, ca)
						if err == nil && what == "Renewal" && row.status == 400 {
							return // the CA does not know the certificate
						}
						e := caError(t, err)
						kind := row.kind
						if what == "Register" && at == "all else" && kind == "unauthorized" {
							kind = certs.AccountDeactivated
						}
						if e.Status != row.status || e.Type != kind || !strings.Contains(e.Error(), row.text) || len(e.Error()) > 800 {
							t.Errorf("it is %d %q: %s", e.Status, e.Type, e)
						}
						if row.retry == 0 && !e.RetryAfter.IsZero() || row.retry > 0 && e.RetryAfter.Sub(start).Round(5*time.Second) != row.retry {
							t.Errorf("it is to be left alone until %s", e.RetryAfter.Sub(start))
						}
						if asked := l.asked(); len(asked) > row.most {
							t.Errorf("it got %d requests: %q", len(asked), asked)
						}
						if took := time.Since(start); took > 25*time.Second {
							t.Errorf("it took %s", took)
						}
					})
				})
			}
		}
	}
}

func TestUnreachableCA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ca := startLiar(t, "a.test")
		dials := 0
		ca.http.Transport.(*transport).base.DialTLSContext = nil
		ca.http.Transport.(*transport).base.Proxy = nil
		ca.http.Transport.(*transport).base.DialContext = refuse(&dials)
		_, err := ca.Register(t.Context(), keyed(t, ""), certs.Binding{})
		if e := caError(t, err); e.Status != 0 || dials > 5 || !strings.Contains(e.Error(), "does not answer: no route") {
			t.Errorf("after %d connections: %v", dials, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err = ca.Register(ctx, keyed(t, ""), certs.Binding{}); !errors.Is(err, context.Canceled) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// An order's end is told as it is, and one that never ends is left.
func TestFinish(t *testing.T) {
	names := []string{"a.test", "b.test"}
	account := keyed(t, "")
	csr := request(t, certs.ECDSA, names)
	good := func(csr []byte) string { return issued(t, csr, nil) }
	never := func(*liar) {}
	for _, row := range []struct {
		name   string
		order  func(l *liar)
		chain  func([]byte) string
		want   string // part of the error; empty is a chain
		kind   string
		names  []string
		over   bool
		waited time.Duration // at least
	}{
		{name: "pending", order: never, chain: good},
		{name: "ready", order: func(l *liar) { l.order["status"] = "ready" }, chain: good},
		{name: "valid", order: func(l *liar) { l.order["status"], l.csr = "valid", csr }, chain: good},
		{name: "processing", order: func(l *liar) {
			l.order["status"] = "processing"
			l.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if len(l.requests) > 6 {
					l.order["status"], l.csr = "valid", csr
				}
				w.Header().Set("Retry-After", "7")
				return false
			}
		}, chain: good, waited: 14 * time.Second},
		{name: "processing forever", order: func(l *liar) { l.order["status"] = "processing" }, want: "still processing", waited: 2 * time.Minute},
		{name: "processing for a year", order: func(l *liar) {
			l.order["status"] = "processing"
			l.answer = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Retry-After", "31536000")
				return false
			}
		}, want: "still processing", waited: 2 * time.Minute},
		{name: "ready forever", order: func(l *liar) {
			l.order["status"] = "ready"
			l.answer = func(w http.ResponseWriter, r *http.Request) bool {
				return strings.HasSuffix(r.URL.Path, "finalize") && problem(w, 403, "orderNotReady", "wait")
			}
		}, want: "still ready"},
		{name: "a status of nothing", order: func(l *liar) { l.order["status"] = "\x1b" }, want: "no status"},
		{name: "invalid", order: func(l *liar) {
			l.order["status"], l.auth["status"] = "invalid", "invalid"
			l.auth["challenges"] = []any{map[string]any{"type": "http-01", "status": "invalid", "error": map[string]string{"type": "urn:ietf:params:acme:error:connection", "detail": "timeout"}}}
		}, want: "a.test: timeout", kind: "connection", names: []string{"a.test"}, over: true},
		{name: "invalid by itself", order: func(l *liar) {
			l.order["status"], l.auth["status"] = "invalid", "valid"
			l.order["error"] = map[string]any{"type": "urn:ietf:params:acme:error:caa", "detail": "forbidden", "subproblems": []any{
				map[string]any{"identifier": map[string]string{"value": "b.test"}}, map[string]any{"identifier": map[string]string{"value": "other.test"}},
			}}
		}, want: "forbidden", kind: "caa", names: []string{"b.test"}, over: true},
		{name: "gone", order: func(l *liar) {
			l.answer = func(w http.ResponseWriter, r *http.Request) bool {
				return strings.HasSuffix(r.URL.Path, "/order") && problem(w, 404, "malformed", "no such order")
			}
		}, want: "no such order", kind: "malformed", over: true},
		{name: "for other names", order: func(l *liar) { l.order["identifiers"] = identifiers("a.test", "c.test") }, want: "other names"},
		{name: "another challenge", order: func(l *liar) {
			l.auth["challenges"] = []any{map[string]any{"type": "http-01", "status": "pending", "url": l.base + "x"}}
		}, want: "answered here", kind: certs.ChallengeNotOffered, names: []string{"a.test"}, over: true},
		{name: "a certificate over plain HTTP", order: func(l *liar) { l.order["status"], l.order["certificate"] = "valid", "http://ca.test/cert" }, want: "no URL"},
		{name: "the request is refused", order: func(l *liar) {
			l.order["status"] = "ready"
			l.answer = func(w http.ResponseWriter, r *http.Request) bool {
				return strings.HasSuffix(r.URL.Path, "finalize") && problem(w, 400, "badCSR", "weak")
			}
		}, want: "weak", kind: "badCSR", over: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, ca := startLiar(t, names...)
				l.chain = row.chain
				row.order(l)
				start := time.Now()
				p := certs.Pending{URL: l.base + "order", Names: names, Challenges: []certs.Challenge{{URL: l.base + "challenge"}}}
				chain, err := ca.Finish(t.Context(), account, p, csr)
				if took := time.Since(start); took < row.waited || took > finishTimeout {
					t.Errorf("it took %s", took)
				}
				if n := len(l.asked()); n > 60 {
					t.Errorf("%d requests", n)
				}
				if row.want == "" {
					if err != nil || !strings.HasPrefix(chain, "-----BEGIN CERTIFICATE") {
						t.Fatalf("%q, %v", chain, err)
					}
					return
				}
				e := caError(t, err)
				if !strings.Contains(e.Error(), row.want) || e.Type != row.kind || e.Over != row.over || !slices.Equal(e.Names, row.names) {
					t.Errorf("%v of %q, over: %v", e, e.Names, e.Over)
				}
			})
		})
	}
}

func TestBegin(t *testing.T) {
	account := keyed(t, "")
	challenge := func(kind, url, token string) map[string]any {
		return map[string]any{"type": kind, "status": "pending", "url": url, "token": token}
	}
	for _, row := range []struct {
		name  string
		order certs.Order
		lie   func(l *liar)
		want  string // part of the error; empty is none
		kind  string
		keep  int // challenges
	}{
		{name: "as it is", lie: func(*liar) {}, keep: 1},
		{name: "valid already", lie: func(l *liar) { l.auth["status"] = "valid" }},
		{name: "a profile", order: certs.Order{Profile: "short"}, lie: func(*liar) {}, keep: 1},
		{name: "no profile", order: certs.Order{Profile: "long"}, lie: func(*liar) {}, want: `\"long\" is not one of its profiles, which are [\"classic\" \"short\"]`, kind: certs.ProfileNotOffered},
		{name: "a token that is a path", lie: func(l *liar) { l.auth["challenges"] = []any{challenge("http-01", l.base, "../x")} }, want: "the token"},
		{name: "a token without end", lie: func(l *liar) {
			l.auth["challenges"] = []any{challenge("http-01", l.base, strings.Repeat("x", 129))}
		}, want: "the token"},
		{name: "no token", lie: func(l *liar) { l.auth["challenges"] = []any{challenge("http-01", l.base, "")} }, want: "the token"},
		{name: "another kind", lie: func(l *liar) { l.auth["challenges"] = []any{challenge("tls-alpn-01", l.base, "x")} }, want: "a.test can be proven only by", kind: certs.ChallengeNotOffered},
		{name: "another name", lie: func(l *liar) { l.auth["identifier"] = identifiers("b.test")[0] }, want: "for which the order is not"},
		{name: "a wildcard", lie: func(l *liar) { l.auth["wildcard"] = true }, want: "for which the order is not"},
		{name: "too many", lie: func(l *liar) { l.order["authorizations"] = []string{l.base, l.base} }, want: "2 authorizations for 1 names"},
		{name: "invalid already", lie: func(l *liar) { l.auth["status"] = "deactivated" }, want: "is deactivated"},
		{name: "nowhere", lie: func(l *liar) { l.order["finalize"] = "http://ca.test/x" }, want: "no URL"},
		{name: "over plain HTTP", lie: func(l *liar) { l.order["authorizations"] = []string{"http://ca.test/auth"} }, want: "no URL with https"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, ca := startLiar(t, "a.test")
				row.lie(l)
				row.order.Names = []string{"a.test"}
				p, err := ca.Begin(t.Context(), account, row.order, byHTTP)
				if row.want != "" {
					if e := caError(t, err); !strings.Contains(e.Error(), row.want) || e.Type != row.kind {
						t.Errorf("%q: %v", e.Type, e)
					}
					return
				}
				if err != nil || len(p.Challenges) != row.keep || p.URL != l.base+"order" {
					t.Errorf("%+v, %v", p, err)
				}
			})
		})
	}
}

func TestChoose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, ca := startLiar(t, "a.test")
		l.auth["identifier"] = map[string]string{"type": "dns", "value": "A.test"}
		l.auth["challenges"] = []any{
			map[string]any{"type": "dns-01", "url": l.base + "d", "token": "tok"}, map[string]any{"type": "http-01", "url": l.base + "h", "token": "tok"},
		}
		account := keyed(t, "")
		order := certs.Order{Names: []string{"a.test"}}
		web, err := ca.Begin(t.Context(), account, order, byHTTP)
		if err != nil {
			t.Fatal(err)
		}
		dns, err := ca.Begin(t.Context(), account, order, byDNS)
		if err != nil {
			t.Fatal(err)
		}
		got := []certs.Challenge{web.Challenges[0], dns.Challenges[0]}
		if !strings.HasPrefix(got[0].Answer, "tok.") || len(got[1].Value) != 43 {
			t.Errorf("they are %+v", got)
		}
		got[0].Answer, got[1].Value = "", ""
		want := []certs.Challenge{
			{Name: "a.test", Type: "http-01", URL: l.base + "h", Auth: l.base + "auth", Token: "tok"},
			{Name: "a.test", Type: "dns-01", URL: l.base + "d", Auth: l.base + "auth", Record: "_acme-challenge.a.test"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRegisterDeactivated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, ca := startLiar(t, "a.test")
		l.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/account") {
				put(w, 200, map[string]any{"status": "deactivated"})
				return true
			}
			return false
		}
		_, err := ca.Register(t.Context(), keyed(t, ""), certs.Binding{})
		if e := caError(t, err); e.Type != certs.AccountDeactivated {
			t.Error(e)
		}
	})
}
