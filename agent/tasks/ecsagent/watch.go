// Package ecsagent asks the ECS agent of this host, over its introspection
// API, which tasks it runs. The agent sends no events, so it is polled; an
// answer equal to the last one costs one hash and is not put again.
package ecsagent

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// Options say where the agent is. The zero value asks the local one.
type Options struct {
	// URL is the agent's introspection endpoint. Empty means
	// http://127.0.0.1:51678 (ECS Developer Guide, Amazon ECS container agent
	// introspection).
	URL string
	// Every is the pause between two questions. Zero means 5 s.
	Every time.Duration
	// RetryMax is the longest pause while no agent answers. Zero means 30 s.
	RetryMax time.Duration
	// Timeout is how long one answer may take. Zero means 5 s.
	Timeout time.Duration
	// Log receives one line when the agent starts or ceases to answer; nil discards.
	Log *slog.Logger
	// Client makes the requests. Nil means one that follows no redirects and uses
	// no proxy.
	Client *http.Client
}

func (o Options) withDefaults() Options {
	o.URL = cmp.Or(o.URL, "http://127.0.0.1:51678")
	o.Every = cmp.Or(o.Every, 5*time.Second)
	o.RetryMax = cmp.Or(o.RetryMax, 30*time.Second)
	o.Timeout = cmp.Or(o.Timeout, 5*time.Second)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.Client = cmp.Or(o.Client, &http.Client{
		Transport:     &http.Transport{MaxIdleConns: 1, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
	return o
}

// Watch puts what the agent says whenever it changed, until ctx ends; then it
// returns nil. The first value comes after the first attempt, answered or not.
// That no agent answers is not a problem, since not every host has an ECS agent:
// the value then has Complete false and the containers that were listed last. An answer
// that is not the agent's is a problem, ecs-agent-unreadable.
func Watch(ctx context.Context, o Options, put func(tasks.Agent)) error {
	w := &watch{Options: o.withDefaults(), put: put}
	failed := backoff.Backoff{First: 2 * w.Every, Most: w.RetryMax}
	for {
		pause := backoff.Jitter(w.Every, w.Every/16)
		if err := w.poll(ctx); ctx.Err() != nil {
			return nil
		} else if err != nil {
			w.reportLost(err)
			pause = failed.Next()
		} else {
			failed.Reset()
		}
		if !backoff.Sleep(ctx, pause) {
			return nil
		}
	}
}

type watch struct {
	Options
	put  func(tasks.Agent)
	last tasks.Agent
	sum  [sha256.Size]byte // of the answer that last was made from
	// cause is the trouble that was reported last; asked is false before the
	// first attempt.
	cause string
	asked bool
}

// notTheAgent is the error of an answer that the agent would not give.
type notTheAgent struct{ error }

func (w *watch) poll(ctx context.Context) error {
	body, err := w.get(ctx)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	if w.last.Complete && sum == w.sum {
		return nil
	}
	containers, n, err := decode(body)
	if err != nil {
		return notTheAgent{err}
	}
	if !w.last.Complete {
		w.Log.Info("ecs agent answers", event.Key, event.ECSAgentAnswers, "url", w.URL, "tasks", n)
	}
	w.sum, w.cause, w.asked = sum, "", true
	w.last = tasks.Agent{At: time.Now(), Complete: true, Tasks: n, Containers: containers}
	w.put(w.last)
	return nil
}

// maxAnswer bounds the answer in bytes; a task takes about 1 kB.
const maxAnswer = 8 << 20

func (w *watch) get(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.URL+"/v1/tasks", nil)
	if err != nil {
		return nil, err
	}
	resp, err := w.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	// The agent's error answers carry an empty task as JSON: only the status tells.
	if resp.StatusCode != http.StatusOK {
		return nil, notTheAgent{fmt.Errorf("status %d, want 200", resp.StatusCode)}
	}
	if len(body) > maxAnswer {
		return nil, notTheAgent{fmt.Errorf("the answer is longer than %d bytes", maxAnswer)}
	}
	return body, nil
}

func (w *watch) reportLost(err error) {
	cause := problem.Printable(err.Error(), 200)
	if w.asked && cause == w.cause && !w.last.Complete {
		return
	}
	if w.last.Complete {
		w.Log.Warn("ecs agent does not answer; keeping what it said last", event.Key, event.ECSAgentSilent, "url", w.URL, "err", cause, "tasks", w.last.Tasks)
	}
	w.asked, w.cause = true, cause
	w.last.Complete = false
	w.last.Problems = nil
	if errors.As(err, &notTheAgent{}) {
		w.last.Problems = []problem.Problem{{
			Code:     "ecs-agent-unreadable",
			Severity: problem.Warning,
			Subject:  "ecs agent",
			Text:     fmt.Sprintf("what answers at %q is not the ECS agent's list of tasks: %q", w.URL, cause),
			Hint:     "restart the agent (systemctl restart ecs), or look who listens on that port",
		}}
	}
	w.put(w.last)
}
