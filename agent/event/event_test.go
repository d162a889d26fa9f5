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
