package route

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/config"
)

// Configured returns the options of a configuration, in which a grace period of 0 is none,
// while here it is the default.
func Configured(c config.Config) Options {
	o := Options{
		Grace: c.Routes.Grace, Listen: []uint16{c.Nginx.HTTPPort, c.Nginx.HTTPSPort},
		DefaultHost: c.Routes.DefaultHost, UnservedCert: c.Nginx.UnservedCert, Reserved: c.Routes.ReservedPorts,
		OpenWildcards: c.Routes.OpenWildcards, Shared: sharedBy(c.Routes.SharedUpstreams),
		MaxOfFamily: c.Routes.MaxOfFamily, Max: c.Routes.Max, HTTP3: c.Nginx.HTTP3,
		ACME: c.Certs.ACME.On(), Waiting: c.Certs.Waiting, IP: c.Certs.ACME.IP,
	}
	if metrics, err := netip.ParseAddrPort(c.Metrics.Listen); err == nil {
		o.Reserved = append(slices.Clone(o.Reserved), metrics.Port())
	}
	if o.Grace == 0 {
		o.Grace = -time.Nanosecond
	}
	return o
}

// sharedBy reads the words WORD and WORD=FAMILY of the setting routes.shared-upstreams.
func sharedBy(words []string) map[string][]string {
	by := map[string][]string{}
	for _, w := range words {
		word, family, named := strings.Cut(w, "=")
		switch families, listed := by[word]; {
		case !named:
			by[word] = nil
		case !listed || families != nil:
			by[word] = append(families, family)
		}
	}
	return by
}
