package event

import (
	"slices"
	"testing"
)

func TestID(t *testing.T) {
	seen := map[string]string{}
	for _, k := range slices.Concat(Kinds, Problems) {
		if ID(k.Name) != k.ID {
			t.Errorf("%s: the name is in the tables twice", k.Name)
		}
		if seen[k.ID] != "" {
			t.Errorf("%s and %s have one id", k.Name, seen[k.ID])
		}
		seen[k.ID] = k.Name
	}
	if id := ID("no-such-event"); id != "" {
		t.Errorf("what is no event has the id %s", id)
	}
}

func TestAbout(t *testing.T) {
	for subject, want := range map[string][]string{
		"container shop:1/web":                 {"container_name", "shop:1/web"},
		"container web label nagaya.port":      {"container_name", "web"},
		"container web route shop.test/api/v1": {"container_name", "web", "host", "shop.test"},
		"container web route tcp:2222":         {"container_name", "web", "host", "tcp:2222"},
		"site shop.test":                       {"host", "shop.test"},
		"address eipalloc-1":                   {"claim", "eipalloc-1"},
		"job report-1":                         {"job_id", "report-1"},
		"nginx":                                nil,
		"container ":                           nil,
		"port 2222":                            nil,
		"":                                     nil,
	} {
		if got := About(subject); !slices.Equal(got, want) {
			t.Errorf("%q: %q; want %q", subject, got, want)
		}
	}
}
