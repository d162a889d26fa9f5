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

// The hosts' spans are those of the time in which something was served, and everything that was served is in one.
func TestSeriesOfHosts(t *testing.T) {
	hosts := Hosts{{Host: "b.test", Since: noon.Add(2 * time.Minute)}, {}, {Host: "a.test", Since: noon.Add(-time.Hour)}, {Host: "quiet.test"}}
	served := func(minute int, b, free, a Value) *Served {
		s := &Served{Start: noon.Add(time.Duration(minute) * time.Minute)}
		s.Places[0], s.Places[1], s.Places[2] = Counts{b, b / 10, 0}, Counts{free, 0, 0}, Counts{a, 0, 100}
		return s
	}
	all := []*Served{served(0, 50, 9, 1), served(2, 10, 9, 2), served(7, 0, 0, 4), served(58, 20, 0, 8)}
	for _, row := range []struct {
		name  string
		to    time.Duration
		times int // of all hosts together
	}{
		{"while the minute runs", 59*time.Minute + 30*time.Second, 59},
		{"a moment after what was served", 58*time.Minute + time.Second, 58},
	} {
		got := hosts.Series(time.Minute, all, noon.Add(row.to-time.Hour), noon.Add(row.to), 60, 3)
		if len(got.All.Times) != row.times || len(got.Hosts) != 2 || got.Step != 1800 && got.Step != 1200 {
			t.Errorf("%s: %d times, %+v", row.name, len(got.All.Times), got)
			continue
		}
		sum := func(v report.Values) (n float64) {
			for _, x := range v {
				n += x
			}
			return n
		}
		if a, b := got.Hosts[0], got.Hosts[1]; a.Host != "a.test" || b.Host != "b.test" || sum(a.Requests) != 15 || sum(b.Requests) != 30 || sum(b.Errors) != 3 || sum(a.Bytes) != 400 {
			t.Errorf("%s: %+v", row.name, got.Hosts)
		}
		if n := sum(got.All.Column("requests")); n != 45 {
			t.Errorf("%s: %v requests in all", row.name, n)
		}
	}
	one := hosts.Series(time.Minute, all[:1], noon.Add(-time.Hour), noon.Add(time.Second), 60, 3)
	if len(one.Times) != 1 || one.Hosts[0].Requests[0] != 1 {
		t.Errorf("the first minute alone: %+v", one)
	}
}
