package route

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// claim is one container that wants to serve one path of one host.
type claim struct {
	host, path string
	said
	c      tasks.Container
	ref    string
	family string
	scheme Scheme
	// probeHost is the name that an HTTP probe asks for.
	probeHost string
	place
	// why is empty when the container is ready; otherwise one of the words of
	// Waiting.Why.
	why string
}

func (c claim) ready() bool     { return c.why == "" }
func (c claim) unhealthy() bool { return c.why == "unhealthy" }

// newer orders claims by age, the newest first.
func newer(a, b claim) int {
	return cmp.Or(b.c.CreatedAt.Compare(a.c.CreatedAt), cmp.Compare(a.c.ID, b.c.ID), cmp.Compare(a.path, b.path))
}

// wants reports whether a container is there to serve, now or soon.
func wants(c tasks.Container) bool {
	switch c.State {
	case tasks.Running, tasks.Paused, tasks.Restarting:
		return true
	}
	return false
}

// stand fills in why the container does not serve, if it does not, and asks for
// the probe that would tell.
func (b *builder) stand(c *claim, reached bool) {
	switch {
	case c.c.State == tasks.Paused:
		c.why = "paused"
	case c.c.State == tasks.Restarting:
		c.why = "restarting"
	case c.c.Stopping:
		c.why = "stopping"
	case !reached:
		c.why = "no-address"
		b.noAddress(c)
	case b.foresees && b.onItsWay(c.c, b.o.Patience):
	case c.listen.Protocol == UDP && c.c.Health == tasks.NoCheck:
		// Nothing can be learnt from a port that need not answer.
	case c.health != "":
		if c.why = b.probed(c, true); c.c.Health == tasks.Unhealthy {
			c.why = "unhealthy"
		}
	case c.c.Health == tasks.Healthy:
	case c.c.Health == tasks.Starting:
		c.why = "starting"
	case c.c.Health == tasks.Unhealthy:
		c.why = "unhealthy"
	default:
		c.why = b.probed(c, false)
	}
}

// probed asks for a probe and says what it has found so far.
func (b *builder) probed(c *claim, http bool) (why string) {
	p := c.tcpProbe()
	if http {
		p = c.httpProbe()
	}
	b.t.Probes = append(b.t.Probes, p)
	r := b.in.Reach[p]
	late := c.c.StartedAt.Add(b.o.Patience)
	switch {
	case r.State == Reachable:
		return ""
	case r.State == Unknown:
		return "starting"
	case b.in.Now.Before(late):
		b.wake(late)
		return "starting"
	case r.State == Failing:
		return "unhealthy"
	}
	b.notListening(c, r)
	return "not-listening"
}

func (b *builder) notListening(c *claim, r Reached) {
	b.say(problem.Problem{
		Code: "container-not-listening", Severity: problem.Error, Subject: "container " + c.ref, Container: c.ref,
		Text: fmt.Sprintf("%s wants port %d of it, and nothing answers at %s (%s)", c.host, c.probe.Port(), c.probe, detail(r)),
		Hint: fmt.Sprintf("let the application listen on 0.0.0.0:%d, or set nagaya.port to the port it listens on", c.probe.Port()),
	})
}

func detail(r Reached) string {
	if r.Detail == "" {
		return "no answer"
	}
	return r.Detail
}

func (b *builder) noAddress(c *claim) {
	late := c.c.StartedAt.Add(b.o.Patience)
	if b.in.Now.Before(late) {
		b.wake(late)
		return
	}
	x := problem.Problem{
		Code: "container-no-address", Severity: problem.Error, Subject: "container " + c.ref, Container: c.ref,
		Text: fmt.Sprintf("%s cannot be routed because the container has no address that this host can reach", c.host),
		Hint: "connect it to a bridge network or publish its port",
	}
	if b.in.From.Container && c.c.Network == tasks.Bridge {
		x.Text = fmt.Sprintf("%s cannot be routed because nginx, which is in a container too, shares no network with this one", c.host)
		x.Hint = "connect nginx's container to one of its networks (docker network connect), or publish its port"
	}
	if c.c.Network == tasks.AWSVPC || c.c.Task.ARN != "" {
		x.Hint = "its address is the ECS agent's to tell: see that the agent runs (systemctl status ecs) and answers on port 51678"
	}
	b.say(x)
}

// unhealthySaid reports the containers whose own check fails.
func (b *builder) unhealthySaid(cs []claim, served bool) {
	for _, c := range cs {
		if !c.unhealthy() {
			continue
		}
		what, hint := "its HEALTHCHECK fails", "see docker inspect (State.Health.Log) for what the check said"
		if c.health != "" && c.c.Health != tasks.Unhealthy {
			what = fmt.Sprintf("its health path fails (%s)", detail(b.in.Reach[c.httpProbe()]))
			hint = "see the container's log for why the path of nagaya.health does not answer with 200 to 399"
		}
		x := problem.Problem{
			Code: "container-unhealthy", Severity: problem.Error, Subject: "container " + c.ref, Container: c.ref, Hint: hint,
			Text: fmt.Sprintf("%s; it is kept behind %s%s because no healthy container is there", what, c.host, c.path),
		}
		if served {
			x.Severity = problem.Warning
			x.Text = fmt.Sprintf("%s; %s%s is served by others", what, c.host, c.path)
		}
		b.say(x)
	}
}

func (c claim) tcpProbe() Probe {
	return Probe{Addr: c.probe, Container: c.c.ID, Started: c.c.StartedAt}
}

func (c claim) httpProbe() Probe {
	p := c.tcpProbe()
	p.Path, p.Scheme, p.Host = c.health, c.scheme, c.probeHost
	return p
}

// exited reports containers that carry routes and ended by themselves.
func (b *builder) exited(c tasks.Container) {
	routes := parse(c, b.o.Edges).routes
	if len(routes) == 0 {
		return
	}
	x := problem.Problem{
		Code: "container-exited", Severity: problem.Error, Subject: "container " + ref(c), Container: ref(c),
		Hint: "see what it said last: docker logs " + ref(c),
	}
	if len(c.ID) >= 12 {
		x.Hint = "see what it said last: docker logs " + c.ID[:12]
	}
	switch {
	case c.State == tasks.Restarting:
		x.Text = fmt.Sprintf("it keeps ending and being restarted (%s); its routes are without it", ending(c))
	case c.State != tasks.Exited && c.State != tasks.Dead, c.Stopping:
		return
	default:
		over := c.FinishedAt.Add(b.o.ExitedFor)
		if !b.in.Now.Before(over) || !b.missed(c, routes) {
			return
		}
		b.wake(over)
		x.Text = fmt.Sprintf("it ended by itself (%s) and carries routes", ending(c))
		if c.ExitCode == 0 && !c.OOMKilled {
			x.Severity = problem.Warning
		}
	}
	if c.OOMKilled {
		x.Hint = "raise its memory limit, or let it use less; " + x.Hint
	}
	b.say(x)
}

// notStarted reports containers that carry routes, were made and never began,
// e.g. because another one has the host port that they publish.
func (b *builder) notStarted(c tasks.Container) {
	if c.State != tasks.Created || len(parse(c, b.o.Edges).routes) == 0 {
		return
	}
	late, over := c.CreatedAt.Add(b.o.Patience), c.CreatedAt.Add(b.o.ExitedFor)
	switch {
	case b.in.Now.Before(late):
		b.wake(late)
		return
	case b.followed(c, c.CreatedAt):
		return
	case c.Stopping && !b.in.Now.Before(over):
		return // the ECS agent gave it up, and cleans it away hours later
	case c.Stopping:
		b.wake(over)
	}
	b.say(problem.Problem{
		Code: "container-not-started", Severity: problem.Error, Subject: "container " + ref(c), Container: ref(c),
		Text: "it was made and has not been started, and carries routes",
		Hint: "see why with docker inspect (State.Error), most often a host port that is taken; remove it if it is not wanted",
	})
}

// followed reports whether a container of the same family was started after that.
func (b *builder) followed(c tasks.Container, after time.Time) bool {
	return slices.ContainsFunc(b.in.Snapshot.Containers, func(o tasks.Container) bool {
		return family(o) == family(c) && wants(o) && o.StartedAt.After(after)
	})
}

func ending(c tasks.Container) string {
	s := fmt.Sprintf("exit code %d", c.ExitCode)
	if c.OOMKilled {
		s += ", killed for lack of memory"
	}
	return s
}

// Exit codes of a container that obeyed SIGTERM or was killed after it: how
// every replaced one ends (128 + signal number).
const (
	exitTerminated = 143
	exitKilled     = 137
)

// missed reports whether the end of a container matters: one of its routes has no
// server, or it crashed and nothing of its family was started since.
func (b *builder) missed(c tasks.Container, routes []said) bool {
	for _, s := range routes {
		for _, at := range s.spots() {
			if !b.served(at) {
				return true
			}
		}
	}
	if !c.OOMKilled && (c.ExitCode == 0 || c.ExitCode == exitTerminated || c.ExitCode == exitKilled) {
		return false
	}
	return !b.followed(c, c.FinishedAt)
}

func (b *builder) served(at spot) bool {
	for _, s := range b.t.Sites {
		if s.Host != at.host {
			continue
		}
		if at.path == "" && s.Passthrough != nil {
			return b.t.served(s.PassthroughKey())
		}
		for _, l := range s.Locations {
			if l.Path == at.path {
				return b.t.served(s.PoolKey(l))
			}
		}
	}
	return b.t.served(PoolKey{Host: at.host})
}

// crashing reports running containers that were restarted lately and are not ready.
func (b *builder) crashing(c claim) {
	if c.c.State != tasks.Running || c.c.Restarts == 0 || c.ready() || c.c.Stopping {
		return
	}
	over := c.c.FinishedAt.Add(b.o.ExitedFor)
	if c.c.FinishedAt.IsZero() || !b.in.Now.Before(over) {
		return
	}
	b.wake(over)
	b.say(problem.Problem{
		Code: "container-exited", Severity: problem.Error, Subject: "container " + c.ref, Container: c.ref,
		Text: "it ended by itself, was restarted, and is not ready yet",
		Hint: "see what it said last: docker logs " + c.c.ID[:min(len(c.c.ID), 12)],
	})
}

// takesNginxPort reports containers that publish a port which nginx needs.
func (b *builder) takesNginxPort(c tasks.Container) {
	if b.in.From.Container {
		return // its ports are not the host's, and one that publishes them is its own
	}
	for _, p := range c.Ports {
		if p.Protocol != "tcp" || !b.isNginxPort(p.Host) {
			continue
		}
		if validAddr(p.HostIP) && p.HostIP != b.in.Local {
			continue
		}
		b.say(problem.Problem{
			Code: "host-port-taken", Severity: problem.Error, Subject: fmt.Sprintf("container %s port %d", ref(c), p.Host), Container: ref(c), Port: p.Host,
			Text: fmt.Sprintf("it publishes port %d of this host, so what should reach nginx there reaches the container", p.Host),
			Hint: fmt.Sprintf("publish another port, or a dynamic one (0); on ECS add %d to ECS_RESERVED_PORTS", p.Host),
		})
	}
}

func (b *builder) isNginxPort(port uint16) bool {
	for _, l := range b.o.Listen {
		if l == port && port != 0 {
			return true
		}
	}
	return false
}

// wake remembers the earliest moment at which time alone changes the table.
func (b *builder) wake(at time.Time) {
	if at.After(b.in.Now) && (b.t.Next.IsZero() || at.Before(b.t.Next)) {
		b.t.Next = at
	}
}

func (b *builder) say(p problem.Problem) { b.t.Problems = append(b.t.Problems, p) }

func validAddr(a netip.Addr) bool { return a.IsValid() && !a.IsUnspecified() && a.Zone() == "" }
