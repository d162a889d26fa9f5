// Package ecsagent asks the ECS agent of this host, over its introspection
// API, which tasks it runs. The agent sends no events, so it is polled; an
// answer equal to the last one is not put again.
package ecsagent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/ecsapi"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/proc"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// Options say where the agent is.
type Options struct {
	// URL is the agent's introspection endpoint.
	URL string
	// Every is the pause between two questions. Zero means 5 s.
	Every time.Duration
	// Again receives a value when there is reason to ask at once: a container that the agent may
	// have started meanwhile. Nil is never.
	Again <-chan []string
	// Log receives one line when the agent starts or ceases to answer; nil discards.
	Log *slog.Logger
	// Transport carries the requests. Nil means the default one.
	Transport http.RoundTripper
}

// retryMax is the longest pause while no agent answers.
const retryMax = 30 * time.Second

// soon is the pause between two questions after a value of Again: it doubles with each one up to
// the usual pause. It is also the shortest.
const soon = 100 * time.Millisecond

// Watch puts what the agent says whenever it changed, until ctx ends; then it
// returns nil. The first value comes after the first attempt, answered or not.
// That no agent answers is not a problem, since not every host has an ECS agent:
// the value then has Complete false and the containers that were listed last. An answer
// that is not the agent's is a problem, ecs-agent-unreadable.
func Watch(ctx context.Context, o Options, put func(tasks.Agent)) error {
	o.Every = cmp.Or(o.Every, 5*time.Second)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	put = latest.Distinct(put)
	var last tasks.Agent
	api, failed := ecsapi.Client{URL: o.URL, Transport: o.Transport}, backoff.Backoff{First: 2 * o.Every, Most: retryMax}
	hurry := backoff.Backoff{First: o.Every, Most: o.Every}
	for {
		pause := hurry.Next()
		now, err := ask(ctx, api)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			if last.Complete {
				o.Log.Warn("ecs agent does not answer; keeping what it said last", event.Key, event.ECSAgentSilent, "url", o.URL, "err", err, "tasks", last.Tasks)
			}
			last.Complete, last.Problems = false, o.unreadable(err)
			pause = failed.Next()
		default:
			if !last.Complete {
				o.Log.Info("ecs agent answers", event.Key, event.ECSAgentAnswers, "url", o.URL, "tasks", now.Tasks)
			}
			last = now
			failed.Reset()
		}
		put(last)
		wake := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			return nil
		case <-wake.C:
		case <-o.Again:
			hurry = backoff.Backoff{First: soon, Most: o.Every}
			if !backoff.Sleep(ctx, hurry.Next()) {
				return nil
			}
		}
	}
}

func ask(ctx context.Context, api ecsapi.Client) (tasks.Agent, error) {
	var a answer
	if err := api.Get(ctx, "/v1/tasks", &a); err != nil {
		return tasks.Agent{}, err
	}
	own, err := proc.Addrs()
	if err != nil {
		return tasks.Agent{}, err
	}
	return a.agent(own)
}

// unreadable is the problem of an answer that is not the agent's.
func (o Options) unreadable(err error) []problem.Problem {
	if !errors.Is(err, ecsapi.ErrNotAgent) {
		return nil
	}
	return []problem.Problem{{
		Code:     "ecs-agent-unreadable",
		Severity: problem.Warning,
		Subject:  "ecs agent",
		Text:     fmt.Sprintf("what answers at %q is not the ECS agent's list of tasks: %q", o.URL, problem.Printable(err.Error(), 200)),
		Hint:     "restart the agent (systemctl restart ecs), or look who listens on that port",
	}}
}
