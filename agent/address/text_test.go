package address

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

func TestMain(m *testing.M) {
	time.Local = time.UTC // the text shows local times
	os.Exit(m.Run())
}

func TestTextOfSeveralClaims(t *testing.T) {
	at := noon.Add(3 * time.Minute)
	r := NewReport([]ClaimReport{
		{
			ClaimStatus: ClaimStatus{
				Claim: "eipalloc-1", Policy: Takeover, Known: true, Address: Address{PublicIP: ip("203.0.113.7")}, Holder: Holder{Kind: Self},
				Since: noon, NextCheck: at, Decision: Decision{Action: Keep, Reason: "this instance holds it"},
			},
			Verified: true, Released: true,
		},
		{
			ClaimStatus: ClaimStatus{
				Claim: "tag:k=v@10.0.0.6", Policy: Takeover, Known: true, Address: Address{PublicIP: ip("203.0.113.8")},
				Holder: Holder{Kind: Other, InstanceID: "i-other", State: "running"}, Since: noon, NextCheck: at, Decision: Decision{Action: Stay, Reason: "not ready"},
			},
			HolderLeaving: true,
			Problems:      []problem.Problem{{Code: "address-failed", Subject: "address tag:k=v", Text: "no", Hint: "mend it"}},
		},
		{ClaimStatus: ClaimStatus{Claim: "203.0.113.9", Policy: Takeover}},
	})
	if !r.Held() || r.Claim != "eipalloc-1" || len(r.Problems) != 1 {
		t.Errorf("report %+v", r)
	}
	want := strings.TrimPrefix(`
CLAIM             ADDRESS      HOLDER             SINCE                POLICY    NEXT CHECK  WHY
eipalloc-1        203.0.113.7  this instance      2026-01-02 12:00:00  takeover  12:03:00    keep: this instance holds it; released, until another instance takes it
tag:k=v@10.0.0.6  203.0.113.8  i-other (running)  2026-01-02 12:00:00  takeover  12:03:00    stay: not ready; the holder is leaving
203.0.113.9       -            not known yet      -                    takeover  -           -

address tag:k=v: address-failed: no
  → mend it
`, "\n")
	if d := cmp.Diff(want, r.Text()); d != "" {
		t.Errorf("text (-want +got):\n%s", d)
	}
	old := Report{ClaimStatus: ClaimStatus{Claim: "eipalloc-1", Policy: Wait, Known: true, Address: Address{PublicIP: ip("203.0.113.7")}, Holder: Holder{Kind: Service}}}
	if got := old.Text(); !strings.Contains(got, "203.0.113.7  a service") {
		t.Errorf("a report of the first claim alone:\n%s", got)
	}
	if got := (Report{}).Text(); !strings.Contains(got, "address.claim") {
		t.Errorf("no claim: %q", got)
	}
}
