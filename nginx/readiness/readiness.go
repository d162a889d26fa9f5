// Package readiness follows whether this instance can serve what its address is for.
package readiness

import (
	"context"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// Inputs are what the situation of an address is made of.
type Inputs struct {
	Identity *latest.Slot[identity.Identity]
	Offers   *latest.Slot[nginx.Offer]
	Nginx    *latest.Slot[nginx.Status]
}

// NewInputs returns empty ones.
func NewInputs() Inputs {
	return Inputs{latest.New[identity.Identity](), latest.New[nginx.Offer](), latest.New[nginx.Status]()}
}

// Run puts the situation whenever it differs from the last, until ctx ends. The hosts are
// those that must be live for this instance to be ready; without any one live route is
// enough.
func Run(ctx context.Context, hosts []string, in Inputs, put func(address.Situation)) error {
	var (
		s       = address.Situation{Named: hosts}
		serving nginx.Serving
		status  nginx.Status
	)
	put = latest.Distinct(put)
	for {
		select {
		case <-ctx.Done():
			return nil
		case s.Identity = <-in.Identity.C():
		case serving.Newest = <-in.Offers.C():
		case status = <-in.Nginx.C():
		}
		table := serving.Table(status)
		s.LiveHosts = nginx.LiveHosts(table, status)
		for i, h := range s.LiveHosts {
			if nginx.HasHTTPS(table, status, h) {
				s.LiveHosts[i] += address.HTTPSMark
			}
		}
		s.Unready = nginx.NotReady(hosts, table, status)
		s.Ready = s.Unready == ""
		put(s)
	}
}
