package apply

import (
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// nestedSite is a site as tests write it: with the servers in the places that they are
// behind.
type nestedSite struct {
	Host, File  string
	Family      string
	Since       time.Time
	TLS         bool
	Cert        certs.Pair
	Beside      certs.Pair
	Plain       route.Plain
	Locations   []nestedLocation
	Passthrough *nestedPassthrough
	CatchAll    bool
	Edge        route.Edge
}

type nestedLocation struct {
	route.Location
	Servers []route.Server
}

type nestedPassthrough struct{ Pool nestedPool }

type nestedStream struct {
	Listen       route.Listen
	Family, Host string
	Cert, Beside certs.Pair
	Pool         nestedPool
}

type nestedPool struct {
	route.StreamOptions
	Servers []route.Server
}

// flat parts them into a shape and its pools.
func flat(sites []nestedSite, streams []nestedStream) (route.Shape, route.Pools) {
	var shape route.Shape
	pools := route.Pools{}
	for _, n := range sites {
		s := route.Site{Host: n.Host, File: n.File, Family: n.Family, Since: n.Since, TLS: n.TLS, Cert: n.Cert, Beside: n.Beside, Plain: n.Plain, CatchAll: n.CatchAll, Edge: n.Edge}
		for _, l := range n.Locations {
			s.Locations = append(s.Locations, l.Location)
			pools[s.PoolKey(l.Location)] = route.Pool{Servers: l.Servers}
		}
		if n.Passthrough != nil {
			s.Passthrough = &n.Passthrough.Pool.StreamOptions
			pools[s.PassthroughKey()] = route.Pool{Servers: n.Passthrough.Pool.Servers}
		}
		shape.Sites = append(shape.Sites, s)
	}
	for _, n := range streams {
		s := route.Stream{Listen: n.Listen, Family: n.Family, Host: n.Host, Cert: n.Cert, StreamOptions: n.Pool.StreamOptions}
		shape.Streams = append(shape.Streams, s)
		pools[s.PoolKey()] = route.Pool{Servers: n.Pool.Servers}
	}
	return shape, pools
}

type nestedTable struct {
	Sites   []nestedSite
	Streams []nestedStream
}

func render(s nginx.Settings, b nginx.Build, t nestedTable) nginx.Tree {
	shape, pools := flat(t.Sites, t.Streams)
	return nginx.Render(s, b, shape, pools)
}
