package route

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// Input is everything that a table depends on.
type Input struct {
	Snapshot tasks.Snapshot
	// Certs must be Complete, if only by saying that there are none: until then no
	// table is complete, since a site must not lose its HTTPS to a slow start.
	Certs certs.Inventory
	Reach Reach
	// Local is the address at which this host reaches its own published ports.
	Local netip.Addr
	// From is where nginx stands.
	From Vantage
	// Prev is the table that this one replaces: who holds a host in it keeps it.
	Prev    Table
	Now     time.Time
	Options Options
}

// Options are the operator's defaults. Zero values mean the default.
type Options struct {
	// BodySize is the largest request body in bytes where a label says nothing.
	// Zero means 1 MiB, as nginx does; negative means no limit.
	BodySize int64
	// Timeout is how long a container may be silent. Zero means 60 s, as nginx does.
	Timeout time.Duration
	// Grace is how long a site without containers answers 503 before it is
	// forgotten. Zero means 10 min; negative means not at all.
	Grace time.Duration
	// Patience is how long a container may start before its silence is a problem.
	// Zero means 10 s.
	Patience time.Duration
	// ExitedFor is how long the end of a container is a problem. Zero means 10 min.
	ExitedFor time.Duration
	// Listen are the ports of nginx itself, which no container may be behind. Nil
	// means 80 and 443.
	Listen []uint16
	// DefaultHost is the host that also gets the requests for names that nobody has;
	// empty means that those get an error.
	DefaultHost string
	// Edges is what holds for routes that say nothing.
	Edges Defaults
	// Stream is false where nginx has no stream module: then routes that need it are
	// problems.
	Stream bool
	// ShareHosts lets containers that use nginx-proxy's words serve one host together,
	// whatever family they are of.
	ShareHosts bool
	// Reserved are ports of this host that no label may ask nginx to listen on,
	// besides those in Listen: the agent's own and what the operator names.
	Reserved []uint16
}

// Defaults are the operator's choices for routes that say nothing. Zero values leave
// the choice to the words in which the containers speak.
type Defaults struct {
	// HTTPSMethod is nginx-proxy's word: redirect, noredirect, nohttp or nohttps.
	HTTPSMethod string
	// HSTS is the header's value, or "off".
	HSTS string
	// TLSPolicy is the name of one of TLSPolicies.
	TLSPolicy string
	// RedirectCode is 301, 307 or 308.
	RedirectCode int
	// OwnCertOnly keeps the certificate "default" from standing in.
	OwnCertOnly bool
	// HTTPSOnly refuses plain HTTP also where there is no certificate.
	HTTPSOnly bool
}

// fresh is a route that nobody has said anything about.
func (d Defaults) fresh(nginxProxy bool) said {
	s := said{nginxProxy: nginxProxy, ownCertOnly: d.OwnCertOnly, httpsOnly: d.HTTPSOnly}
	s.edge.HSTS, s.edge.TLSPolicy, s.edge.RedirectCode = d.hsts(nginxProxy), d.TLSPolicy, d.RedirectCode
	return s
}

func (d Defaults) hsts(nginxProxy bool) string {
	if d.HSTS == "" && nginxProxy {
		return nginxProxyHSTS
	}
	return d.HSTS
}

// Vantage is where nginx stands, from which it must reach the containers. Its zero
// value is the host itself.
type Vantage struct {
	// Container is true for an nginx in a container with networks of its own: it
	// reaches others at their addresses on the networks that they share, and the host
	// and what is published at Input.Local.
	Container bool
	// Networks are the names of nginx's Docker networks, sorted.
	Networks []string
}

func (o Options) withDefaults() Options {
	o.BodySize = cmp.Or(o.BodySize, 1<<20)
	o.BodySize = max(o.BodySize, 0)
	o.Timeout = cmp.Or(o.Timeout, time.Minute)
	o.Grace = cmp.Or(o.Grace, 10*time.Minute)
	o.Patience = cmp.Or(o.Patience, 10*time.Second)
	o.ExitedFor = cmp.Or(o.ExitedFor, 10*time.Minute)
	if o.Listen == nil {
		o.Listen = []uint16{80, 443}
	}
	return o
}

// Build makes the table of what should be served. It is a function of its input
// alone: equal inputs give equal tables. What cannot be used becomes a problem
// and costs nothing but itself. While the snapshot or the certificates are not
// known, the sites are those of the table before and Complete is false.
func Build(in Input) Table {
	b := &builder{in: in, o: in.Options.withDefaults()}
	return b.build()
}

func (b *builder) build() Table {
	in := b.in
	b.t.Complete, b.t.Sites, b.t.Pools = in.Snapshot.Complete && in.Certs.Complete, []Site{}, Pools{}
	claims := b.claims()
	b.unrouted(claims)
	claims = b.settle(claims)
	b.contest(claims)
	sites, ports := apart(claims)
	b.sites(sites)
	b.streams(ports)
	b.defaultHost()
	if !b.t.Complete {
		b.t.Sites, b.t.Streams, b.t.Pools = append([]Site{}, in.Prev.Sites...), in.Prev.Streams, in.Prev.Pools
	}
	for _, c := range in.Snapshot.Containers {
		if idForm.MatchString(c.ID) && !c.IsBatch() {
			b.exited(c)
			b.notStarted(c)
		}
	}
	b.order()
	return b.t
}

type builder struct {
	in Input
	o  Options
	t  Table
	// foresees is true where containers on their way count as ready.
	foresees bool
}

// order makes the fixed order that Table promises.
func (b *builder) order() {
	slices.SortFunc(b.t.Waiting, func(x, y Waiting) int {
		return cmp.Or(cmp.Compare(x.Host, y.Host), cmp.Compare(x.Path, y.Path), cmp.Compare(x.Ref, y.Ref), x.Addr.Compare(y.Addr), cmp.Compare(x.Why, y.Why))
	})
	slices.SortFunc(b.t.Probes, compareProbes)
	b.t.Probes = slices.Compact(b.t.Probes)
	problem.Sort(b.t.Problems)
	b.t.Problems = firstOfEach(b.t.Problems)
}

// firstOfEach leaves one problem of each code and subject, which are its identity;
// of sorted ones, the worst.
func firstOfEach(ps []problem.Problem) []problem.Problem {
	type identity struct{ code, subject string }
	seen := map[identity]bool{}
	return slices.DeleteFunc(ps, func(p problem.Problem) bool {
		id := identity{p.Code, p.Subject}
		again := seen[id]
		seen[id] = true
		return again
	})
}

// claims lists who wants to serve something of each host.
func (b *builder) claims() map[string][]claim {
	claims := map[string][]claim{}
	for _, c := range b.in.Snapshot.Containers {
		if !idForm.MatchString(c.ID) || !wants(c) {
			continue
		}
		c.Addrs = slices.DeleteFunc(slices.Clone(c.Addrs), func(a netip.Addr) bool { return !validAddr(a) })
		b.takesNginxPort(c)
		if c.IsBatch() {
			continue
		}
		p := parse(c, b.o.Edges)
		b.t.Problems = append(b.t.Problems, p.problems...)
		for _, s := range p.routes {
			b.claim(claims, c, s)
		}
	}
	return claims
}

// claim adds the claims of one route of one container.
func (b *builder) claim(claims map[string][]claim, c tasks.Container, s said) {
	first := s.spots()[0]
	subject := "container " + ref(c) + " route " + first.host + s.path
	if s.isStream() && !b.mayStream(ref(c), first.host, subject) || !b.mayOpen(c, s, subject) {
		return
	}
	port, err := portOf(c, s.port, s.listen.transport())
	if err != nil {
		b.say(problem.Problem{
			Code: "port-unclear", Severity: problem.Error, Subject: subject, Container: ref(c), Host: first.host,
			Text: fmt.Sprintf("it is not clear which port %s leads to: %s", first.host, err),
			Hint: "set nagaya.port",
		})
		return
	}
	if c.Network == tasks.Host && b.isNginxPort(port) && !b.in.From.Container {
		b.say(problem.Problem{
			Code: "port-is-nginx", Severity: problem.Error, Subject: subject, Container: ref(c), Host: first.host,
			Text: fmt.Sprintf("it uses the host's network, where port %d is nginx's own", port),
			Hint: "let the application listen on another port and set nagaya.port to it",
		})
		return
	}
	scheme := schemeOf(s.scheme, port)
	if s.health != "" && scheme != HTTP && scheme != HTTPS {
		b.say(problem.Problem{
			Code: "label-unsupported", Severity: problem.Error, Subject: subject, Container: ref(c), Host: first.host,
			Text: fmt.Sprintf("nagaya.health cannot be probed over %s", scheme),
			Hint: "remove nagaya.health and give the image a HEALTHCHECK; the route is left out until then",
		})
		return
	}
	b.idleTLS(c, s, scheme, subject)
	where, reached := placeOf(c, port, s.listen.transport(), b.in)
	probeHost := ""
	for _, host := range s.hosts {
		if pattern.Host(host) && host[0] != '*' {
			probeHost = host
			break
		}
	}
	for _, at := range s.spots() {
		x := claim{host: at.host, path: s.path, said: s, c: c, ref: ref(c), family: b.familyOf(c, s), scheme: scheme, place: where, probeHost: probeHost}
		b.stand(&x, reached)
		b.crashing(x)
		claims[x.host] = append(claims[x.host], x)
	}
}

// idleTLS says that a check of the container's certificate was asked for where
// there is none.
func (b *builder) idleTLS(c tasks.Container, s said, scheme Scheme, subject string) {
	if s.isStream() || scheme == HTTPS || scheme == GRPCS || !s.verify && s.serverName == "" {
		return
	}
	b.say(problem.Problem{
		Code: "label-without-effect", Severity: problem.Warning, Subject: subject, Container: ref(c), Host: s.spots()[0].host,
		Text: fmt.Sprintf("nagaya.verify and nagaya.server-name are about TLS to the container, and it is spoken to over %s", scheme),
		Hint: "set nagaya.scheme to https or grpcs, or remove these labels",
	})
}

// sharedFamily is the family of all whose hosts are shared: as if they all named one
// nagaya.upstream.
const sharedFamily = "upstream:nginx-proxy"

// familyOf is the family under which a route claims its hosts.
func (b *builder) familyOf(c tasks.Container, s said) string {
	if b.o.ShareHosts && s.nginxProxy && c.Labels[tasks.LabelPrefix+"upstream"] == "" {
		return sharedFamily
	}
	return family(c)
}

// settle decides which family holds each host, with all its paths: a path of
// somebody else's host may be where that one takes passwords. The others' claims
// become problems. Those that are left are sorted, the newest first.
func (b *builder) settle(claims map[string][]claim) map[string][]claim {
	for host, cs := range claims {
		slices.SortFunc(cs, newer)
		holder := b.holder(host, cs)
		claims[host] = slices.DeleteFunc(cs, func(c claim) bool {
			if c.family == holder {
				return false
			}
			b.wait(c, "taken")
			b.say(problem.Problem{
				Code: "host-taken", Severity: problem.Error, Subject: "container " + c.ref + " route " + host + c.path, Container: c.ref, Host: host,
				Text: fmt.Sprintf("%s belongs to %s, so %s does not serve %s of it", host, quoted(holder), quoted(c.family), c.path),
				Hint: "give it another nagaya.host; or stop the other one, whose host name is free when routes.grace is over",
			})
			return true
		})
	}
	return claims
}

// holder says whose a host is: his who holds it in the table before, as long as
// he claims it or its site is kept; else his who came first.
func (b *builder) holder(host string, cs []claim) string {
	for _, s := range b.in.Prev.Sites {
		if s.Host != host {
			continue
		}
		if claimed(cs, s.Family) || b.anyLocationKept(s) || s.Passthrough != nil && b.kept(s.PassthroughKey()) {
			return s.Family
		}
	}
	for _, s := range b.in.Prev.Streams {
		if s.Listen.String() == host && (claimed(cs, s.Family) || b.kept(s.PoolKey())) {
			return s.Family
		}
	}
	return cs[len(cs)-1].family
}

func claimed(cs []claim, family string) bool {
	return slices.ContainsFunc(cs, func(c claim) bool { return c.family == family })
}

func (b *builder) wait(c claim, why string) {
	b.t.Waiting = append(b.t.Waiting, Waiting{Host: c.host, Path: c.path, Addr: c.addr, Why: why, Ref: c.ref})
}

// sites makes the sites of the claims, and keeps those that just lost their last
// container.
func (b *builder) sites(claims map[string][]claim) {
	before := map[string]Site{}
	for _, s := range b.in.Prev.Sites {
		before[s.Host] = s
		if _, claimed := claims[s.Host]; !claimed {
			claims[s.Host] = nil
		}
	}
	for host, cs := range claims {
		was := before[host]
		if len(cs) > 0 && cs[0].family != was.Family {
			was = Site{} // another family begins anew
		}
		if s := b.site(host, was, cs); len(s.Locations) > 0 || s.Passthrough != nil {
			b.t.Sites = append(b.t.Sites, s)
		}
	}
	slices.SortFunc(b.t.Sites, func(x, y Site) int { return cmp.Compare(x.Host, y.Host) })
}

// site makes the site of the claims of a host's holder, newest first. was is the
// holder's site in the table before. A site with nothing in it is none.
func (b *builder) site(host string, was Site, cs []claim) Site {
	var web, pass []claim
	for _, c := range cs {
		if c.tls == tlsPass {
			pass = append(pass, c)
		} else {
			web = append(web, c)
		}
	}
	s := Site{Host: host, Family: was.Family, CatchAll: host == b.o.DefaultHost}
	s.Locations, s.Passthrough = b.locations(s, was, web), b.passthrough(s.PassthroughKey(), was.Passthrough, pass)
	if len(s.Locations) == 0 && s.Passthrough == nil {
		return s
	}
	lead, ok := rule(web)
	switch {
	case len(cs) == 0:
		b.stillSecure(&s, was)
	case !ok:
		s.Family, s.Plain = cs[0].family, Redirect
	default:
		s.Family, s.Edge = lead.family, lead.edge
		b.secure(&s, lead)
	}
	return s
}

// locations makes one location of each path that is claimed and served, and keeps
// those from before that are not, for a while.
func (b *builder) locations(s, was Site, cs []claim) []Location {
	byPath, old := map[PoolKey][]claim{}, map[PoolKey]Location{}
	for _, c := range cs {
		at := s.PoolKey(Location{Match: c.match, Path: c.path})
		byPath[at] = append(byPath[at], c)
	}
	all := []Location{}
	for _, l := range was.Locations {
		at := s.PoolKey(l)
		old[at] = l
		if _, claimed := byPath[at]; !claimed && b.abandon(at) {
			all = append(all, l)
		}
	}
	for at, cs := range byPath {
		l, servers := b.location(cs)
		before, served := old[at]
		switch {
		case len(servers) > 0:
			all = append(all, l)
			b.t.Pools[at] = Pool{Servers: servers}
		case served:
			all = append(all, before)
			b.vacate(at)
		}
	}
	slices.SortFunc(all, func(x, y Location) int {
		return cmp.Or(cmp.Compare(len(y.Path), len(x.Path)), cmp.Compare(x.Path, y.Path), cmp.Compare(x.Match, y.Match))
	})
	return all
}

// anyLocationKept reports whether a path of a site from before is still answered for.
func (b *builder) anyLocationKept(s Site) bool {
	return slices.ContainsFunc(s.Locations, func(l Location) bool { return b.kept(s.PoolKey(l)) })
}

// kept reports whether what was there before is still answered for, although nobody
// claims it any more: until the grace period after its last server is over.
func (b *builder) kept(at PoolKey) bool { return b.in.Now.Before(b.vacantSince(at).Add(b.o.Grace)) }

// vacantSince is since when a pool has no server, if it has none now.
func (b *builder) vacantSince(at PoolKey) time.Time {
	since := b.in.Prev.Pools[at].VacantSince
	if since.IsZero() || since.After(b.in.Now) {
		return b.in.Now // after Now: the clock was set back, and a grace period must end
	}
	return since
}

// vacate makes a pool without servers.
func (b *builder) vacate(at PoolKey) {
	b.t.Pools[at] = Pool{Servers: []Server{}, VacantSince: b.vacantSince(at)}
}

// abandon makes a pool without servers of one that nobody claims any more; ok is false
// when it is to be forgotten.
func (b *builder) abandon(at PoolKey) (ok bool) {
	if !b.kept(at) {
		return false
	}
	b.vacate(at)
	b.wake(b.vacantSince(at).Add(b.o.Grace))
	return true
}

// rule is the claim whose word on TLS counts: the newest that serves, else the
// newest.
func rule(cs []claim) (claim, bool) {
	if i := slices.IndexFunc(cs, claim.ready); i >= 0 {
		return cs[i], true
	}
	if len(cs) > 0 {
		return cs[0], true
	}
	return claim{}, false
}

// location makes the location of the claims of one path, newest first, and its
// servers: none when none of the claims can serve.
func (b *builder) location(cs []claim) (Location, []Server) {
	serving := b.serving(cs)
	if len(serving) == 0 {
		return Location{}, nil
	}
	lead := serving[0]
	l := Location{
		Path: lead.path, Match: lead.match, StripPrefix: lead.strip && lead.path != "/", Dest: lead.dest,
		Scheme: lead.scheme, Balance: lead.balance, Verify: lead.verify, ServerName: lead.serverName, Root: lead.root,
		BodySize: b.o.BodySize, Timeout: cmp.Or(lead.timeout, b.o.Timeout),
		Buffering: true, Auth: lead.auth, Allow: lead.allow, Keepalive: lead.keepalive,
	}
	if lead.nginxProxy && lead.scheme == FastCGI {
		l.Root = cmp.Or(lead.root, nginxProxyRoot)
	}
	if lead.bodySize != nil {
		l.BodySize = *lead.bodySize
	}
	if lead.buffering != nil {
		l.Buffering = *lead.buffering
	}
	return l, b.servers(serving, func(c claim) bool {
		return c.scheme == lead.scheme && c.strip == lead.strip && c.dest == lead.dest && c.root == lead.root && c.serverName == lead.serverName
	})
}

// serving picks those of the claims of one place that serve: the ready ones, else
// the unhealthy ones. The others wait.
func (b *builder) serving(cs []claim) []claim {
	var serving []claim
	for _, c := range cs {
		if c.ready() {
			serving = append(serving, c)
		}
	}
	b.unhealthySaid(cs, len(serving) > 0)
	if len(serving) == 0 {
		// Better some answer than none.
		for _, c := range cs {
			if c.unhealthy() {
				serving = append(serving, c)
			}
		}
	}
	for _, c := range cs {
		if c.why != "" && !(c.unhealthy() && len(serving) > 0 && serving[0].unhealthy()) {
			b.wait(c, c.why)
		}
	}
	return serving
}

// servers makes servers of those that can stand behind the same place as the newest.
func (b *builder) servers(serving []claim, alike func(claim) bool) []Server {
	all := []Server{}
	for _, c := range serving {
		switch {
		case !alike(c):
			b.wait(c, "other-version")
		case slices.ContainsFunc(all, func(s Server) bool { return s.Addr == c.addr }):
			// Two containers behind one address are one server; the newest is named.
		default:
			all = append(all, Server{Addr: c.addr, Weight: c.weight, Container: c.c.ID, Ref: c.ref, Unhealthy: c.unhealthy()})
		}
	}
	slices.SortFunc(all, func(x, y Server) int { return x.Addr.Compare(y.Addr) })
	return all
}
