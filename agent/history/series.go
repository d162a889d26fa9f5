package history

import (
	"time"

	"github.com/nagaya-ecs/nagaya/agent/report"
)

// Series puts the records of a time into columns of at most that many spans, for whoever draws them. Spans of
// which nothing is recorded have unknown values; before the first record and after the last one there are none.
func Series(all []Record, from, to time.Time, most int) report.Series {
	l := For(from, to)
	step := int64(round(to.Sub(from)/time.Duration(max(most, 1)), l.Step) / time.Second)
	out := report.Series{Step: step, Times: []int64{}}
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
	for len(all) > 0 {
		start := all[0].Start.Unix()
		start -= start % step
		n := 0
		for n < len(all) && all[n].Start.Unix() < start+step {
			n++
		}
		for k := len(out.Times); k > 0 && out.Times[k-1]+step < start; k++ {
			add(Merge(time.Unix(out.Times[k-1]+step, 0), nil))
		}
		add(Merge(time.Unix(start, 0), all[:n]))
		all = all[n:]
	}
	return out
}

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
