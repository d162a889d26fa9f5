package route

import (
	"cmp"
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// Unrouted is one container that runs and has no route at all.
type Unrouted struct {
	Ref string `json:"ref"`
	// Why is one of "silent" (neither label nor variable names a host or a port),
	// "batch" (it is a batch container) and "refused" (a problem says what is wrong with
	// what it asks for).
	Why string `json:"why"`
}

// unrouted lists the containers that run and are neither behind a route nor waiting.
func (b *builder) unrouted(claims map[string][]claim) {
	claiming := map[string]bool{}
	for _, cs := range claims {
		for _, c := range cs {
			claiming[c.c.ID] = true
		}
	}
	for _, c := range b.in.Snapshot.Containers {
		if !wants(c) || claiming[c.ID] {
			continue
		}
		b.t.Unrouted = append(b.t.Unrouted, Unrouted{Ref: ref(c), Why: b.whyNot(c)})
	}
	slices.SortFunc(b.t.Unrouted, func(x, y Unrouted) int { return cmp.Or(cmp.Compare(x.Ref, y.Ref), cmp.Compare(x.Why, y.Why)) })
}

func (b *builder) whyNot(c tasks.Container) string {
	p := parse(c, b.o.Edges)
	switch {
	case c.IsBatch():
		return "batch"
	case len(p.routes) == 0 && len(p.problems) == 0:
		return "silent"
	}
	return "refused"
}

// Explained returns the table for people as Text does, and behind it every container
// that runs and has no route, with the reason.
func (t Table) Explained() string {
	text := t.Text()
	if len(t.Unrouted) == 0 {
		return text + "\nEvery container that runs is in this table.\n"
	}
	rows := [][]string{{"NOT ROUTED", "BECAUSE"}}
	for _, u := range t.Unrouted {
		why := map[string]string{
			"silent":  "neither a label nor a variable names a host: set nagaya.host",
			"batch":   "it is a batch container (nagaya.batch, AWS_BATCH_JOB_ID)",
			"refused": "what it asks for cannot be done: see the problems in 'nagaya status'",
		}[u.Why]
		rows = append(rows, []string{u.Ref, why})
	}
	return text + "\n" + align(rows)
}
