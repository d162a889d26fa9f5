package gate

import (
	"fmt"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
)

// Period is the part of the calendar, in UTC, for which surplus is allowed.
type Period string

// The periods. The empty Period is Monthly.
const (
	Monthly Period = "month"
	Daily   Period = "day"
)

// Surplus is how much of the credits that cost money an unlimited instance may use. Amounts are credits unless the name says dollars.
type Surplus struct {
	Period Period `json:"period"`
	// Limit is what may be charged and owed in the period, 0 for nothing.
	Limit float64 `json:"limit"`
	// Charged is what was, and Left is what may still be owed.
	Charged float64 `json:"charged"`
	Left    float64 `json:"left"`
	// Price is US dollars a vCPU-hour (60 credits); it is AWS's for Linux if PriceAssumed.
	Price        float64 `json:"price"`
	PriceAssumed bool    `json:"price_assumed"`
}

// surplus says what is allowed at the moment. The surplus of the services alone counts too: it is on the same bill.
func (s Settings) surplus(c credit.Report) Surplus {
	p := Surplus{Period: s.SurplusPeriod, Limit: s.SurplusLimit, Charged: c.Bill.OfMonth, Price: s.SurplusPrice, PriceAssumed: s.priceAssumed}
	if p.Period == Daily {
		p.Charged = c.Bill.OfDay
	}
	if s.SurplusDollars > 0 {
		bought := s.SurplusDollars / s.SurplusPrice * 60
		if p.Limit == 0 || bought < p.Limit {
			p.Limit = bought
		}
	}
	p.Left = max(p.Limit-p.Charged, 0)
	return p
}

// unnamed is a batch that did not ask by name: nobody knows what it needs.
var unnamed = credit.Load{Credits: time.Hour.Minutes(), Cores: 1}

// billed reports whether what batches still need would be charged, beyond what is allowed, if the next two days go as is usual.
func (v view) billed(set Settings, ls ...credit.Load) bool {
	if !v.costsMoney() {
		return false
	}
	points := v.twoDays(0, 0)
	charged := func(ls []credit.Load) float64 {
		return v.charged(credit.Outcome(v.report.Bank, v.report.MeterAt, points, ls))
	}
	return charged(ls)-charged(nil) > set.surplus(v.report).Left+tiny
}

// Dollars is what surplus credits cost, after For.
func (s Settings) Dollars(credits float64) float64 { return credits / 60 * s.SurplusPrice }

// numbers is for the reason of a decision; empty where nothing is allowed.
func (p *Surplus) numbers() string {
	if p == nil || p.Limit == 0 {
		return ""
	}
	return fmt.Sprintf(", surplus of %.1f left of %.1f a %s", p.Left, p.Limit, p.Period)
}

// text is one line for people.
func (p Surplus) text() string {
	cost := fmt.Sprintf("a vCPU-hour costs $%.4g", p.Price)
	if p.PriceAssumed {
		cost += ", assumed as with Linux (gate.surplus-price)"
	}
	if p.Limit == 0 {
		return fmt.Sprintf("no surplus may be billed (gate.surplus-limit, gate.surplus-dollars); %s", cost)
	}
	dollars := func(credits float64) string { return fmt.Sprintf("%.1f credits ($%.2f)", credits, credits/60*p.Price) }
	return fmt.Sprintf("surplus: %s a %s may be billed, %s were in this one; %s", dollars(p.Limit), p.Period, dollars(p.Charged), cost)
}
