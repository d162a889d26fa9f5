package address

import (
	"net/netip"
	"testing"
	"time"
)

// A restart of the agent asks EC2 again, but the holder has been seen since before, unless the address went away meanwhile.
func TestAHolderIsSeenSinceBeforeTheRestart(t *testing.T) {
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	claim := Claim{AllocationID: "eipalloc-1"}
	self := Holder{Kind: Self, InstanceID: "i-self"}
	other := Holder{Kind: Other, InstanceID: "i-other"}
	at := func(association string) Address {
		return Address{PublicIP: netip.MustParseAddr("203.0.113.10"), AssociationID: association}
	}
	before := NewState(claim, Takeover, Memory{})
	before.Record(at("eipassoc-1"), self, noon)
	before.Record(at("eipassoc-1"), self, noon.Add(time.Minute))
	kept := NewReport([]ClaimReport{before.Report}).Memory()
	kept = NewReport([]ClaimReport{NewState(claim, Takeover, kept).Report}).Memory() // of a run that ended before EC2 answered
	restart := noon.Add(time.Hour)
	for name, row := range map[string]struct {
		address Address
		holder  Holder
		memory  Memory
		want    time.Time
	}{
		"the same association":    {at("eipassoc-1"), self, kept, noon},
		"another association":     {at("eipassoc-2"), self, kept, restart},
		"another holder":          {at("eipassoc-3"), other, kept, restart},
		"nobody":                  {at(""), Holder{Kind: Nobody}, kept, restart},
		"nothing is kept":         {at("eipassoc-1"), self, Memory{}, restart},
		"another address is kept": {Address{PublicIP: netip.MustParseAddr("203.0.113.11"), AssociationID: "eipassoc-1"}, self, kept, restart},
	} {
		s := NewState(claim, Takeover, row.memory)
		s.Record(row.address, row.holder, restart)
		if !s.Report.Since.Equal(row.want) {
			t.Errorf("%s: since %s, want %s", name, s.Report.Since, row.want)
		}
		s.Record(at("eipassoc-4"), Holder{Kind: Other, InstanceID: "i-third"}, restart.Add(time.Hour))
		if s.Record(at("eipassoc-1"), self, restart.Add(2*time.Hour)); !s.Report.Since.Equal(restart.Add(2 * time.Hour)) {
			t.Errorf("%s: since %s after it was lost and held again", name, s.Report.Since)
		}
	}
}
