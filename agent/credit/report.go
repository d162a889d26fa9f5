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
	// DayAfter is what was learned of the day after the forecast, in vCPUs and step by step. It is nil where weeks are not known to be alike.
	DayAfter []float64 `json:"-"`
	// FullAt is when credits begin to be thrown away; zero if not within the forecast.
	FullAt time.Time `json:"full_at,omitzero"`
	// Discarded is the credits that will be thrown away within the forecast.
	Discarded float64 `json:"discarded"`
	// Headroom is what could be spent at full speed from now on without being throttled
	// or charged within the forecast, at high demand, keeping no reserve and trusting the balance.
	Headroom float64 `json:"headroom"`
	// Lasting is by how many vCPUs the services need more than was learned, for hours and still so.
	Lasting float64 `json:"lasting"`
	// LongRun is the services' mean demand of the last weeks, in vCPUs.
	LongRun float64 `json:"long_run"`
	// LongRunDays is how many days it was learned from, see Profile.LongRun.
	LongRunDays float64 `json:"long_run_days"`
	// Bank is the state that the numbers above are made of.
	Bank     Bank              `json:"bank"`
	Problems []problem.Problem `json:"problems,omitempty"`
}

// Spent is the services' and the batches' part of what was spent.
type Spent struct {
	Services float64 `json:"services"`
	Batch    float64 `json:"batch"`
}

// report says what is known as of the last reading. Everything but the lists is a copy.
func (m *Memory) report(r Reading) Report {
	spec := m.Bank.Spec
	out := Report{
		At: r.At, Type: m.Type, Burstable: Burstable(m.Type),
		VCPUs: m.CPU.Online, Factor: m.factor(), MeterAt: m.At, AnchorAt: m.AnchorAt,
		Max: spec.Max, EarnPerHour: spec.EarnPerHour,
		LastDay: m.since(m.At.Add(-23 * time.Hour).Truncate(time.Hour)), Hours: slices.Clone(m.Hours[max(0, len(m.Hours)-24):]),
	}
	hour, _ := m.measured(m.At.Add(-time.Hour), m.At)
	out.SpentLastHour = hour.billed(out.Factor, 1)
	if now, minutes := m.measured(m.At.Add(-recentSpan), m.At); minutes > 0 {
		out.NowKnown, out.Now = true, now.billed(out.Factor, minutes)
	}
	if out.Burstable && spec.VCPUs > 0 {
		out.Bill, out.VCPUs, out.Mode, out.ModeKnown, out.Bank = m.Bill.at(r.At), spec.VCPUs, m.Bank.Mode, r.ModeKnown, m.Bank
		out.Known = !m.AnchorAt.IsZero()
	}
	if out.Known {
		out.Balance, out.Surplus = m.Bank.Balance+m.Bank.Launch, m.Bank.Surplus
		out.ErrorBar = m.errorBar(out.Now.Services + out.Now.Batch)
		out.Forecast = Project(m.Bank, &m.Profile, m.At, forecastHorizon, forecastStep)
		out.LongRun, out.LongRunDays = m.Profile.LongRun(spec)
		out.Lasting = m.Profile.Steady(m.At, spec)
		regular := m.Profile.Regular(spec)
		for _, p := range out.Forecast {
			out.Discarded += p.Discarded
			if regular {
				d := m.Profile.over(p.At.Add(forecastHorizon-forecastStep), p.At.Add(forecastHorizon), spec)
				out.DayAfter = append(out.DayAfter, d.Mean-d.More)
			}
		}
		out.FullAt = FullAt(m.Bank, m.At, out.Forecast)
		out.Headroom = Headroom(m.Bank, m.At, out.Forecast, 0, 0, nil)
	}
	out.Problems = append(slices.Clone(r.Problems), m.problems(out)...)
	return out
}

// billed is the use a minute, as the bill shows it, by what a credit of the guest's view costs there.
func (u usage) billed(factor, minutes float64) Spent {
	return Spent{Services: (u.busy - u.batch) * factor / minutes, Batch: u.batch * factor / minutes}
}

func warning(code, subject, text, hint string) problem.Problem {
	return problem.Problem{Code: code, Subject: subject, Text: text, Hint: hint}
}

// problems are those of the estimate.
func (m *Memory) problems(r Report) (all []problem.Problem) {
	s := m.Bank.Spec
	if r.Burstable && s.VCPUs == 0 {
		all = append(all, problem.Problem{
			Severity: problem.Error, Code: "credit-type-unknown", Subject: "instance",
			Text: fmt.Sprintf("the credit rules of instance type %.32q are not known to this version", m.Type),
			Hint: "update nagaya; until then the gate stays closed",
		})
	}
	if d := r.LastDay; r.Burstable && s.VCPUs > 0 && len(m.Hours) >= tooSmallLeastDay && d.Services > d.Earned && d.Earned > 0 {
		all = append(all, warning("instance-too-small", "instance",
			fmt.Sprintf("the services alone spent %.0f credits in a day in which %s earned %.0f", d.Services, m.Type, d.Earned),
			"choose a larger type, or one that is not burstable, or move a service away"))
	}
	if !r.Known {
		return all
	}
	if age := r.At.Sub(m.AnchorAt); age > oldAnchor {
		all = append(all, warning("credit-anchor-old", "CloudWatch",
			fmt.Sprintf("the newest point of CPUCreditBalance is %s old; the balance is an estimate with an error of %.0f credits", short(age), r.ErrorBar),
			"look for other problems of CloudWatch here; points are usually 5 to 15 minutes old"))
	}
	// CPU time that the hypervisor withheld although there are credits.
	u, _ := m.measured(m.At.Add(-stealSpan), m.At)
	if wanted := u.busy + u.steal; u.steal >= stealLeast && u.steal >= stealShare*wanted && m.Bank.Position() >= emptyShareOfMax*s.Max {
		all = append(all, warning("cpu-steal", "instance",
			fmt.Sprintf("the hypervisor withheld %.0f %% of the CPU time wanted in the last ten minutes although %.0f credits should be there", 100*u.steal/wanted, r.Balance),
			"compare with CPUCreditBalance in CloudWatch; if it is high as well, the host is crowded: stop and start the instance to move it"))
	}
	return all
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
