package keep

import (
	"fmt"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/traffic"
)

// BenchmarkMinute is what a minute with 200 busy hosts costs.
func BenchmarkMinute(b *testing.B) {
	w := writer{dir: b.TempDir(), fresh: true}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		start := epoch.Add(time.Duration(n) * time.Minute)
		s := report.Status{At: start.Add(time.Minute), Traffic: traffic.Report{Since: epoch}}
		for i := range 200 {
			s.Traffic.Hosts = append(s.Traffic.Hosts, traffic.Host{Host: fmt.Sprintf("host-%d.test", i), Counts: traffic.Counts{Requests: traffic.Classes{1: uint64(10 * n)}}})
		}
		if err := w.minute(start, s); err != nil {
			b.Fatal(err)
		}
	}
}
