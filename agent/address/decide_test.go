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
		"free, wait":                        {in: Input{Policy: Wait, Holder: Holder{Kind: Nobody}}, want: Take, reason: "it is free"},
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
		"released, free":                    {in: Input{Policy: Takeover, Holder: Holder{Kind: Nobody}, Released: true}, want: Stay, reason: "released"},
		"released, asked":                   {in: Input{Policy: Takeover, Holder: Holder{Kind: Nobody}, Released: true, Asked: true}, want: Take},
		"released, still ours":              {in: Input{Policy: Takeover, Holder: Holder{Kind: Self}, Released: true}, want: Keep},
		"leaving holder, standby, ready":    {in: Input{Policy: Standby, Holder: other("running", newer), HolderLeaving: true, Ready: true}, want: Take, force: true, reason: "leaving"},
		"leaving holder, takeover, younger": {in: Input{Policy: Takeover, Holder: other("running", newer), HolderLeaving: true, Ready: true}, want: Take, force: true},
		"leaving holder, not ready":         {in: Input{Policy: Standby, Holder: other("running", newer), HolderLeaving: true, Unready: "nginx is down"}, want: Stay, reason: "nginx is down"},
		"leaving holder serves more":        {in: Input{Policy: Standby, Holder: other("running", newer), HolderLeaving: true, Ready: true, Uncovered: "a.test"}, want: Stay, reason: "a.test"},
		"leaving holder serves more, long":  {in: Input{Policy: Standby, Holder: other("running", newer), HolderLeaving: true, HolderLeavingFor: time.Minute, Ready: true, Uncovered: "a.test"}, want: Take, force: true},
		"leaving holder, wait":              {in: Input{Policy: Wait, Holder: other("running", newer), HolderLeaving: true, Ready: true}, want: Stay},
		"both leaving":                      {in: Input{Policy: Takeover, Holder: other("running", older), HolderLeaving: true, Leaving: true, Ready: true}, want: Stay},
		"silent holder, standby, ready":     {in: Input{Policy: Standby, Holder: other("running", newer), Silent: true, Ready: true}, want: Take, force: true, reason: "does not answer"},
		"silent holder, not ready":          {in: Input{Policy: Takeover, Holder: other("running", older), Silent: true, Unready: "nginx is down"}, want: Stay, reason: "nginx is down"},
		"silent holder, wait":               {in: Input{Policy: Wait, Holder: other("running", older), Silent: true, Ready: true}, want: Stay},
		"running and older, serves more":    {in: Input{Policy: Takeover, Holder: other("running", older), Ready: true, Uncovered: "a.test"}, want: Stay, reason: "a.test"},
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

// A time to come says that the clock was set back: it must not keep the address away until then.
func TestBudgetForgetsAClockThatWasAhead(t *testing.T) {
	b := Budget{noon.Add(-30 * time.Second), noon.Add(time.Hour), noon.AddDate(1, 0, 0)}
	if got, want := b.Next(noon), noon.Add(30*time.Second); !got.Equal(want) {
		t.Errorf("next at %v, want %v", got, want)
	}
	if got := b.Spend(noon); len(got) != 2 {
		t.Errorf("spent %v", got)
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
