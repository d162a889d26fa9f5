package route

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// candidate is one container that asks to stand behind one key.
type candidate struct {
	Spec
	key       PoolKey
	container tasks.Container
	ref       string
	// family is who claims the key; base is the same without what several families share.
	family, base string
	// siteOwner is the family whose restrictions hold for a host that several share; empty
	// where none is shared.
	siteOwner string
	endpoint
	// why is empty when the container is ready; otherwise one of the words of
	// Waiting.Why.
	why string
	// wrongProtocol is true for one that is ready and does not speak the Scheme.
	wrongProtocol bool
}

func (c candidate) ready() bool     { return c.why == "" }
func (c candidate) unhealthy() bool { return c.why == "unhealthy" }

// newer orders candidates by age, the newest first.
func newer(a, b candidate) int {
	return cmp.Or(b.container.CreatedAt.Compare(a.container.CreatedAt), cmp.Compare(a.container.ID, b.container.ID), cmp.Compare(a.Path, b.Path))
}

// problem is an error about one of the container's routes.
func (c candidate) problem(code, hint, format string, args ...any) problem.Problem {
	p := problem.OfContainer(c.ref, code, hint, format, args...)
	p.Subject, p.Host = p.Subject+" route "+c.key.Host+c.key.Path, c.key.Host
	return p
}

// candidates lists what the containers ask for, newest first; what cannot be is a
// problem.
func (b *builder) candidates() []candidate {
	var all []candidate
	for _, c := range b.in.Snapshot.Containers {
		if !active(c) {
			continue
		}
		b.checkPublished(c)
		if c.IsBatch() {
			continue
		}
		b.t.Problems = append(b.t.Problems, b.in.Requests[c.ID].Problems...)
		b.checkUpstream(c)
		if c.Unlisted {
			b.waitForECS(c)
			continue
		}
		for _, s := range b.routesOf(c) {
			all = append(all, b.candidatesOf(c, s)...)
		}
	}
	slices.SortFunc(all, newer)
	return all
}

// active reports whether a container is there to serve, now or soon.
func active(c tasks.Container) bool {
	return c.State == tasks.Running || c.State == tasks.Paused || c.State == tasks.Restarting
}

// candidatesOf makes a candidate for each key of one route of one container.
func (b *builder) candidatesOf(c tasks.Container, s Spec) []candidate {
	keys := s.Keys()
	x := candidate{Spec: s, key: keys[0], container: c, ref: Ref(c), base: b.bases[c.ID]}
	x.family = b.familyOf(c, s, x.base)
	port, err := portOf(c, s.Port, s.Listen.transport())
	if x.Scheme == "" {
		x.Scheme = HTTP
		if port == 443 || port == 8443 {
			x.Scheme = HTTPS
		}
	}
	if p := b.refusal(x, port, err); p.Code != "" {
		b.report(p)
		return nil
	}
	if (s.Verify || s.ServerName != "") && !s.IsStream() && x.Scheme != HTTPS && x.Scheme != GRPCS {
		b.report(x.problem("label-without-effect", "set nagaya.scheme to https or grpcs, or remove these labels",
			"nagaya.verify and nagaya.server-name are about TLS to the container, and it is spoken to over %s", x.Scheme).AsWarning())
	}
	x.endpoint = b.in.Nginx.endpointOf(c, port, s.Listen.transport(), s.Network)
	all := make([]candidate, len(keys))
	for i, key := range keys {
		x.key = key
		all[i] = x
	}
	return all
}

// refusal is the problem for which a route is left out from the start; without a code for none. unclear says
// why its port is not known.
func (b *builder) refusal(c candidate, port uint16, unclear error) (none problem.Problem) {
	onHost := c.container.Network == tasks.Host
	if c.IsStream() && !b.o.Stream {
		return c.problem("nginx-without-stream", "install the module (Debian: libnginx-mod-stream; Amazon Linux: nginx-mod-stream)",
			"it needs nginx's stream module, which this nginx does not have, so the route is left out")
	}
	if p := b.mayNotListen(c); p.Code != "" {
		return p
	}
	switch {
	case unclear != nil:
		return c.problem("port-unclear", "set nagaya.port", "it is not clear which port %s leads to: %s", c.key.Host, unclear)
	case onHost && b.isNginxPort(port) && !b.in.Nginx.Container:
		return c.portIsNginx(port)
	case onHost && c.container.Origin == tasks.Local && slices.Contains(b.o.Reserved, port):
		return c.problem("port-reserved", "set nagaya.port to the port of the application; which ones are kept is the setting routes.reserved-ports",
			"it uses the host's network, where port %d is not a container's, so the route is left out", port)
	case c.Health != "" && c.Scheme != HTTP && c.Scheme != HTTPS:
		return c.problem("label-unsupported", "remove nagaya.health and give the image a HEALTHCHECK; the route is left out until then",
			"nagaya.health cannot be probed over %s", c.Scheme)
	}
	return none
}

// judge finds out which candidates are ready.
func (b *builder) judge(all []candidate) {
	for i, c := range all {
		c.why = b.whyNotReady(c)
		c.wrongProtocol = c.ready() && b.in.Reach[c.probeOf()].Said != ""
		b.mayServe[c.container.ID] = b.mayServe[c.container.ID] || c.ready() || c.unhealthy()
		if (c.why == "starting" || c.why == "no-address") && b.isBefore(c.container.StartedAt.Add(patience)) {
			b.t.StartsExpected = true
		}
		b.checkRestarts(c)
		all[i] = c
	}
}

// whyNotReady says why the container does not serve, empty if it does, and requests
// the probe that finds out.
func (b *builder) whyNotReady(c candidate) string {
	switch health := c.container.Health; {
	case c.container.State == tasks.Paused:
		return "paused"
	case c.container.State == tasks.Restarting:
		return "restarting"
	case c.container.Stopping:
		return "stopping"
	case !c.addr.IsValid():
		b.reportNoAddress(c)
		return "no-address"
	case c.Listen.Protocol == UDP && health == tasks.NoCheck:
		return "" // nothing can be learnt from a port that need not answer
	case c.Health == "" && health == tasks.Healthy:
		return ""
	case c.Health == "" && health == tasks.Starting:
		return "starting"
	case c.Health == "" && health == tasks.Unhealthy:
		return "unhealthy"
	default:
		why := b.whyNotReached(c)
		if health == tasks.Unhealthy {
			return "unhealthy"
		}
		return why
	}
}

// whyNotReached requests a probe and says what it has found so far.
func (b *builder) whyNotReached(c candidate) string {
	probe := c.probeOf()
	r := b.in.Reach[probe]
	b.probes = append(b.probes, claim{part: part{c.base, "", r.State != Unknown}, probe: probe, n: 1, at: c.container.CreatedAt, id: c.container.ID})
	switch {
	case r.State == Reachable:
		if r.Said != "" {
			b.reportProtocol(c, r.Said)
		}
		return ""
	case r.State == Unknown, b.isBefore(c.container.StartedAt.Add(patience)):
		return "starting"
	case r.State == Failing:
		return "unhealthy"
	}
	b.report(problem.OfContainer(c.ref, "container-not-listening",
		fmt.Sprintf("let the application listen on 0.0.0.0:%d, or set nagaya.port to the port it listens on", c.probe.Port()),
		"%s expects it on port %d, but nothing answers at %s (%s)", c.key.Host, c.probe.Port(), c.probe, r.detail()))
	return "not-listening"
}

// probeOf is the probe of the health path, or of the port where there is none.
func (c candidate) probeOf() Probe {
	p := Probe{Addr: c.probe, Container: c.container.ID, Started: c.container.StartedAt}
	if !c.IsStream() && (c.Scheme == HTTP || c.Scheme == HTTPS) {
		p.Scheme = c.Scheme
	}
	if c.Health != "" {
		p.Path, p.Host = c.Health, c.probeHost()
	}
	return p
}

// reportProtocol reports a container that says something else than nginx will understand. It is
// routed all the same: nginx passes on much that is no HTTP.
func (b *builder) reportProtocol(c candidate, said string) {
	speaks, hint := "HTTP", "set nagaya.port to the port at which the application speaks HTTP; or nagaya.scheme=https, or grpc, where it speaks that; or nagaya.listen for a port without HTTP"
	if c.Scheme == HTTPS {
		speaks, hint = "HTTPS", "set nagaya.scheme=http if the application speaks plain HTTP there; else nagaya.port to the port at which it speaks HTTPS"
	}
	b.report(problem.OfContainer(c.ref, "container-wrong-protocol", hint,
		"%s expects %s on port %d, and what answers at %s speaks something else: it begins with %s", c.key.Host, speaks, c.probe.Port(), c.probe, problem.Quoted(said)))
}

func (b *builder) reportNoAddress(c candidate) {
	if b.isBefore(c.container.StartedAt.Add(patience)) {
		return
	}
	p := problem.OfContainer(c.ref, "container-no-address", "connect it to a bridge network or publish its port",
		"%s cannot be routed because the container has no address that this host can reach", c.key.Host)
	if b.in.Nginx.Container && c.container.Network == tasks.Bridge {
		p.Text = fmt.Sprintf("%s cannot be routed because nginx, which is in a container too, shares no network with this one", c.key.Host)
		p.Hint = "connect nginx's container to one of its networks (docker network connect), or publish its port"
	}
	if _, on := onNetwork(c.container, c.Network); c.Network != "" && !on {
		p.Text = fmt.Sprintf("%s cannot be routed because nagaya.network is %s, and the container is on %s", c.key.Host, c.Network, networksOf(c.container))
		p.Hint = "name one of its networks, remove nagaya.network, or connect the container to that network (docker network connect)"
		b.report(p)
		return
	}
	if c.container.Network == tasks.AWSVPC || c.container.Task.ARN != "" {
		p.Hint = "its address comes from the ECS agent: see that the agent runs (systemctl status ecs) and answers on port 51678"
	}
	b.report(p)
}

// serving picks those of the candidates of one key that serve, newest first: the ready
// ones, else the unhealthy ones, because some answer is better than none. The others wait.
func (b *builder) serving(cs []candidate) []candidate {
	ready := slices.ContainsFunc(cs, candidate.ready)
	var serving []candidate
	for _, c := range cs {
		if c.unhealthy() {
			b.reportUnhealthy(c, ready)
		}
		if c.ready() || c.unhealthy() && !ready {
			serving = append(serving, c)
		} else {
			b.wait(c, c.why)
		}
	}
	return serving
}

// reportUnhealthy reports a container whose own check fails.
func (b *builder) reportUnhealthy(c candidate, others bool) {
	what, hint := "its HEALTHCHECK fails", "see docker inspect (State.Health.Log) for what the check said"
	if c.container.Health != tasks.Unhealthy {
		what = fmt.Sprintf("its health path fails (%s)", b.in.Reach[c.probeOf()].detail())
		hint = "see the container's log for why the path of nagaya.health does not answer with 200 to 399"
	}
	p := problem.OfContainer(c.ref, "container-unhealthy", hint,
		"%s; it is kept behind %s%s because no healthy container is there", what, c.key.Host, c.key.Path)
	if others {
		p.Severity, p.Text = problem.Warning, fmt.Sprintf("%s; %s%s is served by others", what, c.key.Host, c.key.Path)
	}
	b.report(p)
}

// pool makes the pool of a key of its candidates, newest first. lead is the newest that
// serves, whose options count; ok is false when none of them can serve.
func (b *builder) pool(key PoolKey, cs []candidate) (lead candidate, ok bool) {
	serving := b.serving(cs)
	if len(serving) == 0 {
		return candidate{}, false
	}
	lead = serving[0]
	if lead.Owner != "" && lead.base != lead.Owner { // which does not serve: a newcomer puts none out that does
		lead = serving[max(0, slices.IndexFunc(serving, b.served))]
	}
	servers, seen, bases := []Server{}, map[netip.AddrPort]bool{}, map[string]string{}
	for _, c := range serving {
		switch {
		case !c.compatible(lead):
			b.wait(c, "other-version")
		case seen[c.addr]:
			// Two containers behind one address are one server; the newest is named.
		default:
			seen[c.addr], bases[c.container.ID] = true, c.base
			servers = append(servers, Server{Addr: c.addr, Weight: c.Weight, Container: c.container.ID, Ref: c.ref, Unhealthy: c.unhealthy(), WrongProtocol: c.wrongProtocol})
		}
	}
	spread(servers, bases, lead.Owner)
	slices.SortFunc(servers, func(x, y Server) int { return x.Addr.Compare(y.Addr) })
	b.t.Pools[key] = Pool{Servers: servers}
	return lead, true
}

// compatible reports whether nginx can speak to the container as to the other one.
func (c candidate) compatible(lead candidate) bool {
	if c.IsStream() {
		return c.ProxyProtocol == lead.ProxyProtocol
	}
	return c.Scheme == lead.Scheme && c.StripPrefix == lead.StripPrefix && c.Dest == lead.Dest && c.Root == lead.Root && c.ServerName == lead.ServerName
}

// kept reports whether what was there before is still answered for, although no container
// asks for it any more: until the grace period after its last server is over.
func (b *builder) kept(key PoolKey) bool {
	return !b.forgotten[key] && b.in.Now.Before(b.vacantSince(key).Add(b.o.Grace))
}

// vacantSince is since when a pool has no server, if it has none now.
func (b *builder) vacantSince(key PoolKey) time.Time {
	return b.since(b.in.Prev.Pools[key].VacantSince)
}

// since is when something began that is still so: now, unless the table before has a time for it. One
// that is still to come says that the clock was set back, and a grace period must end.
func (b *builder) since(before time.Time) time.Time {
	if before.IsZero() || before.After(b.in.Now) {
		return b.in.Now
	}
	return before
}

// vacate makes a pool without servers of one that was there before and has none now. Where no
// container asks for it any more, that is for the grace period; false when it is over, or
// the pool has servers.
func (b *builder) vacate(key PoolKey, asked bool) bool {
	if b.t.served(key) || !asked && !b.kept(key) {
		return false
	}
	p := Pool{Servers: []Server{}, VacantSince: b.vacantSince(key), Were: b.in.Prev.Pools[key].addrs()}
	b.wakeAt(p.VacantSince.Add(b.o.Grace)) // until then it counts as kept, whoever asks
	if !asked {
		p.Kept = b.whyKept(b.poolFamily[key])
	}
	b.t.Pools[key] = p
	return true
}

// keepPools takes pools from the table before.
func (b *builder) keepPools(at ...PoolKey) {
	for _, k := range at {
		b.t.Pools[k] = b.in.Prev.Pools[k]
	}
}

// What may stand in a table besides what package labels lets in.
var (
	refForm = pattern.Of(512, `[A-Za-z0-9_][A-Za-z0-9_.:/~-]*`)
	idForm  = pattern.Of(128, `[A-Za-z0-9][A-Za-z0-9_.-]*`)
)

// Ref names a container for people, in a form that may stand anywhere.
func Ref(c tasks.Container) string {
	return cmp.Or(refForm.Only(c.Ref()), idForm.Only(c.ID[:min(len(c.ID), 12)]), "unnamed")
}
