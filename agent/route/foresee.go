package route

import (
	"net/netip"
	"slices"

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
		if !b.onItsWay(c) {
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

// onItsWay reports whether a container with routes may serve soon.
func (b *builder) onItsWay(c tasks.Container) bool {
	since := c.StartedAt
	switch {
	case c.Stopping, c.IsBatch(), c.Health == tasks.Unhealthy:
		return false
	case c.State == tasks.Created:
		since = c.CreatedAt
	case c.State != tasks.Running:
		return false
	}
	return b.in.Now.Before(since.Add(b.o.Patience)) && len(parse(c, b.o.Edges).routes) > 0
}

// arrived is what becomes of a container that has only been made, as far as anybody
// can tell. Its address is one that nobody has (RFC 2544), another for each.
func arrived(c tasks.Container, i int) tasks.Container {
	c.State, c.StartedAt, c.Network = tasks.Running, c.CreatedAt, tasks.Direct
	c.Addrs = []netip.Addr{netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})}
	return c
}
