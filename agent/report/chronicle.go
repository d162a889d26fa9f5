package report

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// Entry is one line of the journal that follows from a change of the board.
type Entry struct {
	// Warning is true for what an operator should see, Error for what is configured and
	// not done. Quiet is true for what the history has, and the journal only where it is for debugging: it follows
	// from the lines before it.
	Warning, Error, Quiet bool
	Message               string
	// Fields are keys, each followed by its value, with event.Key first.
	Fields []any
}

// Chronicle finds what has changed between one status and the next: which
// containers came behind which hosts and went, and which problems began and ended.
// The zero value has seen nothing.
type Chronicle struct {
	behind map[place]map[member]who
	fleets map[string]*fleet
	logged map[standing]problem.Problem
}

// place is where a container can be: a path of a host, or a port of its own.
type place struct{ host, path string }

type member struct {
	container string
	addr      netip.AddrPort
}

// who names a container, which may be gone when that is logged.
type who struct{ ref, name, task, family string }

type standing struct{ code, subject string }

// settle is how long a problem must have stood before it is logged. Many come and go
// with every start of a container.
const settle = 3 * time.Second

// Changes returns what is new in s, and when to call it again if nothing changes before;
// zero means that time alone changes nothing. containers is what runs here.
func (c *Chronicle) Changes(s Status, containers []tasks.Container) (entries []Entry, again time.Time) {
	if s.Routes.Complete {
		entries = append(c.routes(s.Routes, containers), c.deployed(s)...)
	}
	more, again := c.problems(s, containers)
	return append(entries, more...), again
}

func (c *Chronicle) routes(t route.Table, containers []tasks.Container) []Entry {
	now, kept := map[place]map[member]who{}, map[place]string{}
	for _, of := range t.Places() {
		for _, at := range of.Keys {
			p := place{of.Host, at.Path}
			if now[p] == nil {
				now[p] = map[member]who{}
			}
			kept[p] = t.Pools[at].Kept
			for _, s := range t.Pools[at].Servers {
				w := who{ref: s.Ref, name: s.Ref, family: of.Family}
				if i := slices.IndexFunc(containers, func(c tasks.Container) bool { return c.ID == s.Container }); i >= 0 {
					w = whoIs(containers[i], w)
				}
				now[p][member{s.Container, s.Addr}] = w
			}
		}
	}
	before := c.behind
	c.behind = now
	var entries []Entry
	for _, p := range places(before, now) {
		if now[p] == nil {
			entries = append(entries, Entry{Message: "route removed", Fields: p.fields(event.RouteRemoved)})
			continue
		}
		for i, m := range missing(now[p], before[p]) {
			e := Entry{Message: "container routed", Fields: p.fields(event.ServerAdded)}
			if len(before[p])+i == 0 {
				e = Entry{Message: "route added", Fields: p.fields(event.RouteAdded)}
			}
			entries = append(entries, e.of(m, now[p][m], len(now[p])))
		}
		for _, m := range missing(before[p], now[p]) {
			e := Entry{Message: "container not routed any more", Fields: p.fields(event.ServerRemoved)}
			if len(now[p]) == 0 {
				e = Entry{Warning: true, Message: "route without a container", Fields: p.fields(event.RouteVacant)}
			}
			if e = e.of(m, before[p][m], len(now[p])); len(now[p]) == 0 && kept[p] != "" {
				e.Fields = append(e.Fields, "kept", kept[p])
			}
			entries = append(entries, e)
		}
	}
	return entries
}

func whoIs(c tasks.Container, w who) who {
	if c.Name != "" {
		w.name = c.Name
	}
	w.task = c.Task.ARN
	return w
}

// missing are the members of one place that are not among others, sorted.
func missing(all, others map[member]who) []member {
	return slices.DeleteFunc(members(all), func(m member) bool { _, there := others[m]; return there })
}

func (p place) fields(kind string) []any {
	all := []any{event.Key, kind, "host", p.host}
	if p.path != "" {
		all = append(all, "path", p.path)
	}
	return all
}

func (e Entry) of(m member, w who, servers int) Entry {
	e.Fields = append(e.Fields, "servers", servers, "container_name", w.name, "container", m.container)
	if w.task != "" {
		e.Fields = append(e.Fields, "task", w.task)
	}
	e.Fields = append(e.Fields, "family", w.family, "addr", m.addr)
	return e
}

func places(a, b map[place]map[member]who) []place {
	all := map[place]map[member]who{}
	maps.Copy(all, a)
	maps.Copy(all, b)
	return slices.SortedFunc(maps.Keys(all), func(a, b place) int { return cmp.Or(cmp.Compare(a.host, b.host), cmp.Compare(a.path, b.path)) })
}

func members(of map[member]who) []member {
	return slices.SortedFunc(maps.Keys(of), func(a, b member) int { return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.container, b.container)) })
}

func (c *Chronicle) problems(s Status, containers []tasks.Container) (entries []Entry, again time.Time) {
	if c.logged == nil {
		c.logged = map[standing]problem.Problem{}
	}
	stands := map[standing]bool{}
	for _, p := range s.Problems {
		key := standing{p.Code, p.Subject}
		stands[key] = true
		if _, ok := c.logged[key]; ok {
			continue
		}
		if at := p.Since.Add(settle); at.After(s.At) {
			if again.IsZero() || at.Before(again) {
				again = at
			}
			continue
		}
		c.logged[key] = p
		entries = append(entries, Entry{
			Warning: p.Severity == problem.Warning, Error: p.Severity == problem.Error, Message: "problem",
			Fields: slices.Concat([]any{event.Key, p.Code, "problem", p.Code, "subject", p.Subject, "text", p.Text, "hint", p.Hint}, about(p, containers)),
		})
	}
	over := slices.SortedFunc(maps.Keys(c.logged), func(a, b standing) int { return cmp.Or(cmp.Compare(a.code, b.code), cmp.Compare(a.subject, b.subject)) })
	for _, key := range over {
		if stands[key] {
			continue
		}
		p := c.logged[key]
		after := s.At.Sub(p.Since).Round(time.Second).String()
		delete(c.logged, key)
		entries = append(entries, Entry{
			Message: "problem over",
			Fields:  slices.Concat([]any{event.Key, event.ProblemOver, "problem", p.Code, "subject", p.Subject, "after", after}, about(p, containers)),
		})
	}
	return entries, again
}

// about are the fields that say what a problem is about.
func about(p problem.Problem, containers []tasks.Container) []any {
	var all []any
	add := func(key, value string) {
		if value != "" {
			all = append(all, key, value)
		}
	}
	w := who{name: p.Container}
	i := slices.IndexFunc(containers, func(c tasks.Container) bool { return c.Ref() == p.Container })
	if i >= 0 {
		w = whoIs(containers[i], w)
	}
	add("container_name", w.name)
	if i >= 0 {
		add("container", containers[i].ID)
	}
	add("task", w.task)
	add("host", p.Host)
	add("file", p.File)
	add("claim", p.Claim)
	add("job_id", p.Job)
	return all
}
