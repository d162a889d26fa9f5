package claim

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/latest"
)

const (
	// believing is how long an agent may believe wrongly that it holds the address.
	believing = 30 * time.Second
	noisy     = 4 * time.Minute
	quiet     = 3 * time.Minute
)

// crowd is ten agents that claim one address while things go wrong.
type crowd struct {
	t      *testing.T
	w      *world
	r      *rand.Rand // what happens
	luck   *rand.Rand // how calls go; used under the world's lock
	seed   int
	agents []*one
	lag    time.Duration // the oldest answer
	broken bool          // EC2 does not answer anybody
	faults float64       // how many calls fail
	tokens [2]float64
	filled [2]time.Time
	wrong  time.Duration // the longest wrong belief
}

// one is an agent of the crowd.
type one struct {
	id       string
	m        *machine
	policy   address.Policy
	slot     *latest.Slot[address.Situation]
	requests chan latest.Question[address.Request]
	stop     context.CancelFunc
	ended    chan error
	report   address.Report
	ready    bool
	leaving  bool
	blind    bool // no metadata
	shown    identity.Identity
	alive    bool
	denied   string    // what its role may not do
	unknown  time.Time // until when EC2 does not know its role
	cut      bool      // no packet but those of its metadata comes or goes
	wrong    time.Duration
	since    time.Time // of the belief
}

func (c *crowd) launch() *one {
	id := fmt.Sprintf("i-%03d", len(c.agents))
	a := &one{
		id: id, slot: latest.New[address.Situation](), requests: make(chan latest.Question[address.Request], 1), ended: make(chan error, 1), alive: true, ready: c.r.IntN(3) > 0,
		policy: []address.Policy{address.Standby, address.Standby, address.Takeover, address.Takeover, address.Wait}[c.r.IntN(5)],
	}
	if c.r.IntN(3) == 0 {
		a.unknown = time.Now().Add(time.Minute)
	}
	c.w.mu.Lock()
	a.m = c.w.addMachine(id, time.Now().Add(-time.Duration(len(c.agents)%3)*time.Hour), fmt.Sprintf("10.0.0.%d", 10+len(c.agents)))
	c.agents = append(c.agents, a)
	c.w.mu.Unlock()
	ctx, cancel := context.WithCancel(c.t.Context())
	a.stop = cancel
	api := &client{w: c.w, who: id, trouble: func(action string) (before, after error) {
		cut := &net.OpError{Op: "read", Err: errors.New("reset")}
		switch {
		case c.broken || a.cut:
			return cut, nil
		case time.Now().Before(a.unknown):
			return refusal(action, "AuthFailure", "no"), nil
		case action == a.denied:
			return refusal(action, "UnauthorizedOperation", "no"), nil
		case !c.admits(action):
			return refusal(action, "RequestLimitExceeded", "no"), nil
		case c.luck.Float64() >= c.faults:
			return nil, nil
		}
		switch c.luck.IntN(4) {
		case 0:
			return refusal(action, "RequestLimitExceeded", "no"), nil
		case 1:
			return refusal(action, "InternalError", "no"), nil
		case 2:
			return cut, nil
		}
		return nil, cut
	}}
	o := Options{
		Claims: []address.Claim{{AllocationID: "eipalloc-1"}}, Policy: a.policy, Requests: a.requests,
		API:   func(string) EC2 { return api },
		Reach: func(context.Context, netip.Addr) error { return c.reach(a) },
	}
	if c.r.IntN(2) == 0 {
		o.Unreachable = 30 * time.Second
	}
	go func() {
		a.ended <- Run(ctx, o, a.slot.C(), func(r address.Report) {
			c.w.mu.Lock()
			defer c.w.mu.Unlock()
			a.report = r
		})
	}()
	c.tell(a)
	return a
}

// reach asks the address for an answer.
func (c *crowd) reach(from *one) error {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	holder := c.w.addresses["eipalloc-1"].now().instance
	for _, a := range c.agents {
		if a.id == holder && a.alive && !a.cut && !from.cut {
			return nil
		}
	}
	return errors.New("no answer")
}

// tell gives an agent its situation, as seen by its metadata.
func (c *crowd) tell(a *one) {
	if !a.alive {
		return
	}
	s := address.Situation{Ready: a.ready, Unready: "no route is live", LiveHosts: []string{"a.test"}}
	if !a.blind {
		a.shown = c.w.seenFrom(a.id)
	}
	s.Identity = a.shown
	if a.blind {
		s.Identity.MetadataSilent = true
	}
	if a.leaving {
		s.Identity.Notices = []identity.Notice{{Kind: identity.Rebalance}}
	}
	a.slot.Put(s)
}

// die ends an agent with its instance.
func (c *crowd) die(a *one) {
	a.stop()
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	a.alive = false
	a.m.state = "stopped"
	if c.r.IntN(2) == 0 {
		a.m.state = "terminated"
		if e := c.w.addresses["eipalloc-1"]; e.now().instance == a.id && c.r.IntN(2) == 0 {
			e.change(holds{})
		}
	}
}

func (c *crowd) living() (all []*one) {
	for _, a := range c.agents {
		if a.alive {
			all = append(all, a)
		}
	}
	return all
}

// happen lets one thing happen.
func (c *crowd) happen() {
	all := c.living()
	a := all[c.r.IntN(len(all))]
	if h := slices.IndexFunc(all, func(a *one) bool { return a.id == c.w.holder("eipalloc-1") }); h >= 0 && c.r.IntN(2) == 0 {
		a = all[h]
	}
	switch c.r.IntN(12) {
	case 0, 1:
		if len(all) > 3 {
			c.die(a)
			c.launch()
		}
	case 2:
		a.leaving = !a.leaving
	case 3:
		a.ready = !a.ready
	case 4:
		a.blind = !a.blind
	case 5:
		c.w.mu.Lock()
		c.broken = !c.broken
		c.w.mu.Unlock()
	case 6:
		select {
		case a.requests <- latest.Question[address.Request]{Value: address.Request{Release: c.r.IntN(2) == 0, Now: c.r.IntN(3) == 0}, Reply: make(chan error, 1)}:
		default:
		}
	case 7:
		c.w.mu.Lock()
		c.faults = []float64{0, 0.1, 0.5}[c.r.IntN(3)]
		c.w.mu.Unlock()
	case 8:
		c.w.mu.Lock()
		a.denied = []string{"", "DescribeAddresses", "DescribeInstances", "AssociateAddress", "DisassociateAddress", "CreateTags"}[c.r.IntN(6)]
		c.w.mu.Unlock()
	case 9: // something else in the account has used up the token buckets
		c.w.mu.Lock()
		c.tokens, c.filled = [2]float64{}, [2]time.Time{time.Now(), time.Now()}
		c.w.mu.Unlock()
	case 10:
		c.w.mu.Lock()
		a.cut = !a.cut
		c.w.mu.Unlock()
	}
}

// admits takes a token out of the account's bucket for calls of this kind: 20 a
// second that only look, up to 100 at once, and 5 a second, up to 50, that change
// something (EC2 API reference, "Request throttling"). It is called under the
// world's lock.
func (c *crowd) admits(action string) bool {
	i, size, refill := 0, 100.0, 20.0
	if !strings.HasPrefix(action, "Describe") {
		i, size, refill = 1, 50, 5
	}
	c.tokens[i] = min(size, c.tokens[i]+refill*time.Since(c.filled[i]).Seconds())
	c.filled[i] = time.Now()
	if c.tokens[i] < 1 {
		return false
	}
	c.tokens[i]--
	return true
}

// step lets a second pass: metadata is read every eight, and beliefs are judged.
func (c *crowd) step(second int) {
	for i, a := range c.agents {
		if (second+i)%8 == 0 {
			c.tell(a)
		}
	}
	time.Sleep(time.Second)
	synctest.Wait()
	holder := c.w.holder("eipalloc-1")
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	for _, a := range c.living() {
		if !a.since.Equal(a.report.Since) {
			a.since, a.wrong = a.report.Since, 0
		}
		switch {
		case !a.report.Held() || holder == a.id:
			a.wrong = 0
		case !c.broken && c.faults == 0 && a.denied == "" && !a.cut && !time.Now().Before(a.unknown): // who cannot ask cannot know
			a.wrong += time.Second
			c.wrong = max(c.wrong, a.wrong)
			if a.wrong > believing {
				c.t.Errorf("seed %d, second %d: %s believes for %v that it holds the address of %q (blind %v): %+v", c.seed, second, a.id, a.wrong, holder, a.blind, a.report.Claims[0])
				a.wrong = -time.Hour
			}
		default:
			a.wrong = 0
		}
	}
}

func (c *crowd) run() (moves int) {
	c.w.addAddress("eipalloc-1", "203.0.113.7", nil)
	c.w.lag = func() time.Duration {
		if c.lag == 0 {
			return 0
		}
		return time.Duration(c.luck.Int64N(int64(c.lag)))
	}
	for range 10 {
		c.launch()
	}
	second := 0
	for ; second < int(noisy.Seconds()); second++ {
		if c.r.IntN(20) == 0 {
			c.happen()
		}
		if c.r.IntN(60) == 0 {
			c.w.mu.Lock()
			c.lag = []time.Duration{0, time.Second, 10 * time.Second}[c.r.IntN(3)]
			c.w.mu.Unlock()
		}
		c.step(second)
	}
	c.w.mu.Lock()
	c.broken, c.faults, c.lag = false, 0, 10*time.Second
	for _, a := range c.agents {
		a.blind, a.ready, a.denied, a.cut = false, a.ready || a.alive, "", false
	}
	c.w.mu.Unlock()
	for end := second + int(quiet.Seconds()); second < end; second++ {
		c.step(second)
	}
	// Quiet is when nothing has moved for a while; it must come soon.
	for end := second + int(quiet.Seconds()); second < end && c.moved(80*time.Second); second++ {
		c.step(second)
	}
	c.judge()
	for _, a := range c.agents {
		a.stop()
		if err := <-a.ended; err != nil {
			c.t.Error(err)
		}
		moves += c.budget(a)
	}
	return moves
}

// moved reports whether the address has changed hands lately.
func (c *crowd) moved(lately time.Duration) bool {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	past := c.w.addresses["eipalloc-1"].past
	for i := len(past) - 1; i > 0 && time.Since(past[i].at) < lately; i-- {
		if past[i].assoc != past[i-1].assoc {
			return true
		}
	}
	return false
}

// judge checks the quiet end: one holder, known to everybody, and nobody who
// would take the address from it if it saw the truth.
func (c *crowd) judge() {
	holder := c.w.holder("eipalloc-1")
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	h := address.Holder{Kind: address.Nobody}
	var by *one
	if m := c.w.machines[holder]; m != nil {
		h = address.Holder{Kind: address.Other, InstanceID: holder, State: string(m.state), LaunchedAt: m.launched}
		i := slices.IndexFunc(c.agents, func(a *one) bool { return a.id == holder })
		by = c.agents[i]
	}
	for _, a := range c.living() {
		r := a.report.Claims[0]
		if r.Held() != (holder == a.id) || r.Holder.InstanceID != holder {
			c.t.Errorf("seed %d: %s thinks that %q holds the address, it is %q", c.seed, a.id, r.Holder.InstanceID, holder)
		}
		if holder == a.id {
			continue
		}
		d := address.Decide(address.Input{
			Policy: a.policy, Holder: h, LaunchedAt: a.m.launched, Ready: a.ready, Leaving: a.leaving, Released: r.Released,
			HolderLeaving: by != nil && by.alive && (by.leaving || by.report.Claims[0].Released), HolderLeavingFor: time.Hour, Now: time.Now(),
		})
		if d.Action == address.Take && !c.spent(a) {
			c.t.Errorf("seed %d: %q (%s) should not have the address any more: %s may take it: %s; but %+v", c.seed, holder, h.State, a.id, d.Reason, r)
		}
	}
}

// spent reports whether the agent has used up its hour's associations.
func (c *crowd) spent(a *one) bool {
	n := 0
	for _, k := range c.w.calls {
		if k.who == a.id && k.action == "AssociateAddress" && time.Since(k.at) < time.Hour {
			n++
		}
	}
	return n >= 10
}

// budget checks the associations of one agent, refused ones apart.
func (c *crowd) budget(a *one) (moves int) {
	var last time.Time
	for _, h := range c.w.addresses["eipalloc-1"].past {
		if h.instance != a.id || h.assoc == "" || h.at.Equal(last) || !c.by(a.id, h.at) {
			continue
		}
		if !last.IsZero() && h.at.Sub(last) < time.Minute {
			c.t.Errorf("seed %d: %s took the address twice within %v", c.seed, a.id, h.at.Sub(last))
		}
		last = h.at
		moves++
	}
	if moves > 10 {
		c.t.Errorf("seed %d: %s took the address %d times in an hour", c.seed, a.id, moves)
	}
	return moves
}

// by reports whether the agent associated the address at that moment; a state of
// the past may also come from a tag.
func (c *crowd) by(id string, at time.Time) bool {
	return slices.ContainsFunc(c.w.calls, func(k call) bool { return k.who == id && k.action == "AssociateAddress" && k.at.Equal(at) })
}

// schedules is how many are played. Usually it is as many as the race detector gets
// through in half a minute; 'make bench-address' plays a thousand.
var schedules = flag.Int("schedules", 400, "how many seeded schedules of ten agents to play")

func TestTenAgentsAndOneAddress(t *testing.T) {
	seeds := *schedules
	if testing.Short() {
		seeds = min(seeds, 50)
	}
	counts := map[int]int{}
	moves, wrong := 0, time.Duration(0)
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			c := &crowd{t: t, w: newWorld(), r: rand.New(rand.NewPCG(uint64(seed), 5)), luck: rand.New(rand.NewPCG(uint64(seed), 6)), seed: seed}
			n := c.run()
			counts[n/10]++
			moves, wrong = moves+n, max(wrong, c.wrong)
		})
		if t.Failed() && seed > 20 {
			t.Fatalf("stopped after seed %d", seed)
		}
	}
	t.Attr("schedules", strconv.Itoa(seeds))
	t.Attr("moves", strconv.Itoa(moves))
	t.Attr("s-of-the-longest-wrong-belief", strconv.Itoa(int(wrong.Seconds())))
	for _, tens := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%4d schedules with %d to %d moves", counts[tens], 10*tens, 10*tens+9)
	}
}
