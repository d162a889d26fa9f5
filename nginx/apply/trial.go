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
	sites  []nginx.SiteFile
	began  time.Time
	cancel context.CancelFunc
	result chan trialResult
}

type trialResult struct {
	*proof
	err error
}

// dueTrial returns the suspect whose turn it is and the sites to try; when is the time of it,
// or of the next look at what is in quarantine: zero for never.
func (q *quarantine) dueTrial(now time.Time) (family string, sites []nginx.SiteFile, when time.Time) {
	at := map[string]time.Time{} // by family
	sooner := func(family string, t time.Time) {
		if was, ok := at[family]; !ok || t.Before(was) {
			at[family] = t
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
	for f, t := range at {
		if when.IsZero() || t.Before(when) {
			family, when = f, t
		}
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
	if len(sites) == 0 || a.live == nil || a.master.pid == 0 {
		return max(time.Second, when.Sub(now))
	}
	if retried := len(sites) - len(a.quarantine.suspects[family].waiting); retried > 0 {
		a.log.Info("sites in quarantine are tried again", event.Key, event.QuarantineRetried, "sites", retried)
	}
	t := &trial{family: family, sites: sites, began: now, result: make(chan trialResult, 1)}
	ctx, t.cancel = context.WithCancel(ctx)
	a.trial = t
	tester := a.tester()
	tester.store = &store{dir: a.store.dir, staging: trialDir}
	p := &proof{base: *a.live, try: func(ctx context.Context, tree nginx.Tree) error {
		began := time.Now()
		err := tester.try(ctx, tree)
		if !backoff.Sleep(ctx, trialPause*time.Since(began)) {
			return ctx.Err()
		}
		return err
	}}
	_, p.parts = bySite(nginx.Tree{Sites: sites})
	go func() {
		defer tester.store.unstage()
		err := p.prove(ctx, nil)
		t.result <- trialResult{p, err}
	}()
	return never // its end is the next reason
}

// ended is where the result of the trial comes; nil while none runs.
func (t *trial) ended() <-chan trialResult {
	if t == nil {
		return nil
	}
	return t.result
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
	case r := <-t.result:
		a.trialEnded(r)
	case <-over.C:
		t.cancel()
		a.trialEnded(<-t.result)
	}
}

// trialEnded takes what a trial has found. The next pass has nginx load it.
func (a *applier) trialEnded(r trialResult) {
	t := a.trial
	a.trial = nil
	t.cancel()
	s := a.quarantine.suspects[t.family]
	for _, site := range t.sites {
		if accepted, ok := r.tree.Site(site.Host); ok && accepted.Equal(site) {
			s.cleared[site.Host] = site
			delete(a.quarantine.sites, site.Host)
		}
	}
	for _, g := range r.refused {
		good, _ := a.live.Site(g.sites[0].Host)
		a.refuse(refused{site: g.sites[0], reason: g.reason, good: good})
		s.reason, s.last = g.reason, time.Now()
	}
	s.next = time.Now()
	_, outside := errors.AsType[*refusal](r.err)
	switch {
	case outside:
		// What is served would be refused too: the next pass finds out why, with these sites.
		for _, site := range t.sites {
			delete(a.quarantine.sites, site.Host)
		}
		delete(a.quarantine.suspects, t.family)
	case errors.Is(r.err, context.Canceled):
	case r.err != nil:
		s.reason = nginx.Printable(r.err.Error())
		s.next = s.next.Add(s.pauses.Next())
	case len(r.refused) > 0:
		s.next = s.next.Add(s.pauses.Next())
	}
}
