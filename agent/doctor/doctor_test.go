package doctor

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

func TestText(t *testing.T) {
	var r Report
	r.Add(Good("docker", "Engine %s answers", "25.0.16"))
	r.Add(
		Doubtful("tags", "the metadata shows no tags", "allow them"),
		Of("address", problem.Problem{Severity: problem.Error, Text: "the claim names no Elastic IP", Hint: "check address.claim"}),
		Of("permission", problem.Problem{Severity: problem.Warning, Text: "it may not tag", Hint: "grant it"}),
	)
	want := strings.TrimPrefix(`
ok    docker      Engine 25.0.16 answers
warn  tags        the metadata shows no tags
                  → allow them
FAIL  address     the claim names no Elastic IP
                  → check address.claim
warn  permission  it may not tag
                  → grant it

4 checks: 1 ok, 2 warnings, 1 failed
`, "\n")
	if d := cmp.Diff(want, r.Text()); d != "" {
		t.Errorf("text (-want +got):\n%s", d)
	}
}
