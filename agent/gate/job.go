package gate

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
)

// Job is a batch that waits for the gate, as its owner describes it.
type Job struct {
	// ID names one run of the job; Name the job itself, by which its cost is learned.
	ID   string `json:"id"`
	Name string `json:"name"`
	// Need is the credits (minutes of one vCPU) that it will spend; 0 when its owner does not know.
	Need float64 `json:"need,omitempty"`
	// Cores is the most vCPUs that it uses at once; 0 means all.
	Cores float64 `json:"cores,omitempty"`
	// Deadline is when it should have ended; zero means at any time.
	Deadline time.Time `json:"deadline,omitzero"`
	// Late says what happens when it cannot end in time any more.
	Late Late `json:"late,omitempty"`
}

// Late is what becomes of a job that cannot end in time: it starts late, when it does least harm, or it is refused.
type Late string

// The choices. The empty Late is LateRun.
const (
	LateRun    Late = "run"
	LateRefuse Late = "refuse"
)

// Phase is where a job stands.
type Phase string

// The phases. A client says waiting, running and done; the gate admits and refuses.
const (
	Waiting  Phase = "waiting"
	Admitted Phase = "admitted"
	Running  Phase = "running"
	Refused  Phase = "refused"
	Done     Phase = "done"
)

// Asked is what a job's client last said. It is repeated at least every half minute; the same twice changes nothing.
type Asked struct {
	Job
	// State is Waiting, Running or Done.
	State Phase `json:"state"`
	// Slow and Quota are how the job is held back as of now, so that the answer may wait for a change.
	Slow  Slow    `json:"slow,omitempty"`
	Quota float64 `json:"quota,omitempty"`
	// Spent is the credits spent so far.
	Spent float64 `json:"spent,omitempty"`
	// Killed is set of a job that is Done because it was ended for having taken too much.
	Killed bool `json:"killed,omitempty"`
	// Failed is set of a job that is Done although it failed: a whole run needs what it has spent at least.
	Failed bool `json:"failed,omitempty"`
	// At is when it was received.
	At time.Time `json:"at"`
}

const (
	mostName  = 128
	mostJobs  = 500
	mostNeed  = 1e6
	mostNames = 200
	mostCosts = 35 // five weeks of a nightly job
	// Silence is how long a job may not be heard from before it is dropped.
	Silence = 2 * time.Minute
)

// Validate says what is wrong with what a client said, naming the field.
func (a Asked) Validate() error {
	switch {
	case a.Name == "" || len(a.Name) > mostName || !printable(a.Name):
		return fmt.Errorf("name must be 1 to %d printable ASCII characters without spaces", mostName)
	case a.ID == "" || len(a.ID) > mostName || !printable(a.ID):
		return fmt.Errorf("id must be 1 to %d printable ASCII characters without spaces", mostName)
	case !(a.Need >= 0 && a.Need <= mostNeed):
		return fmt.Errorf("need must be 0 to %.0f credits", mostNeed)
	case !(a.Spent >= 0 && a.Spent <= mostNeed):
		return fmt.Errorf("spent must be 0 to %.0f credits", mostNeed)
	case !(a.Cores >= 0 && a.Cores <= 1024):
		return errors.New("cores must be 0 to 1024")
	case a.Slow != "" && a.Slow != SlowQuota && a.Slow != SlowPause:
		return fmt.Errorf("slow must be %q or %q", SlowQuota, SlowPause)
	case !(a.Quota >= 0 && a.Quota <= 1024):
		return errors.New("quota must be 0 to 1024")
	case a.Late != "" && a.Late != LateRun && a.Late != LateRefuse:
		return fmt.Errorf("late must be %q or %q", LateRun, LateRefuse)
	case a.State != Waiting && a.State != Running && a.State != Done:
		return fmt.Errorf("state must be %q, %q or %q", Waiting, Running, Done)
	}
	return nil
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// Entry is a job in the gate's books.
type Entry struct {
	Job
	Phase Phase `json:"state"`
	// Expected is the credits that it is expected to need in all, learned or declared.
	Expected float64 `json:"expected"`
	Spent    float64 `json:"spent"`
	// Since is when it was first heard of, Heard when last, Changed when Phase changed.
	Since   time.Time `json:"since"`
	Heard   time.Time `json:"heard"`
	Changed time.Time `json:"changed"`
	// LatestStart is when it must start to meet its deadline; zero without one.
	LatestStart time.Time `json:"latest_start,omitzero"`
	// Overdue is set when it was admitted only because its latest start had come.
	Overdue bool `json:"overdue,omitempty"`
	// Withdrawn is set of a job that is Done and never ran.
	Withdrawn bool `json:"withdrawn,omitempty"`
	// Slow is SlowQuota or SlowPause while the job runs and is held back, else empty; Quota is the vCPUs that it may use then.
	Slow  Slow    `json:"slow,omitempty"`
	Quota float64 `json:"quota,omitempty"`
	// Reason is one sentence about why it stands where it stands.
	Reason string `json:"reason"`
	// Choices are the starts that were compared when it was last decided: now, later ones, and never.
	Choices []Choice `json:"choices,omitempty"`
}

// Told is the reason for a sentence that names the phase already.
func (e Entry) Told() string { return strings.TrimPrefix(e.Reason, string(e.Phase)+": ") }

// NextTimeOfDay returns the first moment after a time at which the clocks of its zone show a time of day such as 06:00; false
// where text is none.
func NextTimeOfDay(text string, after time.Time) (time.Time, bool) {
	c, err := time.Parse("15:04", text)
	next := time.Date(after.Year(), after.Month(), after.Day(), c.Hour(), c.Minute(), 0, 0, after.Location())
	if !next.After(after) {
		next = time.Date(after.Year(), after.Month(), after.Day()+1, c.Hour(), c.Minute(), 0, 0, after.Location())
	}
	return next, err == nil
}

// overrun is the part of its expected need that a job is granted at a time once it has spent it all.
const overrun = 0.1

// owed is what is still promised to an admitted or running job.
func (e Entry) owed() float64 {
	if e.Phase != Admitted && e.Phase != Running {
		return 0
	}
	return max(e.Expected-e.Spent, overrun*e.Expected)
}

// loads are the jobs that hold promises, as the bank's arithmetic wants them.
func loads(jobs []Entry) (ls []credit.Load, promised float64) {
	for _, e := range jobs {
		if o := e.owed(); o > 0 {
			ls = append(ls, credit.Load{Credits: o, Cores: e.Cores})
			promised += o
		}
	}
	return ls, promised
}

// latestStarts says of every waiting job when it must start to meet its deadline, if those that are due after it
// are to meet theirs: from the last deadline to the first, each is set as late as it can be on the processors that
// those after it and, usually, the services leave. It leaves a quarter more than the time that the job takes, and five
// minutes more at least: the client that starts the job learns a
// little later that it may. Services may use all processors now and none then, so a job of few
// cores has only their share of them, too. A need that is only declared counts twice.
func (s *State) latestStarts(c credit.Report) {
	slices.SortFunc(s.Jobs, compareUrgency)
	var taken []stretch
	for i := len(s.Jobs) - 1; i >= 0; i-- {
		e := &s.Jobs[i]
		e.LatestStart = time.Time{}
		if e.Deadline.IsZero() {
			continue
		}
		all := float64(max(c.VCPUs, 1))
		free := max(all-usual(c, e.Deadline), leastCores)
		alone := free * min(1, positive(e.Cores, all)/all)
		left := max(e.Expected-e.Spent, 0)
		if !s.measured(e.Name) {
			left *= guessed
		}
		e.LatestStart = e.Deadline.Add(-max(minutes(latestStartMargin*left/alone), minutes(left/alone)+leastMargin))
		if e.Phase != Waiting {
			continue
		}
		var start time.Time
		if start, taken = place(taken, e.Deadline, latestStartMargin*left, alone, free); start.Before(e.LatestStart) {
			e.LatestStart = start
		}
	}
}

// stretch is a time in which jobs take so many vCPUs: from its start to that of the stretch before it in a list, the latest first.
type stretch struct {
	from  time.Time
	vcpus float64
}

// place sets a job's work as late as it can be before its deadline, at the most at a rate, on what those that are set
// already leave of the free vCPUs. Their deadlines are not before this one.
func place(taken []stretch, deadline time.Time, work, rate, free float64) (start time.Time, all []stretch) {
	start = deadline
	for work > 0 {
		for len(taken) > 0 && !taken[0].from.Before(start) {
			taken = taken[1:]
		}
		var others stretch
		if len(taken) > 0 {
			others = taken[0]
		}
		given := max(0, min(rate, free-others.vcpus))
		from := start.Add(-minutes(work / max(given, tiny)))
		if len(taken) > 0 && from.Before(others.from) {
			from = others.from
			work -= given * start.Sub(from).Minutes()
		} else {
			work = 0
		}
		all = append(all, stretch{from, others.vcpus + given})
		start = from
	}
	return start, append(all, taken...)
}

// measured reports whether a run of this name has reported its cost.
func (s *State) measured(name string) bool { return len(s.History[name].Costs) > 0 }

// past returns the costs of those runs of a job that are like one that comes at the time at which this one came.
func (s *State) past(e Entry) Past {
	all := s.History[e.Name]
	return Past{Costs: all.like(e.Since), At: all.At}
}

// usual is the services' mean demand until a time, as far as it is forecast.
func usual(c credit.Report, until time.Time) float64 {
	var sum float64
	n := 0
	for _, p := range c.Forecast {
		if n > 0 && p.At.After(until) {
			break
		}
		sum += p.Demand.Mean
		n++
	}
	if n == 0 {
		return c.Now.Services
	}
	return sum / float64(n)
}

func minutes(m float64) time.Duration { return time.Duration(m * float64(time.Minute)) }

// compareUrgency orders the queue: earliest deadline first, then as they came. A job without a deadline is due a day after it came, so
// that not all that come after it go before it.
func compareUrgency(a, b Entry) int {
	return cmp.Or(a.due().Compare(b.due()), a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID))
}

// due is when a job should have ended, or, without a deadline, when its waiting is reported.
func (e Entry) due() time.Time {
	if e.Deadline.IsZero() {
		return e.Since.Add(day)
	}
	return e.Deadline
}
