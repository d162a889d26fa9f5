package route

import (
	"cmp"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// Input is everything that a table depends on.
type Input struct {
	Snapshot tasks.Snapshot
	// Requests are what the containers ask for, by their IDs.
	Requests map[string]Request
	// Certs must be Complete, if only by saying that there are none: until then no
	// table is complete, since a site must not lose its HTTPS to a slow start.
	Certs certs.Inventory
	Reach Reach
	Nginx NginxNetwork
	// Prev is the table that this one replaces: the family that holds a host in it keeps it.
	Prev    Table
	Now     time.Time
	Options Options
}

// Options are the operator's choices. Zero values mean the default.
type Options struct {
	// Grace is how long a site without containers answers 503 before it is
	// forgotten. Zero means 10 min; negative means not at all.
	Grace time.Duration
	// Listen are the ports of nginx itself, which no container may be behind. Nil
	// means 80 and 443.
	Listen []uint16
	// DefaultHost is the host that also gets the requests for names that no site has;
	// empty means that those get an error.
	DefaultHost string
	// UnservedCert is the name of the certificate that names of no site are answered with over
	// TLS; empty is none.
	UnservedCert string
	// Stream is false where nginx has no stream module: then routes that need it are
	// problems.
	Stream bool
	// HTTP3 is true where sites have HTTP/3 unless their containers say otherwise.
	HTTP3 bool
	// Reserved are ports of this host that no label may ask nginx to listen on or to
	// connect to, besides those in Listen: the agent's own and what the operator names.
	Reserved []uint16
	// OpenWildcards are the wildcard hosts under which any family may claim names.
	OpenWildcards []string
	// Shared are the words of nagaya.upstream that containers of several families may share,
	// each with those families; none stands for all.
	Shared map[string][]string
	// MaxOfFamily and Max bound the paths of hosts, and the ports, of one family and of all.
	// Zero means 256 and 2048.
	MaxOfFamily, Max int
	// ACME is true where certificates are ordered for sites. Waiting is what a site does until it has its
	// first: "unavailable" answers 503, "self-signed" shows Inventory.Waiting; anything else serves plain HTTP.
	ACME    bool
	Waiting string
	// IP is true where a certificate for the address itself is ordered: it is for whoever names no site.
	IP bool
}

// patience is how long a container may start before its silence is a problem, and exitedFor how long its end is one.
const patience, exitedFor = 10 * time.Second, 10 * time.Minute

// crowdPatience is how long a container that was created is expected to be started: with
// docker compose, fifty that are created at once take a minute to start on a small instance.
const crowdPatience = 2 * time.Minute

// orderPatience is how long a certificate is expected to come soon: what takes longer has failed.
const orderPatience = 10 * time.Minute

func (o Options) withDefaults() Options {
	o.Grace = cmp.Or(o.Grace, 10*time.Minute)
	o.MaxOfFamily = cmp.Or(o.MaxOfFamily, maxOfFamily)
	o.Max = cmp.Or(o.Max, maxOfAll)
	if o.Listen == nil {
		o.Listen = []uint16{80, 443}
	}
	return o
}

// Build makes the table of what should be served. It is a function of its input
// alone: equal inputs give equal tables. What cannot be used becomes a problem
// and costs nothing but itself. While the snapshot or the certificates are not
// known, the sites are those of the table before and Complete is false; while one other source
// is silent, the sites that it has a server of are.
func Build(in Input) Table {
	in.Snapshot.Containers = slices.DeleteFunc(slices.Clone(in.Snapshot.Containers), func(c tasks.Container) bool { return !idForm.MatchString(c.ID) })
	b := &builder{
		in: in, o: in.Options.withDefaults(), poolFamily: map[PoolKey]string{}, existing: map[string]tasks.Container{}, before: map[string]Site{},
		forgotten: map[PoolKey]bool{}, mayServe: map[string]bool{}, away: map[string]map[string]time.Time{}, started: map[string]time.Time{}, starts: map[string]time.Duration{},
		decided: map[string]bool{}, named: map[string]bool{},
	}
	b.t.Unserved = b.unserved()
	b.t.Complete, b.t.Sites, b.t.Pools = in.Snapshot.Complete && in.Certs.Complete, []Site{}, Pools{}
	b.bases, b.merged = basesOf(in.Snapshot.Containers)
	b.notePublishers()
	candidates := b.candidates()
	b.listUnrouted(candidates)
	b.carry(candidates)
	b.noteRemoved()
	candidates = b.ofBounds(candidates)
	b.judge(candidates)
	candidates = b.ofHolders(candidates)
	candidates = b.ofPorts(candidates)
	candidates = b.ofMembers(candidates)
	candidates = b.ofGuards(candidates)
	b.makeSites(candidates)
	b.makeStreams(candidates)
	for i, s := range b.t.Sites {
		b.t.Sites[i].Valid = s.TLS && !s.Waiting && b.isBefore(s.Cert.NotAfter)
		b.t.OrdersExpected = s.Waiting && b.isBefore(s.WaitingSince.Add(orderPatience)) || b.t.OrdersExpected
	}
	b.makeWishes()
	b.checkDefaultHost()
	if !b.t.Complete {
		b.t.Sites, b.t.Streams, b.t.Pools, b.t.Unserved = append([]Site{}, in.Prev.Sites...), in.Prev.Streams, in.Prev.Pools, in.Prev.Unserved
		b.t.Wishes = in.Prev.Wishes
	}
	b.noteStarts()
	for _, c := range in.Snapshot.Containers {
		if len(b.routesOf(c)) > 0 && !c.IsBatch() {
			b.checkExited(c)
			b.checkCreated(c)
		}
	}
	b.boundProbes()
	b.sort()
	return b.t
}

// unserved is the certificate for whoever names no site: the operator's, else the one for the address, of several the one
// that is valid longest. A client that asks for an address sends no name (RFC 6066, section 3).
func (b *builder) unserved() certs.Pair {
	if p, ok := b.in.Certs.Named(b.o.UnservedCert); ok || !b.o.IP {
		return p
	}
	best := certs.Pair{}
	for _, p := range b.in.Certs.Issued {
		if len(p.IPs) > 0 && len(p.DNSNames) == 0 && p.NotAfter.After(b.in.Certs.At) && p.NotAfter.After(best.NotAfter) {
			best = p
		}
	}
	return best
}

type builder struct {
	in Input
	o  Options
	t  Table
	// bases and merged are those of basesOf.
	bases  map[string]string
	merged map[string][]string
	// poolFamily are the families that had the pools of the table before; existing has, by family,
	// a container that is there, whether it runs or not.
	poolFamily map[PoolKey]string
	existing   map[string]tasks.Container
	// before are the sites of the table before, by host.
	before map[string]Site
	// families are who holds each host and port, whether or not it is served already.
	families map[string]string
	// forgotten are the keys without a container for which there is no room (bounds.go).
	forgotten map[PoolKey]bool
	// away are the owners of each shared host who may come back (Site.Away).
	away map[string]map[string]time.Time
	// mayServe are the containers of which something is ready, or unhealthy.
	mayServe map[string]bool
	// probes are what whoever waits needs to know.
	probes []claim
	// started is when a container of each family was started last.
	started map[string]time.Time
	// starts is how long starts take here, by family; see noteStarts.
	starts map[string]time.Duration
	// newest is the newest Since of the sites before.
	newest time.Time
	// wishes are what the hosts ask for, of those decided.
	wishes  []certs.Wish
	decided map[string]bool
	// named are the containers of which it was reported that they ask for names of others.
	named map[string]bool
	// plain are the hosts that are served without HTTPS for want of a certificate.
	plain []string
}

// routesOf are the routes that a container asks for.
func (b *builder) routesOf(c tasks.Container) []Spec { return b.in.Requests[c.ID].Routes }

// sort makes the fixed order that Table promises, and leaves one problem of each code
// and subject, which are its identity: the worst.
func (b *builder) sort() {
	slices.SortFunc(b.t.Waiting, func(x, y Waiting) int {
		return cmp.Or(cmp.Compare(x.Host, y.Host), cmp.Compare(x.Path, y.Path), cmp.Compare(x.Ref, y.Ref), x.Addr.Compare(y.Addr), cmp.Compare(x.Why, y.Why))
	})
	problem.Sort(b.t.Problems)
	seen := map[[2]string]bool{}
	b.t.Problems = slices.DeleteFunc(b.t.Problems, func(p problem.Problem) bool {
		id := [2]string{p.Code, p.Subject}
		again := seen[id]
		seen[id] = true
		return again
	})
}

// wakeAt remembers the earliest moment at which time alone changes the table.
func (b *builder) wakeAt(at time.Time) {
	if at.After(b.in.Now) && (b.t.Next.IsZero() || at.Before(b.t.Next)) {
		b.t.Next = at
	}
}

// isBefore reports whether that moment is still to come, and has the table built again then.
func (b *builder) isBefore(at time.Time) bool {
	b.wakeAt(at)
	return b.in.Now.Before(at)
}

func (b *builder) report(p problem.Problem) { b.t.Problems = append(b.t.Problems, p) }

func (b *builder) wait(c candidate, why string) {
	b.t.Waiting = append(b.t.Waiting, Waiting{Host: c.key.Host, Path: c.key.Path, Addr: c.addr, Why: why, Ref: c.ref})
}
