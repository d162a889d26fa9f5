// Package discover finds out who this machine is. It asks the kernel, EC2's
// instance metadata in version 2 only, and the ECS agent on this host, and keeps
// asking: addresses move, notices arrive, the ECS agent registers late.
package discover

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"reflect"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Options say where to ask and how often.
type Options struct {
	// IMDS is the client for instance metadata; its fallback to version 1 must be
	// off. Nil asks for none: then only the host and the ECS agent are heard.
	IMDS *imds.Client
	// Spare is true where nothing is lost without instance metadata: then its absence is
	// a warning, and what never answered is asked seldom, up to every ten minutes.
	Spare bool
	// AgentURL is the ECS agent's introspection endpoint; empty asks none.
	AgentURL string
	// LocalAddr overrides the automatic choice of the local address.
	LocalAddr netip.Addr
	// Every is how often the metadata that may change any moment is read: the public
	// addresses and, on a Spot Instance, its notices; whether Auto Scaling wants the
	// instance gone is read every third time. The default is 5 s, which is what the
	// EC2 User Guide advises for notices; so a lost address is noticed within 10 s.
	Every time.Duration
	// Slow is how often everything else is read again. Default one minute.
	Slow time.Duration
	// Retry is the pause after a failure. It doubles with every further one, up to
	// 30 times as much. Default one second.
	Retry time.Duration
	Log   *slog.Logger
}

// usualEvery is how many looks lie between two that are not brief.
const usualEvery = 3

// mostRetry is how many times as long as the first pause the longest one is.
const mostRetry = 30

// spareRetry is the same for an Options.Spare.
const spareRetry = 600

// Watch reports the identity at once and whenever it changes, until ctx ends.
// The first report holds what the host knows by itself; the rest follows when it
// is there. It never gives up.
func Watch(ctx context.Context, o Options, put func(identity.Identity)) error {
	if o.Every <= 0 {
		o.Every = 5 * time.Second
	}
	if o.Slow <= 0 {
		o.Slow = time.Minute
	}
	if o.Retry <= 0 {
		o.Retry = time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	w := &watcher{o: o, agent: &http.Client{Timeout: 2 * time.Second}, put: put, retry: backoff.Backoff{First: o.Retry}}
	w.tell(identity.Identity{Host: w.host(netip.Addr{})})
	for {
		if !backoff.Sleep(ctx, w.look(ctx)) {
			return nil
		}
	}
}

type watcher struct {
	o     Options
	agent *http.Client
	put   func(identity.Identity)
	last  identity.Identity
	told  bool
	retry backoff.Backoff
	slow  time.Time // when everything is read next
	looks int
}

// look reads what is due and reports it if it differs. It returns when to look again.
func (w *watcher) look(ctx context.Context) time.Duration {
	if w.o.IMDS == nil {
		return w.lookAround(ctx)
	}
	id := w.last
	d := brief
	if w.looks++; w.looks%usualEvery == 0 {
		d = usual
	}
	if !id.Instance.Known || !time.Now().Before(w.slow) {
		d = full
		w.slow = time.Now().Add(w.o.Slow)
		if ecs, ok := w.ecs(ctx); ok {
			id.ECS = ecs
		}
	}
	wait := w.o.Every
	instance, notices, err := readInstance(ctx, w.o.IMDS, id, d)
	if ctx.Err() != nil {
		return 0
	}
	id.MetadataSilent = err != nil
	if err != nil {
		// What was known stays known: an instance does not change its id because
		// its metadata is slow.
		id.Problems = []problem.Problem{explain(err, id.Instance.Known || w.o.Spare)}
		if !w.retry.Failing() {
			w.o.Log.Warn("instance metadata does not answer", event.Key, event.MetadataSilent, "err", err)
		}
		w.retry.Most = mostRetry * w.o.Retry
		if w.o.Spare && !id.Instance.Known {
			w.retry.Most = spareRetry * w.o.Retry
		}
		wait = w.retry.Next()
	} else {
		if w.retry.Failing() || !id.Instance.Known {
			w.o.Log.Info("identity", event.Key, event.IdentityKnown, "instance", instance.ID, "instance_type", instance.Type, "region", instance.Region,
				"zone", instance.Zone, "life_cycle", instance.LifeCycle, "interface", instance.Primary.ID, "local_addr", instance.Primary.LocalAddr)
		}
		w.retry.Reset()
		id.Instance, id.Notices, id.Problems = instance, notices, nil
	}
	if d == full {
		id.Host = w.host(id.Instance.Primary.LocalAddr)
	}
	if !id.Host.LocalAddr.IsValid() {
		id.Problems = append(id.Problems, noLocalAddr())
	}
	w.tell(id)
	return wait
}

// lookAround is look without instance metadata.
func (w *watcher) lookAround(ctx context.Context) time.Duration {
	id := w.last
	if ecs, ok := w.ecs(ctx); ok {
		id.ECS = ecs
	}
	id.Host, id.Problems = w.host(netip.Addr{}), nil
	if !id.Host.LocalAddr.IsValid() {
		id.Problems = []problem.Problem{noLocalAddr()}
	}
	w.tell(id)
	return w.o.Slow
}

// tell reports id if it differs from the last report.
func (w *watcher) tell(id identity.Identity) {
	if w.told && reflect.DeepEqual(w.last, id) {
		return
	}
	for _, n := range id.Notices {
		if !hasNotice(w.last.Notices, n) {
			w.o.Log.Warn("notice", event.Key, event.NoticeReceived, "kind", n.Kind, "text", n.Text, "at", n.At)
		}
	}
	w.last, w.told = id, true
	w.put(id)
}

func hasNotice(all []identity.Notice, n identity.Notice) bool {
	for _, one := range all {
		if one == n {
			return true
		}
	}
	return false
}
