package route

import (
	"cmp"
	"slices"
)

// Unrouted is one container that runs and has no route at all.
type Unrouted struct {
	Ref string `json:"ref"`
	// Why is one of "silent" (neither label nor variable names a host or a port),
	// "batch" (it is a batch container) and "refused" (a problem says what is wrong with
	// what it asks for).
	Why string `json:"why"`
}

// listUnrouted lists the containers that run and are neither behind a route nor waiting.
func (b *builder) listUnrouted(candidates []candidate) {
	routed := map[string]bool{}
	for _, c := range candidates {
		routed[c.container.ID] = true
	}
	for _, c := range b.in.Snapshot.Containers {
		r := b.in.Requests[c.ID]
		if !active(c) || routed[c.ID] || c.Unlisted && len(r.Routes) > 0 {
			continue
		}
		why := "refused"
		switch {
		case c.IsBatch():
			why = "batch"
		case len(r.Routes) == 0 && len(r.Problems) == 0:
			why = "silent"
		}
		b.t.Unrouted = append(b.t.Unrouted, Unrouted{Ref(c), why})
	}
	slices.SortFunc(b.t.Unrouted, func(x, y Unrouted) int { return cmp.Or(cmp.Compare(x.Ref, y.Ref), cmp.Compare(x.Why, y.Why)) })
}

// Explained returns the table for people as Text does, as wide, and behind it every container
// that runs and has no route, with the reason.
func (t Table) Explained(width int) string {
	if len(t.Unrouted) == 0 {
		return t.Text(width) + "\nEvery container that runs is in this table.\n"
	}
	rows := [][]string{{"NOT ROUTED", "BECAUSE"}}
	for _, u := range t.Unrouted {
		rows = append(rows, []string{u.Ref, map[string]string{
			"silent":  "neither a label nor a variable names a host: set nagaya.host",
			"batch":   "it is a batch container (nagaya.batch, AWS_BATCH_JOB_ID)",
			"refused": "what it asks for cannot be done: see the problems in 'nagaya status'",
		}[u.Why]})
	}
	return t.Text(width) + "\n" + Align(rows, width)
}
