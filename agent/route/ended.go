package route

import (
	"fmt"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// checkExited reports a container that ended by itself or keeps doing so.
func (b *builder) checkExited(c tasks.Container) {
	p := problem.OfContainer(Ref(c), "container-exited", logsHint(c), "it keeps ending and being restarted (%s); its routes are without it", ending(c))
	switch c.State {
	case tasks.Restarting:
	case tasks.Exited, tasks.Dead:
		over := c.FinishedAt.Add(exitedFor)
		if c.Stopping || !b.in.Now.Before(over) || !b.isMissed(c) {
			return
		}
		b.wakeAt(over)
		p.Text = fmt.Sprintf("it ended by itself (%s) and carries routes", ending(c))
		if c.ExitCode == 0 && !c.OOMKilled {
			p.Severity = problem.Warning
		}
	default:
		return
	}
	if c.OOMKilled {
		p.Hint = "raise its memory limit, or let it use less; " + p.Hint
	}
	b.report(p)
}

// checkRestarts reports a running container that was restarted lately and is not ready.
func (b *builder) checkRestarts(c candidate) {
	at := c.container.FinishedAt
	if c.container.State != tasks.Running || c.container.Restarts == 0 || c.ready() || c.container.Stopping || at.IsZero() || !b.isBefore(at.Add(exitedFor)) {
		return
	}
	b.report(problem.OfContainer(c.ref, "container-exited", logsHint(c.container), "it ended by itself, was restarted, and is not ready yet"))
}

func logsHint(c tasks.Container) string {
	return "see its last output: docker logs " + c.ID[:min(len(c.ID), 12)]
}

func ending(c tasks.Container) string {
	s := fmt.Sprintf("exit code %d", c.ExitCode)
	if c.OOMKilled {
		s += ", killed for lack of memory"
	}
	return s
}

// checkCreated reports a container that was created and not started, e.g. because another
// one has the host port that it publishes. A fresh one is expected to be started.
func (b *builder) checkCreated(c tasks.Container) {
	if c.State != tasks.Created {
		return
	}
	if !c.Stopping && b.isBefore(c.CreatedAt.Add(crowdPatience)) {
		b.t.StartsExpected = true
	}
	switch {
	case b.isBefore(c.CreatedAt.Add(b.startPatience(c))), b.isFollowed(c, c.CreatedAt):
		return
	case c.Stopping && !b.isBefore(c.CreatedAt.Add(exitedFor)):
		return // the ECS agent gave it up, and cleans it away hours later
	}
	b.report(problem.OfContainer(Ref(c), "container-not-started",
		"see why with docker inspect (State.Error), most often a host port that is taken; remove it if it is not wanted",
		"it was created at %s and has not been started, and carries routes", c.CreatedAt.UTC().Format("15:04:05 MST")).AsWarning()) // it may still be on its way
}

const (
	// leastStart is how long a start may take anywhere, and leastStartECS one that the ECS agent
	// makes, which also waits for the containers that it depends on (ECS Developer Guide,
	// ECS_CONTAINER_START_TIMEOUT: 3 minutes).
	leastStart    = time.Minute
	leastStartECS = 3 * time.Minute
	// slowStart is how many times what is usual here a start may take.
	slowStart = 3
)

// startPatience is how long a container may wait between its creation and its start: by how long
// those took that run here, half of all and every one of its family, and exitedFor at most.
func (b *builder) startPatience(c tasks.Container) time.Duration {
	if c.Stopping {
		return patience
	}
	least := leastStart
	if c.Task.Family != "" {
		least = leastStartECS
	}
	usual := max(b.starts[b.bases[c.ID]], b.starts[anyFamily])
	return min(max(least, slowStart*usual), exitedFor)
}

// anyFamily is the key of what is usual among all; no family is called so.
const anyFamily = ""

// noteStarts finds when each family was started last, and how long starts take here: the longest of
// each family, and the median of all.
func (b *builder) noteStarts() {
	var all []time.Duration
	for _, c := range b.in.Snapshot.Containers {
		family := b.bases[c.ID]
		if !active(c) {
			continue
		}
		b.started[family] = latest(b.started[family], c.StartedAt)
		// A later start of a container says nothing of its first.
		if took := c.StartedAt.Sub(c.CreatedAt); c.Restarts == 0 && !c.CreatedAt.IsZero() && took >= 0 && took <= exitedFor {
			all = append(all, took)
			b.starts[family] = max(b.starts[family], took)
		}
	}
	if len(all) > 0 {
		slices.Sort(all)
		b.starts[anyFamily] = all[len(all)/2]
	}
}

// isFollowed reports whether a container of the same family was started after that.
func (b *builder) isFollowed(c tasks.Container, after time.Time) bool {
	return b.started[b.bases[c.ID]].After(after)
}

// Exit codes of a container that obeyed SIGTERM or was killed after it: how
// every replaced one ends (128 + signal number).
const (
	exitTerminated = 143
	exitKilled     = 137
)

// isMissed reports whether the end of a container matters: one of its routes has no
// server, or it crashed and no container of its family was started since.
func (b *builder) isMissed(c tasks.Container) bool {
	for _, s := range b.routesOf(c) {
		if slices.ContainsFunc(s.Keys(), func(at PoolKey) bool { return !b.t.served(at) }) {
			return true
		}
	}
	if !c.OOMKilled && (c.ExitCode == 0 || c.ExitCode == exitTerminated || c.ExitCode == exitKilled) {
		return false
	}
	return !b.isFollowed(c, c.FinishedAt)
}
