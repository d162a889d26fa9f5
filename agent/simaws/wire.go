package simaws

import (
	"context"
	"fmt"
	"net"
	"sync"
)

// Wire is a network in memory, for tests in a bubble of testing/synctest: its time passes while
// connections are idle. The zero value is ready. Listen is for [ServeOptions], Dial for clients.
type Wire struct {
	mu    sync.Mutex
	ports map[string]*port
}

// port is a listener of a wire.
type port struct {
	addr     *net.TCPAddr
	incoming chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func (p *port) Addr() net.Addr { return p.addr }

func (p *port) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *port) Accept() (net.Conn, error) {
	select {
	case c := <-p.incoming:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Listen opens the next port of 127.0.0.1, whatever address it is given.
func (w *Wire) Listen(_, _ string) (net.Listener, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ports == nil {
		w.ports = map[string]*port{}
	}
	p := &port{addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: len(w.ports) + 1}, incoming: make(chan net.Conn), closed: make(chan struct{})}
	w.ports[p.addr.String()] = p
	return p, nil
}

// Dial connects to a port.
func (w *Wire) Dial(ctx context.Context, _, addr string) (net.Conn, error) {
	w.mu.Lock()
	p := w.ports[addr]
	w.mu.Unlock()
	if p == nil {
		return nil, fmt.Errorf("nobody listens at %s", addr)
	}
	here, there := net.Pipe()
	select {
	case p.incoming <- there:
		return here, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
