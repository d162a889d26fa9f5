package stage_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/bench"
	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

// Time is not judged here, other tests run beside: only that it can be measured, and
// that nothing is lost.
func TestBenchRoutes(t *testing.T) {
	var out, progress bytes.Buffer
	err := bench.Routes(t.Context(), bench.RoutesOptions{
		Bin: stage.Programs(), Only: []string{"e"}, Quick: true, JSON: true, Out: &out, Progress: &progress,
	})
	if err != nil && !errors.Is(err, bench.ErrMissed) {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	var result struct{ Rows []bench.Row }
	if err := json.Unmarshal(out.Bytes(), &result); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	var parts []string
	for _, r := range result.Rows {
		parts = append(parts, r.Part)
		if len(r.Figures) == 0 {
			t.Errorf("%s: %s", r.What, r.Got)
		}
	}
	if !slices.Equal(parts, []string{"e"}) {
		t.Errorf("rows of the parts %v, want e", parts)
	}
}

func TestBenchRoutesNamesItsParts(t *testing.T) {
	err := bench.Routes(t.Context(), bench.RoutesOptions{Only: []string{"a", "z"}})
	if want := `there is no part "z": want letters from a to l, with commas between`; err == nil || err.Error() != want {
		t.Errorf("the error is %v, want %s", err, want)
	}
}

func TestBenchAddress(t *testing.T) {
	var out, progress bytes.Buffer
	err := bench.Address(t.Context(), bench.AddressOptions{
		Bin: stage.Programs(), Only: []string{"a"}, Quick: true, JSON: true, Out: &out, Progress: &progress,
	})
	if err != nil && !errors.Is(err, bench.ErrMissed) {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	var result struct{ Rows []bench.Row }
	if err := json.Unmarshal(out.Bytes(), &result); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	if len(result.Rows) != 1 {
		t.Fatalf("rows %+v, want one", result.Rows)
	}
	if r := result.Rows[0]; r.Figures["n"] != 4 || r.Figures["calls"] > 3 {
		t.Errorf("%s: %s", r.What, r.Got)
	}
}
