// Package brake holds back batches that run already, as the gate decides: Docker containers of batches by
// CPU quota or pause, and the command of 'nagaya gate run' by its control group or by signals. It touches nothing but
// batches, and gives back what it took.
package brake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/agent/atomicfile"
	"github.com/nagaya-ecs/nagaya/agent/awserror"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Options says whom to hold back. The zero value holds back nobody.
type Options struct {
	// Log is told of each container that is held back or set free; nil discards.
	Log *slog.Logger
	// Host is the Docker Engine's address; empty is unix:///var/run/docker.sock.
	Host string
	// Batches delivers the full ids of the batch containers that run or are paused, and no other's, whenever they have changed. May be nil.
	Batches <-chan []string
	// File keeps what was taken from which container, so that the next agent gives it back if this one is killed.
	File string
	// Every is how often the containers are looked at without a decision, 10 s by default.
	Every time.Duration
	// Goodbye is how long setting all free may take at the end, 5 s by default.
	Goodbye time.Duration
}

const (
	callTimeout = 10 * time.Second
	// period is the kernel's usual span for quotas (kernel documentation, sched-bwc), in microseconds.
	period = 100_000
	// leastWeight is the smallest that Docker takes (docker run --cpu-shares); a service has 1024 unless it says otherwise.
	leastWeight = 2
	mostHeld    = 200
)

// taken is what a container had before.
type taken struct {
	Nano   int64 `json:"nano_cpus,omitempty"`
	Quota  int64 `json:"cpu_quota,omitempty"`
	Period int64 `json:"cpu_period,omitempty"`
	// Slowed and Paused are what was done to it.
	Slowed bool `json:"slowed,omitempty"`
	Paused bool `json:"paused,omitempty"`
	each   float64
}

// brake is the state of one Run.
type brake struct {
	Options
	engine *client.Client
	ids    []string // of the batch containers
	held   map[string]taken
	light  map[string]bool // containers whose weight is seen to
	failed map[string]string
	// known is false until the gate has decided with knowledge of the credits: what an earlier agent holds back
	// stays so until then.
	known bool
}

// Run holds back the batch containers as the newest decision says, until ctx ends; it then sets all free, within Options.Goodbye,
// and returns nil. Put is called with what is wrong, when that has changed.
func Run(ctx context.Context, o Options, decisions <-chan gate.Decision, put func([]problem.Problem)) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Every <= 0 {
		o.Every = 10 * time.Second
	}
	if o.Goodbye <= 0 {
		o.Goodbye = 5 * time.Second
	}
	if o.Host == "" {
		o.Host = client.DefaultDockerHost
	}
	engine, err := client.New(client.WithHost(o.Host))
	if err != nil {
		return fmt.Errorf("docker.host: %w", err)
	}
	defer engine.Close()
	b := &brake{Options: o, engine: engine, held: recall(o.File), light: map[string]bool{}, failed: map[string]string{}}
	tick := time.NewTicker(o.Every)
	defer tick.Stop()
	var want gate.Brake
	for {
		select {
		case <-ctx.Done():
			b.known = true
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.Goodbye)
			defer cancel()
			b.apply(last, gate.Brake{})
			return nil
		case d := <-decisions:
			want, b.known = d.Brake, b.known || d.Known
		case b.ids = <-o.Batches:
		case <-tick.C:
		}
		if b.apply(ctx, want) {
			put(b.problems())
		}
	}
}

// apply brings all batch containers to what is wanted, and reports whether what is wrong has changed.
func (b *brake) apply(ctx context.Context, want gate.Brake) bool {
	before := maps.Clone(b.failed)
	present := map[string]bool{}
	for _, id := range b.ids[:min(len(b.ids), mostHeld)] {
		present[id] = true
		b.note(ctx, id, b.one(ctx, id, want))
	}
	for id := range b.held {
		if !present[id] && b.known { // it is no batch any more, or has ended
			b.note(ctx, id, b.one(ctx, id, gate.Brake{}))
		}
	}
	for id := range b.failed {
		if _, held := b.held[id]; !present[id] && !held {
			delete(b.failed, id)
		}
	}
	for id := range b.light {
		if !present[id] {
			delete(b.light, id)
		}
	}
	return !maps.Equal(before, b.failed)
}

func (b *brake) note(ctx context.Context, id string, err error) {
	switch {
	case errors.Is(ctx.Err(), context.Canceled): // it is tried once more before the end
	case err == nil, errdefs.IsNotFound(err):
		delete(b.failed, id)
	default:
		text := awserror.Sentence("batch container "+id[:12]+" cannot be held back or set free", err)
		if b.failed[id] == "" {
			b.Log.Debug("batch container not reached", "container", id[:12], "err", err)
		}
		b.failed[id] = text
	}
}

// one brings a container to what is wanted.
func (b *brake) one(ctx context.Context, id string, want gate.Brake) error {
	had, held := b.held[id]
	quota := want.Way == gate.SlowQuota
	pause := want.Way == gate.SlowPause
	switch {
	case b.light[id] && (!b.known || !quota && !pause && !held):
		return nil
	case b.known && held && had.Paused == pause && had.Slowed == quota && (!quota || had.each == want.Each):
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	got, err := b.engine.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		if errdefs.IsNotFound(err) {
			delete(b.held, id)
			return b.keep()
		}
		return err
	}
	c := got.Container
	if c.HostConfig == nil || c.State == nil || !c.State.Running {
		delete(b.held, id)
		return b.keep()
	}
	if !b.light[id] {
		if err := b.lighten(ctx, id, c.HostConfig.CPUShares); err != nil {
			return err
		}
		b.light[id] = true
	}
	if !b.known {
		return nil
	}
	if had.Slowed && !quota {
		if err := b.update(ctx, id, had.before()); err != nil {
			return err
		}
		had.Slowed = false
		b.Log.Info("batch container has its CPU quota again", event.Key, event.ContainerBraked, "container", id[:12], "decision", "free")
	}
	if had.Paused && !pause {
		// Somebody else may have set it free.
		if c.State.Paused {
			if _, err := b.engine.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{}); err != nil {
				return err
			}
		}
		had.Paused = false
		b.Log.Info("batch container goes on", event.Key, event.ContainerBraked, "container", id[:12], "decision", "free")
	}
	if !quota && !pause {
		delete(b.held, id)
		return b.keep()
	}
	if !held {
		had = taken{Nano: c.HostConfig.NanoCPUs, Quota: c.HostConfig.CPUQuota, Period: c.HostConfig.CPUPeriod}
	}
	return b.take(ctx, id, had, want, c.State.Paused)
}

// take holds a container back. What it had is written down before.
func (b *brake) take(ctx context.Context, id string, had taken, want gate.Brake, paused bool) error {
	switch {
	case want.Way == gate.SlowPause && paused && !had.Paused:
		return nil // by somebody else, who will set it free
	case want.Way == gate.SlowPause:
		had.Paused = true
	default:
		had.Slowed, had.each = true, want.Each
	}
	b.held[id] = had
	if err := b.keep(); err != nil {
		delete(b.held, id)
		return err
	}
	if want.Way == gate.SlowPause {
		if paused {
			return nil
		}
		if _, err := b.engine.ContainerPause(ctx, id, client.ContainerPauseOptions{}); err != nil {
			return err
		}
		b.Log.Info("batch container paused", event.Key, event.ContainerBraked, "container", id[:12], "decision", "paused", "reason", want.Reason)
		return nil
	}
	if err := b.update(ctx, id, had.slowed(want.Each)); err != nil {
		had.each = 0 // so that it is tried again
		b.held[id] = had
		return err
	}
	b.Log.Info("batch container slowed", event.Key, event.ContainerBraked, "container", id[:12], "decision", "slowed", "vcpus", want.Each, "reason", want.Reason)
	return nil
}

// slowed is a quota of so many vCPUs, no more than the container had. Docker lets the form not change: NanoCPUs
// and a quota with a period exclude each other.
func (t taken) slowed(vcpus float64) container.Resources {
	if t.Nano > 0 {
		return container.Resources{NanoCPUs: min(t.Nano, int64(vcpus*1e9))}
	}
	p := t.Period
	if p <= 0 {
		p = period
	}
	q := max(int64(vcpus*float64(p)), 1000) // the kernel takes no less than a millisecond
	if t.Quota > 0 {
		q = min(q, t.Quota)
	}
	return container.Resources{CPUPeriod: p, CPUQuota: q}
}

// before gives back what the container had. Docker takes 0 as no change, and -1 as no quota.
func (t taken) before() container.Resources {
	switch {
	case t.Nano > 0:
		return container.Resources{NanoCPUs: t.Nano}
	case t.Quota > 0:
		return container.Resources{CPUPeriod: t.Period, CPUQuota: t.Quota}
	}
	return container.Resources{CPUQuota: -1}
}

func (b *brake) update(ctx context.Context, id string, r container.Resources) error {
	_, err := b.engine.ContainerUpdate(ctx, id, client.ContainerUpdateOptions{Resources: &r})
	return err
}

// lighten puts a batch below all services in CPU weight, for good: it costs the batch nothing but where a service
// wants the processor.
func (b *brake) lighten(ctx context.Context, id string, shares int64) error {
	if shares == leastWeight {
		return nil
	}
	if err := b.update(ctx, id, container.Resources{CPUShares: leastWeight}); err != nil {
		return err
	}
	b.Log.Info("batch container put below the services", event.Key, event.ContainerBraked, "container", id[:12], "decision", "below the services")
	return nil
}

func (b *brake) problems() []problem.Problem {
	var all []problem.Problem
	for _, id := range slices.Sorted(maps.Keys(b.failed)) {
		all = append(all, problem.Problem{
			Code: "batch-not-held", Severity: problem.Warning, Subject: "container " + id[:12], Container: id[:12], Text: b.failed[id],
			Hint: "see that the Docker Engine answers; nagaya tries again by itself",
		})
	}
	return all
}

// keep writes down what was taken, as a whole or not at all.
func (b *brake) keep() error {
	if b.File == "" {
		return nil
	}
	if err := atomicfile.WriteJSON(b.File, b.held); err != nil {
		return fmt.Errorf("writing down what a batch had: %w", err)
	}
	return nil
}

// recall reads what an earlier agent took. A file that is not its own is nothing.
func recall(file string) map[string]taken {
	held := map[string]taken{}
	if atomicfile.ReadJSON(file, &held) != nil {
		return map[string]taken{}
	}
	maps.DeleteFunc(held, func(id string, _ taken) bool { return len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" })
	return held
}
