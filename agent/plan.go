package agent

import (
	"context"
	"log/slog"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/atomicfile"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/labels"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/nginx/install"
)

// planner joins what the sources say into one table and one tree.
type planner struct {
	identity *latest.Slot[identity.Identity]
	lists    *latest.Slot[[]tasks.Containers] // of all sources, the local Docker Engine's first
	agent    *latest.Slot[tasks.Agent]
	certs    *latest.Slot[certs.Inventory]
	reach    *latest.Slot[route.Reach]
	build    *latest.Slot[nginx.Build]
	place    *latest.Slot[string]

	log      *slog.Logger
	beat     func()
	options  route.Options
	labels   labels.Defaults
	foreign  labels.Foreign // reads another program's words
	settings nginx.Settings
	snippets install.SnippetDirs
	hostAuth bool // password files are named by hosts
	// own are the ids that this process's container may have, where nginx is in the
	// same; engine is the one that is asked which it is.
	own    []string
	engine string

	// What was said last.
	local    netip.Addr
	listed   []tasks.Containers
	ecs      tasks.Agent
	ecsHeard bool
	pairs    certs.Inventory
	probed   route.Reach
	nginx    nginx.Build
	hasNginx bool
	// inside is the id of the container that nginx is in; empty on the host itself,
	// notFound while its container has not been found.
	inside string

	// table is the agent's and outlives a flow; keep writes it down, so that it
	// outlives the agent too: who holds a host name must hold it after a restart.
	// keep is nil for a planner that must not touch anything.
	table    *route.Table
	keep     func(savedRoutes)
	offer    func(nginx.Offer)       // may be nil
	saw      func([]tasks.Container) // may be nil
	offered  string                  // the generation that was offered last
	told     bool                    // a tree was given away
	restyled bool                    // nginx or the operator's snippets are others than the last tree was made with
	holdTill time.Time               // until when the first table and tree are held back
	outlook  func(install.Outlook)   // may be nil
	expected bool                    // whether the last table expected more containers to start
	tree     string                  // generation of the last tree
	remarks  []problem.Problem       // of the last tree
	running  report.Tasks
	batches  []string
}

func newPlanner(a *agent, c config.Config) *planner {
	a.recallRoutes(c)
	return &planner{
		identity: latest.New[identity.Identity](), lists: latest.New[[]tasks.Containers](), agent: latest.New[tasks.Agent](), listed: make([]tasks.Containers, 1),
		certs: latest.New[certs.Inventory](), reach: latest.New[route.Reach](), build: latest.New[nginx.Build](), place: latest.New[string](),
		inside: place(c),
		log:    a.o.Log, beat: a.board.beat, table: &a.table,
		ecsHeard: c.ECS.AgentURL == "",
		options: route.Options{
			Grace: orNone(c.Routes.Grace), Listen: []uint16{uint16(c.Nginx.HTTPPort), uint16(c.Nginx.HTTPSPort)},
			DefaultHost: c.Routes.DefaultHost, Reserved: c.Routes.ReservedPorts,
		},
		labels: labelDefaults(c.Routes), foreign: nginxproxy.Reader(c.Routes.ShareHosts),
		settings: nginxSettings(c),
		snippets: install.SnippetDirs{Own: c.Nginx.SnippetDir, Vhost: c.Nginx.VhostDir, Conf: c.Nginx.ConfDir},
		hostAuth: c.Nginx.HostAuth,
		own:      besideNginx(c), engine: c.Docker.Host,
	}
}

// besideNginx returns the ids that nginx's container may have because it is this
// process's too.
func besideNginx(c config.Config) []string {
	if nginxMode(c) != install.Exec {
		return nil
	}
	return ownIDs()
}

// notFound is the id of no container.
const notFound = "?"

// place is where nginx is before anybody has looked.
func place(c config.Config) string {
	if nginxMode(c) == install.Container {
		return notFound
	}
	return ""
}

const (
	// replan is how often the table is made anew although nobody said anything and
	// no time that it depends on has come: the operator's snippets are looked at then.
	replan = time.Minute
	// beatEvery is how often the planner says that it lives.
	beatEvery = 15 * time.Second
	// firstHold bounds how long the first table and tree wait for the first answers of the
	// probes and of the ECS agent. Without it a restarted agent would take every
	// container out of a running nginx until it had been probed again.
	firstHold = 3 * time.Second
)

// run plans whenever something was said, until ctx ends.
func (p *planner) run(ctx context.Context, putWanted func([]route.Probe), putTree func(nginx.Tree), putTable func(route.Table), putTasks func(report.Tasks), putBatches func([]string)) error {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	due := time.NewTimer(replan)
	defer due.Stop()
	for {
		now := time.Now()
		p.plan(now, putWanted, putTree, putTable, putTasks, putBatches)
		due.Reset(p.untilNext(now))
		if !p.listen(ctx, due.C, tick.C) {
			return nil
		}
	}
}

// listen waits for the next reason to plan. It returns false when ctx ends.
func (p *planner) listen(ctx context.Context, due, tick <-chan time.Time) bool {
	for {
		p.beat()
		select {
		case <-ctx.Done():
			return false
		case id := <-p.identity.C():
			p.local = id.Host.LocalAddr
		case p.listed = <-p.lists.C():
		case p.ecs = <-p.agent.C():
			p.ecsHeard = true
		case p.pairs = <-p.certs.C():
		case p.probed = <-p.reach.C():
		case p.nginx = <-p.build.C():
			p.hasNginx, p.restyled, p.options.Stream = true, true, p.nginx.Stream != ""
		case p.inside = <-p.place.C():
		case <-due:
		case <-tick:
			continue
		}
		return true
	}
}

// untilNext is how long the plan of now holds if nobody says anything. A moment
// that was past by then has had its effect, or waits for somebody to speak.
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
func (p *planner) plan(now time.Time, putWanted func([]route.Probe), putTree func(nginx.Tree), putTable func(route.Table), putTasks func(report.Tasks), putBatches func([]string)) {
	snapshot := tasks.Merge(p.listed[0], p.ecs, p.listed[1:]...)
	p.lookForSelf(&snapshot)
	if p.saw != nil {
		p.saw(snapshot.Containers)
	}
	if running := p.countTasks(snapshot); !reflect.DeepEqual(running, p.running) {
		p.running = running
		putTasks(running)
	}
	if ids := snapshot.Batches(); !slices.Equal(ids, p.batches) {
		p.batches = ids
		putBatches(ids)
	}
	before := *p.table
	network, found := route.NetworkOfNginx(p.inside, snapshot.Containers, p.local)
	// Where nginx's own container is not listed, nothing can be said of any other.
	snapshot.Complete = snapshot.Complete && found
	in := route.Input{
		Snapshot: snapshot, Requests: labels.Requests(snapshot.Containers, p.labels, p.foreign),
		Certs: p.pairs, Reach: p.probed, Nginx: network, Prev: before, Now: now, Options: p.options,
	}
	table := route.Build(in)
	*p.table = table
	if !slices.Equal(table.Probes, before.Probes) || !p.told {
		putWanted(table.Probes)
		runtime.Gosched() // the program has one processor, and who probes comes first
	}
	changed := !reflect.DeepEqual(table, before)
	ready := !table.Complete || p.mayTell(table, now)
	if ready && (changed || !p.told) {
		putTable(table)
	}
	p.readSnippets()
	// A tree depends on these alone.
	moved := !reflect.DeepEqual(table.Shape, before.Shape) || !reflect.DeepEqual(table.Pools, before.Pools)
	generation := ""
	if p.hasNginx && table.Complete && ready {
		if moved || p.restyled || !p.told {
			p.tell(table, putTree)
			runtime.Gosched() // who loads it comes first
		}
		generation = p.tree
	}
	if p.offer != nil && (changed || generation != p.offered) {
		p.offered = generation
		p.offer(nginx.Offer{Table: table, Generation: generation})
	}
	if p.outlook != nil && table.StartsExpected != p.expected {
		p.expected = table.StartsExpected
		p.outlook(install.Outlook{More: p.expected})
	}
	if p.keep != nil && table.Complete && moved { // nobody waits for this, which goes to the disk
		p.keep(savedRoutes{Complete: true, Shape: table.Shape, Pools: table.Pools})
	}
}

// lookForSelf finds the container that nginx and this process are in.
func (p *planner) lookForSelf(s *tasks.Snapshot) {
	if len(p.own) == 0 || !s.Complete {
		return
	}
	var ok bool
	if p.inside, ok = route.OwnContainer(p.own, s.Containers); ok {
		return
	}
	if addrs, err := interfaceAddrs(); err == nil && !route.BesideEngine(s.Containers, addrs) {
		s.Problems = append(slices.Clone(s.Problems), ownUnknown(p.engine))
		problem.Sort(s.Problems)
	}
}

// mayTell holds the first table and tree back until every container has been probed once
// and the ECS agent has spoken, or for firstHold.
func (p *planner) mayTell(table route.Table, now time.Time) bool {
	if p.told {
		return true
	}
	if p.holdTill.IsZero() {
		p.holdTill = now.Add(firstHold)
	}
	if !now.Before(p.holdTill) {
		return true
	}
	for _, probe := range table.Probes {
		if p.probed[probe].State == route.Unknown {
			return false
		}
	}
	return p.ecsHeard
}

// readSnippets looks for the operator's own files.
func (p *planner) readSnippets() {
	snippets, err := install.Snippets(p.snippets)
	if err != nil {
		// The ones from before stay: a directory that cannot be read for a moment
		// must not change how sites behave.
		p.log.Warn("operator's nginx snippets could not be read", event.Key, event.SnippetsUnreadable, "dir", p.settings.SnippetDir, "err", err)
		return
	}
	if !slices.Equal(snippets, p.settings.Snippets) {
		p.settings.Snippets, p.restyled = snippets, true
	}
	files, err := install.HostFiles(p.settings.HtpasswdDir)
	if err != nil {
		p.log.Warn("password files could not be listed", event.Key, event.SnippetsUnreadable, "dir", p.settings.HtpasswdDir, "err", err)
		return
	}
	if !slices.Equal(files, p.settings.Passwords) || p.settings.Passwords == nil {
		p.settings.Passwords, p.restyled = append([]string{}, files...), true
	}
	if p.hostAuth {
		p.settings.HostAuth = p.settings.Passwords
	}
}

func (p *planner) tell(table route.Table, putTree func(nginx.Tree)) {
	tree := nginx.Render(p.settings, p.nginx, table.Shape, table.Pools)
	p.told, p.restyled, p.holdTill = true, false, time.Time{}
	if tree.Generation != p.tree || !slices.Equal(tree.Problems, p.remarks) {
		p.tree, p.remarks = tree.Generation, tree.Problems
		putTree(tree)
	}
}

func (p *planner) countTasks(s tasks.Snapshot) report.Tasks {
	r := report.Tasks{At: s.At, Complete: s.Complete, ECSAgent: p.ecs.Complete, Problems: s.Problems, Batches: len(s.Batches())}
	for _, c := range s.Containers {
		if c.Origin == tasks.Local && c.State == tasks.Running {
			r.Running++
		}
	}
	return r
}

// routesFile is where it is kept who holds which host and port.
const routesFile = "routes.json"

// savedRoutes is a table with all that the next one depends on, and nothing else.
type savedRoutes = route.Table

// recallRoutes takes what an earlier agent kept for the table before, if this
// agent has made none yet.
func (a *agent) recallRoutes(c config.Config) {
	if a.table.Sites != nil {
		return
	}
	var before savedRoutes
	if err := atomicfile.ReadJSON(statePath(c, routesFile), &before); err != nil {
		a.o.Log.Warn("who held which host is lost; the oldest container gets it", event.Key, event.MemoryLost, "file", statePath(c, routesFile), "err", err)
		return
	}
	a.table.Shape, a.table.Pools = before.Shape, before.Pools
}

// keepRoutes returns the function that keeps them.
func (a *agent) keepRoutes(c config.Config) func(savedRoutes) {
	return func(now savedRoutes) {
		if err := atomicfile.WriteJSON(statePath(c, routesFile), now); err != nil {
			a.o.Log.Warn("who holds which host could not be kept", event.Key, event.MemoryUnkept, "file", statePath(c, routesFile), "err", err)
		}
	}
}

// labelDefaults translates what holds for routes that say nothing.
func labelDefaults(c config.Routes) labels.Defaults {
	code, _ := strconv.Atoi(c.RedirectCode) // one of three words
	d := labels.Defaults{
		BodySize: c.BodySize, Timeout: c.Timeout, TLS: labels.HTTPSMethods[c.HTTPSMethod], HSTS: c.HSTS, TLSPolicy: c.TLSPolicy, RedirectCode: code,
		OwnCertOnly: !c.DefaultCert, HTTPSOnly: !c.HTTPWithoutCert,
	}
	if d.BodySize == 0 {
		d.BodySize = -1 // no limit
	}
	// What nginx does without being told is not written for each site.
	if d.TLSPolicy == route.DefaultTLSPolicy {
		d.TLSPolicy = ""
	}
	if d.RedirectCode == 308 {
		d.RedirectCode = 0
	}
	return d
}

// orNone translates "0 is none" into what package route takes.
func orNone(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}
