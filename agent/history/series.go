package history

import (
	"cmp"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/report"
)

// Series puts the records of a time into columns of at most that many spans, for whoever draws them. Spans of
// which nothing is recorded have unknown values; before the first record and after the last one there are none.
func Series(all []Record, from, to time.Time, most int) report.Series {
	l := Records.Levels[Records.Level(from, to)]
	spans := Records
	spans.Levels = []Level{l, {Step: round(to.Sub(from)/time.Duration(max(most, 1)), l.Step)}}
	out := report.Series{Step: int64(spans.Levels[1].Step / time.Second), Times: []int64{}}
	names := []string{"watched", "earned", "services", "batches", "discarded", "charged", "reloads", "balance", "balance_error", "surplus", "gate_open", "address_held", "jobs_running"}
	for _, name := range names {
		out.Columns = append(out.Columns, report.Column{Name: name, Values: report.Values{}})
	}
	add := func(r Record) {
		out.Times = append(out.Times, r.Start.Unix())
		for i, v := range r.values() {
			out.Columns[i].Values = append(out.Columns[i].Values, float64(*v))
		}
	}
	for _, r := range spans.Merged(1, all) {
		for k := len(out.Times); k > 0 && out.Times[k-1]+out.Step < r.Start.Unix(); k++ {
			add(Merge(time.Unix(out.Times[k-1]+out.Step, 0), nil))
		}
		add(r)
	}
	return out
}

// Series sums up what the hosts have served in steps of a level: of all hosts in at most mostOfAll spans, and of each in at most
// most.
func (h *Hosts) Series(step time.Duration, all []*Served, from, to time.Time, mostOfAll, most int) report.Served {
	names := []string{"requests", "errors", "bytes"}
	whole := newGrid(step, all, from, to, mostOfAll)
	fine := newGrid(step, all, from, to, most)
	out := report.Served{All: report.Series{Step: whole.step, Times: whole.times}, Step: fine.step, Times: fine.times, Hosts: []report.ServedHost{}}
	for _, name := range names {
		out.All.Columns = append(out.All.Columns, report.Column{Name: name, Values: make(report.Values, len(whole.times))})
	}
	for i, p := range h {
		one, any := report.ServedHost{Host: p.Host, Requests: make(report.Values, len(fine.times)), Errors: make(report.Values, len(fine.times)), Bytes: make(report.Values, len(fine.times))}, false
		for _, s := range all {
			c, some := h.of(i, s, step)
			if !some {
				continue
			}
			any = true
			at, into := whole.at(s.Start), fine.at(s.Start)
			for k, v := range [...]Value{c.Requests, c.Errors, c.Bytes} {
				out.All.Columns[k].Values[at] += float64(v)
				[...]report.Values{one.Requests, one.Errors, one.Bytes}[k][into] += float64(v)
			}
		}
		if any {
			out.Hosts = append(out.Hosts, one)
		}
	}
	slices.SortFunc(out.Hosts, func(a, b report.ServedHost) int { return cmp.Compare(a.Host, b.Host) })
	return out
}

// grid is the spans of a series from the first one in which something is to the last whole minute: what is served in the
// running one is not recorded yet.
type grid struct {
	step  int64
	times []int64
}

func newGrid(step time.Duration, all []*Served, from, to time.Time, most int) grid {
	g := grid{step: int64(round(to.Sub(from)/time.Duration(max(most, 1)), step) / time.Second), times: []int64{}}
	if len(all) == 0 {
		return g
	}
	first := all[0].Start.Unix()
	for at := first - first%g.step; at <= to.Unix()-60 || len(g.times) == 0; at += g.step {
		g.times = append(g.times, at)
	}
	return g
}

// at is the span that has a time in it, which is not before the first one; what lies behind the last one counts there.
func (g grid) at(t time.Time) int { return min(int((t.Unix()-g.times[0])/g.step), len(g.times)-1) }

// round is the length of a span that people expect: the least that is at least this long, in whole steps of a level.
func round(least, step time.Duration) time.Duration {
	const hour, day = time.Hour, 24 * time.Hour
	for _, d := range []time.Duration{
		time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
		hour, 2 * hour, 3 * hour, 6 * hour, 12 * hour, day, 2 * day, 7 * day, 14 * day, 28 * day,
	} {
		if d >= least && d%step == 0 {
			return d
		}
	}
	return (least + step - 1) / step * step
}
