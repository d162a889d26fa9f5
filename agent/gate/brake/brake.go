// Package brake holds back batches that run already, as the gate decides: Docker containers of batches by
// CPU quota or pause, and the command of 'nagaya gate run' by its control group or by signals. It touches nothing but
// batches, and restores what it changed.
package brake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/agent/awserror"
	"github.com/nagaya-ecs/nagaya/agent/dockerapi"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Options says which containers to hold back. The zero value holds back none.
type Options struct {
	// Log gets a line for each container that is held back or set free; nil discards.
	Log *slog.Logger
	// Host is the Docker Engine's address; empty is unix:///var/run/docker.sock.
	Host string
	// Batches delivers the full ids of the batch containers that run or are paused, and no other's, whenever they have changed. May be nil.
	Batches <-chan []string
	// File keeps what containers had before, so that the next agent restores it if this one is killed.
	File string
	// Every is how often the containers are checked without a decision, 10 s by default.
	Every time.Duration
}

const (
	callTimeout = 10 * time.Second
	goodbye     = 5 * time.Second // how long setting all free may take at the end
	mostBraked  = 200
)

// brake is the state of one Run.
type brake struct {
	Options
	engine *client.Client
	ids    []string // of the batch containers
	// records are what braked containers had before; it is the content of File.
	records  map[string]record
	weighted map[string]bool // containers that have the least CPU weight
	failed   map[string]string
	// known is false until the gate has decided with knowledge of the credits: what an earlier agent holds back
	// stays so until then.
	known bool
}

// Run holds back the batch containers as the newest decision says, until ctx ends; it then sets all free, within 5 s,
// and returns nil. Put is called with the problems, when they have changed.
func Run(ctx context.Context, o Options, decisions <-chan gate.Decision, put func([]problem.Problem)) error {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.Every = cmp.Or(o.Every, 10*time.Second)
	engine, err := dockerapi.New(o.Host, "pause", "unpause", "update")
	if err != nil {
		return fmt.Errorf("docker.host: %w", err)
	}
	defer engine.Close()
	b := &brake{Options: o, engine: engine, records: o.readRecords(), weighted: map[string]bool{}, failed: map[string]string{}}
	tick := time.NewTicker(o.Every)
	defer tick.Stop()
	var want gate.Brake
	for {
		select {
		case <-ctx.Done():
			b.known = true
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
			defer cancel()
			b.applyAll(last, gate.Brake{})
			return nil
		case d := <-decisions:
			want, b.known = d.Brake, b.known || d.Known
		case b.ids = <-o.Batches:
		case <-tick.C:
		}
		before := maps.Clone(b.failed)
		b.applyAll(ctx, want)
		if !maps.Equal(before, b.failed) {
			put(b.problems())
		}
	}
}

// applyAll brings all batch containers to what is wanted. One that is no batch any more, or has ended, is set free.
func (b *brake) applyAll(ctx context.Context, want gate.Brake) {
	ids := b.ids[:min(len(b.ids), mostBraked)]
	for _, id := range ids {
		b.note(ctx, id, b.apply(ctx, id, want))
	}
	for id := range b.records {
		if b.known && !slices.Contains(ids, id) {
			b.note(ctx, id, b.apply(ctx, id, gate.Brake{}))
		}
	}
	maps.DeleteFunc(b.weighted, func(id string, _ bool) bool { return !slices.Contains(ids, id) })
	maps.DeleteFunc(b.failed, func(id, _ string) bool { return !slices.Contains(ids, id) && b.records[id] == record{} })
}

func (b *brake) note(ctx context.Context, id string, err error) {
	switch {
	case errors.Is(ctx.Err(), context.Canceled): // it is tried once more before the end
	case err == nil, errdefs.IsNotFound(err):
		delete(b.failed, id)
	default:
		if b.failed[id] == "" {
			b.Log.Debug("batch container not reached", "container", id[:12], "err", err)
		}
		b.failed[id] = awserror.Sentence("batch container "+id[:12]+" cannot be held back or set free", err)
	}
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
