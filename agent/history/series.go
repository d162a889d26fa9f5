package history

import (
	"time"

	"github.com/nagaya-ecs/nagaya/agent/report"
)

// Series puts the records of a time into columns of at most that many spans, for whoever draws them. Spans of
// which nothing is recorded have unknown values; before the first record and after the last one there are none.
func Series(all []Record, from, to time.Time, most int) report.Series {
	l := For(from, to)
	spans := int64(to.Sub(from) / l.Step)
	step := int64(l.Step/time.Second) * max(1, (spans+int64(most)-1)/int64(most))
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
