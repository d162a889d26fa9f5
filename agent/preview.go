package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/awsclient"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/identity/discover"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/route/saved"
	"github.com/nagaya-ecs/nagaya/agent/stages"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/nginx/apply"
	"github.com/nagaya-ecs/nagaya/nginx/runtime"
	"github.com/nagaya-ecs/nagaya/nginx/snippets"
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
	a := &agent{o: o, relist: latest.New[struct{}]()}
	live, err := startConfig(o)
	if err != nil {
		return Preview{}, err
	}
	c := live.Config()
	_, wrong := live.Status()
	p := Preview{Problems: append(withoutEffect(c, "/"), wrong...)}
	how, settings := runtime.Configured(c)
	build, err := runtime.Detect(ctx, how)
	if err != nil {
		return p, fmt.Errorf("asking nginx for its version: %w: %s", err, apply.ProblemOf(err).Hint)
	}
	container, err := runtime.ContainerOf(ctx, how)
	if err != nil {
		return p, fmt.Errorf("looking for nginx's container: %w: %s", err, apply.ProblemOf(err).Hint)
	}
	a.look(ctx, c, build, container, &p)
	p.Problems = append(p.Problems, p.Table.Problems...)
	if p.Tree.Generation == "" {
		// Without Docker nothing would be changed; what is left to test is nginx
		// itself, its ports and the operator's snippets.
		files, err := snippets.List(snippets.Configured(c))
		if err != nil {
			return p, err
		}
		settings.Snippets, settings.Passwords = files.Snippets, files.Passwords
		p.Tree = nginx.Render(settings, build, route.Shape{}, nil)
	}
	if !prove {
		problem.Sort(p.Problems)
		return p, nil
	}
	checked, done, err := applyOptions(c, how)
	if err != nil {
		return p, err
	}
	defer done()
	found, err := apply.Check(ctx, checked, p.Tree)
	p.Problems = append(p.Problems, found...)
	problem.Sort(p.Problems)
	return p, err
}

// look runs the stages up to the first tree.
func (a *agent) look(ctx context.Context, c config.Config, build nginx.Build, container string, p *Preview) {
	ctx, done := context.WithTimeout(ctx, previewPatience)
	defer done()
	var (
		g  = stages.New(ctx)
		r  = newRouting()
		mu sync.Mutex // the stages write what follows
		// The newest of each.
		running []problem.Problem
		pairs   []problem.Problem
	)
	set := func(change func()) {
		mu.Lock()
		defer mu.Unlock()
		change()
	}
	r.preview = true
	close(r.issued)
	r.build.Put(build)
	if container != "" {
		r.container.Put(container)
	}
	r.snapshot = func(s tasks.Snapshot) {
		set(func() { running = s.Problems })
		if !s.Complete && s.Heard && len(s.Problems) > 0 {
			done()
		}
	}
	r.certs = func(v certs.Inventory) { set(func() { pairs = v.Problems }) }
	r.offer = func(v nginx.Offer) { set(func() { p.Table = v.Table }) }
	r.wanted = func(v nginx.Wanted) { set(func() { p.Tree = v.Tree }); done() }
	r.problems = func(ps []problem.Problem) { set(func() { p.Problems = append(p.Problems, ps...) }) }
	r.alive = func() {}
	if cloud, err := awsclient.New(ctx); err == nil {
		g.Run("discover", func(ctx context.Context) error {
			// Only what the host knows of itself is waited for.
			return discover.Watch(ctx, discover.Options{IMDS: cloud.Metadata(c.IMDS), LocalAddr: c.LocalAddr}, r.identity.Put)
		})
	}
	r.run(g, a, c, saved.Read(statePath(c, saved.FileName), a.o.Log))
	_ = g.Wait() // a source that fails says so in its problems
	p.Problems = append(append(p.Problems, running...), pairs...)
}
