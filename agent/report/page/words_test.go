package page

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/history"
)

// The times to choose from are in their order, counts have no fractions, and every number has its name where a table has no columns.
func TestWordsOfThePage(t *testing.T) {
	body := get(serving(sample(3)), "/?since=1d").Body.String()
	last := 0
	for _, name := range []string{">hour<", ">day<", ">week<", ">month<", ">year<"} {
		if n := strings.Index(body, name); n < last {
			t.Errorf("%s is at %d, and what should be before it at %d", name, n, last)
		} else {
			last = n
		}
	}
	_, requests, _ := strings.Cut(body, "What all hosts together have served")
	requests, _, _ = strings.Cut(requests, "</table>")
	if requests == "" || strings.Contains(requests, ".0</td>") {
		t.Errorf("requests are counted in fractions: %.400s", requests)
	}
	_, hosts, _ := strings.Cut(body, `id="host-rows"`)
	hosts, _, _ = strings.Cut(hosts, "</tbody>")
	if strings.Contains(hosts, `<td class="n">`) {
		t.Error("a number of a host has no name")
	}
}

// Groups of events are those that there are; another is refused with their names.
func TestGroupsOfEvents(t *testing.T) {
	h := serving(sample(1))
	for _, kind := range history.Kinds() {
		if g := (history.Event{Kind: kind}).Group(); !slices.Contains(groups, g) {
			t.Errorf("%s: no group %q", kind, g)
		}
	}
	for _, g := range groups {
		if w := get(h, "/api/v1/events?group="+g); w.Code != http.StatusOK {
			t.Errorf("%s: %d", g, w.Code)
		}
	}
	if w := get(h, "/api/v1/events?group=jobs"); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "is none of agent, address, nginx") {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}
