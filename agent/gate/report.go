package gate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Published is how the outlets of the decision stand.
type Published struct {
	Outlets  []Outlet          `json:"outlets,omitempty"`
	Problems []problem.Problem `json:"problems,omitempty"`
}

// Outlet is one place where the decision is published.
type Outlet struct {
	// Name is "file", "ecs-attribute" or "batch".
	Name string `json:"name"`
	// Target is the file, container instance or compute environment.
	Target string `json:"target"`
	// Known is false until something was published there; Open and At are what was published last, and when.
	Known bool      `json:"known"`
	Open  bool      `json:"open"`
	At    time.Time `json:"at,omitzero"`
}

// Report is the gate as status shows it.
type Report struct {
	Decision  Decision  `json:"decision"`
	Published Published `json:"published"`
}

// Problems returns those of the decision and of the outlets.
func (r Report) Problems() []problem.Problem {
	ps := slices.Concat(r.Decision.Problems, r.Published.Problems)
	problem.Sort(ps)
	return ps
}

// Word returns "open" or "closed".
func Word(open bool) string {
	if open {
		return "open"
	}
	return "closed"
}

// Text renders the report for people, as of now. It ends with a line feed.
func (r Report) Text(now time.Time) string {
	d := r.Decision
	var w strings.Builder
	if d.At.IsZero() {
		return "The gate has not decided yet.\n"
	}
	fmt.Fprintf(&w, "gate %s for %s: %s\n", Word(d.Open), age(now.Sub(d.Since)), d.Reason)
	if !d.OpensAt.IsZero() {
		fmt.Fprintf(&w, "  expected to open at %s\n", clock(d.OpensAt))
	}
	if d.Brake.On() {
		fmt.Fprintf(&w, "  for %s %s\n", age(now.Sub(d.Brake.Since)), d.Brake.Reason)
	}
	if d.Surplus != nil {
		fmt.Fprintf(&w, "  %s\n", d.Surplus.text())
	}
	if len(d.Windows) > 0 {
		fmt.Fprintf(&w, "  batches may start in %s\n", strings.Join(d.Windows, ", "))
	}
	if len(d.Jobs) > 0 {
		fmt.Fprintf(&w, "\n  %-20s %-16s %-8s %8s %8s  %s\n", "job", "name", "state", "expected", "spent", "why")
		for _, e := range d.Jobs {
			fmt.Fprintf(&w, "  %-20.20s %-16.16s %-8s %8.1f %8.1f  %s\n", e.ID, e.Name, e.Phase, e.Expected, e.Spent, e.Reason)
		}
	}
	if len(r.Published.Outlets) > 0 {
		w.WriteString("\n")
	}
	for _, o := range r.Published.Outlets {
		told := "not told yet"
		if o.Known {
			told = fmt.Sprintf("%s since %s", Word(o.Open), clock(o.At))
		}
		fmt.Fprintf(&w, "  %-14s %s: %s\n", o.Name, o.Target, told)
	}
	for _, p := range r.Problems() {
		fmt.Fprintf(&w, "\n%s: %s (%s)\n  %s\n", p.Severity, p.Text, p.Code, p.Hint)
	}
	return w.String()
}

// age prints how long something has lasted, to the minute once it is minutes.
func age(d time.Duration) string {
	if d < time.Minute {
		return d.Round(time.Second).String()
	}
	return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
}
