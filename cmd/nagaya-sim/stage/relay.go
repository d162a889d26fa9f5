package stage

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Relay stands between the agent and the Docker Engine, so that the line can be
// cut without hurting the engine.
type Relay struct {
	path   string
	engine string // network and address with "://" between them

	mu    sync.Mutex
	l     net.Listener
	conns map[net.Conn]bool
}

// NewRelay makes a relay to the engine of DOCKER_HOST that is not there yet.
func NewRelay() (*Relay, error) {
	// A socket's path must be short, and most temporary directories' are not.
	dir, err := os.MkdirTemp("", "relay-")
	if err != nil {
		return nil, err
	}
	r := &Relay{path: filepath.Join(dir, "docker.sock"), engine: "unix:///var/run/docker.sock", conns: map[net.Conn]bool{}}
	if h := os.Getenv("DOCKER_HOST"); h != "" {
		r.engine = h
	}
	return r, nil
}

// Host is the address to give the agent.
func (r *Relay) Host() string { return "unix://" + r.path }

// Close cuts the line for good and removes the socket.
func (r *Relay) Close() error {
	r.Cut()
	return os.RemoveAll(filepath.Dir(r.path))
}

// Join lets the agent reach the engine.
func (r *Relay) Join() error {
	l, err := net.Listen("unix", r.path)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.l = l
	r.mu.Unlock()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go r.pass(c)
		}
	}()
	return nil
}

func (r *Relay) pass(c net.Conn) {
	network, addr, _ := strings.Cut(r.engine, "://")
	far, err := net.Dial(network, addr)
	if err != nil {
		c.Close()
		return
	}
	r.mu.Lock()
	r.conns[c], r.conns[far] = true, true
	r.mu.Unlock()
	go func() {
		_, _ = io.Copy(far, c)
		far.Close()
	}()
	_, _ = io.Copy(c, far)
	c.Close()
	r.mu.Lock()
	delete(r.conns, c)
	delete(r.conns, far)
	r.mu.Unlock()
}

// Cut ends every connection and takes the socket away.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.l != nil {
		r.l.Close()
		r.l = nil
	}
	for c := range r.conns {
		c.Close()
	}
}
