package agent

import (
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
)

func TestPaceFollowsTheCredits(t *testing.T) {
	for _, row := range []struct {
		name string
		r    credit.Report
		want time.Duration
	}{
		{"nothing known", credit.Report{}, time.Second},
		{"plenty", credit.Report{Burstable: true, Known: true, Balance: 30, EarnPerHour: 12}, time.Second},
		{"less than an hour's earnings", credit.Report{Burstable: true, Known: true, Balance: 11, EarnPerHour: 12}, 5 * time.Second},
		{"a burstable type, its balance unknown", credit.Report{Burstable: true, EarnPerHour: 12}, time.Second},
		{"no credits on this type", credit.Report{Known: true}, time.Second},
	} {
		var p pace
		p.credit(credit.Report{Burstable: true, Known: true, Balance: 0, EarnPerHour: 1}) // frugal before
		p.credit(row.r)
		if got := p.every(); got != row.want {
			t.Errorf("%s: a reload every %v, want %v", row.name, got, row.want)
		}
	}
}
