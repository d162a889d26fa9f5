package traffic

import (
	"bytes"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// Counter counts lines of logs. Its memory is bounded by the route table, whatever the lines say. The
// zero Counter is not usable; call New.
type Counter struct {
	since   time.Time
	sites   []*site
	names   names
	other   site
	streams []*Stream
	ports   map[listen]*Stream
	pools   route.Pools

	// Of one line.
	values  values
	lowered [256]byte
}

// listen is a port as nginx names it, which knows TLS as TCP.
type listen struct {
	udp  bool
	port uint16
}

// New returns a counter that begins now.
func New(now time.Time) *Counter {
	c := &Counter{since: now, other: site{host: Other, counts: new(Counts), pathless: new(Classes)}}
	c.SetTable(route.Table{Complete: true})
	return c
}

// SetTable replaces the table. What stays in it goes on counting from where it was; a table that is not
// complete takes nothing away.
func (c *Counter) SetTable(t route.Table) {
	if !t.Complete {
		return
	}
	hosts, paths, ports := map[string]*site{}, map[[2]string]*Counts{}, map[string]*Stream{}
	for _, s := range c.sites {
		hosts[s.host] = s
		for _, l := range s.locations {
			paths[[2]string{s.host, l.name}] = l.counts
		}
	}
	for _, s := range c.streams {
		ports[s.Listen] = s
	}
	c.pools = t.Pools
	c.sites, c.streams, c.ports = nil, nil, map[listen]*Stream{}
	c.names = names{exact: map[string]*site{}, seen: map[string]*site{}, otherwise: &c.other}
	for i, r := range t.Sites {
		if i >= maxHosts {
			c.names.add(&c.other, r)
			continue
		}
		s := &site{host: r.Host, pools: r.PoolKeys(), locations: locationsOf(r), counts: new(Counts), pathless: new(Classes)}
		if before := hosts[r.Host]; before != nil {
			s.counts, s.pathless = before.counts, before.pathless
		}
		for i := range s.locations {
			l := &s.locations[i]
			if l.counts = paths[[2]string{s.host, l.name}]; l.counts == nil {
				l.counts = new(Counts)
				paths[[2]string{s.host, l.name}] = l.counts
			}
		}
		c.sites = append(c.sites, s)
		c.names.add(s, r)
	}
	c.names.sort()
	for _, r := range t.Streams {
		s := ports[r.Listen.String()]
		if s == nil {
			s = &Stream{Listen: r.Listen.String()}
		}
		c.streams = append(c.streams, s)
		c.ports[listen{r.Listen.Protocol == route.UDP, r.Listen.Port}] = s
	}
}

// Request counts a line of the access log, without its line feed. It returns false for one that
// is of another format, or of one that does not say the host and the status; it is not counted.
func (c *Counter) Request(f *Format, line []byte, now time.Time) bool {
	v := &c.values
	*v = values{}
	if !f.counts() || !f.parse(line, v) {
		return false
	}
	code, ok := number(v[status])
	if !ok || code < 100 || code > 599 {
		return false
	}
	s := c.names.find(c.hostOf(v))
	c.add(s.counts, v, code, now)
	i := -1
	if len(s.locations) > 0 {
		path := target(v)
		i = slices.IndexFunc(s.locations, func(l location) bool { return l.serves(path) })
	}
	if i >= 0 {
		c.add(s.locations[i].counts, v, code, now)
	} else {
		s.pathless[code/100-1]++
	}
	return true
}

// hostOf is the name in lower case and without a port, cut where it is longer than any site's. A name has no space: what
// stands before one belongs to the variable before it, such as a user's name, which a client chooses.
func (c *Counter) hostOf(v *values) []byte {
	name := v[host][bytes.LastIndexByte(v[host], ' ')+1:]
	if n := bytes.LastIndexByte(name, ':'); n >= 0 && bytes.IndexByte(name[n:], ']') < 0 {
		name = name[:n]
	}
	out := c.lowered[:0]
	for _, b := range name[:min(len(name), len(c.lowered))] {
		if b >= 'A' && b <= 'Z' {
			b += 'a' - 'A'
		}
		out = append(out, b)
	}
	return out
}

func (c *Counter) add(n *Counts, v *values, code uint64, now time.Time) {
	n.Requests[code/100-1]++
	n.Last = now
	if b, ok := number(v[sent]); ok {
		n.Bytes += b
	}
	if failed(v, code) {
		n.Failures++
	}
	if code == 101 {
		n.Websockets++
	} else if d, ok := milliseconds(v[seconds]); ok {
		n.Seconds.add(d)
	}
}

// add counts a duration in milliseconds.
func (h *Histogram) add(ms uint64) {
	d := float64(ms) / 1000
	i := 0
	for i < len(Bounds) && d > Bounds[i] {
		i++
	}
	h.Buckets[i]++
	h.Sum = math.Round(1000*h.Sum+float64(ms)) / 1000 // so that no error of many sums adds up
}

// failed reports whether a container was asked that did not answer. nginx says 502 or 504 of each that did not
// (nginx source, ngx_http_upstream_next). Where the log does not have that, several were asked or the client got one
// of these.
func failed(v *values, code uint64) bool {
	if s := v[upstreamStatus]; len(s) > 0 {
		return bytes.Contains(s, []byte("502")) || bytes.Contains(s, []byte("504"))
	}
	a := v[upstreamAddr]
	return len(a) > 1 && (code == 502 || code == 504 || bytes.IndexByte(a, ',') >= 0)
}

// Session counts a line of the stream section's log, as Request does.
func (c *Counter) Session(f *Format, line []byte, now time.Time) bool {
	v := &c.values
	*v = values{}
	if !f.parse(line, v) {
		return false
	}
	at, ok := number(v[port])
	s := c.ports[listen{string(v[protocol]) == "UDP", uint16(at)}]
	if !ok || at > 65535 || s == nil {
		return false
	}
	s.Connections++
	s.Last = now
	if n, ok := number(v[received]); ok {
		s.Received += n
	}
	if n, ok := number(v[sent]); ok {
		s.Sent += n
	}
	if string(v[status]) == "502" { // no container accepted it (nginx.org, ngx_stream_core_module)
		s.Failures++
	}
	return true
}

// number reads a whole number of less than 2^60, so that no sum of a few overflows.
func number(b []byte) (uint64, bool) {
	n, err := strconv.ParseUint(string(b), 10, 60)
	return n, err == nil
}

// milliseconds reads seconds with three digits behind the point, as nginx writes them.
func milliseconds(b []byte) (uint64, bool) {
	whole, rest, found := bytes.Cut(b, []byte("."))
	n, ok := number(whole)
	m, also := number(rest)
	return 1000*n + m, ok && also && found && len(rest) == 3 && n < 1<<40
}

// Report is what has been counted, from these logs. unreadable says why they cannot be read; empty if they can. open are the
// connections that are open now, by where they lead; nil for unknown.
func (c *Counter) Report(from nginx.Logs, unreadable string, open map[netip.AddrPort]int) Report {
	f, ports := Compile(from.Requests), Compile(from.Sessions)
	r := Report{Since: c.since, Unavailable: unreadable}
	switch {
	case from.Requests.Off != "":
		r.Unavailable = from.Requests.Off
	case !f.counts():
		r.Unavailable = "a line of the access log does not say what is counted: put $host and $status into nginx.log-format, with text between variables"
	}
	for _, m := range []struct {
		what string
		says bool
	}{{"path", f.has[request] || f.has[uri]}, {"bytes", f.has[sent]}, {"seconds", f.has[seconds]}, {"failures", f.has[upstreamStatus] || f.has[upstreamAddr]}, {"connections", len(c.streams) == 0 || ports.has[port]}} {
		if r.Unavailable == "" && !m.says {
			r.Missing = append(r.Missing, m.what)
		}
	}
	for _, s := range c.sites {
		h := Host{Host: s.host, Counts: *s.counts, Pathless: *s.pathless, Open: c.openTo(open, s.pools), Elsewhere: slices.Contains(from.Elsewhere, s.host)}
		for _, l := range s.locations {
			if !slices.ContainsFunc(h.Paths, func(p Path) bool { return p.Path == l.name }) {
				h.Paths = append(h.Paths, Path{l.name, *l.counts})
			}
		}
		r.Hosts = append(r.Hosts, h)
	}
	if c.other.counts.Requests.All() > 0 {
		r.Hosts = append(r.Hosts, Host{Host: Other, Counts: *c.other.counts, Pathless: *c.other.pathless})
	}
	for _, s := range c.streams {
		one := *s
		if key := (route.PoolKey{Host: s.Listen}); !strings.HasPrefix(s.Listen, string(route.UDP)) {
			one.Open = c.openTo(open, []route.PoolKey{key})
		}
		r.Streams = append(r.Streams, one)
	}
	return r
}

// Servers are the addresses of all containers, each with 0.
func (c *Counter) Servers() map[netip.AddrPort]int {
	all := map[netip.AddrPort]int{}
	for _, p := range c.pools {
		for _, s := range p.Servers {
			all[s.Addr] = 0
		}
	}
	return all
}

// openTo is how many connections are open to the servers of pools.
func (c *Counter) openTo(open map[netip.AddrPort]int, pools []route.PoolKey) *int {
	if open == nil {
		return nil
	}
	n, seen := 0, map[netip.AddrPort]bool{}
	for _, key := range pools {
		for _, s := range c.pools[key].Servers {
			if !seen[s.Addr] {
				seen[s.Addr] = true
				n += open[s.Addr]
			}
		}
	}
	return &n
}
