// Package plan turns what the sources say into one table of routes and one tree of
// nginx's files, whenever one of them says something new.
package plan

import (
	"context"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/labels"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// Options say how to plan.
type Options struct {
	Route route.Options
	// Labels is for routes that say nothing; Foreign reads another program's words, and
	// may be nil.
	Labels   labels.Defaults
	Foreign  labels.Foreign
	Settings nginx.Settings
	// HostAuth says that password files are named by hosts.
	HostAuth bool
	// Previous is the table of an earlier agent or flow: who holds a host in it keeps it.
	Previous route.Table
	// Container is true for an nginx in a container of its own, which Inputs.Container
	// tells.
	Container bool
	// Own are the ids that this process's container may have, where nginx is in the
	// same; Engine is the address of the one that is asked which it is.
	Own    []string
	Engine string
}

// Inputs are what the sources say, the newest of each.
type Inputs struct {
	Snapshots <-chan tasks.Snapshot
	Identity  <-chan identity.Identity
	Certs     <-chan certs.Inventory
	Reach     <-chan route.Reach
	// Build is what nginx can do; no tree is made before that is known.
	Build <-chan nginx.Build
	// Container is the id of the container that nginx is in.
	Container <-chan string
	// Files are the operator's own; no tree is made before they are known.
	Files <-chan nginx.OperatorFiles
	// LowCredits tells whether CPU credits are low.
	LowCredits <-chan bool
}

// Outputs get what has changed.
type Outputs struct {
	Probes func([]route.Probe)
	Offer  func(nginx.Offer)
	Wanted func(nginx.Wanted)
	// Problems are what is wrong with the snapshot as nginx sees it.
	Problems func([]problem.Problem)
	// Alive is called at least every 15 s.
	Alive func()
}

const (
	// replan is how often the table is made anew although nothing was said and
	// no time that it depends on has come.
	replan = time.Minute
	// aliveEvery is how often Outputs.Alive is called.
	aliveEvery = 15 * time.Second
	// firstHold bounds how long the first table and tree wait for the first answers of the
	// probes and of all sources. Without it a restarted agent would take every
	// container out of a running nginx until it had been probed again.
	firstHold = 3 * time.Second
	// notFound is the id of no container: nginx's own was not found yet.
	notFound = "?"
)

// planner is the loop's state.
type planner struct {
	o    Options
	out  Outputs
	in   known
	last given
	// table is the newest one.
	table route.Table
	// holdTill is until when the first table and tree are held back.
	holdTill time.Time
}

// known is what the sources have said last.
type known struct {
	snapshot tasks.Snapshot
	local    netip.Addr
	certs    certs.Inventory
	reach    route.Reach
	build    *nginx.Build
	files    *nginx.OperatorFiles
	// container is the id of the one that nginx is in; empty on the host itself,
	// notFound while its container has not been found.
	container  string
	lowCredits bool
}

// given is what was given away last.
type given struct {
	offer    nginx.Offer
	planned  bool
	wanted   nginx.Wanted
	problems []problem.Problem
	restyled bool // nginx or the operator's files are others than the tree was made with
}

// Run plans until ctx ends, and then returns nil.
func Run(ctx context.Context, o Options, in Inputs, out Outputs) error {
	p := &planner{o: o, out: out, table: o.Previous}
	if o.Container {
		p.in.container = notFound
	}
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	due := time.NewTimer(replan)
	defer due.Stop()
	for {
		now := time.Now()
		p.plan(now)
		due.Reset(p.untilNext(now))
		if !p.listen(ctx, in, due.C, alive.C) {
			return nil
		}
	}
}

// listen waits for the next reason to plan. It returns false when ctx ends.
func (p *planner) listen(ctx context.Context, in Inputs, due, alive <-chan time.Time) bool {
	for {
		p.out.Alive()
		select {
		case <-ctx.Done():
			return false
		case p.in.snapshot = <-in.Snapshots:
		case id := <-in.Identity:
			p.in.local = id.Host.LocalAddr
		case p.in.certs = <-in.Certs:
		case p.in.reach = <-in.Reach:
		case b := <-in.Build:
			p.in.build, p.last.restyled, p.o.Route.Stream = &b, true, b.Stream != ""
		case f := <-in.Files:
			p.in.files, p.last.restyled = &f, true
			p.o.Settings.Snippets, p.o.Settings.Passwords = f.Snippets, f.Passwords
			if p.o.HostAuth {
				p.o.Settings.HostAuth = f.Passwords
			}
		case p.in.container = <-in.Container:
		case p.in.lowCredits = <-in.LowCredits:
		case <-due:
		case <-alive:
			continue
		}
		return true
	}
}

// untilNext is how long the plan of now holds if nothing is said. A moment
// that was past by then has had its effect, or waits for a source.
func (p *planner) untilNext(now time.Time) time.Duration {
	next := now.Add(replan)
	for _, t := range []time.Time{p.table.Next, p.holdTill} {
		if t.After(now) && t.Before(next) {
			next = t
		}
	}
	// Never busier than this, whatever the table says.
	return max(next.Sub(now), 50*time.Millisecond)
}

// plan makes the table and the tree of what is known now, and gives away what
// has changed.
func (p *planner) plan(now time.Time) {
	before := p.table
	p.table = route.Build(p.input(now))
	if !slices.Equal(p.table.Probes, before.Probes) || !p.last.planned {
		p.out.Probes(p.table.Probes)
	}
	changed := !reflect.DeepEqual(p.table, before)
	offer := nginx.Offer{Table: p.table}
	if p.table.Complete {
		if !p.mayGive(now) {
			return
		}
		offer.Generation = p.render(before)
	}
	if changed || !p.last.planned || offer.Generation != p.last.offer.Generation {
		p.last.offer, p.last.planned = offer, p.last.planned || p.table.Complete
		p.out.Offer(offer)
	}
}

// input is what the table is made of.
func (p *planner) input(now time.Time) route.Input {
	s := p.in.snapshot
	problems := p.findOwnContainer(s)
	if !slices.Equal(problems, p.last.problems) {
		p.last.problems = problems
		p.out.Problems(problems)
	}
	network, found := route.NetworkOfNginx(p.in.container, s.Containers, p.in.local)
	// Where nginx's own container is not listed, nothing can be said of any other.
	s.Complete = s.Complete && found
	return route.Input{
		Snapshot: s, Requests: labels.Requests(s.Containers, p.o.Labels, p.o.Foreign),
		Certs: p.in.certs, Reach: p.in.reach, Nginx: network, Prev: p.table, Now: now, Options: p.o.Route,
	}
}

// findOwnContainer finds the container that nginx and this process are in.
func (p *planner) findOwnContainer(s tasks.Snapshot) []problem.Problem {
	if len(p.o.Own) == 0 || !s.Complete {
		return p.last.problems
	}
	var ok bool
	if p.in.container, ok = route.OwnContainer(p.o.Own, s.Containers); ok {
		return nil
	}
	if addrs, err := interfaceAddrs(); err != nil || route.BesideEngine(s.Containers, addrs) {
		return nil
	}
	return []problem.Problem{{
		Code: "own-container-unknown", Severity: problem.Warning, Subject: "nginx",
		Text: "this agent seems to be in a container that the Docker Engine at " + p.o.Engine + " does not have, so the others are looked for where the host itself would reach them",
		Hint: "mount the socket of the engine that runs this container, or let it use the host's network (--network host)",
	}}
}

// interfaceAddrs are the addresses of this network namespace.
func interfaceAddrs() (addrs []netip.Addr, err error) {
	all, err := net.InterfaceAddrs()
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			addrs = append(addrs, p.Addr().Unmap())
		}
	}
	return addrs, err
}

// mayGive holds the first table and tree back until every container has been probed once
// and every source has spoken, or for firstHold.
func (p *planner) mayGive(now time.Time) bool {
	if p.last.planned {
		return true
	}
	if p.holdTill.IsZero() {
		p.holdTill = now.Add(firstHold)
	}
	if !now.Before(p.holdTill) {
		return true
	}
	for _, probe := range p.table.Probes {
		if p.in.reach[probe].State == route.Unknown {
			return false
		}
	}
	return p.in.snapshot.Heard
}

// render makes the tree of the table where it may have changed, and gives it away if it
// has. It returns the tree's generation.
func (p *planner) render(before route.Table) string {
	if p.in.build == nil || p.in.files == nil {
		return ""
	}
	last := &p.last
	w := nginx.Wanted{Tree: last.wanted.Tree, More: p.table.StartsExpected, LowCredits: p.in.lowCredits}
	fresh := w.Tree.Generation == ""
	if fresh || last.restyled || !reflect.DeepEqual(p.table.Shape, before.Shape) || !reflect.DeepEqual(p.table.Pools, before.Pools) {
		w.Tree = nginx.Render(p.o.Settings, *p.in.build, p.table.Shape, p.table.Pools)
		last.restyled = false
	}
	was := last.wanted
	if w.Tree.Generation != was.Tree.Generation || w.More != was.More || w.LowCredits != was.LowCredits || !slices.Equal(w.Tree.Problems, was.Tree.Problems) {
		p.out.Wanted(w)
	}
	last.wanted = w
	return w.Tree.Generation
}
