package agent

import (
	"context"
	"os"
	"path/filepath"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/certs/files"
	"github.com/nagaya-ecs/nagaya/agent/certs/order"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/identity/discover"
	"github.com/nagaya-ecs/nagaya/agent/labels"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/route/probe"
	"github.com/nagaya-ecs/nagaya/agent/stages"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/agent/tasks/join"
	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/nginx/plan"
	"github.com/nagaya-ecs/nagaya/nginx/runtime"
	"github.com/nagaya-ecs/nagaya/nginx/snippets"
	"github.com/nagaya-ecs/nagaya/nginx/space"
)

// routing is the part of the flow from what runs here to what nginx should serve. The
// agent and a preview share it.
type routing struct {
	// From outside of it.
	identity   *latest.Slot[identity.Identity]
	build      *latest.Slot[nginx.Build]
	container  *latest.Slot[string]
	lowCredits *latest.Slot[bool]
	// issued is closed when the local copy of what was issued is up to date.
	issued chan struct{}
	// preview is true where nothing may be changed.
	preview bool

	// What it makes.
	snapshot func(tasks.Snapshot)
	certs    func(certs.Inventory)
	offer    func(nginx.Offer)
	wanted   func(nginx.Wanted)
	problems func([]problem.Problem)
	unlisted func([]problem.Problem) // of the operator's files
	alive    func()
}

func newRouting() *routing {
	return &routing{
		identity: latest.New[identity.Identity](), build: latest.New[nginx.Build](),
		container: latest.New[string](), lowCredits: latest.New[bool](), issued: make(chan struct{}),
	}
}

// run starts its stages. before is the table of an earlier flow or agent.
func (r *routing) run(g *stages.Group, a *agent, c config.Config, before route.Table) {
	var (
		lists     = latest.New[[]tasks.Containers]()
		ecs       = latest.New[tasks.Agent]()
		snapshots = latest.New[tasks.Snapshot]()
		pairs     = latest.New[certs.Inventory]()
		used      = latest.New[[]string]()
		usedToo   = latest.New[[]string]()
		own       = latest.New[nginx.OperatorFiles]()
		spaces    = latest.New[nginx.Spaces]()
		probes    = latest.New[[]route.Probe]()
		reach     = latest.New[route.Reach]()
		unlisted  = latest.New[[]string]()
		sources   = join.Inputs{Lists: lists.C()}
	)
	if c.ECS.AgentURL != "" {
		sources.Agent = ecs.C()
	}
	runSources(g, c, a.o.Log, unlisted.C(), ecs.Put, lists.Put)
	g.Run("tasks", func(ctx context.Context) error {
		o := join.Options{File: statePath(c, join.FileName), ReadOnly: r.preview, TrustLabels: c.ECS.TrustLabels, Unlisted: unlisted.Put, Log: a.o.Log}
		return join.Run(ctx, o, sources, latest.Tee(r.snapshot, snapshots.Put))
	})
	inventories := latest.Join(2, func(v []certs.Inventory) { latest.Tee(r.certs, pairs.Put)(certs.Join(v[0], v[1])) })
	g.Run("certificates", func(ctx context.Context) error {
		return files.Watch(ctx, files.Options{Dir: c.Certs.Dir, Copies: nginx.StateDir(c), ReadOnly: r.preview, Waiting: c.Certs.ACME.On() && c.Certs.Waiting == "self-signed", Used: used.C(), Log: a.o.Log}, inventories[0])
	})
	if _, err := os.Stat(order.IssuedDir(c)); err != nil && !c.Certs.ACME.On() {
		inventories[1](certs.Inventory{Complete: true})
	} else {
		g.Run("issued", func(ctx context.Context) error {
			select {
			case <-r.issued:
				o := files.Options{Dir: order.IssuedDir(c), Issued: true, Copies: filepath.Join(nginx.StateDir(c), "issued"), ReadOnly: r.preview, Used: usedToo.C(), Log: a.o.Log}
				return files.Watch(ctx, o, inventories[1])
			case <-ctx.Done():
				return nil
			}
		})
	}
	g.Run("snippets", func(ctx context.Context) error {
		o := snippets.Configured(c)
		o.Log, o.Now, o.Problems = a.o.Log, a.relist.C(), r.unlisted
		return snippets.Watch(ctx, o, own.Put)
	})
	g.Run("space", func(ctx context.Context) error { return space.Watch(ctx, spaceOptions(c, r.preview), spaces.Put) })
	g.Run("probe", func(ctx context.Context) error {
		return probe.Run(ctx, probe.Options{Log: a.o.Log}, probes.C(), reach.Put)
	})
	offer := latest.Tee(r.offer, func(o nginx.Offer) {
		if o.Table.Complete {
			latest.Tee(used.Put, usedToo.Put)(o.Table.Certificates())
		}
	})
	g.Run("plan", func(ctx context.Context) error {
		return plan.Run(ctx, planOptions(c, before), plan.Inputs{
			Snapshots: snapshots.C(), Identity: r.identity.C(), Certs: pairs.C(), Reach: reach.C(),
			Build: r.build.C(), Container: r.container.C(), Files: own.C(), LowCredits: r.lowCredits.C(), Spaces: spaces.C(),
		}, plan.Outputs{Probes: probes.Put, Offer: offer, Wanted: r.wanted, Problems: r.problems, Alive: r.alive})
	})
}

func spaceOptions(c config.Config, preview bool) space.Options {
	o := space.Options{Temp: nginx.TempDir(nginx.StateDir(c))}
	if !toStdout(c) {
		o.Logs = c.LogDir
	}
	if !preview {
		o.State = c.StateDir
	}
	return o
}

func planOptions(c config.Config, before route.Table) plan.Options {
	how, settings := runtime.Configured(c)
	o := plan.Options{
		Route: route.Configured(c), Labels: labels.Configured(c), Foreign: nginxproxy.Reader(c.Routes.ShareHosts), Settings: settings, Previous: before,
		Container: how.Mode == runtime.Container, Engine: c.Docker.Host,
	}
	if how.Mode == runtime.Exec { // in the same container, if in any
		o.Own = discover.OwnContainer()
	}
	return o
}
