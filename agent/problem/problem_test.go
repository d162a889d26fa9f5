package problem

import (
	"encoding/json"
	"errors"
	"fmt"
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

// about is an error that says what it is about.
type about struct{ error }

func (about) Subject() string { return "log-level" }

func TestEach(t *testing.T) {
	p := Problem{Code: "c", Subject: "s", Hint: "h"}
	one := errors.New("one\nis here\n  ^")
	two := about{errors.New("two")}
	for name, row := range map[string]struct {
		err  error
		want []Problem
	}{
		"none":     {nil, nil},
		"one":      {one, []Problem{{Code: "c", Subject: "s", Hint: "h", Text: "one"}}},
		"a field":  {fmt.Errorf("in it: %w", two), []Problem{{Code: "c", Subject: "s log-level", Hint: "h", Text: "in it: two"}}},
		"together": {errors.Join(one, nil, errors.Join(two)), []Problem{{Code: "c", Subject: "s", Hint: "h", Text: "one"}, {Code: "c", Subject: "s log-level", Hint: "h", Text: "two"}}},
	} {
		if d := cmp.Diff(row.want, Each(p, row.err)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}
