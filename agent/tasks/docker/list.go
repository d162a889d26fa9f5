package docker

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// maxContainers bounds one list; a host of nagaya's size runs dozens.
const maxContainers = 2000

// inspectors is how many containers are inspected side by side: a container in
// the middle of a change makes its inspection wait, and must not hold up others.
const inspectors = 4

// lister lists the containers over one connection. It inspects only those
// that are new, were named by an event, or look different in the list.
type lister struct {
	cli     *client.Client
	timeout time.Duration
	filters client.Filters // which containers may be routed; empty is all
	foreign func(string) bool
	known   map[string]known
	chosen  map[string]bool   // those that fit the filters; nil is all
	excess  []problem.Problem // there are more containers than are read
	apart   map[string]bool   // networks by id: whether this host is known not to be on them
	notes   *notes
}

// known is what an inspection said, and the summary of the container in the list at that
// time. again is when to ask once more without a change, because the last inspection had no answer.
type known struct {
	summary [sha256.Size]byte
	detail
	again time.Time
}

// detail is what one inspection says.
type detail struct {
	container  tasks.Container
	networks   []string // the ids of the container's networks
	stopSignal int
	problems   []problem.Problem
}

// list lists the containers, and inspects those among changed again.
func (l *lister) list(ctx context.Context, changed map[string]bool) (tasks.Containers, error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	at := time.Now()
	got, err := l.cli.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		return tasks.Containers{}, fmt.Errorf("listing containers: %w", err)
	}
	l.excess = nil
	if len(got.Items) > maxContainers {
		l.excess = append(l.excess, problem.Of("docker", "too-many-containers", "remove stopped containers (docker container prune)",
			"there are %d containers and only %d are read", len(got.Items), maxContainers))
		slices.SortStableFunc(got.Items, liveFirst)
		got.Items = got.Items[:maxContainers]
	}
	if l.chosen, err = l.choose(ctx); err != nil {
		return tasks.Containers{}, err
	}
	if l.known, err = l.refresh(ctx, got.Items, changed); err != nil {
		return tasks.Containers{}, err
	}
	l.notes.keep(func(id string) bool { _, ok := l.known[id]; return ok })
	l.lookAtNetworks(ctx)
	return l.listed(at), nil
}

// listed is what was listed last, with what events say of it now.
func (l *lister) listed(now time.Time) tasks.Containers {
	out := tasks.Containers{At: now, Complete: true, Problems: slices.Clone(l.excess)}
	for _, id := range slices.Sorted(maps.Keys(l.known)) {
		k := l.known[id]
		c := k.container
		c.Networks = slices.Clone(c.Networks)
		for i, network := range k.networks {
			c.Networks[i].Apart = l.apart[network]
		}
		c.Stopping = l.notes.isStopping(id, k.stopSignal, countsFrom(c, now))
		if l.chosen != nil && !l.chosen[id] {
			c = c.Unrouted()
		}
		out.List = append(out.List, c)
		out.Problems = append(out.Problems, k.problems...)
	}
	problem.Sort(out.Problems)
	return out
}

// lookAtNetworks finds out on which networks this host is, where a container is on several of which
// one is new. An engine that does not say, as behind a proxy of its socket, leaves that unknown.
func (l *lister) lookAtNetworks(ctx context.Context) {
	isNew := func(id string) bool { _, ok := l.apart[id]; return !ok }
	if !slices.ContainsFunc(slices.Collect(maps.Values(l.known)), func(k known) bool {
		return len(k.networks) > 1 && slices.ContainsFunc(k.networks, isNew)
	}) {
		return
	}
	got, err := l.cli.NetworkList(ctx, client.NetworkListOptions{})
	if err != nil {
		return
	}
	l.apart = map[string]bool{}
	for _, k := range l.known {
		for _, id := range k.networks {
			l.apart[id] = false // one that a stopped container names may be gone
		}
	}
	for _, n := range got.Items {
		l.apart[n.ID] = isApart(n.Network)
	}
}

// choose returns the ids of those containers that may be routed, which the engine says;
// nil is all.
func (l *lister) choose(ctx context.Context) (map[string]bool, error) {
	if len(l.filters) == 0 {
		return nil, nil
	}
	got, err := l.cli.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: l.filters})
	if err != nil {
		return nil, fmt.Errorf("listing containers by filters: %w", err)
	}
	chosen := make(map[string]bool, len(got.Items))
	for _, s := range got.Items {
		chosen[s.ID] = true
	}
	return chosen, nil
}

// stopBelieved is how long a container that still runs is taken to be about to stop
// after its stop signal. Beyond it the signal meant something else to it, and it must
// not stay without its routes.
const stopBelieved = 15 * time.Minute

// countsFrom is since when a container's stop signals count.
func countsFrom(c tasks.Container, now time.Time) time.Time {
	if since := now.Add(-stopBelieved); c.State == tasks.Running && since.After(c.StartedAt) {
		return since
	}
	return c.StartedAt
}

// liveFirst puts what has ended last, so that many finished jobs cannot
// displace a service.
func liveFirst(a, b container.Summary) int {
	ended := func(s container.Summary) int {
		if s.State == container.StateExited || s.State == container.StateDead {
			return 1
		}
		return 0
	}
	return ended(a) - ended(b)
}

// refresh returns what is known about the listed containers, after looking
// again at those that may have changed.
func (l *lister) refresh(ctx context.Context, items []container.Summary, changed map[string]bool) (map[string]known, error) {
	now := make(map[string]known, len(items))
	var again []container.Summary
	for _, s := range items {
		old, ok := l.known[s.ID]
		switch {
		case ok && old.summary == summaryOf(s) && !changed[s.ID] && !changed[everything] && (old.again.IsZero() || time.Now().Before(old.again)):
			now[s.ID] = old
		case s.State == container.StateCreated:
			// It has nothing to route yet, and inspecting it would wait until its
			// start is over.
			now[s.ID] = known{summary: summaryOf(s), detail: fromSummary(s, l.foreign)}
		default:
			again = append(again, s)
		}
	}
	var (
		mu     sync.Mutex
		wg     sync.WaitGroup
		failed error
		slots  = make(chan struct{}, inspectors)
	)
	for _, s := range again {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			k, err := l.inspect(ctx, s)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errdefs.IsNotFound(err): // gone since it was listed
			case err != nil:
				failed = errors.Join(failed, err)
			default:
				k.summary = summaryOf(s)
				now[s.ID] = k
			}
		})
	}
	wg.Wait()
	return now, failed
}

// inspect asks about one container. An answer that cannot be understood, or is too long, is that
// container's problem alone, and so is none at all: the engine gives none while it starts or removes the container. Then
// what was known of it holds. An engine that does not answer is an error.
func (l *lister) inspect(ctx context.Context, s container.Summary) (known, error) {
	running := s.State == container.StateRunning || s.State == ""
	before, was := l.known[s.ID]
	patience := l.timeout / 6
	if !was && running {
		patience = l.timeout / 2 // without it there are no routes
	}
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := l.cli.ContainerInspect(asking, s.ID, client.ContainerInspectOptions{})
	stuck := err != nil && asking.Err() != nil && ctx.Err() == nil
	var k known
	switch {
	case stuck && was:
		if !running {
			before.container.State = state(s.State) // what the list says, where nothing else is needed
		}
		before.again = time.Now().Add(l.timeout)
		return before, nil
	case stuck:
		k.again, err = time.Now().Add(l.timeout), fmt.Errorf("no answer in %s", patience)
	case err == nil && r.Container.Config == nil:
		err = errors.New("the answer is too long, because labels or variables are")
	case err == nil:
		return known{detail: fromInspect(r.Container, l.foreign)}, nil
	case errdefs.IsNotFound(err), client.IsErrConnectionFailed(err), ctx.Err() != nil:
		return known{}, fmt.Errorf("inspecting container %.12s: %w", s.ID, err)
	}
	k.detail = fromSummary(s, l.foreign)
	if running {
		k.container.State = tasks.Dead // never routed on half of the facts
		k.problems = append(k.problems, problem.OfContainer(k.container.Ref(), "container-unreadable",
			"shorten its labels, or run docker inspect on it, and recreate it if that fails too", "docker inspect failed: %q", bounded(err.Error())))
	}
	return k, nil
}

// summaryOf is the sum of everything about a container in the list that may change without
// an event having been seen: not its labels and mounts.
func summaryOf(s container.Summary) [sha256.Size]byte {
	health := ""
	for _, word := range []string{"(healthy)", "(unhealthy)", "(health: starting)"} {
		if strings.HasSuffix(s.Status, word) {
			health = word
		}
	}
	s.Status = health       // without the time for which it has been up
	b, _ := json.Marshal(s) // plain values
	return sha256.Sum256(b)
}
