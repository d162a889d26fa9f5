package apply

import (
	"context"
	"errors"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/nginx"
)

const (
	// trialGrace is the longest that a pass waits for a trial that runs, since its begin. Then
	// the trial is ended, and goes on after the pass from what it has found.
	trialGrace = 300 * time.Millisecond
	// trialPause is how many times longer than one test of a trial the pause after it is: a
	// trial takes at most a quarter of one processor.
	trialPause = 3
)

// trial finds which of a suspect's sites nginx accepts, beside what nginx serves. It runs
// while nothing is loaded.
type trial struct {
	family string
	began  time.Time
	cancel context.CancelFunc
	proof  *proof // for whoever has received from done
	done   chan error
}

// dueTrial returns the suspect whose turn it is and the sites to try; when is the time of it,
// or of the next look at what is in quarantine: zero for never.
func (q *quarantine) dueTrial(now time.Time) (family string, sites []nginx.SiteFile, when time.Time) {
	sooner := func(f string, t time.Time) {
		if when.IsZero() || t.Before(when) {
			family, when = f, t
		}
	}
	for _, r := range q.sites {
		if s := q.suspects[r.site.Owner()]; s != nil && !r.blocked && s.next.After(r.retryAt) {
			sooner(r.site.Owner(), s.next)
		} else {
			sooner(r.site.Owner(), r.retryAt)
		}
	}
	for f, s := range q.suspects {
		if len(s.waiting) > 0 {
			sooner(f, s.next)
		}
	}
	for _, r := range q.snippets {
		sooner("", r.retryAt)
	}
	s := q.suspects[family]
	if s == nil || when.After(now) {
		return "", nil, when
	}
	sites = append(sites, s.waiting...)
	for _, r := range q.sites {
		if r.site.Owner() == family && !r.blocked && !r.retryAt.After(now) {
			sites = append(sites, r.site)
		}
	}
	return family, sites, when
}

// beginTrial begins the next trial if it is due. It returns how long to wait for the next pass.
func (a *applier) beginTrial(ctx context.Context) time.Duration {
	now := time.Now()
	family, sites, when := a.quarantine.dueTrial(now)
	if when.IsZero() {
		return never
	}
	if len(sites) == 0 || !a.known() || a.master.pid == 0 {
		return max(time.Second, when.Sub(now))
	}
	if retried := len(sites) - len(a.quarantine.suspects[family].waiting); retried > 0 {
		a.log.Info("sites in quarantine are tried again", event.Key, event.QuarantineRetried, "sites", retried)
	}
	tester := a.tester()
	tester.store = &store{dir: a.store.dir, staging: trialDir}
	p := &proof{base: a.live, try: func(ctx context.Context, tree nginx.Tree) error {
		began := time.Now()
		err := tester.try(ctx, tree)
		if !backoff.Sleep(ctx, trialPause*time.Since(began)) {
			return ctx.Err()
		}
		return err
	}}
	_, p.parts = bySite(nginx.Tree{Sites: sites})
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	a.trial = &trial{family, now, cancel, p, done}
	go func() {
		defer tester.store.unstage()
		done <- p.prove(ctx, nil)
	}()
	return never // its end is the next reason
}

// ended is where the error of the trial comes, nil where nginx could be asked; nothing while none runs.
func (t *trial) ended() <-chan error {
	if t == nil {
		return nil
	}
	return t.done
}

// endTrial ends the trial that runs.
func (a *applier) endTrial(grace time.Duration) {
	t := a.trial
	if t == nil {
		return
	}
	over := time.NewTimer(grace - time.Since(t.began))
	defer over.Stop()
	select {
	case err := <-t.done:
		a.trialEnded(err)
	case <-over.C:
		t.cancel()
		a.trialEnded(<-t.done)
	}
}

// trialEnded takes what a trial has found. The next pass has nginx load it.
func (a *applier) trialEnded(err error) {
	t := a.trial
	a.trial = nil
	t.cancel()
	s := a.quarantine.suspects[t.family]
	for _, q := range t.proof.in {
		host := q.sites[0].Host
		s.cleared[host] = q.sites[0]
		delete(a.quarantine.sites, host)
	}
	for _, q := range t.proof.refused {
		good, _ := a.live.Site(q.sites[0].Host)
		a.refuse(refused{site: q.sites[0], reason: q.reason, good: good})
		s.reason, s.last = q.reason, time.Now()
	}
	s.next = time.Now()
	_, outside := errors.AsType[*refusal](err)
	switch {
	case outside:
		// What is served would be refused too: the next pass finds out why, with these sites.
		for _, q := range t.proof.parts {
			delete(a.quarantine.sites, q.sites[0].Host)
		}
		delete(a.quarantine.suspects, t.family)
	case errors.Is(err, context.Canceled):
	case err != nil:
		s.reason = nginx.Printable(err.Error())
		s.next = s.next.Add(s.pauses.Next())
	case len(t.proof.refused) > 0:
		s.next = s.next.Add(s.pauses.Next())
	}
}
