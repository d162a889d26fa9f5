package rehearsal

import "testing"

// BenchmarkQueue is three days of a job that comes every five minutes, whose runs may wait forever, with its bound.
func BenchmarkQueue(b *testing.B) {
	s := spec(b, "t3.micro")
	o := Options{Spec: s, Trace: households()[0].trace(0, s), Length: 3 * day}
	o.Jobs = append(o.Jobs, every(b, "rate(5 minutes)", Job{Name: "a", Need: 0.3}, 0))
	o, err := o.withDefaults()
	if err != nil {
		b.Fatal(err)
	}
	runs, err := o.runs()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		w := newInstance(o, append([]Run(nil), runs...))
		w.play(starter(Gate, o))
		bound(o, runs, w).whole()
	}
}
