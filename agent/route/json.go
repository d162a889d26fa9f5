package route

import (
	"encoding/json"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// A table as JSON: every pool stands in the location, passthrough or stream that it is
// behind, and a keepalive that follows the number of servers is that number.
type (
	tableJSON struct {
		Complete bool              `json:"complete"`
		Sites    []siteJSON        `json:"sites"`
		Streams  []streamJSON      `json:"streams,omitempty"`
		Waiting  []Waiting         `json:"waiting,omitempty"`
		Unrouted []Unrouted        `json:"unrouted,omitempty"`
		Problems []problem.Problem `json:"problems,omitempty"`
	}
	siteJSON struct {
		Site
		Locations   []locationJSON   `json:"locations"`
		Passthrough *passthroughJSON `json:"passthrough,omitempty"`
		VacantSince time.Time        `json:"vacant_since,omitzero"`
	}
	locationJSON struct {
		Location
		Pool
	}
	passthroughJSON struct {
		StreamOptions
		Pool
	}
	streamJSON struct {
		Stream
		Pool
	}
)

// MarshalJSON writes the table as above, without Probes and Next.
func (t Table) MarshalJSON() ([]byte, error) {
	out := tableJSON{Complete: t.Complete, Waiting: t.Waiting, Unrouted: t.Unrouted, Problems: t.Problems}
	if t.Sites != nil {
		out.Sites = []siteJSON{}
	}
	for _, s := range t.Sites {
		one := siteJSON{Site: s, Locations: []locationJSON{}, VacantSince: t.VacantSince(s)}
		for _, l := range s.Locations {
			p := t.Pools[s.PoolKey(l)]
			l.Keepalive = l.KeepaliveFor(p)
			one.Locations = append(one.Locations, locationJSON{l, p})
		}
		if s.Passthrough != nil {
			one.Passthrough = &passthroughJSON{*s.Passthrough, t.Pools[s.PassthroughKey()]}
		}
		out.Sites = append(out.Sites, one)
	}
	for _, s := range t.Streams {
		out.Streams = append(out.Streams, streamJSON{s, t.Pools[s.PoolKey()]})
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (t *Table) UnmarshalJSON(text []byte) error {
	var in tableJSON
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	*t = Table{Complete: in.Complete, Pools: Pools{}, Waiting: in.Waiting, Unrouted: in.Unrouted, Problems: in.Problems}
	if in.Sites != nil {
		t.Sites = []Site{}
	}
	for _, one := range in.Sites {
		s := one.Site
		s.Locations = []Location{}
		for _, l := range one.Locations {
			s.Locations = append(s.Locations, l.Location)
			t.Pools[s.PoolKey(l.Location)] = l.Pool
		}
		if one.Passthrough != nil {
			s.Passthrough = &one.Passthrough.StreamOptions
			t.Pools[s.PassthroughKey()] = one.Passthrough.Pool
		}
		t.Sites = append(t.Sites, s)
	}
	for _, one := range in.Streams {
		t.Streams = append(t.Streams, one.Stream)
		t.Pools[one.PoolKey()] = one.Pool
	}
	return nil
}
