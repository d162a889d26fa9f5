package route

import (
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// keepSilent leaves the sites and streams as they were in which a source that is silent has a
// server: whether it still lists that server is unknown.
func (b *builder) keepSilent() {
	sites, streams := map[string]Site{}, map[opening]Stream{}
	for _, was := range b.in.Prev.Sites {
		if slices.ContainsFunc(was.poolKeys(), b.silent) {
			was.CatchAll = was.Host == b.o.DefaultHost
			sites[was.Host] = was
		}
	}
	for _, was := range b.in.Prev.Streams {
		if b.silent(was.PoolKey()) {
			streams[was.Listen.opening()] = was
		}
	}
	b.t.Sites = slices.DeleteFunc(b.t.Sites, func(s Site) bool {
		_, again := sites[s.Host]
		return again && b.dropPools(s.poolKeys())
	})
	b.t.Streams = slices.DeleteFunc(b.t.Streams, func(s Stream) bool {
		_, again := streams[s.Listen.opening()]
		return again && b.dropPools([]PoolKey{s.PoolKey()})
	})
	for _, was := range sites {
		b.t.Sites = append(b.t.Sites, was)
		b.keepPools(was.poolKeys())
	}
	for _, was := range streams {
		b.t.Streams = append(b.t.Streams, was)
		b.keepPools([]PoolKey{was.PoolKey()})
	}
	slices.SortFunc(b.t.Sites, compareSites)
	slices.SortFunc(b.t.Streams, compareStreams)
}

// silent reports whether a source that is silent has a server of that pool.
func (b *builder) silent(at PoolKey) bool {
	return slices.ContainsFunc(b.in.Prev.Pools[at].Servers, func(s Server) bool {
		return slices.Contains(b.in.Snapshot.Silent, tasks.OriginOf(s.Container))
	})
}

// dropPools forgets pools of this table; it returns true.
func (b *builder) dropPools(at []PoolKey) bool {
	for _, k := range at {
		delete(b.t.Pools, k)
	}
	return true
}

// keepPools takes pools from the table before.
func (b *builder) keepPools(at []PoolKey) {
	for _, k := range at {
		b.t.Pools[k] = b.in.Prev.Pools[k]
	}
}
