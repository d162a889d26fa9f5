package agent

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/stages"
	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/nginx/apply"
	"github.com/nagaya-ecs/nagaya/nginx/pools"
	"github.com/nagaya-ecs/nagaya/nginx/runtime"
)

// serve keeps nginx serving what is wanted, once there is an nginx.
func (a *agent) serve(ctx context.Context, c config.Config, r *routing, wanted <-chan nginx.Wanted, put func(nginx.Status)) error {
	o, _ := runtime.Configured(c)
	o.Log = a.o.Log
	pause := retryPause
	if o.Mode == runtime.Container {
		pause = time.Second // its container may come at any time
	}
	var build nginx.Build
	err := backoff.Retry(ctx, pause, func() (err error) {
		if build, err = runtime.Detect(ctx, o); err != nil {
			put(nginx.Status{LastError: err.Error(), Problems: []problem.Problem{apply.ProblemOf(err)}})
		}
		return err
	})
	if err != nil {
		return nil
	}
	r.build.Put(build)
	how, done, err := applyOptions(c, o)
	if err != nil {
		return err
	}
	defer done()
	how.Reopen = a.reopen.C()
	var newest atomic.Pointer[nginx.Build]
	newest.Store(&build)
	statuses := latest.New[nginx.Status]()
	g := stages.New(ctx)
	g.Run("apply", func(ctx context.Context) error {
		return apply.Run(ctx, how, wanted, func(s nginx.Status) {
			if s.Container != "" { // where it was, while it is looked for
				r.container.Put(s.Container)
			}
			s.Version = newest.Load().Version.String()
			put(s)
			statuses.Put(s)
		})
	})
	g.Run("build", func(ctx context.Context) error {
		detect := func(ctx context.Context) (nginx.Build, error) { return runtime.Detect(ctx, o) }
		return runtime.Follow(ctx, build, detect, statuses.C(), func(b nginx.Build) {
			newest.Store(&b)
			r.build.Put(b)
		})
	})
	return g.Wait()
}

func applyOptions(c config.Config, o runtime.Options) (_ apply.Options, done func(), err error) {
	how, done, err := runtime.New(o)
	return apply.Options{
		Runtime: how, Dirs: o.Dirs, Supervised: o.Mode != runtime.Exec,
		Pacer: pools.NewReloads(), Limits: apply.Limits{MaxDraining: c.Nginx.MaxDraining}, Log: o.Log,
	}, done, err
}

// stopNginx ends the nginx of a configuration after the last flow with it.
func (a *agent) stopNginx(c config.Config) {
	o, _ := runtime.Configured(c)
	o.Log = a.o.Log
	// Nothing is asked of the context: the agent's has ended.
	if err := apply.Stop(context.Background(), o.Dirs, func(ctx context.Context) error { return runtime.Stop(ctx, o) }); err != nil {
		a.o.Log.Warn("nginx goes on", event.Key, event.NginxNotStopped, "err", err)
	}
}

// toStdout says whether nginx logs to this process's stdout and stderr.
func toStdout(c config.Config) bool {
	o, _ := runtime.Configured(c)
	return o.Stdout
}
