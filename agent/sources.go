package agent

import (
	"context"
	"log/slog"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/agent/stages"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/agent/tasks/docker"
	"github.com/nagaya-ecs/nagaya/agent/tasks/ecsagent"
	"github.com/nagaya-ecs/nagaya/agent/tasks/static"
)

// runSources starts everything that lists containers, and the ECS agent's watch. put gets the
// newest list of each source, that of the local Docker Engine first.
func runSources(g *stages.Group, c config.Config, log *slog.Logger, unlisted <-chan []string, putAgent func(tasks.Agent), put func([]tasks.Containers)) {
	sources := []struct {
		name  string
		watch func(context.Context, func(tasks.Containers)) error
	}{
		{"docker", func(ctx context.Context, put func(tasks.Containers)) error {
			return docker.Watch(ctx, docker.Options{Host: c.Docker.Host, Filters: c.Docker.Filters, Foreign: nginxproxy.Knows, Log: log}, put)
		}},
		{"static", func(ctx context.Context, put func(tasks.Containers)) error {
			o := static.Configured(c)
			o.Log = log
			return static.Watch(ctx, o, put)
		}},
	}
	puts := latest.Join(len(sources), put)
	for i, s := range sources {
		g.Run(s.name, func(ctx context.Context) error { return s.watch(ctx, puts[i]) })
	}
	if c.ECS.AgentURL != "" {
		g.Run("ecsagent", func(ctx context.Context) error {
			return ecsagent.Watch(ctx, ecsagent.Options{URL: c.ECS.AgentURL, Again: unlisted, Log: log}, putAgent)
		})
	}
}
