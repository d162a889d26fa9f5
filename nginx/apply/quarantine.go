package apply

import (
	"maps"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// quarantine is what nginx is not given together with the changes of others.
type quarantine struct {
	sites    map[string]refused // sites that nginx refuses, by host
	snippets []refusedSnippet
	suspects map[string]*suspect    // by SiteFile.Owner
	inVain   map[string]boundInVain // by SiteFile.Owner
}

// boundInVain is a family of which nginx could not bind a port: another process had taken it
// since it was looked at, and may do so again.
type boundInVain struct {
	fault *nginx.Fault
	until time.Time // no new port of the family before that
}

// refused is a site that nginx refuses.
type refused struct {
	site   nginx.SiteFile
	reason string
	// good is the file that is served instead; its Host is empty if there is none.
	good nginx.SiteFile
	// retryAt is when it is tried again although it has not changed.
	retryAt time.Time
	// blocked is true where it is not nginx that refused it: another process holds its port.
	blocked bool
}

// suspect is a family of which nginx has refused a change. What it changes is tried beside what
// is served, and loaded once nginx has accepted it: so a family that is refused again and again
// holds up no other.
type suspect struct {
	reason string
	last   time.Time // when something of it was refused last
	// waiting are the sites whose files have not been tried yet, cleared those that have.
	waiting []nginx.SiteFile
	cleared map[string]nginx.SiteFile
	next    time.Time       // no trial before that
	pauses  backoff.Backoff // after one more trial in which something was refused
}

// suspect makes the family of a part a suspect, whose sites are to be tried.
func (a *applier) suspect(q part) {
	family := q.sites[0].Owner()
	s := a.quarantine.suspects[family]
	if s == nil {
		s = &suspect{next: time.Now(), pauses: pauses()}
		a.quarantine.suspects[family] = s
	} else {
		s.next = time.Now().Add(s.pauses.Next())
	}
	s.reason, s.last, s.cleared = q.reason, time.Now(), map[string]nginx.SiteFile{}
	s.waiting = append(s.waiting, q.sites...)
	a.log.Warn("change of a family refused by nginx", event.Key, event.ChangeRefused, "family", family, "sites", len(q.sites), "err", q.reason)
}

// forget ends what is over: a family of which nothing was refused for a while is no suspect
// any more, and a port that another process held is looked at again.
func (q *quarantine) forget(now time.Time, period time.Duration) {
	maps.DeleteFunc(q.inVain, func(_ string, v boundInVain) bool { return !now.Before(v.until) })
	inside := map[string]bool{}
	for host, r := range q.sites {
		if r.blocked && !now.Before(r.retryAt) {
			delete(q.sites, host)
			continue
		}
		inside[r.site.Owner()] = true
	}
	for family, s := range q.suspects {
		if !inside[family] && len(s.waiting) == 0 && now.Sub(s.last) > period {
			delete(q.suspects, family)
		}
	}
}

// held returns the wanted tree, in which the sites in quarantine, and the changes of suspects
// that have not been tried, are replaced by their last good files or left out. It forgets the
// sites in quarantine that changed or are not wanted any more.
func (a *applier) held(wanted nginx.Tree) nginx.Tree {
	q := &a.quarantine
	if len(q.sites) == 0 && len(q.suspects) == 0 {
		return wanted
	}
	for host, r := range q.sites {
		if site, ok := wanted.Site(host); !ok || !site.Equal(r.site) {
			delete(q.sites, host)
		}
	}
	for _, s := range q.suspects {
		s.waiting = nil
	}
	var old []nginx.SiteFile
	var out []string
	for _, site := range wanted.Sites {
		var good nginx.SiteFile
		if r, refused := q.sites[site.Host]; refused {
			good = r.good
		} else if s := q.suspects[site.Owner()]; s == nil || site.Equal(s.cleared[site.Host]) {
			continue
		} else if good, _ = a.live.Site(site.Host); site.Equal(good) {
			continue
		} else {
			s.waiting = append(s.waiting, site)
		}
		if good.Host != "" {
			old = append(old, good)
		} else {
			out = append(out, site.Host)
		}
	}
	return wanted.Without(out...).With(old...)
}

// refuse puts sites into quarantine.
func (a *applier) refuse(sites ...refused) {
	for _, r := range sites {
		if s := a.quarantine.suspects[r.site.Owner()]; s != nil {
			s.waiting = slices.DeleteFunc(s.waiting, func(w nginx.SiteFile) bool { return w.Host == r.site.Host })
		}
		if was, ok := a.quarantine.sites[r.site.Host]; ok {
			r.site = was.site // the refused file was already its last good one
		}
		r.retryAt = time.Now().Add(a.o.Limits.RetryQuarantine)
		a.quarantine.sites[r.site.Host] = r
		a.log.Warn("site refused by nginx", event.Key, event.SiteRefused, "host", r.site.Host, "err", r.reason, "last_good", r.good.Host != "")
	}
}

// withoutBlocked refuses the sites that ask for a port which another process holds, and
// returns the tree without them. A master that cannot bind one port refuses everything.
func (a *applier) withoutBlocked(tree nginx.Tree) nginx.Tree {
	var hosts []string
	for host, f := range a.blocked(tree, false) {
		site, _ := tree.Site(host)
		a.refuse(refused{site: site, reason: f.Text, blocked: true})
		hosts = append(hosts, host)
	}
	if len(hosts) == 0 {
		return tree
	}
	return tree.Without(hosts...)
}
