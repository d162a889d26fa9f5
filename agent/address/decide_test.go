package address

import (
	"strings"
	"testing"
	"time"
)

var (
	noon  = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	older = noon.Add(-48 * time.Hour)
	newer = noon.Add(-time.Hour)
	ours  = noon.Add(-24 * time.Hour)
)

func TestDecide(t *testing.T) {
	other := func(state string, launched time.Time) Holder {
		return Holder{Kind: Other, InstanceID: "i-other", State: state, LaunchedAt: launched}
	}
	for name, row := range map[string]struct {
		in     Input
		want   Action
		force  bool // Reassociate
		reason string
	}{
		"ours":                              {in: Input{Policy: Takeover, Holder: Holder{Kind: Self}}, want: Keep, reason: "holds it"},
		"ours, policy manual":               {in: Input{Policy: Manual, Holder: Holder{Kind: Self}}, want: Keep},
		"free, wait":                        {in: Input{Policy: Wait, Holder: Holder{Kind: Nobody}}, want: Take, reason: "nobody"},
		"free, standby":                     {in: Input{Policy: Standby, Holder: Holder{Kind: Nobody}}, want: Take},
		"free, takeover, not ready":         {in: Input{Policy: Takeover, Holder: Holder{Kind: Nobody}}, want: Take},
		"free, manual":                      {in: Input{Policy: Manual, Holder: Holder{Kind: Nobody}}, want: Stay, reason: "nagaya address claim"},
		"free, manual, asked":               {in: Input{Policy: Manual, Holder: Holder{Kind: Nobody}, Asked: true}, want: Take},
		"free, leaving":                     {in: Input{Policy: Takeover, Holder: Holder{Kind: Nobody}, Leaving: true}, want: Stay, reason: "leaving"},
		"stopped, wait":                     {in: Input{Policy: Wait, Holder: other("stopped", older)}, want: Stay},
		"stopped, standby":                  {in: Input{Policy: Standby, Holder: other("stopped", newer)}, want: Take, force: true, reason: "i-other is stopped"},
		"terminated, takeover, not ready":   {in: Input{Policy: Takeover, Holder: other("terminated", newer)}, want: Take, force: true},
		"shutting down, standby":            {in: Input{Policy: Standby, Holder: other("shutting-down", older)}, want: Take, force: true},
		"running, standby":                  {in: Input{Policy: Standby, Holder: other("running", older), Ready: true}, want: Stay},
		"running and older, ready":          {in: Input{Policy: Takeover, Holder: other("running", older), Ready: true}, want: Take, force: true, reason: "newer than its holder i-other"},
		"running and older, not ready":      {in: Input{Policy: Takeover, Holder: other("running", older), Unready: "nginx is down"}, want: Stay, reason: "nginx is down"},
		"running and newer":                 {in: Input{Policy: Takeover, Holder: other("running", newer), Ready: true}, want: Stay, reason: "not older"},
		"running, launched together":        {in: Input{Policy: Takeover, Holder: other("running", ours), Ready: true}, want: Stay},
		"state unknown, launch unknown":     {in: Input{Policy: Takeover, Holder: other("", time.Time{}), Ready: true}, want: Stay, reason: "not known"},
		"state unknown, standby":            {in: Input{Policy: Standby, Holder: other("", older), Ready: true}, want: Stay},
		"pending and older":                 {in: Input{Policy: Takeover, Holder: other("pending", older), Ready: true}, want: Take, force: true},
		"service":                           {in: Input{Policy: Takeover, Holder: Holder{Kind: Service}, Ready: true}, want: Stay, reason: "NAT gateway"},
		"service, asked":                    {in: Input{Policy: Takeover, Holder: Holder{Kind: Service}, Asked: true}, want: Stay},
		"newer holder, asked":               {in: Input{Policy: Wait, Holder: other("running", newer), Asked: true}, want: Take, force: true, reason: "operator"},
		"budget: a minute":                  {in: Input{Policy: Wait, Holder: Holder{Kind: Nobody}, Budget: Budget{}.Spend(noon.Add(-59 * time.Second))}, want: Stay, reason: "12:00:01"},
		"budget: after a minute":            {in: Input{Policy: Wait, Holder: Holder{Kind: Nobody}, Budget: Budget{}.Spend(noon.Add(-time.Minute))}, want: Take},
		"budget does not hide that we hold": {in: Input{Policy: Wait, Holder: Holder{Kind: Self}, Budget: Budget{}.Spend(noon)}, want: Keep},
	} {
		t.Run(name, func(t *testing.T) {
			row.in.LaunchedAt, row.in.Now = ours, noon
			got := Decide(row.in)
			if got.Action != row.want || got.Reassociate != row.force || !strings.Contains(got.Reason, row.reason) || got.Reason == "" {
				t.Errorf("got %+v; want %s, reassociate %v, reason with %q", got, row.want, row.force, row.reason)
			}
		})
	}
}

// Of two running, ready instances with policy takeover at most one may take the
// address from the other, whatever their launch times.
func TestTwoAgentsNeverTakeTurns(t *testing.T) {
	times := []time.Time{{}, older, ours, newer}
	for _, a := range times {
		for _, b := range times {
			fromB := Decide(Input{Policy: Takeover, LaunchedAt: a, Ready: true, Now: noon, Holder: Holder{Kind: Other, State: "running", LaunchedAt: b}})
			fromA := Decide(Input{Policy: Takeover, LaunchedAt: b, Ready: true, Now: noon, Holder: Holder{Kind: Other, State: "running", LaunchedAt: a}})
			if fromA.Action == Take && fromB.Action == Take {
				t.Errorf("instances of %v and %v would take the address from each other", a, b)
			}
		}
	}
}

func TestBudgetAllowsTenAnHour(t *testing.T) {
	var b Budget
	now, taken := noon, 0
	for end := noon.Add(3 * time.Hour); now.Before(end); now = now.Add(time.Second) {
		if !b.Next(now).After(now) {
			b = b.Spend(now)
			taken++
		}
	}
	if taken != 30 {
		t.Errorf("%d associations in three hours, want 30", taken)
	}
}

func TestClaimForms(t *testing.T) {
	for _, s := range []string{"", "eipalloc-0123456789abcdef0", "203.0.113.7", "tag:Name=the roof", "tag:k="} {
		c, err := ParseClaim(s)
		if err != nil || c.String() != s || c.IsZero() != (s == "") {
			t.Errorf("%q is read as %+v, %v", s, c, err)
		}
	}
	for _, s := range []string{"eip", "::1", "tag:Name", "tag:=x"} {
		if c, err := ParseClaim(s); err == nil {
			t.Errorf("%q is read as %+v; want an error", s, c)
		}
	}
}
