package gate

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// Choice is a start that a job could have, and what is expected to come of it.
type Choice struct {
	// Start is zero for never.
	Start time.Time `json:"start,omitzero"`
	// Cost is what was compared, in credits, see ServicesWeight: of never it is what the job is worth.
	Cost float64 `json:"cost"`
	// Services is the credits that the services would lose, or that would be billed beyond what is allowed.
	Services float64 `json:"services"`
	// InTime is how probable it is that the job would end in time, 0 to 1.
	InTime float64 `json:"in_time"`
	// Charged means that more would be billed than is allowed, which rules the start out.
	Charged bool `json:"charged,omitempty"`
}

// costs shows choices in a line, e.g. "now 17.0, 06:00 3.3, never 51.7". The first is now.
func costs(choices []Choice) string {
	var all []string
	for i, c := range choices {
		all = append(all, c.name(i)+" "+c.cost())
	}
	return strings.Join(all, ", ")
}

func (c Choice) name(i int) string {
	switch {
	case c.Start.IsZero():
		return "never"
	case i == 0:
		return "now"
	}
	return c.Start.UTC().Format("15:04")
}

func (c Choice) cost() string {
	if c.Charged {
		return "a charge"
	}
	return fmt.Sprintf("%.1f", c.Cost)
}

// Alternatives shows what a job's starts are expected to cost, in a line; empty where none were compared.
func (e Entry) Alternatives() string { return costs(e.Choices) }

// Why explains where the jobs of a name or id stand: in a sentence, and with the starts that were compared. False means that there is
// none. It ends with a line feed.
func (d Decision) Why(nameOrID string) (found []Entry, text string, ok bool) {
	var w strings.Builder
	for _, e := range d.Jobs {
		if e.ID == nameOrID || e.Name == nameOrID {
			if len(found) > 0 {
				w.WriteString("\n")
			}
			found = append(found, e)
			e.explain(&w)
		}
	}
	return found, w.String(), len(found) > 0
}

func (e Entry) explain(w *strings.Builder) {
	fmt.Fprintf(w, "job %s is %s: %s\n", e.ID, e.Phase, e.Told())
	if !e.Deadline.IsZero() {
		fmt.Fprintf(w, "  to end by %s, and to start by %s for that\n", clock(e.Deadline), clock(e.LatestStart))
	}
	if len(e.Choices) == 0 {
		return
	}
	w.WriteString("\n")
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "  start\texpected cost\tservices lose\tin time")
	for i, c := range e.Choices {
		if c.Start.IsZero() {
			fmt.Fprintf(t, "  %s\t%s\n", c.name(i), c.cost())
			continue
		}
		when := c.name(i)
		if i > 0 {
			when = clock(c.Start)
		}
		fmt.Fprintf(t, "  %s\t%s\t%.1f\t%.0f %%\n", when, c.cost(), c.Services, 100*c.InTime)
	}
	t.Flush()
}
