package gate

import (
	"math"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/credit"
)

func TestSurplusLimits(t *testing.T) {
	for name, tt := range map[string]struct {
		set       Settings
		bill      credit.Bill
		headroom  float64
		text, why string
	}{
		"nothing by default":       {set: Settings{}, text: "no surplus may be billed (gate.surplus-limit, gate.surplus-dollars); a vCPU-hour costs $0.05, assumed as with Linux (gate.surplus-price)", why: "nothing is left"},
		"credits":                  {set: Settings{SurplusLimit: 100}, headroom: 100, text: "surplus: 100.0 credits ($0.08) a month may be billed, 0.0 credits ($0.00) were in this one; a vCPU-hour costs $0.05, assumed", why: "surplus of 100.0 left of 100.0 a month"},
		"dollars":                  {set: Settings{SurplusDollars: 0.10}, headroom: 120, text: "surplus: 120.0 credits ($0.10) a month", why: "surplus of 120.0 left of 120.0 a month"},
		"dollars at another price": {set: Settings{SurplusDollars: 0.10, SurplusPrice: 0.096}, headroom: 62.5, text: "a vCPU-hour costs $0.096\n", why: "62.5 a month"},
		"the lesser of both":       {set: Settings{SurplusLimit: 50, SurplusDollars: 0.10}, headroom: 50, text: "50.0 credits", why: "50.0 a month"},
		"part of it is billed":     {set: Settings{SurplusDollars: 0.10}, bill: credit.Bill{OfDay: 5, OfMonth: 70}, headroom: 50, text: "70.0 credits ($0.06) were", why: "50.0 left of 120.0"},
		"by day":                   {set: Settings{SurplusDollars: 0.10, SurplusPeriod: Daily}, bill: credit.Bill{OfDay: 5, OfMonth: 700}, headroom: 115, text: "a day may be billed, 5.0 credits", why: "115.0 left of 120.0 a day"},
		"all of it is billed":      {set: Settings{SurplusDollars: 0.10}, bill: credit.Bill{OfMonth: 130}, text: "130.0 credits ($0.11) were", why: "surplus of 0.0 left of 120.0"},
		// 2,400 credits are more than the 576 that can be owed: what is beyond is charged while it runs. The
		// headroom ends at what both vCPUs spend within the horizon, and a full balance.
		"more than can be owed": {set: Settings{SurplusDollars: 2}, headroom: 2*12*60 + 576, text: "2400.0 credits ($2.00)", why: "2400.0 left"},
	} {
		t.Run(name, func(t *testing.T) {
			c := saved(noon, 0, baseline)
			c.Bank.Mode, c.Bill = credit.Unlimited, tt.bill
			tt.set.Reserve = -1
			_, d := decide(t, State{}, Input{Now: noon, Credits: c, Settings: tt.set})
			if math.Abs(d.Headroom-tt.headroom) > 0.1 {
				t.Errorf("headroom %.1f, want %.1f", d.Headroom, tt.headroom)
			}
			if !strings.Contains(d.Reason, tt.why) {
				t.Errorf("reason %s", d.Reason)
			}
			if text := (Report{Decision: d}).Text(noon); !strings.Contains(text, tt.text) {
				t.Errorf("shown as\n%s", text)
			}
		})
	}
	if _, d := decide(t, State{}, Input{Now: noon, Credits: saved(noon, 300, baseline), Settings: Settings{SurplusDollars: 1}}); d.Surplus != nil || strings.Contains(d.Reason, "surplus") {
		t.Errorf("standard: %+v", d)
	}
	spec, _ := credit.Lookup("t4g.small")
	if got := (Settings{}).For(spec).Dollars(60); got != 0.04 {
		t.Errorf("a vCPU-hour of T4g costs %v", got)
	}
}

// The next 12 hours leave enough, but in the day after the services need more than is earned: what one more batch spends would be billed.
func TestTheGateIsClosedWhereABatchWouldBeBilled(t *testing.T) {
	c := saved(noon, 200, credit.Demand{Mean: 0.1, High: 0.1})
	for i := range c.Forecast {
		if i >= 12 {
			c.Forecast[i].Demand = credit.Demand{Mean: 2, High: 2}
		}
	}
	for mode, want := range map[credit.Mode]bool{credit.Standard: true, credit.Unlimited: false} {
		c.Bank.Mode = mode
		if _, d := decide(t, State{}, Input{Now: noon, Credits: c}); d.Open != want {
			t.Errorf("%s: open %v: %s", mode, d.Open, d.Reason)
		}
	}
}
