// Package ecsapi asks the ECS agent of this host (ECS Developer Guide, "Amazon ECS container
// agent introspection").
package ecsapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"os"
	"time"
)

// ErrNotAgent is wrapped by the error of an answer that the agent would not give.
var ErrNotAgent = errors.New("not the ECS agent's answer")

const (
	// timeout is how long one answer may take.
	timeout = 5 * time.Second
	// maxAnswer bounds one answer in bytes; a task takes about 1 kB.
	maxAnswer = 8 << 20
)

// Client asks one agent.
type Client struct {
	URL string
	// PeerUser returns the user whose process has the other end of a connection; ok is false where that cannot be told.
	// It may be nil only where Transport makes no connections.
	PeerUser func(local, remote netip.AddrPort) (uid uint64, ok bool)
	// Transport is the default one if it is nil.
	Transport http.RoundTripper
}

// Get reads the answer to a path as JSON into v. It follows no redirects. At a loopback
// address every user can listen while no agent does, so there only an answer of root's or
// of this process's user is believed.
func (c Client) Get(ctx context.Context, path string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var conn net.Conn // of the last attempt
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { conn = i.Conn }})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+path, nil)
	if err != nil {
		return err
	}
	asks := http.Client{Transport: c.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := asks.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := c.trusted(conn); err != nil {
		return fmt.Errorf("%w: %w", ErrNotAgent, err)
	}
	// The agent's error answers carry an empty task as JSON: only the status tells.
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: status %d, want 200", ErrNotAgent, resp.StatusCode)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(v); err != nil {
		return fmt.Errorf("%w: %w", ErrNotAgent, err)
	}
	return nil
}

// trusted returns an error if an answer came over loopback from a process that is neither
// root's nor of this process's user. It looks at the connection and not at who listens,
// and only once it has answered: the listener may be another one by now, and the kernel
// knows no user of a connection that nobody has accepted. conn is nil where Transport makes none.
func (c Client) trusted(conn net.Conn) error {
	if conn == nil {
		return nil
	}
	local, remote := addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr())
	if !remote.Addr().IsLoopback() {
		return nil
	}
	switch uid, ok := c.PeerUser(local, remote); {
	case !ok:
		return fmt.Errorf("which user answers at %s cannot be told, because the connection was closed at once", remote)
	case uid != 0 && uid != uint64(os.Geteuid()):
		return fmt.Errorf("a process of user %d answers at %s, want root's", uid, remote)
	}
	return nil
}

func addrPort(a net.Addr) netip.AddrPort {
	tcp, _ := a.(*net.TCPAddr)
	at := tcp.AddrPort() // the zero one of nil
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}
