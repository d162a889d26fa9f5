package apply

import (
	"time"

	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// quarantine holds the sites that nginx refused, by host.
type quarantine struct {
	sites   map[string]refused
	retryAt time.Time // when they are tried again
}

// retryQuarantine empties the quarantine when it is time to try its sites again.
func (a *applier) retryQuarantine(now time.Time) {
	if q := &a.quarantine; len(q.sites) > 0 && !now.Before(q.retryAt) {
		a.log.Info("sites in quarantine are tried again", event.Key, event.QuarantineRetried, "sites", len(q.sites))
		clear(q.sites)
	}
}

// apply returns the tree with every site that is in quarantine, and has not changed,
// replaced by its last good file or left out. It forgets those that changed or are not
// wanted any more.
func (q *quarantine) apply(wanted nginx.Tree) nginx.Tree {
	tree := wanted
	for host, r := range q.sites {
		site, ok := wanted.Site(host)
		switch {
		case !ok || !site.Equal(r.site):
			delete(q.sites, host)
		case r.good.Host != "":
			tree = tree.With(r.good)
		default:
			tree = tree.Without(host)
		}
	}
	return tree
}

// refuse puts sites into quarantine.
func (a *applier) refuse(sites ...refused) {
	for _, r := range sites {
		if was, ok := a.quarantine.sites[r.site.Host]; ok {
			r.site = was.site // the refused file was already its last good one
		}
		a.quarantine.sites[r.site.Host] = r
		a.log.Warn("site refused by nginx", event.Key, event.SiteRefused, "host", r.site.Host, "err", r.reason, "last_good", r.good.Host != "")
	}
	if len(sites) > 0 {
		a.quarantine.retryAt = time.Now().Add(a.o.Limits.RetryQuarantine)
	}
}

// withoutBlocked refuses the sites that ask for a port which another process holds, and
// returns the tree without them. A master that cannot bind one port refuses everything.
func (a *applier) withoutBlocked(tree nginx.Tree) nginx.Tree {
	for host, f := range a.blocked(tree) {
		site, _ := tree.Site(host)
		a.refuse(refused{site: site, reason: f.Text})
		tree = tree.Without(host)
	}
	return tree
}
