// Package rehearsal lets recorded load and assumed jobs pass through the estimator, the forecast and the gate on a virtual
// clock, and says what would have come of it, beside simpler policies and a bound that
// knows the future. It holds values and functions on them.
//
// The instance of a rehearsal keeps AWS's books exactly. Services come first; batches share
// what they leave. The gate sees of it what it would have seen then: CPU counters, and points of
// CloudWatch that are minutes old.
package rehearsal

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
)

// Options describe a rehearsal.
type Options struct {
	// Spec is the instance, Mode its credit option (standard if empty).
	Spec credit.Spec
	Mode credit.Mode
	// Trace is the services' load, recorded on TraceVCPUs (the instance's own number if 0).
	Trace      Trace
	TraceVCPUs float64
	Jobs       []Job
	// Length is how long it lasts; the trace's length if 0. The last day of the trace repeats.
	Length time.Duration
	// Balance is the credits at the start. A T2's launch credits come on top.
	Balance float64
	// Settings are the gate's.
	Settings gate.Settings
	// Lag is how old a point of CloudWatch is when it can be read, 10 minutes by default.
	Lag time.Duration
	// Lost says which points of CloudWatch, counted from the start, never come. Nil is none.
	Lost func(int) bool
	// Guest is what the guest's counters show of a credit that is billed, 1 by default.
	Guest float64
	// Threshold is the share of the largest balance from which on the policy
	// threshold starts a job, 0.5 by default.
	Threshold float64
	// Steps makes every policy give its balance at each step.
	Steps bool
	// Advise makes Play look for Report.Fits.
	Advise bool
	// Progress, if set, is told again and again what part of the whole is done, 0 to 1.
	Progress func(float64)
}

// Policy is a way to say when a job starts.
type Policy string

// The policies. Cron starts every job when its time comes, and Timeout also stops it at its deadline. Threshold starts one
// job after another, the most urgent first, while CloudWatch's newest balance is at least Options.Threshold of
// the largest. Script does so while that balance is at least the declared need, and stops jobs at their
// deadline. Clairvoyant is no policy but a bound: what somebody could reach who knows all load and jobs in advance.
const (
	Gate        Policy = "gate"
	Cron        Policy = "cron"
	Timeout     Policy = "timeout"
	Threshold   Policy = "threshold"
	Script      Policy = "script"
	Clairvoyant Policy = "clairvoyant"
)

// Policies are all of them, in the order in which they are shown.
var Policies = []Policy{Gate, Cron, Timeout, Threshold, Script, Clairvoyant}

// Result is what came of a rehearsal with one policy. Amounts are credits.
type Result struct {
	Policy Policy `json:"policy"`
	// Account is the bank's; its Throttled is the services' part alone.
	Account credit.Account `json:"account"`
	// Services and Jobs are what each of them spent.
	Services float64 `json:"services"`
	Jobs     float64 `json:"jobs"`
	// Throttled is CPU time, in vCPU-seconds, that the services wanted and did not get;
	// ThrottledByJobs is how much more that is than without any job.
	Throttled       float64 `json:"throttled_vcpu_seconds"`
	ThrottledByJobs float64 `json:"throttled_by_jobs_vcpu_seconds"`
	// ChargedForJobs is the surplus billed beyond what the services alone would have
	// cost, ChargedDollars all that is billed, at the price of the settings.
	ChargedForJobs float64 `json:"charged_for_jobs"`
	ChargedDollars float64 `json:"charged_dollars"`
	// InTime, Late and Refused count the runs; Late includes those that never ended.
	InTime  int `json:"in_time"`
	Late    int `json:"late"`
	Refused int `json:"refused"`
	// Missed is the credits of runs that had not ended at their deadline.
	Missed float64 `json:"missed"`
	// Score is three times the credits that the jobs took from the services or had billed, and Missed. Less is better.
	// In standard mode nothing is billed, and in unlimited mode nothing throttled: so it is one measure for both.
	Score float64 `json:"score"`
	// Regret is how much more the score is than the bound, as a share of all jobs' credits.
	Regret    float64    `json:"regret"`
	Runs      []Run      `json:"runs"`
	Decisions []Decision `json:"decisions,omitempty"`
	Steps     []Step     `json:"steps,omitempty"`
	// WorstError is the largest error of the estimated balance at any step while one was known.
	WorstError float64 `json:"worst_error,omitempty"`
	// Plot is what is drawn: equal parts of the whole; empty of a bound.
	Plot []Column `json:"-"`
}

// Run is one run of a job.
type Run struct {
	ID       string     `json:"id"`
	Name     string     `json:"name"`
	Due      time.Time  `json:"due"`
	Deadline time.Time  `json:"deadline,omitzero"`
	Need     float64    `json:"need"`
	Estimate float64    `json:"estimate,omitempty"`
	Cores    float64    `json:"cores"`
	Late     gate.Late  `json:"late,omitempty"`
	State    gate.Phase `json:"state"`
	Spent    float64    `json:"spent"`
	Started  time.Time  `json:"started,omitzero"`
	Ended    time.Time  `json:"ended,omitzero"`
	InTime   bool       `json:"in_time"`
}

// Decision is what a policy did to a run, or the gate to itself, and why.
type Decision struct {
	At time.Time `json:"at"`
	// Run is empty when it is about the gate for jobs that do not ask by name.
	Run    string `json:"run,omitempty"`
	What   string `json:"what"`
	Reason string `json:"reason"`
	// Balance, ErrorBar, Headroom and Promised are the gate's view; the other policies know the balance alone.
	Balance  float64 `json:"balance"`
	ErrorBar float64 `json:"error_bar,omitempty"`
	Headroom float64 `json:"headroom,omitempty"`
	Promised float64 `json:"promised,omitempty"`
}

// Step is the real state at the end of a step.
type Step struct {
	At      time.Time `json:"at"`
	Balance float64   `json:"balance"` // below 0 it is surplus
	// Services and Jobs are the mean use in the step, in vCPUs.
	Services float64 `json:"services"`
	Jobs     float64 `json:"jobs"`
}

const maxLength = 3 * 366 * 24 * time.Hour

func (o Options) withDefaults() (Options, error) {
	o.Mode, o.TraceVCPUs, o.Length = cmp.Or(o.Mode, credit.Standard), cmp.Or(o.TraceVCPUs, float64(o.Spec.VCPUs)), cmp.Or(o.Length, o.Trace.Length())
	o.Lag, o.Guest, o.Threshold = cmp.Or(o.Lag, 10*time.Minute), cmp.Or(o.Guest, 1), cmp.Or(o.Threshold, 0.5)
	switch {
	case o.Spec.VCPUs == 0:
		return o, errors.New("the instance type has no CPU credits that are known")
	case len(o.Trace.Values) == 0 || o.Trace.Step <= 0:
		return o, errors.New("the trace is empty")
	case !(o.TraceVCPUs > 0 && o.TraceVCPUs <= 1024):
		return o, errors.New("the number of vCPUs of the trace must be 1 to 1024")
	case o.Length < 0 || o.Length > maxLength:
		return o, fmt.Errorf("the length must be at most %d days", int(maxLength.Hours()/24))
	case !(o.Balance >= 0 && o.Balance <= o.Spec.Max):
		return o, fmt.Errorf("the balance must be 0 to %v on %s", o.Spec.Max, o.Spec.Type)
	}
	return o, nil
}

// tick divides CloudWatch's period and is no longer than the trace's step, but ten seconds at least.
func (o Options) tick() time.Duration {
	n := (credit.Period + o.Trace.Step - 1) / o.Trace.Step
	n = min(n, 30)
	for credit.Period%n != 0 {
		n++
	}
	return credit.Period / n
}

// mostRuns bounds how many runs the jobs of a rehearsal come to.
const mostRuns = 20000

// runs lists the runs whose end, in time or not, lies within the rehearsal. One without a deadline
// has until the end, and a day at least.
func (o Options) runs() ([]Run, error) {
	end := o.Trace.Start.Add(o.Length)
	var all []Run
	for _, j := range o.Jobs {
		// A month at a time, so that a job of every minute is found out before its runs are listed.
		for from := o.Trace.Start; from.Before(end); from = from.Add(month) {
			for _, due := range j.Starts(from, from.Add(min(month, end.Sub(from)))) {
				if r := o.run(j, due); !r.until(due.Add(day)).After(end) {
					all = append(all, r)
				}
			}
			if len(all) > mostRuns {
				return nil, fmt.Errorf("the jobs start more than %d times", mostRuns)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Run) int { return a.Due.Compare(b.Due) })
	same := map[string]int{} // runs of one name that come at the same minute
	for i := range all {
		id := all[i].ID
		if same[id]++; same[id] > 1 {
			all[i].ID = fmt.Sprintf("%s#%d", id, same[id])
		}
	}
	return all, nil
}

const (
	day   = 24 * time.Hour
	month = 30 * day
)

func (o Options) run(j Job, due time.Time) Run {
	r := Run{
		ID: fmt.Sprintf("%s@%s", j.Name, due.UTC().Format("2006-01-02T15:04")), Name: j.Name, Due: due, Need: j.Need,
		Estimate: j.Estimate, Cores: j.Cores, Late: j.Late, State: gate.Waiting,
	}
	if most := float64(o.Spec.VCPUs); r.Cores == 0 || r.Cores > most {
		r.Cores = most
	}
	if j.Deadline != nil {
		r.Deadline = j.Deadline(due)
	}
	return r
}

// until is the deadline, or another time for a run without one.
func (r Run) until(otherwise time.Time) time.Time {
	if r.Deadline.IsZero() {
		return otherwise
	}
	return r.Deadline
}

// Report is a whole rehearsal.
type Report struct {
	Type string      `json:"type"`
	Mode credit.Mode `json:"mode"`
	From time.Time   `json:"from"`
	To   time.Time   `json:"to"`
	// Filled is the number of the trace's values that were missing.
	Filled int `json:"filled,omitempty"`
	// Stopped is the number of those that were missing for more than an hour, and count as no load.
	Stopped int `json:"stopped,omitempty"`
	// Plateau is how long the trace stands at the type's baseline, as it does while an instance is throttled: what the services wanted
	// then is not in it.
	Plateau time.Duration `json:"plateau,omitempty"`
	// Fits is the smallest larger type of the family on which the services are not throttled and all runs can be in time, by the bound. It
	// is empty where the gate has all in time on this one, and where there is none.
	Fits string `json:"fits,omitempty"`
	// Advice is one sentence about what to change, by what became of the gate; empty where it was not played or not asked for.
	Advice string `json:"advice,omitempty"`
	// Needed is the credits of all runs, Spare those that would be thrown away without them.
	Needed float64 `json:"needed"`
	Spare  float64 `json:"spare"`
	// Idle is the same without any job.
	Idle    Result   `json:"idle"`
	Results []Result `json:"results"`
}

// withoutJobs plays the services alone. It returns the options with their defaults, too.
func withoutJobs(o Options) (*instance, Options, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, o, err
	}
	idle := newInstance(o, nil)
	idle.play(func(*instance) {})
	return idle, o, nil
}

// Play rehearses with each of the policies.
func Play(o Options, policies ...Policy) (Report, error) {
	tell := o.Progress
	part := func(i int) {
		if tell != nil {
			o.Progress = func(x float64) { tell((float64(i) + x) / float64(len(policies)+1)) }
		}
	}
	part(0)
	idle, o, err := withoutJobs(o)
	if err != nil {
		return Report{}, err
	}
	runs, err := o.runs()
	if err != nil {
		return Report{}, err
	}
	rep := Report{
		Type: o.Spec.Type, Mode: o.Mode, From: o.Trace.Start, To: o.Trace.Start.Add(o.Length), Filled: o.Trace.Filled, Stopped: o.Trace.Stopped,
		Idle: idle.result("", nil), Spare: idle.sums.Account.Discarded,
	}
	if baseline := 100 * o.Spec.Baseline() / float64(o.Spec.VCPUs); o.TraceVCPUs == float64(o.Spec.VCPUs) {
		rep.Plateau = o.Trace.plateau(baseline)
	}
	for _, r := range runs {
		rep.Needed += r.Need
	}
	least := bound(o, runs, idle).whole()
	for i, p := range policies {
		part(i + 1)
		var res Result
		if p == Clairvoyant {
			res = least.result(o, idle)
		} else {
			w := newInstance(o, slices.Clone(runs))
			w.play(starter(p, o))
			res = w.result(p, idle)
		}
		if rep.Needed > 0 {
			res.Regret = (res.Score - least.least) / rep.Needed
		}
		rep.Results = append(rep.Results, res)
		if o.Advise && p == Gate {
			o.Progress = nil
			settled, err := o.settled()
			if err != nil {
				return Report{}, err
			}
			if res.InTime < len(runs) || !settled.sufficient() {
				rep.Fits = o.fits()
			}
			rep.Advice = rep.advise(settled, res)
		}
	}
	return rep, nil
}

// settled plays the services alone, from the balance that they have left at the end: what an empty bank lacks on the first day says
// nothing of a type.
func (o Options) settled() (*instance, error) {
	o.Steps = false
	idle, o, err := withoutJobs(o)
	if err != nil {
		return nil, err
	}
	o.Balance = min(max(idle.bank.Position(), 0), o.Spec.Max)
	idle, _, err = withoutJobs(o)
	return idle, err
}

// sufficient reports whether the type does for the services alone: next to nothing is throttled, or billed.
func (w *instance) sufficient() bool {
	return w.throttled+w.sums.Account.Charged <= mostThrottled*w.sums.Services
}

// fits finds Report.Fits.
func (o Options) fits() string {
	now := o.Spec
	for _, spec := range larger(now) {
		if spec.EarnPerHour == now.EarnPerHour && spec.VCPUs == now.VCPUs {
			continue // a medium has more memory than a small, and nothing else
		}
		o.Spec = spec
		idle, err := o.settled()
		if err != nil {
			return ""
		}
		o := idle.o
		runs, err := o.runs()
		if err != nil {
			return ""
		}
		b := bound(o, runs, idle)
		// What was saved before is spent once: the jobs must live on what is earned.
		earned := spec.EarnPerHour*o.Length.Hours() - idle.sums.Services
		if idle.sufficient() && b.relaxed <= mostMissed*b.needed && b.needed <= earned {
			return spec.Type
		}
	}
	return ""
}
