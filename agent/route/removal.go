package route

import (
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// removedFor is how long all containers of a family have to be gone before its hosts go to
// others: a script, or a program that updates containers, removes one and runs the next.
const removedFor = 3 * time.Second

// freedByRemoval reports whether a container's removal says that its service is over. That of ECS and
// Compose does not, since both stop the old one before they start the new one, nor does that by
// Docker when the container ended. What an operator's file names is there as long as it says so.
func freedByRemoval(c tasks.Container) bool {
	return c.ServiceKey != "" && !c.AutoRemove || c.File != ""
}

// exists reports whether a container is there, and could run again.
func exists(c tasks.Container) bool { return c.State != tasks.Removing && c.State != tasks.Dead }

// noteRemoved notes the families whose hosts are free soon after all their containers have been
// removed, and since when these are.
func (b *builder) noteRemoved() {
	stay := map[string]bool{}
	for _, c := range b.in.Snapshot.Containers {
		if !exists(c) {
			continue
		}
		for _, family := range []string{b.bases[c.ID], ownFamily(c)} {
			b.existing[family] = c
			stay[family] = stay[family] || !freedByRemoval(c)
		}
	}
	freed := map[string]time.Time{}
	for family, stays := range stay {
		if !stays {
			freed[family] = time.Time{}
		}
	}
	for _, family := range b.poolFamily {
		since, was := b.in.Prev.FreedByRemoval[family]
		if _, there := stay[family]; was && !there {
			freed[family] = b.since(since)
		}
	}
	if len(freed) > 0 {
		b.t.FreedByRemoval = freed
	}
}

// successor is the family that gets what a removed family had: of those that maySucceed, the first
// that is ready. No container of ECS or Compose gets it, whose author may not be trusted with
// it: it waits until the grace period is over. Empty for none.
func (b *builder) successor(of string, cs []candidate) string {
	since := b.t.FreedByRemoval[of]
	if since.IsZero() || b.isBefore(since.Add(removedFor)) {
		return ""
	}
	for _, c := range slices.Backward(cs) {
		if c.ready() && c.maySucceed() {
			return c.family
		}
	}
	return ""
}

// maySucceed reports whether the candidate may get what a removed family had.
func (c candidate) maySucceed() bool {
	return c.family == c.base && (c.container.ServiceKey != "" && strings.HasPrefix(c.base, nameKind) || c.container.File != "")
}

// whyKept says why a family keeps a place although no container of it asks for that.
func (b *builder) whyKept(family string) string {
	c, there := b.existing[family]
	_, freed := b.t.FreedByRemoval[family]
	switch {
	case there && active(c):
		return "container " + Ref(c) + " is there, without this route"
	case there:
		return "container " + Ref(c) + " is " + string(c.State) + " and may be started again"
	case freed:
		return "its container was removed, so the next one that docker run started gets this when it is ready"
	case strings.HasPrefix(family, ecsKind):
		return "ECS may start another container of it"
	case strings.HasPrefix(family, composeKind):
		return "Compose may start another container of it"
	}
	return "another container of it may come"
}

// reportTaken reports a candidate of which another family has the host. away is true where that
// has no container which asks for it.
func (b *builder) reportTaken(c candidate, holder string, away bool) {
	why, hint := "", "give it another nagaya.host; or stop the other one, whose host name is free when routes.grace is over"
	if away {
		why = " (" + b.whyKept(holder) + ")"
	}
	if _, freed := b.t.FreedByRemoval[holder]; freed && c.maySucceed() {
		hint = "give it another nagaya.host; or remove the other one (docker rm), whose host name this one then gets"
	}
	b.report(c.problem("host-taken", hint, "%s belongs to %s%s, so the route %s%s of %s is left out",
		c.key.Host, problem.Quoted(holder), why, c.key.Host, c.key.Path, problem.Quoted(c.family)))
}
