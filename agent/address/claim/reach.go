package claim

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/event"
)

const (
	// reachEvery is how often a running holder is asked for an answer over the
	// network, and reachTimeout how long that is waited for.
	reachEvery   = 10 * time.Second
	reachTimeout = 3 * time.Second
)

// reacher asks holders for an answer over the network, one round at a time.
type reacher struct {
	at      time.Time // when it asks next; zero is never
	asking  bool
	rounds  chan []answer
	running sync.WaitGroup
}

// answer is that of one holder; err says why there is none.
type answer struct {
	holder string
	public netip.Addr
	err    error
}

// start begins to ask, unless that has begun.
func (r *reacher) start() {
	if r.at.IsZero() && !r.asking {
		r.at = time.Now()
	}
}

// reachHolders asks every running holder whose silence would matter, in a goroutine.
func (c *claimer) reachHolders(ctx context.Context) {
	r := &c.reach
	r.at = time.Time{}
	var round []answer
	for _, s := range c.states {
		if s.Contested() && !s.Report.Holder.Gone() {
			round = append(round, answer{holder: s.Report.Holder.InstanceID, public: s.Report.Address.PublicIP})
		}
	}
	if len(round) == 0 || r.asking {
		return
	}
	r.asking = true
	r.running.Go(func() {
		for i := range round {
			one, cancel := context.WithTimeout(ctx, reachTimeout)
			round[i].err = c.o.Reach(one, round[i].public)
			cancel()
		}
		r.rounds <- round // it has room for the one round
	})
}

// takeAnswers takes those of one round.
func (c *claimer) takeAnswers(round []answer) {
	now := time.Now()
	c.reach.asking, c.reach.at = false, now.Add(backoff.Jitter(reachEvery, reachEvery/20))
	for _, s := range c.states {
		i := slices.IndexFunc(round, func(a answer) bool {
			return a.holder == s.Report.Holder.InstanceID && a.public == s.Report.Address.PublicIP
		})
		if i >= 0 && s.Answered(round[i].err == nil, c.o.Unreachable, now) {
			c.schedule.Advance(now)
			c.o.Log.Warn("address holder silent", event.Key, event.HolderSilent, "address", s.Report.Address.PublicIP, "holder_id", s.Report.Holder.InstanceID, "err", round[i].err)
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
