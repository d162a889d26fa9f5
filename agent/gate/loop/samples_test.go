package loop

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/doctest"
	"github.com/nagaya-ecs/nagaya/agent/gate"
)

// told is what the journal says of a scene.
func told(t *testing.T, scene func(r *running)) *doctest.Journal {
	t.Helper()
	j := doctest.NewJournal(t)
	synctest.Test(t, func(t *testing.T) {
		o := options(t.TempDir())
		o.Log = j.Log
		r := start(t, o)
		scene(r)
		r.stop()
	})
	return j
}

func TestDocsShowAGateThatIsClosed(t *testing.T) {
	j := told(t, func(r *running) {
		r.cloudWatchPoint(300)
		r.pass(10 * time.Minute)
		r.cloudWatchPoint(90)
		r.pass(time.Minute)
	})
	doctest.Logged(t, "gate-closed", j.Await("gate-closed", "known=true"))
}

func TestDocsShowAJobThatIsRefused(t *testing.T) {
	j := told(t, func(r *running) {
		r.cloudWatchPoint(21.4)
		for range 120 {
			r.busy += 5.0 / 60 * 0.6
			r.pass(5 * time.Second)
		}
		late := job("report-1", gate.Waiting, 12)
		late.Deadline, late.Late = time.Now().Add(2*time.Minute), gate.LateRefuse
		r.ask(late)
		r.pass(time.Minute)
	})
	doctest.Logged(t, "batch-refused", j.Await("batch-refused"))
}
