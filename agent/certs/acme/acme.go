// Package acme speaks with one CA by ACME (RFC 8555, with IP identifiers by RFC 8738 and renewal
// information by RFC 9773). It keeps nothing between calls but the directory, which the protocol's package
// caches for 12 hours.
package acme

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/readfile"
)

const (
	requestTimeout = 20 * time.Second // of one request with its answer, redirects apart
	finishTimeout  = 3 * time.Minute  // of one Finish
	mostRoots      = 1 << 20          // bytes of the file of roots
)

// Options says with whom to speak.
type Options struct {
	Directory string       // URL of the directory, with https
	RootsFile string       // PEM, what the CA's own server is trusted by; empty is the system's
	UserAgent string       // as "nagaya/1.2.3"
	Log       *slog.Logger // each request at debug; nil is nowhere
}

// CA speaks with one CA. It may be used by several goroutines at once, and by several agents with one account.
type CA struct {
	o    Options
	http *http.Client
}

// New returns one. It makes no request.
func New(o Options) (*CA, error) {
	if !httpsURL(o.Directory) {
		return nil, fmt.Errorf("the ACME directory %.100q is no URL with https", o.Directory)
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	var roots *x509.CertPool // nil is the system's
	if o.RootsFile != "" {
		text, err := readfile.Any(o.RootsFile, mostRoots)
		if err != nil {
			return nil, fmt.Errorf("reading the roots for %s: %w", o.Directory, err)
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s has no certificate in PEM, by which %s could be trusted", o.RootsFile, o.Directory)
		}
	}
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    2,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
	return &CA{o: o, http: &http.Client{Transport: &transport{t, o.Log}, CheckRedirect: sameHost}}, nil
}

// sameHost lets a request follow a redirect only to the host that it was for.
func sameHost(next *http.Request, via []*http.Request) error {
	if len(via) > 2 || next.URL.Scheme != "https" || next.URL.Host != via[0].URL.Host {
		return fmt.Errorf("it redirects to %.200q, which is not followed", next.URL.Redacted())
	}
	return nil
}

// httpsURL reports whether a text is one that can be requested, and short enough to keep.
func httpsURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && len(text) <= 1024
}

// session is one call of this package: its requests, and what they were answered.
type session struct {
	*acmez.Client
	*answers
}

// session runs f with a client of its own, so that no nonce is older than the call, and turns what fails
// into a *certs.CAError. It makes at most most requests.
func (ca *CA) session(ctx context.Context, most int, f func(context.Context, session) error) error {
	in, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := session{
		// Without the time to poll in, FinalizeOrder returns after one request.
		&acmez.Client{Directory: ca.o.Directory, HTTPClient: ca.http, UserAgent: ca.o.UserAgent, PollTimeout: 1},
		&answers{left: most, end: cancel},
	}
	err := f(context.WithValue(in, answersOf{}, s.answers), s)
	ca.http.CloseIdleConnections() // it may be weeks until the next call
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return &certs.CAError{Directory: ca.o.Directory, Err: context.Cause(ctx)}
	}
	own, ok := errors.AsType[*certs.CAError](err)
	if !ok {
		own = s.failure(err)
	}
	own.Directory = ca.o.Directory
	return own
}

// account reads an account for the protocol's package.
func account(a certs.Account) (acmez.Account, error) {
	key, err := parseKey(a.Key)
	if err != nil {
		return acmez.Account{}, fmt.Errorf("the key of the account at %s: %w", a.Directory, err)
	}
	if _, ok := key.(*ecdsa.PrivateKey); !ok {
		return acmez.Account{}, fmt.Errorf("the key of the account at %s is not one of ECDSA", a.Directory)
	}
	out := acmez.Account{Location: a.URL, PrivateKey: key}
	if a.Email != "" {
		out.Contact = []string{"mailto:" + a.Email}
	}
	return out, nil
}
