// Package discover finds out who this machine is. It asks the kernel, EC2's
// instance metadata in version 2 only, and the ECS agent on this host, and keeps
// asking: addresses move, notices arrive, the ECS agent registers late.
package discover

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Options say where to ask and how often.
type Options struct {
	// IMDS is the client for instance metadata; its fallback to version 1 must be
	// off. Nil asks for none: then only the host and the ECS agent are asked.
	IMDS *imds.Client
	// Spare is true where nothing needs instance metadata: then its absence is a
	// warning.
	Spare bool
	// AgentURL is the ECS agent's introspection endpoint; empty asks none.
	AgentURL string
	// LocalAddr overrides the automatic choice of the local address.
	LocalAddr netip.Addr
	// Every is how often the metadata that may change any moment is read: the public
	// addresses, whether Auto Scaling terminates the instance and, on a Spot Instance, its
	// notices. The default is 5 s, which is what the
	// EC2 User Guide advises for notices; so a lost address is noticed within 10 s.
	Every time.Duration
	// Slow is how often everything else is read again. Default one minute. The ECS agent is
	// asked every time until it has said which container instance this is.
	Slow time.Duration
	// Retry is the pause after a failure. It doubles with every further one, up to
	// Slow. Default one second.
	Retry time.Duration
	Log   *slog.Logger
}

// Watch reports the identity at once and whenever it changes, until ctx ends.
// The first report holds what the host knows by itself; the rest follows when it
// is there. It never gives up.
func Watch(ctx context.Context, o Options, put func(identity.Identity)) error {
	o.Every = cmp.Or(o.Every, 5*time.Second)
	o.Slow = cmp.Or(o.Slow, time.Minute)
	o.Retry = cmp.Or(o.Retry, time.Second)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	w := &watcher{o: o, put: latest.Distinct(put), retry: backoff.Backoff{First: o.Retry, Most: o.Slow}}
	w.report(identity.Identity{Host: w.host(netip.Addr{})})
	for backoff.Sleep(ctx, w.update(ctx)) {
	}
	return nil
}

type watcher struct {
	o     Options
	put   func(identity.Identity)
	last  identity.Identity
	retry backoff.Backoff
	slow  time.Time // when everything is read next
}

// update reads what is due and reports it if it differs. It returns when to read again.
func (w *watcher) update(ctx context.Context) time.Duration {
	id, wait := w.last, w.o.Slow
	full := w.o.IMDS == nil || !id.Instance.Known || !time.Now().Before(w.slow)
	if full {
		w.slow = time.Now().Add(w.o.Slow)
	}
	if joining := w.o.AgentURL != "" && id.ECS.ContainerInstanceARN == ""; full || joining {
		if ecs, ok := w.ecs(ctx); ok {
			id.ECS = ecs
		}
		if joining {
			wait = w.o.Every
		}
	}
	id.Problems = nil
	if w.o.IMDS != nil {
		id, wait = w.metadata(ctx, id, full)
		if ctx.Err() != nil {
			return 0
		}
	}
	if full {
		id.Host = w.host(id.Instance.Primary.LocalAddr)
	}
	if !id.Host.LocalAddr.IsValid() {
		id.Problems = append(id.Problems, noLocalAddr())
	}
	w.report(id)
	return wait
}

// metadata adds to id what instance metadata says. What was known stays known while it does
// not answer: an instance does not change its id because its metadata is slow.
func (w *watcher) metadata(ctx context.Context, id identity.Identity, full bool) (identity.Identity, time.Duration) {
	instance, notices, err := readInstance(ctx, w.o.IMDS, id, full)
	if id.MetadataSilent = err != nil; err != nil {
		id.Problems = []problem.Problem{explain(err, id.Instance.Known || w.o.Spare)}
		if !w.retry.Failing() && ctx.Err() == nil {
			w.o.Log.Warn("instance metadata does not answer", event.Key, event.MetadataSilent, "err", err)
		}
		return id, w.retry.Next()
	}
	if w.retry.Failing() || !id.Instance.Known {
		w.o.Log.Info("identity", event.Key, event.IdentityKnown, "instance", instance.ID, "instance_type", instance.Type, "region", instance.Region,
			"zone", instance.Zone, "life_cycle", instance.LifeCycle, "interface", instance.Primary.ID, "local_addr", instance.Primary.LocalAddr)
	}
	w.retry.Reset()
	id.Instance, id.Notices = instance, notices
	return id, w.o.Every
}

// report puts id if it differs from the last report.
func (w *watcher) report(id identity.Identity) {
	for _, n := range id.Notices {
		if !slices.Contains(w.last.Notices, n) {
			w.o.Log.Warn("notice", event.Key, event.NoticeReceived, "kind", n.Kind, "text", n.Text, "at", n.At)
		}
	}
	w.last = id
	w.put(id)
}
