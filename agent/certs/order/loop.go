package order

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Options say what is ordered, where, and what is kept where.
type Options struct {
	Settings certs.Settings
	// Owner tells this agent from others; it is the same after a restart.
	Owner string
	// Issued is the directory of the local copy, which package files reads; Challenges the one from
	// which nginx answers.
	Issued, Challenges string
	Store              Store
	// StoreName is for people.
	StoreName string
	// CAs are by directory, the staging directories too.
	CAs map[string]CA
	// Binding reads the external account binding of a directory; nil for none.
	Binding func(directory string) (certs.Binding, error)
	DNS     DNS // nil for none
	// NewKey makes a private key as PEM, and NewRequest a request (CSR, DER) with it.
	NewKey     func(certs.KeyType) (string, error)
	NewRequest func(key string, names []string) ([]byte, error)
	// Claimed is true where addresses are claimed, Metadata where the instance's metadata are read.
	Claimed, Metadata bool
	// Lookup is net.Resolver.LookupNetIP.
	Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
	Log    *slog.Logger
}

// Inputs are the slots of the loop.
type Inputs struct {
	// Wishes are what the sites of a complete table ask for, Files the certificates that are there.
	Wishes *latest.Slot[[]certs.Wish]
	Files  *latest.Slot[certs.Inventory]
	// Serving is true when nginx runs, which has to answer challenges.
	Serving  *latest.Slot[bool]
	Identity *latest.Slot[identity.Identity]
	Address  *latest.Slot[address.Report]
	// Questions name a host of which a new certificate is wanted now.
	Questions chan latest.Question[string]
	// Again has the store looked at now: somebody else has written to it.
	Again *latest.Slot[struct{}]
	// clock is the time of the day.
	clock func() time.Time
}

// NewInputs returns empty slots.
func NewInputs() Inputs {
	return Inputs{
		latest.New[[]certs.Wish](), latest.New[certs.Inventory](), latest.New[bool](),
		latest.New[identity.Identity](), latest.New[address.Report](), make(chan latest.Question[string]), latest.New[struct{}](), time.Now,
	}
}

// Outputs are called with what has changed. Ready is called once: when the local copy has what the store has, or
// that could not be read for 10 s.
type Outputs struct {
	Ready  func()
	Report func(certs.Report)
}

const (
	// pollEvery is how often the store is looked at while nothing happens, and busyEvery while another
	// instance orders: its challenges may have to be answered here. While a site has no certificate that
	// another may order, the pauses begin with busyEvery too, and double.
	pollEvery = 5 * time.Minute
	busyEvery = 10 * time.Second
	// mostQuick is how often the store is read before pollEvery has passed because a site has no certificate; one more
	// each quickEvery. Sites may come and go all day.
	mostQuick  = 30
	quickEvery = 5 * time.Minute
)

// loop is the state. Only the goroutine of run touches it, and what it calls while others wait.
type loop struct {
	Options
	out     Outputs
	now     certs.Input // what came in, for Decide
	store   stored
	held    map[string]held
	copies  copies
	answers answers
	// busy are the ids of orders and what else is under way.
	busy    map[string]bool
	results chan func()
	// waiting are who asked for a new certificate, by host.
	waiting map[string][]chan error
	counts  map[certs.Result]uint64
	paused  map[string]pause // what failed here, by id
	report  certs.Report     // the last one
	// wall is the time of the day, which may step. What is measured here, a lease too, is by time.Now, whose
	// monotonic part does not.
	wall func() time.Time
	here
}

// here is what is known of this instance.
type here struct {
	serving  bool // nginx runs
	instance identity.Instance
	address  address.Report
}

// run keeps certificates until ctx ends, and then returns nil. who is what is known of the instance already.
func run(ctx context.Context, o Options, in Inputs, out Outputs, who identity.Instance) error {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	l := &loop{
		Options: o, out: out, wall: in.clock, held: readLocal(o.Issued), results: make(chan func()),
		store:   stored{versions: map[string]string{}, leases: map[string]seen{}, ledgers: map[string]certs.Ledger{}, expired: map[string]time.Time{}},
		answers: answers{dir: o.Challenges, ids: map[string]string{}},
		busy:    map[string]bool{}, waiting: map[string][]chan error{}, counts: map[certs.Result]uint64{}, paused: map[string]pause{},
		now: certs.Input{Settings: o.Settings, Since: map[string]time.Time{}, Leads: map[string]certs.Lead{}, Asked: map[string]uint64{}},
	}
	for id, h := range l.held {
		if h.version != "" {
			l.store.versions[certName(id)] = h.version
		}
	}
	l.instance = who
	l.place()
	if o.DNS != nil {
		l.now.Covers = o.DNS.Covers
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	first := true
	for {
		next := l.turn(ctx)
		if first {
			first = false
			out.Ready()
		}
		timer.Reset(time.Until(next))
		if !l.receive(ctx, in, timer.C) {
			break
		}
	}
	for len(l.busy) > 0 { // those under way leave what they have in the store
		(<-l.results)()
	}
	l.copies.pause = 0
	l.flush(time.Now())
	return nil
}

// receive waits for the next reason to decide. It returns false when ctx ends.
func (l *loop) receive(ctx context.Context, in Inputs, due <-chan time.Time) bool {
	select {
	case <-ctx.Done():
		return false
	case <-due:
	case l.now.Wishes = <-in.Wishes.C():
		l.now.WishesKnown, l.store.lacking = true, 0
	case l.now.Files = <-in.Files.C():
	case l.serving = <-in.Serving.C():
	case id := <-in.Identity.C():
		l.instance = id.Instance
		l.place()
	case l.address = <-in.Address.C():
		l.place()
	case q := <-in.Questions:
		l.ask(q)
	case <-in.Again.C():
		l.store.next = time.Time{}
	case take := <-l.results:
		take()
	}
	return true
}

// place follows where public names have to lead.
func (l *loop) place() {
	p := certs.PlaceOf(l.Claimed, l.Metadata, l.address, l.instance)
	if reflect.DeepEqual(p, l.now.Place) {
		return
	}
	l.now.Place = p
	l.store.next = time.Time{} // to answer the challenges of who had the address before
	clear(l.now.Leads)
}

// turn does what is due, starts what may begin, and returns when the next turn is due if nothing happens.
func (l *loop) turn(ctx context.Context) (next time.Time) {
	now := time.Now()
	if !now.Before(l.store.next) {
		l.look(ctx, now)
		now = time.Now()
	}
	in := l.input(now)
	d := certs.Decide(in)
	if !d.Next.IsZero() {
		d.Next = now.Add(d.Next.Sub(in.Now))
	}
	l.lack(d, now)
	for host := range l.waiting {
		l.explain(host, d)
	}
	for _, directory := range d.Settle {
		l.settle(ctx, directory)
	}
	for _, name := range d.Look {
		l.lookUp(ctx, name)
	}
	for _, h := range d.Ask {
		l.askRenewal(ctx, h)
	}
	for _, s := range d.Start {
		l.start(ctx, s)
	}
	l.clean(ctx, now, d.Wanted)
	if l.now.WishesKnown && l.store.read {
		l.tidy(in.Now, d.Wanted)
	}
	next = l.store.next
	ends := []time.Time{d.Next, l.flush(now)}
	for _, p := range l.paused {
		ends = append(ends, p.until)
	}
	for _, t := range ends {
		if t.After(now) && t.Before(next) {
			next = t
		}
	}
	l.show(d, now)
	return next
}

// lack has the store read soon while a site waits for a certificate.
func (l *loop) lack(d certs.Decision, now time.Time) {
	lacks := slices.ContainsFunc(d.Entries, func(e certs.Entry) bool { return e.State == certs.Waiting && e.NotAfter.IsZero() })
	if !lacks {
		l.store.lacking = 0
	} else if l.store.lacking == 0 && l.store.err == nil {
		l.store.lacking = l.store.quick.pause(busyEvery, now)
		if soon := now.Add(l.store.lacking); soon.Before(l.store.next) {
			l.store.next = soon
		}
	}
}

// look reads the store, and says when it is read again.
func (l *loop) look(ctx context.Context, now time.Time) {
	err := l.sync(ctx)
	if ctx.Err() != nil {
		return
	}
	l.store.err = err
	pause := pollEvery
	if l.store.lacking > 0 {
		l.store.lacking = l.store.quick.pause(2*l.store.lacking, now)
		pause = l.store.lacking
	}
	if err != nil {
		pause = 30 * time.Second
	}
	for _, s := range l.store.leases {
		if l.live(s, now) {
			pause = busyEvery
		}
	}
	l.store.next = time.Now().Add(pause)
}

// input is what is known now.
func (l *loop) input(now time.Time) certs.Input {
	in := l.now
	in.Now, in.StoreRead, in.WishesKnown = l.wall(), l.store.read && l.store.err == nil, l.now.WishesKnown && l.serving
	maps.DeleteFunc(l.now.Leads, func(_ string, v certs.Lead) bool { return in.Now.Sub(v.At) > time.Hour })
	maps.DeleteFunc(l.paused, func(_ string, p pause) bool { return now.Sub(p.until) > time.Hour })
	in.Held, in.Leases, in.Ledgers = nil, map[string]certs.Lease{}, maps.Clone(l.store.ledgers)
	seen := map[string]time.Time{}
	for _, w := range in.Wishes {
		seen[w.Host] = cmp.Or(l.now.Since[w.Host], in.Now)
	}
	l.now.Since, in.Since = seen, seen
	for _, id := range slices.Sorted(maps.Keys(l.held)) {
		in.Held = append(in.Held, l.held[id].Held)
	}
	for id, s := range l.store.leases {
		lease := certs.Lease{Live: l.live(s, now)}
		if s.Pending != nil && !s.Over {
			lease.Directory, lease.At = s.Directory, s.At
		}
		in.Leases[id] = lease
	}
	for id := range l.busy {
		if lease := in.Leases[id]; idForm.MatchString(id) {
			lease.Running = true
			in.Leases[id] = lease
		}
	}
	for d := range l.CAs { // one that has none yet was never asked
		if _, ok := in.Ledgers[d]; !ok && l.store.read {
			in.Ledgers[d] = certs.Ledger{Directory: d}
		}
	}
	return in
}

// do has work done beside the loop, for a limited time. After its error, which is a fault of this side, the id is left
// alone for a while; then take tells the loop what came of it.
func (l *loop) do(ctx context.Context, id string, limit time.Duration, work func(context.Context) (take func(), err error)) {
	if l.busy[id] || time.Now().Before(l.paused[id].until) {
		return
	}
	l.busy[id] = true
	go func() {
		ctx, done := context.WithTimeout(ctx, limit)
		defer done()
		take, err := work(ctx)
		l.results <- func() {
			delete(l.busy, id)
			l.pauseAfter(id, err)
			take()
		}
	}()
}

// then has the loop do something in the midst of such work.
func (l *loop) then(take func()) { l.results <- take }

// lookUp finds out where a name leads.
func (l *loop) lookUp(ctx context.Context, name string) {
	l.do(ctx, "look "+name, lookupPatience, func(ctx context.Context) (func(), error) {
		found, err := l.Lookup(ctx, "ip", name+".")
		lead := certs.Lead{At: l.wall(), Addresses: found[:min(len(found), 16)]}
		for i, a := range lead.Addresses {
			lead.Addresses[i] = a.Unmap()
		}
		if err != nil {
			lead.Err = problem.Printable(err.Error(), 200)
		}
		return func() { l.now.Leads[name] = lead }, nil
	})
}

// lookupPatience bounds the look-up of a name, and askPatience a question to a CA.
const lookupPatience, askPatience = 5 * time.Second, time.Minute

// askRenewal asks the CA of a certificate when to renew it.
func (l *loop) askRenewal(ctx context.Context, h certs.Held) {
	ca := l.CAs[h.Directory]
	if ca == nil {
		return
	}
	l.do(ctx, "ask "+h.ID, askPatience, func(ctx context.Context) (func(), error) {
		ledger, err := l.editLedger(ctx, h.Directory, func(v certs.Ledger) (certs.Ledger, bool) { return v.Ask(h, l.wall()), true })
		if err == nil {
			w, wrong := ca.Renewal(ctx, h.CertID)
			ledger, err = l.editLedger(ctx, h.Directory, func(v certs.Ledger) (certs.Ledger, bool) { return v.Answer(h, w, wrong, l.wall()), true })
		}
		return func() { l.takeLedger(ledger) }, err
	})
}

// settle writes the ledger of a directory again that a clock which was ahead has written.
func (l *loop) settle(ctx context.Context, directory string) {
	l.do(ctx, "settle "+directory, askPatience, func(ctx context.Context) (func(), error) {
		ledger, err := l.editLedger(ctx, directory, func(v certs.Ledger) (certs.Ledger, bool) { return v.Settle(l.wall()) })
		return func() { l.takeLedger(ledger) }, err
	})
}

// takeLedger takes over a ledger as it is in the store; the zero one is none.
func (l *loop) takeLedger(v certs.Ledger) {
	if v.Directory != "" {
		l.store.ledgers[v.Directory] = v
	}
}

// pause is how long something is left alone that failed by a fault of this side: the store, the disk, a zone. What
// a CA does wrong is in the ledger.
type pause struct {
	until time.Time
	last  time.Duration
	err   error
}

// pauseAfter makes the pause of an id longer after an error, and ends it after none.
func (l *loop) pauseAfter(id string, err error) {
	if err == nil {
		delete(l.paused, id)
		return
	}
	p := pause{last: min(max(2*l.paused[id].last, busyEvery), 30*time.Minute)}
	if errors.Is(err, errElsewhere) {
		p.last = busyEvery
	}
	p.until, p.err = time.Now().Add(p.last), err
	l.paused[id] = p
}

// start begins an order.
func (l *loop) start(ctx context.Context, s certs.Start) {
	a := &attempt{loop: l, Start: s, known: l.store.leases[s.ID], held: l.held[s.ID].Held}
	l.do(ctx, s.ID, attemptFor, func(ctx context.Context) (func(), error) {
		began := time.Now()
		err := a.run(ctx)
		own := err // a fault of this side
		if _, tooSoon := errors.AsType[*waits](err); tooSoon || a.result != certs.Interrupted {
			own = nil
		}
		return func() { l.finished(a, err, own, time.Since(began)) }, own
	})
}

// returned takes over the lease.
func (l *loop) returned(a *attempt) {
	if a.version != "" {
		l.takeLease(a.ID, a.lease, a.version)
	} else {
		delete(l.store.versions, leaseName(a.ID))
	}
}

// finished takes over what an attempt has left.
func (l *loop) finished(a *attempt, err, own error, took time.Duration) {
	l.returned(a)
	l.takeLedger(a.ledger)
	if _, tooSoon := errors.AsType[*waits](err); own != nil {
		l.store.next = time.Time{} // another instance, or the store
	} else if !tooSoon {
		l.counts[a.result]++
	}
	l.tell(a, err, took)
	l.answer(a.Host, err)
}
