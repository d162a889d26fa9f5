package claim

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/event"
)

const (
	// reachEvery is how often a running holder is asked for an answer over the
	// network, and reachTimeout how long that is waited for.
	reachEvery   = 10 * time.Second
	reachTimeout = 3 * time.Second
)

// heard are the answers of one round.
type heard []answer

type answer struct {
	holder string
	public netip.Addr
	err    error
}

// reach asks every running holder whose silence would matter, without keeping
// anything else waiting.
func (c *claimer) reach(ctx context.Context) {
	c.reachAt = time.Time{}
	var round []answer
	for _, h := range c.held {
		if c.judged(h) && !h.report.Holder.Gone() {
			round = append(round, answer{holder: h.report.Holder.InstanceID, public: h.report.Address.PublicIP})
		}
	}
	if len(round) == 0 || c.reaching {
		return
	}
	c.reaching = true
	c.busy.Go(func() {
		for i := range round {
			one, cancel := context.WithTimeout(ctx, reachTimeout)
			round[i].err = c.o.Reach(one, round[i].public)
			cancel()
		}
		select {
		case c.heard <- round:
		case <-ctx.Done():
		}
	})
}

// hear takes the answers. A holder that never answered this instance is not
// silent: a firewall may lie between them.
func (c *claimer) hear(round heard) {
	now := time.Now()
	c.reaching = false
	c.reachAt = now.Add(spread(reachEvery, reachEvery/20))
	for _, h := range c.held {
		i := slices.IndexFunc(round, func(a answer) bool {
			return a.holder == h.report.Holder.InstanceID && a.public == h.report.Address.PublicIP
		})
		if i < 0 {
			continue
		}
		if round[i].err == nil {
			h.answered, h.answeredAt, h.silent = true, now, false
			continue
		}
		if silent := h.answered && now.Sub(h.answeredAt) >= c.o.Unreachable; silent && !h.silent {
			h.silent = true
			c.fullAt = now
			c.o.Log.Warn("address holder silent", event.Key, event.HolderSilent, "address", h.report.Address.PublicIP, "holder_id", h.report.Holder.InstanceID, "err", round[i].err)
		}
	}
}

// Dial is a Reach that opens a TCP connection to the ports in turn. Any answer
// counts, a refusal too: the host is there.
func Dial(ports ...uint16) func(context.Context, netip.Addr) error {
	return func(ctx context.Context, public netip.Addr) error {
		var d net.Dialer
		var errs []error
		for _, port := range ports {
			one, cancel := context.WithTimeout(ctx, reachTimeout/time.Duration(len(ports)))
			conn, err := d.DialContext(one, "tcp", net.JoinHostPort(public.String(), strconv.Itoa(int(port))))
			cancel()
			if err == nil {
				return conn.Close()
			}
			if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) {
				return nil
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
}
