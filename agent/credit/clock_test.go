package credit

import (
	"testing"
	"time"
)

// A clock that was wrong for some minutes, as after a start without NTP, must not stop what is learned and counted until it is
// that late.
func TestAClockThatWasAheadIsForgotten(t *testing.T) {
	w := newWorld(t, "t3.small", Standard, 300)
	w.run(time.Hour, 0.1, 0)
	now := w.at
	w.at = now.AddDate(0, 0, 30)
	w.run(2*time.Minute, 0.1, 0)
	w.at = now
	r := w.run(4*time.Hour, 0.5, 0)
	m := w.estimator.Memory()
	if m.Profile.Hour.After(w.at) {
		t.Errorf("the profile gathers the hour of %v at %v, and learns nothing until then", m.Profile.Hour, w.at)
	}
	if h := m.Hours[len(m.Hours)-1]; h.At.After(w.at) {
		t.Errorf("the account is that of the hour of %v at %v", h.At, w.at)
	}
	if s := r.SpentLastHour.Services; s < 25 || s > 35 {
		t.Errorf("spent in the last hour: %v, want 30", s)
	}
}
