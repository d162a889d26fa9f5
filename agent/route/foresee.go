package route

import (
	"net/netip"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// Foresee makes the table as it will be once the containers that are on their way serve:
// those that were made or started within Options.Patience and that nothing is known
// against. Where one will be reached is not known yet, so such a table is good for
// looking at what else it asks of nginx, and for nothing else. ok is false when
// nobody is on his way. Table.Next is when that will have changed by itself.
func Foresee(in Input) (_ Table, ok bool) {
	b := &builder{in: in, o: in.Options.withDefaults(), foresees: true}
	containers := slices.Clone(in.Snapshot.Containers)
	for i, c := range containers {
		if !b.onItsWay(c, b.o.Patience) {
			continue
		}
		ok = true
		if c.State == tasks.Created {
			c = arrived(c, i)
			containers[i] = c
		}
		b.wake(c.StartedAt.Add(b.o.Patience))
	}
	if !ok {
		return Table{}, false
	}
	b.in.Snapshot.Containers = containers
	return b.build(), true
}

// crowdPatience is how long a container that was made is awaited where others are
// started first: whoever makes fifty at once, as docker compose does, needs a minute to
// start them on a small instance.
const crowdPatience = 2 * time.Minute

// Awaited reports whether a container with routes was made within the last two minutes
// and may still be started.
func Awaited(in Input) bool {
	b := &builder{in: in, o: in.Options.withDefaults()}
	return slices.ContainsFunc(in.Snapshot.Containers, func(c tasks.Container) bool {
		return c.State == tasks.Created && b.onItsWay(c, crowdPatience)
	})
}

// onItsWay reports whether a container with routes may serve soon, for which it has
// Options.Patience once it was started, and so long once it was made.
func (b *builder) onItsWay(c tasks.Container, made time.Duration) bool {
	till := c.StartedAt.Add(b.o.Patience)
	switch {
	case c.Stopping, c.IsBatch(), c.Health == tasks.Unhealthy:
		return false
	case c.State == tasks.Created:
		till = c.CreatedAt.Add(made)
	case c.State != tasks.Running:
		return false
	}
	return b.in.Now.Before(till) && len(parse(c, b.o.Edges).routes) > 0
}

// arrived is what becomes of a container that has only been made, as far as anybody
// can tell. Its address is one that nobody has (RFC 2544), another for each.
func arrived(c tasks.Container, i int) tasks.Container {
	c.State, c.StartedAt, c.Network = tasks.Running, c.CreatedAt, tasks.Direct
	c.Addrs = []netip.Addr{netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})}
	return c
}
