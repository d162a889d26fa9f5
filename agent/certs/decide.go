package certs

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Input is all that Decide knows.
type Input struct {
	Now      time.Time
	Settings Settings
	// Wishes are what all sites ask for. WishesKnown is false until the table is known, and StoreRead
	// until the whole store was read: before, nothing is ordered.
	Wishes      []Wish
	WishesKnown bool
	StoreRead   bool
	// Since is when each host, by Wish.Host, was first seen to ask.
	Since map[string]time.Time
	// Files are the operator's; Issued in it is not looked at.
	Files Inventory
	Held  []Held
	// Ledgers are by directory. From one whose ledger was not read nothing is ordered.
	Ledgers map[string]Ledger
	// Leases are by id.
	Leases map[string]Lease
	Place  Place
	// Covers reports whether a zone that the agent may change has the name; nil is never.
	Covers func(name string) bool
	// Leads are where names lead, as they were looked up.
	Leads map[string]Lead
	// Asked are the hosts of which the operator wants a new certificate now: one with a higher Held.Number than this.
	Asked map[string]uint64
}

// Lease is the object of a set of names in the store that an agent orders, or has ordered.
type Lease struct {
	// Running is true where this process orders it; Live where the lease of another has not run out.
	Running, Live bool
	// Directory and At are those of the pending order, as in Start; empty for none.
	Directory, At string
}

// Lead is where a name leads by the public DNS.
type Lead struct {
	At        time.Time
	Addresses []netip.Addr
	// Err is why it could not be looked up, in the resolver's words.
	Err string
}

// Decision is what is to be done.
type Decision struct {
	// Start are the orders that may begin now, the one that is needed soonest first; at most as many
	// as may run at once.
	Start []Start
	// Ask are the certificates of which the CA is to be asked now when to renew them: at most one for
	// each directory. Look are names to look up now.
	Ask  []Held
	Look []string
	// Settle are the directories whose ledger has to be written again, as Settle makes it: a clock was ahead.
	Settle []string
	// Next is when to decide again at the latest, if nothing changes; zero for never.
	Next time.Time
	// Entries are for the report, sorted by host. Wanted are the ids of the certificates that sites
	// ask for.
	Entries  []Entry
	Wanted   []string
	Problems []problem.Problem
}

// Start is an order that may begin, or be resumed.
type Start struct {
	ID      string
	Host    string
	Family  string
	Names   []string
	KeyType KeyType
	// Directory is the CA whose ledger the attempt is noted in. At is where the order goes: the same,
	// or its staging directory, whose certificate is thrown away.
	Directory string
	At        string
	Profile   string
	// Replaces is the identifier of the certificate that it renews, for Order; empty for none.
	Replaces string
	// Lifetime is that of the certificate that it renews; 0 for none.
	Lifetime time.Duration
	// Kinds are the kinds of challenges for each name, the preferred one first.
	Kinds map[string][]string
	// Resume is true where Lease has a pending order at At, which goes on.
	Resume bool
}

// Trial reports whether the order is a trial at the staging directory.
func (s Start) Trial() bool { return s.At != s.Directory }

const (
	// mostAtOnce bounds the orders of one process; while a CA fails there is one.
	mostAtOnce = 3
	// mostLooks bounds the names that are looked up at once.
	mostLooks = 20
)

// Decide says what is to be done.
func Decide(in Input) Decision {
	d := &decision{Input: in, ledgers: maps.Clone(in.Ledgers), before: map[string]int{}, byID: map[string]bool{}, naming: map[string][]int{}}
	if d.ledgers == nil {
		d.ledgers = map[string]Ledger{}
	}
	d.behind = slices.ContainsFunc(in.Held, func(h Held) bool { return !h.Imported && h.Directory != "" && h.NotBefore.Sub(in.Now) > day })
	for _, directory := range slices.Sorted(maps.Keys(d.ledgers)) {
		if l, changed := d.ledgers[directory].Settle(in.Now); changed && !d.behind {
			d.ledgers[directory] = l
			d.out.Settle = append(d.out.Settle, directory)
		}
	}
	for _, l := range in.Leases {
		if l.Running {
			d.running++
		}
	}
	for i, h := range in.Held {
		for _, name := range h.Names {
			d.naming[name] = append(d.naming[name], i)
		}
	}
	needs := d.needs()
	for _, n := range needs {
		d.byID[n.id] = n.refusal == nil
	}
	failing := d.failing()
	for _, n := range needs {
		d.stand(n)
		n.failed, _, _ = d.trouble(n)
		if failing[short(n.Family)] {
			n.others = 1
		}
	}
	slices.SortStableFunc(needs, d.order)
	for _, n := range needs {
		d.plan(n)
		d.conclude(n)
	}
	d.others(needs)
	d.questions(needs)
	d.directories()
	slices.SortStableFunc(d.out.Entries, func(a, b Entry) int {
		return cmp.Or(slices.Compare(a.Hosts, b.Hosts), slices.Compare(a.Names, b.Names), cmp.Compare(a.KeyType, b.KeyType), cmp.Compare(a.File, b.File))
	})
	slices.Sort(d.out.Wanted)
	d.out.Wanted = slices.Compact(d.out.Wanted)
	problem.Sort(d.out.Problems)
	return d.out
}

// decision is one that is being made.
type decision struct {
	Input
	out Decision
	// ledgers have what this decision begins. before counts the waiting orders by domain.
	ledgers map[string]Ledger
	before  map[string]int
	running int
	// behind is true where the clock is behind that of a CA: a certificate of it is not valid yet. Nothing is
	// ordered then, and no ledger put right: it would forget what was ordered.
	behind bool
	// byID has the ids that are wanted, and whether they may be ordered.
	byID map[string]bool
	// naming has the indexes of Held by each name in it.
	naming map[string][]int
}

// failing are the families an order of which failed lately, by hash. A CA that refuses one is left alone for a
// while: so others come first, or new names of one family, each refused, would keep them from renewing.
func (d *decision) failing() map[string]bool {
	all := map[string]bool{}
	for _, l := range d.ledgers {
		for _, o := range l.Orders {
			if o.State == stateFailed && d.Now.Sub(o.At) < ordersIn {
				all[o.Family] = true
			}
		}
	}
	return all
}

// order says which is needed sooner: what has not failed, nor its family, what has no valid certificate, by the
// time for which it has waited, what expires first.
func (d *decision) order(a, b *need) int {
	urgency := func(n *need) (without int, at time.Time) {
		if n.valid {
			return 1, n.held.NotAfter
		}
		return 0, n.since
	}
	withoutA, atA := urgency(a)
	withoutB, atB := urgency(b)
	return cmp.Or(
		cmp.Compare(a.failed, b.failed), cmp.Compare(a.others, b.others), cmp.Compare(withoutA, withoutB), atA.Compare(atB),
		strings.Compare(a.hosts[0], b.hosts[0]), strings.Compare(a.id, b.id),
	)
}

// wake has the decision made again at that time.
func (d *decision) wake(at time.Time) {
	if at.After(d.Now) && (d.out.Next.IsZero() || at.Before(d.out.Next)) {
		d.out.Next = at
	}
}

// questions are about when certificates are to be renewed.
func (d *decision) questions(needs []*need) {
	if !d.ready() {
		return
	}
	wanted := map[string][]Held{}
	for _, n := range needs {
		h := n.held
		if n.has && h.ID == n.id && h.CertID != "" && h.NotAfter.After(d.Now) && slices.Contains(d.Settings.Directories, h.Directory) {
			wanted[h.Directory] = append(wanted[h.Directory], h)
		}
	}
	for _, directory := range d.Settings.Directories {
		l, ok := d.Ledgers[directory]
		if !ok {
			continue
		}
		switch h, next := l.ask(wanted[directory], d.Now); {
		case next.IsZero():
		case next.After(d.Now):
			d.wake(next)
		default:
			d.out.Ask = append(d.out.Ask, h)
		}
	}
}

// ready reports whether enough is known to order.
func (d *decision) ready() bool { return d.Settings.On() && d.WishesKnown && d.StoreRead && !d.behind }
