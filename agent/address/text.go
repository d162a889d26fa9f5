package address

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// Text is the table of all claimed addresses for people, with local times.
func (r Report) Text() string {
	if r.Claim == "" {
		return "No address is claimed; set address.claim.\n"
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CLAIM\tADDRESS\tHOLDER\tSINCE\tPOLICY\tNEXT CHECK\tWHY")
	for _, c := range r.All() {
		address, holder := "-", "not known yet"
		if c.Known {
			address, holder = c.Address.PublicIP.String(), c.Holder.String()
		}
		if c.Held() {
			holder = string(Self)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.Claim, address, holder,
			clock(c.Since, time.DateTime), c.Policy, clock(c.NextCheck, time.TimeOnly), c.why())
	}
	_ = w.Flush()
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "\n%s: %s: %s\n  → %s\n", p.Subject, p.Code, p.Text, p.Hint)
	}
	return b.String()
}

func clock(t time.Time, layout string) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(layout)
}

// why is the last decision, and what else is worth knowing about it.
func (r ClaimReport) why() string {
	s := "-"
	if r.Decision.Reason != "" {
		s = string(r.Decision.Action) + ": " + r.Decision.Reason
	}
	switch {
	case r.Held() && !r.Verified:
		s += "; EC2 has not shown it yet"
	case r.Held() && r.Released:
		s += "; released, until another instance takes it"
	case r.HolderLeaving:
		s += "; the holder is leaving"
	}
	return s
}
