package agent

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var orderProblem = regexp.MustCompile(`(?:[Cc]ode: |, |SetUpkeep\()"((?:cert|acme|store|orders)-[a-z-]+)"`)

// The page about certificates names every problem that orders can have, and no other.
func TestDocsNameTheProblemsOfOrders(t *testing.T) {
	known := map[string]bool{}
	for _, pattern := range []string{"certs/*.go", "certs/order/*.go", "orders.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, m := range orderProblem.FindAllStringSubmatch(read(t, file), -1) {
				known[m[1]] = true
			}
		}
	}
	for _, code := range []string{"cert-expired", "cert-expiring"} { // of files too; docs/troubleshooting.md has them
		delete(known, code)
	}
	_, list, _ := strings.Cut(read(t, "../docs/certificates.md"), "## When something is wrong")
	var told []string
	for _, m := range coded.FindAllStringSubmatch(list, -1) {
		told = append(told, m[1])
	}
	slices.Sort(told)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(known)), told); diff != "" {
		t.Errorf("problems of orders (-in the program +in docs/certificates.md):\n%s", diff)
	}
}
