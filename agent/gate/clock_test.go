package gate

import (
	"testing"
	"time"
)

// A clock that was ahead must not keep the gate as it was, nor a job that is over, until it is that late.
func TestAClockThatWasAheadIsForgotten(t *testing.T) {
	ahead := noon.AddDate(0, 1, 0)
	a := ask("a", 100, ahead)
	s, _ := decide(t, State{}, Input{Now: ahead, Credits: saved(ahead, 60, baseline), Asked: []Asked{a}})
	s, _ = decide(t, s, Input{Now: ahead, Credits: saved(ahead, 300, baseline)})
	var d Decision
	for now := noon; now.Before(noon.Add(10 * time.Minute)); now = now.Add(30 * time.Second) {
		a.State, a.Spent, a.At = Done, 100, now
		s, d = decide(t, s, Input{Now: now, Credits: saved(now, 300, baseline), Asked: []Asked{a}})
	}
	if !d.Open {
		t.Errorf("the gate is closed: %s", d.Reason)
	}
	if e, known := d.Job("a"); known && e.Phase != Done {
		t.Errorf("the job that is over is %s, and holds %v credits", e.Phase, d.Promised)
	}
}
