package meter

import (
	"time"

	"github.com/nagaya-ecs/nagaya/agent/cgroup"
)

const (
	// mostBatches bounds how many batch containers are counted.
	mostBatches = 200
	// searchEvery is how often a container's control group is looked for while it is not found.
	searchEvery = time.Minute
)

// batches adds up the CPU time of batch containers in one counter that never goes backwards.
type batches struct {
	root string
	sum  float64 // credits
	at   time.Time
	by   map[string]*batch
}

type batch struct {
	group  *cgroup.Group // nil while not found
	last   time.Duration // its CPU time as of the last reading
	search time.Time     // when to look for it again
}

func newBatches(root string) *batches { return &batches{root: root} }

// read returns the CPU time in credits that batch containers used since the first call. A container that
// appears later counts from its start, yet no more than the online processors can give between two calls.
func (b *batches) read(ids []string, now time.Time, online float64) float64 {
	first, limit := b.at.IsZero(), online*now.Sub(b.at).Minutes()
	before := b.by
	b.at, b.by = now, map[string]*batch{}
	var used time.Duration
	for _, id := range ids[:min(len(ids), mostBatches)] {
		if !cgroup.IsContainerID(id) {
			continue
		}
		x := before[id]
		if x == nil {
			x = &batch{}
		}
		b.by[id] = x
		used += x.read(b.root, id, now)
	}
	if !first {
		b.sum += min(used.Minutes(), max(limit, 0))
	}
	return b.sum
}

// read returns what the container used since the last call.
func (x *batch) read(root, id string, now time.Time) time.Duration {
	if x.group == nil && !now.Before(x.search) {
		x.search = now.Add(searchEvery)
		x.group = cgroup.OfContainer(root, id)
	}
	if x.group == nil {
		return 0
	}
	total, err := x.group.CPUTime()
	if err != nil {
		x.group = nil // it has ended, or has moved
		return 0
	}
	used := max(total-x.last, 0)
	x.last = total
	return used
}
