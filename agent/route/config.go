package route

import (
	"net/netip"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/config"
)

// Configured returns the options of a configuration, in which a grace period of 0 is none,
// while here it is the default.
func Configured(c config.Config) Options {
	o := Options{
		Grace: c.Routes.Grace, Listen: []uint16{uint16(c.Nginx.HTTPPort), uint16(c.Nginx.HTTPSPort)},
		DefaultHost: c.Routes.DefaultHost, Reserved: c.Routes.ReservedPorts,
		OpenWildcards: c.Routes.OpenWildcards,
	}
	if metrics, err := netip.ParseAddrPort(c.Metrics.Listen); err == nil {
		o.Reserved = append(slices.Clone(o.Reserved), metrics.Port())
	}
	if o.Grace == 0 {
		o.Grace = -time.Nanosecond
	}
	return o
}
