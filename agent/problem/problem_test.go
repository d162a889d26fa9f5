package problem

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSort(t *testing.T) {
	since := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	want := []Problem{
		{Code: "b", Severity: Error, Subject: "x", Text: "1", Since: since},
		{Code: "b", Severity: Error, Subject: "x", Text: "2"},
		{Code: "b", Severity: Error, Subject: "y", Text: "1"},
		{Code: "c", Severity: Error, Subject: "a", Text: "0"},
		{Code: "a", Severity: Warning, Subject: "x", Text: "1"},
		{Code: "a", Severity: Warning, Subject: "z", Text: "0", Hint: "h"},
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		got := append([]Problem{}, want...)
		r.Shuffle(len(got), func(i, j int) { got[i], got[j] = got[j], got[i] })
		Sort(got)
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("sorted (-want +got):\n%s", d)
		}
	}
}

func TestSeverityInJSON(t *testing.T) {
	for word, want := range map[string]Severity{"warning": Warning, "error": Error} {
		b, err := json.Marshal(Problem{Severity: want})
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ Severity string }
		if err := json.Unmarshal(b, &got); err != nil || got.Severity != word {
			t.Errorf("severity %d is written %q, %v; want %q", want, got.Severity, err, word)
		}
		var back Problem
		if err := json.Unmarshal(b, &back); err != nil || back.Severity != want {
			t.Errorf("%q is read as %d, %v", word, back.Severity, err)
		}
	}
	// A newer program's word is not worth losing the whole status for.
	var p Problem
	if err := json.Unmarshal([]byte(`{"severity": "catastrophe", "code": "x"}`), &p); err != nil || p.Severity != Warning || p.Code != "x" {
		t.Errorf("got %+v, %v", p, err)
	}
}
