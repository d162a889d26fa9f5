package doctest

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

func TestSamples(t *testing.T) {
	const page = "Text.\n\n```json\n{}\n```\n\n```\n$ journalctl NAGAYA_EVENT=a-b + NAGAYA_EVENT=c\none x=1\ntwo\n$ nagaya status\n```\n\n```json\n$ no\n```\n\n```\nnothing asked\n```\n"
	want := []Sample{{"journalctl NAGAYA_EVENT=a-b + NAGAYA_EVENT=c", []string{"one x=1", "two"}}, {Command: "nagaya status"}}
	got := Samples(page)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	if diff := cmp.Diff([]string{"a-b", "c"}, got[0].Events()); diff != "" {
		t.Error(diff)
	}
}

func TestSame(t *testing.T) {
	for _, row := range []struct {
		shown, printed string
		want           bool
	}{
		{"notice at=2026-03-01T03:02:00Z x=1", "notice at=2026-11-24T13:02:00.5Z x=1", true},
		{"notice at=2026-03-01T03:02:00Z x=1", "notice at=never x=1", false},
		{"lost holder=other", "lost holder=another", false},
		{"lost holder_id=i-0fedcba9876543210", "lost holder_id=i-0123456789abcdef0", true},
		{"ended pid=812 retry_in=0s", "ended pid=31 retry_in=1.5s", true},
		{"ended pid=812", "ended pid=812 more=1", false},
		{"ended pid=812 …", "ended pid=31 more=1", true},
		{"ended pid=812 …", "ended pid=31", false},
		{"routed container=9a8b7c6d5e4f addr=172.17.0.7:8080", "routed container=0f1e2d3c4b5a addr=172.17.0.7:8081", false},
	} {
		if got := same(row.shown, row.printed); got != row.want {
			t.Errorf("%q is %q: %v", row.shown, row.printed, got)
		}
	}
}

func TestJournal(t *testing.T) {
	j := NewJournal(t)
	j.Log.With("a", 1).Warn("lost", "event", "x-lost", "err", errors.New("two\nlines"))
	j.Log.Info("found", "event", "x-found")
	if got, want := j.Await("x-lost", "lost"), `lost a=1 err="two\nlines"`; got != want {
		t.Errorf("logged %q, want %q", got, want)
	}
	if got, want := Problem(t, problem.Problem{Code: "a-b", Subject: "s", Text: "some text", Hint: "do it", Host: "a.test"}), `problem problem=a-b subject=s text="some text" hint="do it" host=a.test`; got != want {
		t.Errorf("logged %q, want %q", got, want)
	}
}
