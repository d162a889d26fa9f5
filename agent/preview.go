package agent

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/certs/files"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/identity/discover"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/route/probe"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/nginx/install"
)

// Preview is what an agent would do now with this configuration.
type Preview struct {
	// Table and Tree are what would be served; empty when Docker could not be listed.
	Table route.Table
	Tree  nginx.Tree
	// Problems are everything found on the way, nginx's own judgement included
	// when it was asked for.
	Problems []problem.Problem
}

// previewPatience bounds the time that the sources of a preview may take.
const previewPatience = 8 * time.Second

// MakePreview runs the stages that look and plan, once, and none that touches
// anything. With prove, nginx is asked too whether it would take the outcome.
// The error wraps ErrConfig for a configuration that is wrong.
func MakePreview(ctx context.Context, o Options, prove bool) (Preview, error) {
	o.Log = slog.New(slog.DiscardHandler)
	a := &agent{o: o, board: newBoard(o.Version, time.Now())}
	live, err := startConfig(o)
	if err != nil {
		return Preview{}, err
	}
	c := live.Config()
	_, wrong := live.Status()
	p := Preview{Problems: append(withoutEffect(c, "/"), wrong...)}
	build, err := install.Detect(ctx, installOptions(c, nginx.Build{}))
	if err != nil {
		return p, fmt.Errorf("asking nginx for its version: %w: %s", err, install.Explain(err).Hint)
	}
	pl := newPlanner(a, c)
	pl.build.Put(build)
	if pl.inside, err = install.Place(ctx, installOptions(c, build)); err != nil {
		return p, fmt.Errorf("looking for nginx's container: %w: %s", err, install.Explain(err).Hint)
	}
	a.look(ctx, c, pl, &p)
	p.Problems = append(p.Problems, p.Table.Problems...)
	if p.Tree.Generation == "" {
		// Without Docker nothing would be changed; what is left to prove is nginx
		// itself, its ports and the operator's snippets.
		p.Tree = nginx.Render(pl.settings, build, route.Shape{}, nil)
	}
	if !prove {
		problem.Sort(p.Problems)
		return p, nil
	}
	found, err := install.Check(ctx, installOptions(c, build), p.Tree)
	p.Problems = append(p.Problems, found...)
	problem.Sort(p.Problems)
	return p, err
}

// look runs the sources and the planner until the first tree is there.
func (a *agent) look(ctx context.Context, c config.Config, pl *planner, p *Preview) {
	ctx, done := context.WithTimeout(ctx, previewPatience)
	defer done()
	var (
		b      = a.board
		g      = newGroup(ctx)
		wanted = latest.New[[]route.Probe]()
	)
	if cloud, err := newCloud(ctx); err == nil {
		g.run("discover", func(ctx context.Context) error {
			// Only what the host knows of itself is waited for.
			return discover.Watch(ctx, discover.Options{IMDS: cloud.metadata(c.IMDS), LocalAddr: c.LocalAddr}, latest.Tee[identity.Identity](pl.identity.Put))
		})
	}
	runSources(g, c, nil, pl.agent.Put, func(lists []tasks.Containers) {
		pl.lists.Put(lists)
		if v := lists[0]; !v.Complete && len(v.Problems) > 0 {
			b.tasks(report.Tasks{Problems: v.Problems})
			done()
		}
	})
	g.run("certificates", func(ctx context.Context) error {
		return files.Watch(ctx, files.Options{Dir: c.Certs.Dir}, latest.Tee[certs.Inventory](b.certs, pl.certs.Put))
	})
	g.run("probe", func(ctx context.Context) error {
		return probe.Run(ctx, probe.Options{}, wanted.C(), pl.reach.Put)
	})
	g.run("plan", func(ctx context.Context) error {
		return pl.run(ctx, wanted.Put, func(t nginx.Tree) { p.Tree = t; done() }, func(t route.Table) { p.Table = t }, b.tasks, func([]string) {})
	})
	_ = g.wait() // a source that fails says so in its problems
	s := b.read()
	p.Problems = append(p.Problems, s.Tasks.Problems...)
	p.Problems = append(p.Problems, s.Certs.Problems...)
}
