package credit

import (
	"testing"
	"time"
)

// BenchmarkNext is what a reading costs: it runs every few seconds on a machine that saves CPU time.
func BenchmarkNext(b *testing.B) {
	w := newWorld(&testing.T{}, "t3.small", Standard, 300)
	w.run(5*time.Hour, 0.1, 0)
	r := w.reading()
	b.ReportAllocs()
	for b.Loop() {
		r.At = r.At.Add(5 * time.Second)
		r.CPU.Busy += 0.01
		w.estimator.Next(r)
	}
}
