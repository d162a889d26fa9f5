package nginx

import (
	"fmt"
	"slices"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// Rendering is linear in the number of sites, also where each has snippets and password
// files of its own: what it allocates, and what it looks at, grows as they do.
func TestRenderIsLinear(t *testing.T) {
	allocations := func(n int) float64 {
		set := Settings{Nginx: config.Nginx{HostAuth: true}}
		shape, pools := route.Shape{}, route.Pools{}
		for i := range n {
			host := fmt.Sprintf("h%05d.test", i)
			site := route.Site{Host: host, Locations: []route.Location{{Path: "/", Auth: host, Scheme: route.HTTP}}}
			shape.Sites = append(shape.Sites, site)
			pools[site.PoolKey(site.Locations[0])] = route.Pool{Servers: []route.Server{server("10.0.0.1:80", 1)}}
			set.Snippets = append(set.Snippets, Snippet{Name: "vhost.d/" + host, Fingerprint: "f"})
			set.Passwords = append(set.Passwords, host)
		}
		slices.Reverse(set.Snippets) // no order is needed
		return testing.AllocsPerRun(1, func() { Render(set, Build{}, shape, pools) })
	}
	if few, many := allocations(100), allocations(400); many > 6*few {
		t.Errorf("%.0f allocations for 100 sites, %.0f for 400", few, many)
	}
}
