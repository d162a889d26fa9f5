package agent

import (
	"context"
	"errors"
	"log/slog"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/address/claim"
	"github.com/nagaya-ecs/nagaya/agent/awsclient"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/certs/files"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/doctor"
	"github.com/nagaya-ecs/nagaya/agent/doctor/examine"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/identity/discover"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report/socket"
	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/nginx/apply"
	"github.com/nagaya-ecs/nagaya/nginx/runtime"
)

// Examine proves, without changing anything, that this host can do what the configuration
// asks for: what it needs of the host, of Docker and of nginx, and every permission in AWS.
// The error wraps ErrConfig for a configuration that is wrong: then the report says so, and the rest is examined with what can
// be used of it.
func Examine(ctx context.Context, o Options, orders examine.Orders) (doctor.Report, error) {
	o.Log = slog.New(slog.DiscardHandler)
	a := &agent{o: o}
	var wrong, err error
	if a.cloud, err = awsclient.New(ctx); err != nil {
		return doctor.Report{}, err
	}
	a.config, wrong = startConfig(o)
	c := a.config.Config()
	if wrong != nil {
		c = o.Config.Usable()
	}
	clock := &examine.Clock{Next: a.cloud.HTTP.Transport}
	a.cloud.HTTP.Transport = clock
	parts := a.examined(c)
	parts.Orders = orders
	if wrong != nil {
		_, parts.Wrong = a.config.Status()
		parts.Tagged = func(map[string]string) (config.Config, []problem.Problem) { return c, nil }
	}
	return examine.Run(ctx, c, parts, examine.AWS{
		Clock: clock, Credentials: a.cloud.Base.Credentials, CloudWatch: a.cloud.CloudWatch(),
		EC2: func(region string) examine.EC2 { return a.cloud.EC2(region) },
	}), wrong
}

// examined is how the other parts of the program take part in an examination.
func (a *agent) examined(c config.Config) examine.Parts {
	return examine.Parts{
		Agent: func(ctx context.Context) (severe, all int, err error) {
			s, err := socket.Dial(socketPath(c)).Status(ctx)
			if errors.Is(err, socket.ErrNoAgent) {
				err = errors.Join(examine.ErrNoAgent, err)
			}
			severe, all = s.Severe()
			return severe, all, err
		},
		Identity: func(ctx context.Context) (id identity.Identity) {
			ctx, done := context.WithCancel(ctx)
			defer done()
			_ = discover.Watch(ctx, discover.Options{IMDS: a.cloud.Metadata(true), AgentURL: c.ECS.AgentURL, LocalAddr: c.LocalAddr}, func(v identity.Identity) {
				id = v
				if v.Instance.Known || len(v.Problems) > 0 {
					done()
				}
			})
			return id
		},
		Tagged: func(tags map[string]string) (config.Config, []problem.Problem) {
			a.config.SetTags(tags)
			_, _ = a.config.Reload() // it was right without the tags
			return a.config.Config(), a.config.TagProblems()
		},
		Nginx: func(ctx context.Context, c config.Config) (nginx.Build, *problem.Problem) {
			how, _ := runtime.Configured(c)
			build, err := runtime.Detect(ctx, how)
			if err != nil {
				p := apply.ProblemOf(err)
				return build, &p
			}
			return build, nil
		},
		Certificates: func(ctx context.Context, c config.Config) (v certs.Inventory, err error) {
			ctx, done := context.WithCancel(ctx)
			defer done()
			err = files.Watch(ctx, files.Options{Dir: c.Certs.Dir, Copies: nginx.StateDir(c), ReadOnly: true}, func(i certs.Inventory) { v = i; done() })
			return v, err
		},
		Claims: func(ctx context.Context, c config.Config, id identity.Identity) []address.Proof {
			return claim.Prove(ctx, a.claimOptions(c), address.Situation{Identity: id})
		},
		Explain: claim.Explain,
	}
}
