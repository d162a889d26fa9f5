// Package plan makes one table of routes and one tree of nginx's files of what the sources
// report, whenever one of them reports something new.
package plan

import (
	"context"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/labels"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/proc"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// Options are the options of Run.
type Options struct {
	Route route.Options
	// Labels are the defaults of labels; Foreign reads another program's words, and
	// may be nil.
	Labels   labels.Defaults
	Foreign  labels.Foreign
	Settings nginx.Settings
	// Previous is the last table of the flow or agent before: a family that has a host in it
	// keeps the host.
	Previous route.Table
	// Container is true for an nginx in a container of its own; Inputs.Container has its id.
	Container bool
	// Own are the ids that this process's container may have, where nginx is in the
	// same; Engine is the address of the engine that lists it.
	Own    []string
	Engine string
}

// Inputs are the slots of the sources.
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
	// LowCredits is true while CPU credits are low.
	LowCredits <-chan bool
	// Spaces say where nginx is to write no more.
	Spaces <-chan nginx.Spaces
}

// Outputs are called with what has changed.
type Outputs struct {
	Probes func([]route.Probe)
	Offer  func(nginx.Offer)
	Wanted func(nginx.Wanted)
	// Problems are those of finding the container that nginx is in.
	Problems func([]problem.Problem)
	// Alive is called at least every 15 s.
	Alive func()
}

const (
	// replanEvery is how often the table is made anew although no input has changed and
	// no time that it depends on has come.
	replanEvery = 5 * time.Minute
	// aliveEvery is how often Outputs.Alive is called.
	aliveEvery = 15 * time.Second
	// firstHold bounds how long the first table and tree wait for the first results of the
	// probes and of all sources. Without it a restarted agent would take every
	// container out of a running nginx until it had been probed again.
	firstHold = 3 * time.Second
	// notFound is the id of no container: nginx's own has not been found yet.
	notFound = "?"
)

// planner is the loop's state.
type planner struct {
	o         Options
	out       Outputs
	in        newest
	asked     map[string]asked
	table     route.Table // the newest one
	holdUntil time.Time   // until then the first table and tree are held back

	// What was output last.
	offer    nginx.Offer
	complete bool // a complete table was offered
	wanted   nginx.Wanted
	rerender bool // nginx or the operator's files have changed since the tree was rendered
}

// asked is a container, and what its labels and variables ask for.
type asked struct {
	by      tasks.Container
	request route.Request
}

// newest are the newest values of the inputs.
type newest struct {
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

// Run plans until ctx ends, and then returns nil.
func Run(ctx context.Context, o Options, in Inputs, out Outputs) error {
	out.Probes, out.Problems = latest.Distinct(out.Probes), latest.Distinct(out.Problems)
	p := &planner{o: o, out: out, table: o.Previous}
	if o.Container {
		p.in.container = notFound
	}
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	due := time.NewTimer(replanEvery)
	defer due.Stop()
	for {
		now := time.Now()
		p.plan(now)
		due.Reset(p.untilNext(now))
		if !p.receive(ctx, in, due.C, alive.C) {
			return nil
		}
	}
}

// receive waits for the next reason to plan. It returns false when ctx ends.
func (p *planner) receive(ctx context.Context, in Inputs, due, alive <-chan time.Time) bool {
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
			p.in.build, p.rerender, p.o.Route.Stream = &b, true, b.Stream != ""
		case f := <-in.Files:
			p.in.files, p.rerender = &f, true
			p.o.Settings.Snippets, p.o.Settings.Passwords = f.Snippets, f.Passwords
		case p.in.container = <-in.Container:
		case p.in.lowCredits = <-in.LowCredits:
		case p.o.Settings.Spaces = <-in.Spaces:
			p.rerender = true
		case <-due:
		case <-alive:
			continue
		}
		return true
	}
}

// untilNext is how long the plan of now is valid if no input changes. A time
// that was past by then has had its effect, or waits for a source.
func (p *planner) untilNext(now time.Time) time.Duration {
	next := now.Add(replanEvery)
	for _, t := range []time.Time{p.table.Next, p.holdUntil} {
		if t.After(now) && t.Before(next) {
			next = t
		}
	}
	return max(next.Sub(now), 50*time.Millisecond) // the most often that it plans by itself
}

// plan makes the table and the tree of the inputs, and outputs what has changed.
func (p *planner) plan(now time.Time) {
	before := p.table
	p.table = route.Build(p.input(now))
	p.out.Probes(p.table.Probes)
	offer := nginx.Offer{Table: p.table}
	if p.table.Complete {
		if p.held(now) {
			return
		}
		offer.Generation = p.render(before)
	}
	if !p.complete || offer.Generation != p.offer.Generation || !reflect.DeepEqual(p.table, before) {
		offer.Logs = p.wanted.Tree.Logs()
		p.offer, p.complete = offer, p.complete || p.table.Complete
		p.out.Offer(offer)
	}
}

// input is the input of the table.
func (p *planner) input(now time.Time) route.Input {
	s := p.in.snapshot
	p.findOwnContainer(s)
	network, found := route.NetworkOfNginx(p.in.container, s.Containers, p.in.local)
	// Where nginx's own container is not listed, it is not known how it reaches the others.
	s.Complete = s.Complete && found
	return route.Input{
		Snapshot: s, Requests: p.requests(s.Containers),
		Certs: p.in.certs, Reach: p.in.reach, Nginx: network, Prev: p.table, Now: now, Options: p.o.Route,
	}
}

// requests are what the containers ask for. One that has not changed is not read again: its words may be long, and there is
// a plan with each change of another.
func (p *planner) requests(list []tasks.Container) map[string]route.Request {
	before, all := p.asked, make(map[string]route.Request, len(list))
	p.asked = make(map[string]asked, len(list))
	for _, c := range list {
		a, known := before[c.ID]
		if !known || !reflect.DeepEqual(a.by, c) {
			a = asked{c, labels.Requests([]tasks.Container{c}, p.o.Labels, p.o.Foreign)[c.ID]}
		}
		p.asked[c.ID], all[c.ID] = a, a.request
	}
	return all
}

// findOwnContainer finds the container that nginx and this process are in.
func (p *planner) findOwnContainer(s tasks.Snapshot) {
	if len(p.o.Own) == 0 || !s.Complete {
		return
	}
	var found bool
	p.in.container, found = route.OwnContainer(p.o.Own, s.Containers)
	addrs, err := proc.Addrs()
	if found || err != nil || route.BesideEngine(s.Containers, addrs) {
		p.out.Problems(nil)
		return
	}
	p.out.Problems([]problem.Problem{problem.Of("nginx", "own-container-unknown",
		"mount the socket of the engine that runs this container, or let it use the host's network (--network host)",
		"this agent seems to be in a container that the Docker Engine at %s does not have, so the others are looked for where the host itself would reach them", p.o.Engine).AsWarning()})
}

// held reports whether the first table and tree are still held back: until every container
// has been probed once and every source has been heard, or for firstHold.
func (p *planner) held(now time.Time) bool {
	if p.complete {
		return false
	}
	if p.holdUntil.IsZero() {
		p.holdUntil = now.Add(firstHold)
	}
	unknown := func(probe route.Probe) bool { return p.in.reach[probe].State == route.Unknown }
	return now.Before(p.holdUntil) && (!p.in.snapshot.Heard || slices.ContainsFunc(p.table.Probes, unknown))
}

// render renders the tree of the table if its inputs have changed, and outputs it if it
// has. It returns the tree's generation.
func (p *planner) render(before route.Table) string {
	if p.in.build == nil || p.in.files == nil {
		return ""
	}
	last := p.wanted
	w := nginx.Wanted{Tree: last.Tree, More: p.table.StartsExpected, Orders: p.table.OrdersExpected, LowCredits: p.in.lowCredits}
	if w.Tree.Generation == "" || p.rerender || !reflect.DeepEqual(p.table.Shape, before.Shape) || !reflect.DeepEqual(p.table.Pools, before.Pools) {
		w.Tree = nginx.Render(p.o.Settings, *p.in.build, p.table.Shape, p.table.Pools)
		p.rerender = false
	}
	if w.Tree.Generation != last.Tree.Generation || w.More != last.More || w.Orders != last.Orders || w.LowCredits != last.LowCredits || !slices.Equal(w.Tree.Problems, last.Tree.Problems) {
		p.out.Wanted(w)
	}
	p.wanted = w
	return w.Tree.Generation
}
