package credit

import (
	"fmt"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Report is what is known about the credits at one moment.
type Report struct {
	At time.Time `json:"at"`
	// Known is false until a point of CloudWatch has arrived for a type whose rules are
	// known; Balance, Surplus, ErrorBar, Headroom and Forecast then mean nothing.
	Known bool `json:"known"`
	// Type is empty while the instance is not known. Burstable is meaningful only with Type.
	Type      string `json:"type,omitempty"`
	Burstable bool   `json:"burstable"`
	// VCPUs is the type's number of processors, or the online ones of a type without credits.
	VCPUs     int  `json:"vcpus"`
	Mode      Mode `json:"mode,omitempty"`
	ModeKnown bool `json:"mode_known"`
	// Balance includes T2 launch credits, as CPUCreditBalance does.
	Balance float64 `json:"balance"`
	Surplus float64 `json:"surplus"`
	// ErrorBar is by how many credits Balance and Surplus may be wrong either way.
	ErrorBar    float64 `json:"error_bar"`
	Max         float64 `json:"max"`
	EarnPerHour float64 `json:"earn_per_hour"`
	// SpentLastHour is the credits of the last 60 minutes.
	SpentLastHour Spent `json:"spent_last_hour"`
	// Now is the demand in vCPUs over the last five minutes; NowKnown is false when nothing was measured.
	Now      Spent `json:"now"`
	NowKnown bool  `json:"now_known"`
	// LastDay is the account of the running clock hour and the 23 before it.
	LastDay Hour `json:"last_day"`
	// Hours are the accounts of these, the oldest first.
	Hours []Hour `json:"hours,omitempty"`
	// Bill is the surplus that was charged to an unlimited instance, as far as it was watched.
	Bill Bill `json:"bill,omitzero"`
	// MeterAt is when the CPU counters were last read, AnchorAt the time stamp of the CloudWatch point in use.
	MeterAt  time.Time `json:"meter_at,omitzero"`
	AnchorAt time.Time `json:"anchor_at,omitzero"`
	// Factor is what a credit of the guest's view costs on the bill.
	Factor float64 `json:"factor"`
	// Forecast holds one point for each of the next 24 hours, without batches.
	Forecast []Point `json:"forecast,omitempty"`
	// FullAt is when credits begin to be thrown away; zero if not within the forecast.
	FullAt time.Time `json:"full_at,omitzero"`
	// Discarded is the credits that will be thrown away within the forecast.
	Discarded float64 `json:"discarded"`
	// Headroom is what could be spent at full speed from now on without being throttled
	// or charged within the forecast, at high demand, keeping no reserve and trusting the balance.
	Headroom float64 `json:"headroom"`
	// Bank is the state that the numbers above are made of.
	Bank     Bank              `json:"bank"`
	Problems []problem.Problem `json:"problems,omitempty"`
}

// Spent tells the services' part from the batches'.
type Spent struct {
	Services float64 `json:"services"`
	Batch    float64 `json:"batch"`
}

// report draws the conclusions. Everything but the lists is a copy.
func (m *Memory) report(r Reading) Report {
	spec := m.Bank.Spec
	out := Report{
		At: r.At, Type: m.Type, Burstable: Burstable(m.Type),
		VCPUs: m.CPU.Online, Factor: m.factor(), MeterAt: m.At, AnchorAt: m.AnchorAt,
		Max: spec.Max, EarnPerHour: spec.EarnPerHour,
		Problems: slices.Clone(r.Problems),
	}
	m.reportUse(&out)
	if !out.Burstable {
		return out
	}
	if _, known := Lookup(m.Type); !known {
		out.Problems = append(out.Problems, m.unknownType())
	}
	if spec.VCPUs == 0 {
		return out
	}
	out.Bill = m.Bill.at(r.At)
	out.VCPUs, out.Mode, out.ModeKnown, out.Bank = spec.VCPUs, m.Bank.Mode, r.ModeKnown, m.Bank
	m.warnTooSmall(&out)
	if m.AnchorAt.IsZero() {
		return out
	}
	out.Known = true
	out.Balance, out.Surplus = m.Bank.Balance+m.Bank.Launch, m.Bank.Surplus
	out.ErrorBar = m.errorBar(out.Now.Services + out.Now.Batch)
	out.Forecast = Project(m.Bank, &m.Profile, m.At, forecastHorizon, forecastStep)
	for _, p := range out.Forecast {
		out.Discarded += p.Discarded
	}
	out.FullAt = FullAt(m.Bank, m.At, out.Forecast)
	out.Headroom = Headroom(m.Bank, m.At, out.Forecast, 0, 0, nil)
	m.warnOld(&out)
	m.warnSteal(&out)
	return out
}

// reportUse fills in what needs no bank.
func (m *Memory) reportUse(out *Report) {
	f := out.Factor
	hour, _ := m.measured(m.At.Add(-time.Hour), m.At)
	out.SpentLastHour = Spent{Services: (hour.busy - hour.batch) * f, Batch: hour.batch * f}
	if now, minutes := m.measured(m.At.Add(-recentSpan), m.At); minutes > 0 {
		out.NowKnown = true
		out.Now = Spent{Services: (now.busy - now.batch) * f / minutes, Batch: now.batch * f / minutes}
	}
	out.LastDay = m.since(m.At.Add(-23 * time.Hour).Truncate(time.Hour))
	out.Hours = slices.Clone(m.Hours[max(0, len(m.Hours)-24):])
}

// unknownType says how far the rate of a type is known that is in no table.
func (m *Memory) unknownType() problem.Problem {
	p := problem.Problem{
		Code: "credit-type-unknown", Severity: problem.Error, Subject: "instance",
		Text: fmt.Sprintf("the credit rules of instance type %.32q are not known to this version; its rate is being learnt from CloudWatch, by %d of %d half hours",
			m.Type, min(len(m.Rate.Samples), enoughSamples), enoughSamples),
		Hint: "update nagaya; until the rate is known the gate stays closed",
	}
	if s := m.Bank.Spec; s.VCPUs > 0 {
		p.Severity = problem.Warning
		p.Text = fmt.Sprintf("the credit rules of instance type %.32q are not known to this version; by CloudWatch it earns %.1f credits an hour and is taken to hold %.0f", m.Type, s.EarnPerHour, s.Max)
		p.Hint = "update nagaya, for AWS's own numbers"
	}
	return p
}

func (m *Memory) warnOld(out *Report) {
	if age := out.At.Sub(m.AnchorAt); age > oldAnchor {
		out.Problems = append(out.Problems, problem.Problem{
			Code: "credit-anchor-old", Subject: "CloudWatch",
			Text: fmt.Sprintf("the newest point of CPUCreditBalance is %s old; the balance is an estimate with an error of %.0f credits", short(age), out.ErrorBar),
			Hint: "look for other problems of CloudWatch here; points are usually 5 to 15 minutes old",
		})
	}
}

// warnSteal speaks of CPU time that the hypervisor withheld although there are credits.
func (m *Memory) warnSteal(out *Report) {
	u, _ := m.measured(m.At.Add(-stealSpan), m.At)
	all := u.busy + u.steal
	if u.steal < stealLeast || u.steal < stealShare*all || m.Bank.Position() < emptyShareOfMax*m.Bank.Spec.Max {
		return
	}
	out.Problems = append(out.Problems, problem.Problem{
		Code: "cpu-steal", Subject: "instance",
		Text: fmt.Sprintf("the hypervisor withheld %.0f %% of the CPU time wanted in the last ten minutes although %.0f credits should be there", 100*u.steal/all, out.Balance),
		Hint: "compare with CPUCreditBalance in CloudWatch; if it is high as well, the host is crowded: stop and start the instance to move it",
	})
}

// warnTooSmall speaks when the services alone spend more than is earned, day by day.
func (m *Memory) warnTooSmall(out *Report) {
	if len(m.Hours) < tooSmallLeastDay {
		return
	}
	if d := out.LastDay; d.Services > d.Earned && d.Earned > 0 {
		out.Problems = append(out.Problems, problem.Problem{
			Code: "instance-too-small", Subject: "instance",
			Text: fmt.Sprintf("the services alone spent %.0f credits in a day in which %s earned %.0f", d.Services, m.Type, d.Earned),
			Hint: "choose a larger type, or one that is not burstable, or move a service away",
		})
	}
}

// short prints a duration as people say it: minutes, and hours from 100 minutes on.
func short(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 100*time.Minute:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd", int(d.Hours())/24)
	}
}

// Low reports whether the balance is known to be less than an hour's earnings.
func (r Report) Low() bool { return r.Burstable && r.Known && r.Balance < r.EarnPerHour }
