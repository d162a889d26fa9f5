package stage

import (
	"errors"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/simaws"
	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/vpc"
)

// Provider is what is around pretend hosts: a simulated cloud, and a network on which
// an association of a public address moves the packets.
type Provider struct {
	Cloud *simaws.Cloud
	VPC   *vpc.VPC

	metadata *http.Server

	mu    sync.Mutex
	wrong error     // of the last move of an address
	moved time.Time // when that was
}

// NewProvider makes an empty cloud and its network. It needs root. Instance metadata is
// where AWS has it, http://169.254.169.254, and knows who asks.
func NewProvider() (*Provider, error) {
	v, err := vpc.New()
	if err != nil {
		return nil, err
	}
	p := &Provider{VPC: v}
	world := simaws.New(simaws.Options{Moved: p.lead})
	if p.Cloud, err = simaws.Serve(world, simaws.ServeOptions{Host: vpc.ServiceAddr, Listen: v.Listen}); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	l, err := v.Listen("tcp", vpc.ServiceAddr+":80")
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	p.metadata = &http.Server{Handler: p.Cloud.Metadata(), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = p.metadata.Serve(l) }()
	return p, nil
}

// lead lets the packets follow the addresses.
func (p *Provider) lead(all []simaws.PublicAddress) {
	public := map[netip.Addr]netip.Addr{}
	for _, a := range all {
		public[netip.MustParseAddr(a.PublicIP)] = netip.MustParseAddr(a.PrivateIP)
	}
	err := p.VPC.Lead(public)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrong, p.moved = err, time.Now()
}

// Moved is when public addresses last came to lead elsewhere.
func (p *Provider) Moved() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.moved
}

// Close ends the cloud and its network, and returns what went wrong in moving addresses.
func (p *Provider) Close() error {
	if p.metadata != nil {
		_ = p.metadata.Close() // cuts what is under way, which is no error
	}
	p.Cloud.Close()
	p.mu.Lock()
	wrong := p.wrong
	p.mu.Unlock()
	return errors.Join(wrong, p.VPC.Close())
}
