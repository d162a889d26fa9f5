package route

import (
	"fmt"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// Publisher is a container that publishes a port of this host.
type Publisher struct {
	Ref, Family, Container string
	// Gone is since when it does not any more; zero while it does. FreedByRemoval is true for one
	// whose removal says that its service is over.
	Gone           time.Time
	FreedByRemoval bool
}

// notePublishers notes who publishes which port of this host, and who did: between two containers
// of a family nginx must not listen where the next one will.
func (b *builder) notePublishers() {
	all, there := map[Listen]Publisher{}, map[string]bool{}
	for _, c := range b.in.Snapshot.Containers {
		there[c.ID] = exists(c)
		if c.Origin != tasks.Local || !active(c) {
			continue
		}
		for _, p := range c.Ports {
			if (p.Protocol == "tcp" || p.Protocol == "udp") && p.Host != 0 && !p.HostIP.IsLoopback() {
				at := Listen{Protocol(p.Protocol), p.Host}
				if other, again := all[at]; again && other.Container < c.ID {
					continue
				}
				all[at] = Publisher{Ref: Ref(c), Family: b.bases[c.ID], Container: c.ID, FreedByRemoval: freedByRemoval(c)}
			}
		}
	}
	for at, p := range b.in.Prev.Published {
		if _, published := all[at]; published {
			continue
		}
		if p.Gone.IsZero() || p.Gone.After(b.in.Now) || p.FreedByRemoval && there[p.Container] {
			p.Gone = b.in.Now
		}
		if b.in.Now.Before(p.until(b.o.Grace)) {
			all[at] = p
		}
	}
	if len(all) > 0 {
		b.t.Published = all
	}
}

// until is how long the port of one that is gone is kept for the next one of its family.
func (p Publisher) until(grace time.Duration) time.Time {
	if p.FreedByRemoval {
		return p.Gone.Add(min(grace, removedFor))
	}
	return p.Gone.Add(grace)
}

// publisherOf is who publishes a port of this host, or did just now if that is of another family.
func (b *builder) publisherOf(at Listen, base string) (Publisher, bool) {
	p, ok := b.t.Published[at]
	if !ok || !p.Gone.IsZero() && (p.Family == base || !b.isBefore(p.until(b.o.Grace))) {
		return Publisher{}, false
	}
	return p, true
}

// checkPublished reports a container that publishes a port which nginx needs. The ports of
// an nginx in a container are not the host's, and the container that publishes them is its own.
func (b *builder) checkPublished(c tasks.Container) {
	if b.in.Nginx.Container || c.Origin != tasks.Local {
		return
	}
	for _, p := range c.Ports {
		if p.Protocol != "tcp" || !b.isNginxPort(p.Host) || p.HostIP.IsValid() && !p.HostIP.IsUnspecified() && p.HostIP != b.in.Nginx.Host {
			continue
		}
		x := problem.OfContainer(Ref(c), "host-port-taken", fmt.Sprintf("publish another port, or a dynamic one (0); on ECS add %d to ECS_RESERVED_PORTS", p.Host),
			"it publishes port %d of this host, so what should reach nginx there reaches the container", p.Host)
		x.Subject, x.Port = fmt.Sprintf("%s port %d", x.Subject, p.Host), p.Host
		b.report(x)
	}
}
