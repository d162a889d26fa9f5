package report

import "testing"

// The numbers of an event are told once, and short times are not 0.
func TestNumbersOfEvents(t *testing.T) {
	for want, e := range map[string]Event{
		"":                                  {Group: "gate", Numbers: map[string]float64{"balance": 288, "free": 50.4}},
		"12 like it before are not kept":    {Group: "gate", Skipped: 12},
		"took 29ms":                         {Group: "nginx", Numbers: map[string]float64{"seconds": 0.029, "quarantined": 0}},
		"promised 12, ran 20m0s, spent 0.1": {Group: "job", Numbers: map[string]float64{"promised": 12, "ran_seconds": 1200, "spent": 0.06}},
	} {
		if got := e.Figures(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
