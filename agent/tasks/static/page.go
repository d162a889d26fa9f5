package static

import (
	"net/netip"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// Configured says where the files are, and has the agent's page as a route if page.host is set. The page is
// shown over HTTPS only, because of the password.
func Configured(c config.Config) Options {
	o := Options{Dir: c.Routes.Dir}
	at, err := netip.ParseAddrPort(c.Metrics.Listen)
	if c.Page.Host == "" || err != nil {
		return o
	}
	if at.Addr().IsUnspecified() {
		at = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port())
	}
	var allow []string
	for _, p := range c.Page.Allow {
		allow = append(allow, p.String())
	}
	labels := map[string]string{tasks.LabelPrefix + "host": c.Page.Host, tasks.LabelPrefix + "tls": "terminate"}
	if c.Page.Auth != "" {
		labels[tasks.LabelPrefix+"auth"] = c.Page.Auth
	}
	if len(allow) > 0 {
		labels[tasks.LabelPrefix+"allow"] = strings.Join(allow, ",")
	}
	o.Own = []tasks.Container{container("page.host", "nagaya-page", at, labels)}
	return o
}
