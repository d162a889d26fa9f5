package brake

import (
	"context"
	"fmt"
	"maps"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/agent/atomicfile"
	"github.com/nagaya-ecs/nagaya/agent/cgroup"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/gate"
)

const (
	// usualPeriod is the kernel's usual span for quotas (kernel documentation, sched-bwc), in microseconds.
	usualPeriod = 100_000
	// leastWeight is the smallest that Docker takes (docker run --cpu-shares); a service has 1024 unless it says otherwise.
	leastWeight = 2
)

// record is what a container had before, and what was done to it.
type record struct {
	Nano   int64 `json:"nano_cpus,omitempty"`
	Quota  int64 `json:"cpu_quota,omitempty"`
	Period int64 `json:"cpu_period,omitempty"`
	Slowed bool  `json:"slowed,omitempty"`
	Paused bool  `json:"paused,omitempty"`
	// applied is true once Docker has confirmed to this process what was done, with each vCPUs if it was slowed.
	applied bool
	each    float64
}

// is reports whether the container is as wanted.
func (r record) is(want gate.Brake) bool {
	quota, pause := want.Way == gate.SlowQuota, want.Way == gate.SlowPause
	return r.Slowed == quota && r.Paused == pause && (!want.On() || r.applied) && (!quota || r.each == want.Each)
}

// apply brings a container to what is wanted.
func (b *brake) apply(ctx context.Context, id string, want gate.Brake) error {
	r := b.records[id]
	quota, pause := want.Way == gate.SlowQuota, want.Way == gate.SlowPause
	done := !b.known || r.is(want)
	if done && b.weighted[id] {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	got, err := b.engine.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	c := got.Container
	switch {
	case errdefs.IsNotFound(err), err == nil && (c.HostConfig == nil || c.State == nil || !c.State.Running):
		return b.setRecord(id, record{})
	case err != nil:
		return err
	}
	if !b.weighted[id] && c.HostConfig.CPUShares != leastWeight {
		// For good: it costs the batch nothing but where a service wants the processor.
		if err := b.update(ctx, id, container.Resources{CPUShares: leastWeight}); err != nil {
			return err
		}
		b.Log.Info("CPU weight of batch container set to minimum", event.Key, event.ContainerBraked, "container", id[:12], "decision", "below the services")
	}
	b.weighted[id] = true
	if done {
		return nil
	}
	r.applied = false
	if r.Slowed && !quota {
		if err := b.update(ctx, id, r.unlimited()); err != nil {
			return err
		}
		r.Slowed = false
		b.Log.Info("batch container has its CPU quota again", event.Key, event.ContainerBraked, "container", id[:12], "decision", "free")
	}
	if r.Paused && !pause {
		if c.State.Paused { // or someone else has continued it
			if _, err := b.engine.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{}); err != nil {
				return err
			}
		}
		r.Paused = false
		b.Log.Info("batch container goes on", event.Key, event.ContainerBraked, "container", id[:12], "decision", "free")
	}
	if b.records[id] == (record{}) {
		r = record{Nano: c.HostConfig.NanoCPUs, Quota: c.HostConfig.CPUQuota, Period: c.HostConfig.CPUPeriod}
	}
	switch {
	case quota:
		return b.slow(ctx, id, r, want)
	case pause:
		return b.pause(ctx, id, r, want, c.State.Paused)
	}
	return b.setRecord(id, record{})
}

// slow sets a quota. What the container had is recorded before.
func (b *brake) slow(ctx context.Context, id string, r record, want gate.Brake) error {
	r.Slowed = true
	if err := b.setRecord(id, r); err != nil {
		return err
	}
	if err := b.update(ctx, id, r.limited(want.Each)); err != nil {
		return err
	}
	r.applied, r.each = true, want.Each
	b.records[id] = r
	b.Log.Info("batch container slowed", event.Key, event.ContainerBraked, "container", id[:12], "decision", "slowed", "vcpus", want.Each, "reason", want.Reason)
	return nil
}

// pause pauses a container, unless someone else did, who will continue it.
func (b *brake) pause(ctx context.Context, id string, r record, want gate.Brake, paused bool) error {
	if paused && !r.Paused {
		return nil
	}
	r.Paused = true
	if err := b.setRecord(id, r); err != nil {
		return err
	}
	if !paused {
		if _, err := b.engine.ContainerPause(ctx, id, client.ContainerPauseOptions{}); err != nil {
			return err
		}
	}
	r.applied = true
	b.records[id] = r
	b.Log.Info("batch container paused", event.Key, event.ContainerBraked, "container", id[:12], "decision", "paused", "reason", want.Reason)
	return nil
}

// limited is a quota of so many vCPUs, no more than the container had. Docker does not let the form change: NanoCPUs
// and a quota with a period exclude each other.
func (r record) limited(vcpus float64) container.Resources {
	if r.Nano > 0 {
		return container.Resources{NanoCPUs: min(r.Nano, int64(vcpus*1e9))}
	}
	p := r.Period
	if p <= 0 {
		p = usualPeriod
	}
	return container.Resources{CPUPeriod: p, CPUQuota: cgroup.Quota(vcpus, p, r.Quota)}
}

// unlimited is what the container had. Docker takes 0 as no change, and -1 as no quota.
func (r record) unlimited() container.Resources {
	switch {
	case r.Nano > 0:
		return container.Resources{NanoCPUs: r.Nano}
	case r.Quota > 0:
		return container.Resources{CPUPeriod: r.Period, CPUQuota: r.Quota}
	}
	return container.Resources{CPUQuota: -1}
}

func (b *brake) update(ctx context.Context, id string, r container.Resources) error {
	_, err := b.engine.ContainerUpdate(ctx, id, client.ContainerUpdateOptions{Resources: &r})
	return err
}

// setRecord records what a container had, in the file first; an empty record is none.
func (b *brake) setRecord(id string, r record) error {
	if b.records[id] == r {
		return nil
	}
	next := maps.Clone(b.records)
	if next[id] = r; r == (record{}) {
		delete(next, id)
	}
	if b.File != "" {
		if err := atomicfile.WriteJSON(b.File, next); err != nil {
			return fmt.Errorf("recording the CPU limits of a batch: %w", err)
		}
	}
	b.records = next
	return nil
}

// readRecords reads what an earlier agent recorded. A file that cannot be read counts as empty.
func (o Options) readRecords() map[string]record {
	records := map[string]record{}
	if o.File == "" {
		return records
	}
	if err := atomicfile.ReadJSON(o.File, &records); err != nil {
		o.Log.Warn("state file could not be read; starting with an empty state", event.Key, event.MemoryLost, "file", o.File, "err", err)
		return map[string]record{}
	}
	maps.DeleteFunc(records, func(id string, _ record) bool { return !cgroup.IsContainerID(id) })
	return records
}
