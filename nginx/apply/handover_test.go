package apply

import (
	"fmt"
	"testing"
)

// Old workers are retired before the master does it. The master must neither
// take that for a crash and start others in their place, nor end itself.
func TestRetireKeepsTheNumberOfWorkers(t *testing.T) {
	r := newRig(t)
	r.run()
	up := backend(t, "hello")
	first := r.serve(r.tree(site("a.test", up)))
	for i := range 12 {
		st := r.serve(r.tree(site("a.test", up), site(fmt.Sprintf("b%d.test", i), up)))
		if st.PID != first.PID {
			t.Fatalf("the master was %d and is %d", first.PID, st.PID)
		}
		eventually(t, "two workers, and none that drains", func() bool {
			w := r.workersOf(st.PID)
			return len(w.Active) == r.settings.WorkerProcesses && len(w.Draining) == 0
		})
	}
}
