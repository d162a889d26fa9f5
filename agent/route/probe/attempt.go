package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// Outcome is what one attempt saw.
type Outcome struct {
	// OK is true when it connected, or the path answered with 200 to 399.
	OK bool
	// Answered is true when a path answered at all.
	Answered bool
	// Detail says why it is not OK, in words of this package.
	Detail string
}

const (
	dialTimeout = time.Second
	getTimeout  = 3 * time.Second
	// lookTimeout is how long a container may take to say something. One that takes longer is
	// not judged.
	lookTimeout = 5 * time.Second
	// maxHeader bounds the header of an answer in bytes; bodies are not read. nginx takes half as much, and a
	// hostile family can have all attempts hold as much at once.
	maxHeader = 64 << 10
	// maxSaid bounds what is kept of how an answer begins.
	maxSaid = 48
)

// Attempt connects to the probe's address, or asks for its path.
func Attempt(ctx context.Context, p route.Probe) Outcome {
	if p.Path == "" {
		return dial(ctx, p.Addr)
	}
	return get(ctx, p)
}

func dial(ctx context.Context, at netip.AddrPort) Outcome {
	c, err := dialer.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return Outcome{Detail: cause(err, dialTimeout)}
	}
	c.Close()
	return Outcome{OK: true}
}

// Said sends a request and returns how the answer begins, at most maxSaid bytes, if that is
// not HTTP, or TLS where the probe's Scheme is HTTPS. It is empty too for a container that says
// nothing in time.
func Said(ctx context.Context, p route.Probe) string {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	c, err := dialer.DialContext(ctx, "tcp", p.Addr.String())
	if err != nil {
		return ""
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if p.Scheme == route.HTTPS {
		var wrongTLS tls.RecordHeaderError
		if errors.As(tls.Client(c, transport.TLSClientConfig).HandshakeContext(ctx), &wrongTLS) {
			return string(wrongTLS.RecordHeader[:])
		}
		return ""
	}
	if _, err := fmt.Fprintf(c, "HEAD / HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nConnection: close\r\n\r\n", p.Addr, userAgent); err != nil {
		return ""
	}
	const begins = "HTTP/"
	said := make([]byte, maxSaid)
	n, _ := io.ReadAtLeast(c, said, len(begins))
	said = said[:n]
	if start := said[:min(n, len(begins))]; strings.HasPrefix(begins, string(start)) {
		return ""
	}
	return string(said)
}

var dialer = &net.Dialer{Timeout: dialTimeout, KeepAlive: -1}

const userAgent = "nagaya-probe"

// transport makes a connection for every request: an old one would prove less.
// The certificate of a container is not checked, as nginx does not check it.
var transport = &http.Transport{
	DisableKeepAlives:      true,
	MaxResponseHeaderBytes: maxHeader,
	TLSClientConfig:        &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
	DialContext:            dialer.DialContext,
}

func get(ctx context.Context, p route.Probe) Outcome {
	ctx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, string(p.Scheme)+"://"+p.Addr.String()+p.Path, nil)
	if err != nil {
		return Outcome{Detail: "the path is not one"}
	}
	req.Host = p.Host
	req.Header.Set("User-Agent", userAgent)
	resp, err := transport.RoundTrip(req) // follows no redirect
	if err != nil {
		return Outcome{Detail: cause(err, getTimeout)}
	}
	resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return Outcome{Answered: true, Detail: "status " + strconv.Itoa(resp.StatusCode)}
	}
	return Outcome{OK: true, Answered: true}
}

// cause says what went wrong without repeating anything that the other side sent.
func cause(err error, limit time.Duration) string {
	var wrongTLS tls.RecordHeaderError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return fmt.Sprintf("no answer in %s", limit)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route to it"
	case errors.Is(err, syscall.ECONNRESET):
		return "connection reset"
	case errors.As(err, &wrongTLS):
		return "it does not speak TLS"
	}
	return "no answer that can be understood"
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}
