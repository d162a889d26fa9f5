package history

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/report"
)

func TestSeries(t *testing.T) {
	record := func(minute int, reloads, balance Value) Record {
		r := Merge(noon.Add(time.Duration(minute)*time.Minute), nil)
		r.Watched, r.Reloads, r.Balance = 60, reloads, balance
		return r
	}
	unknown := math.NaN()
	all := []Record{record(3, 1, 10), record(4, 2, 11), record(5, 4, 12), record(11, 8, 13)}
	for _, row := range []struct {
		name             string
		most             int
		step             int64
		times            []int64 // minutes
		reloads, balance report.Values
	}{
		{"each minute", 60, 60, []int64{3, 4, 5, 6, 7, 8, 9, 10, 11}, report.Values{1, 2, 4, unknown, unknown, unknown, unknown, unknown, 8}, report.Values{10, 11, 12, unknown, unknown, unknown, unknown, unknown, 13}},
		{"two minutes in one", 30, 120, []int64{2, 4, 6, 8, 10}, report.Values{1, 6, unknown, unknown, 8}, report.Values{10, 12, unknown, unknown, 13}},
		{"five, as three are no step", 20, 300, []int64{0, 5, 10}, report.Values{3, 4, 8}, report.Values{11, 12, 13}},
		{"all in one", 1, 3600, []int64{0}, report.Values{15}, report.Values{13}},
	} {
		s := Series(all, noon, noon.Add(time.Hour), row.most)
		var minutes []int64
		for _, at := range s.Times {
			minutes = append(minutes, (at-noon.Unix())/60)
		}
		same := cmp.Comparer(func(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) })
		if d := cmp.Diff(row.times, minutes); d != "" || s.Step != row.step {
			t.Errorf("%s: in steps of %d s (-want +got):\n%s", row.name, s.Step, d)
		}
		if d := cmp.Diff(row.reloads, s.Column("reloads"), same); d != "" {
			t.Errorf("%s: reloads (-want +got):\n%s", row.name, d)
		}
		if d := cmp.Diff(row.balance, s.Column("balance"), same); d != "" {
			t.Errorf("%s: balance (-want +got):\n%s", row.name, d)
		}
	}
	// The names are those of a record's JSON, in the order of its values.
	s := Series([]Record{filled(noon)}, noon, noon.Add(time.Hour), 60)
	for name, want := range map[string]float64{"watched": 60, "earned": 1.5, "reloads": 6.5, "balance": 7.5, "surplus": 9.5, "gate_open": 10.5, "jobs_running": 12.5} {
		if got := s.Column(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if none := Series(nil, noon, noon.Add(time.Hour), 60); len(none.Times) != 0 || len(none.Columns) != 13 {
		t.Errorf("%+v", none)
	}
}

func TestStepsThatPeopleExpect(t *testing.T) {
	const day = 24 * time.Hour
	for _, row := range []struct{ least, step, want time.Duration }{
		{61 * time.Second, time.Minute, 2 * time.Minute},
		{6 * time.Minute, 5 * time.Minute, 10 * time.Minute},
		{time.Minute, 5 * time.Minute, 5 * time.Minute},
		{6 * time.Hour, time.Hour, 6 * time.Hour},
		{147 * time.Hour, time.Hour, 7 * day},
		{100*day + time.Second, time.Hour, 100*day + time.Hour},
	} {
		if got := round(row.least, row.step); got != row.want {
			t.Errorf("at least %s in steps of %s: %s, want %s", row.least, row.step, got, row.want)
		}
	}
}
