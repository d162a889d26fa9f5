package rehearsal

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
)

// Text renders the report for people. It ends with a line feed.
func (r Report) Text() string {
	var w strings.Builder
	days := r.To.Sub(r.From).Hours() / 24
	fmt.Fprintf(&w, "%s, %s, %.1f days from %s\n", r.Type, r.Mode, days, r.From.Format("2006-01-02 15:04 MST"))
	fmt.Fprintf(&w, "without jobs: earned %.0f credits, services spent %.0f, %.0f would be thrown away", r.Idle.Account.Earned, r.Idle.Services, r.Spare)
	if r.Idle.Throttled >= 1 {
		fmt.Fprintf(&w, ", services throttled %.0f vCPU-s", r.Idle.Throttled)
	}
	if r.Idle.Account.Charged > 0 {
		fmt.Fprintf(&w, ", %.1f charged", r.Idle.Account.Charged)
	}
	if r.Needed > 0 {
		fmt.Fprintf(&w, "\njobs need %.0f credits", r.Needed)
		if r.Spare > 0 {
			fmt.Fprintf(&w, ", %.0f %% of those", 100*r.Needed/r.Spare)
		}
	}
	if r.Filled > 0 {
		fmt.Fprintf(&w, "\n%d values of the trace were missing and are taken as the one before", r.Filled)
	}
	if r.Stopped > 0 {
		fmt.Fprintf(&w, "\n%d values of the trace were missing for more than an hour: the instance is taken as stopped, without load", r.Stopped)
	}
	if r.Plateau > 0 {
		fmt.Fprintf(&w, "\nthe trace stands at the baseline of %s for %.1f hours: if the services were throttled then, it is censored,\nand they wanted more than is reckoned with here", r.Type, r.Plateau.Hours())
	}
	w.WriteString("\n")
	if r.Needed > 0 {
		r.writePolicies(&w)
	}
	if strings.HasPrefix(r.Type, "t8i.") && r.Mode == credit.Unlimited {
		w.WriteString("What surplus costs on t8i is not published: T3's price is assumed, or that of gate.surplus-price.\n")
	}
	if len(r.Results) > 0 && len(r.Results[0].Plot) > 0 {
		spec, _ := credit.Lookup(r.Type)
		fmt.Fprintf(&w, "\n%s", r.plotText(r.Results[0], spec.Max))
	}
	if r.Advice != "" {
		fmt.Fprintf(&w, "\nadvice: %s\n", r.Advice)
	}
	return w.String()
}

// writePolicies writes what became of the jobs by each policy.
func (r Report) writePolicies(w *strings.Builder) {
	w.WriteString("\n")
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "policy\tin time\tlate\trefused\tjobs spent\tdiscarded\tthrottled by jobs\tcharged for jobs\tscore\tregret\t")
	for _, x := range r.Results {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%.0f\t%.0f\t%.0f vCPU-s\t%.1f ($%.2f)\t%.0f\t%.0f %%\t\n", x.Policy, x.InTime, x.Late, x.Refused,
			x.Jobs, x.Account.Discarded, x.ThrottledByJobs, x.ChargedForJobs, x.ChargedDollars, x.Score, 100*x.Regret)
	}
	t.Flush()
	w.WriteString(`
score: three times the credits that jobs took from the services or had billed, and the
credits of jobs not done by their deadline. regret: how much of the jobs' credits that is above clairvoyant,
a bound that knows the future. charged: in brackets what the whole bill is, in US dollars.
`)
}

// mostThrottled is the share of the services' CPU time that may be throttled, or billed, for the type to suffice.
const mostThrottled = 0.005

// advise finds Report.Advice by what became of the services alone and of the gate.
func (r Report) advise(idle *instance, g Result) string {
	missed := len(g.Runs) - g.InTime
	larger := "a larger type"
	if r.Fits != "" {
		larger = r.Fits
	}
	switch charged := idle.sums.Account.Charged; {
	case !idle.sufficient() && charged > 0:
		return fmt.Sprintf("the services alone are billed $%.2f of surplus in %.0f days on %s: compare that with the price of %s.",
			idle.o.Settings.For(idle.o.Spec).Dollars(charged), idle.o.Length.Hours()/24, r.Type, larger)
	case !idle.sufficient() && len(g.Runs) == 0:
		return fmt.Sprintf("the services alone are throttled on %s, and may have been when this was recorded: take %s, or unlimited.", r.Type, larger)
	case !idle.sufficient():
		return fmt.Sprintf("the services alone are throttled on %s, and may have been when this was recorded: take %s, or unlimited with gate.surplus-dollars.", r.Type, larger)
	case len(g.Runs) == 0 && len(idle.o.Jobs) > 0:
		return fmt.Sprintf("%s does for the services; no run of the jobs comes from %s to %s with its deadline by then: see that their times are right, or take a longer trace or --days.",
			r.Type, r.From.UTC().Format("2006-01-02 15:04"), r.To.UTC().Format("2006-01-02 15:04 MST"))
	case len(g.Runs) == 0:
		return fmt.Sprintf("%s does for the services; with --jobs it is shown what jobs could make of the credits that they leave.", r.Type)
	case missed == 0 && g.takes() > tolerated*r.Needed:
		return fmt.Sprintf("%s in time on %s, but of the %.0f credits %.0f are missing to the services then, or billed: take %s, run fewer of them, or give them later deadlines.",
			everyRun(len(g.Runs)), r.Type, r.Needed, g.takes(), larger)
	case missed == 0:
		return fmt.Sprintf("%s in time on %s with these settings; nothing needs to change.", everyRun(len(g.Runs)), r.Type)
	case r.Needed > r.Spare:
		what := fmt.Sprintf("take %s, run fewer of them, or refuse those that are late (late: refuse).", larger)
		if !slices.ContainsFunc(g.Runs, func(x Run) bool { return !x.InTime && x.Late != gate.LateRefuse }) {
			what = fmt.Sprintf("take %s, or run fewer of them.", larger)
		}
		return fmt.Sprintf("%d of %d runs are not in time (%s), because the jobs need %.0f credits and only %.0f are spare: %s",
			missed, len(g.Runs), g.missed(), r.Needed, r.Spare, what)
	}
	text := fmt.Sprintf("%d of %d runs are not in time (%s) although enough credits are spare: give those jobs later deadlines or a smaller need", missed, len(g.Runs), g.missed())
	if r.Fits != "" {
		text += ", or take " + r.Fits
	}
	return text + "."
}

// tolerated is the part of the jobs' credits that they may take from the services before the advice speaks of it.
const tolerated = 0.02

// takes is what the jobs take from the services, or have billed, in credits.
func (x Result) takes() float64 { return x.ThrottledByJobs/60 + x.ChargedForJobs }

// missed says how many runs of which jobs are not in time, those with most first.
func (x Result) missed() string {
	by := map[string]int{}
	for _, r := range x.Runs {
		if !r.InTime {
			by[r.Name]++
		}
	}
	const most = 3
	var all []string
	for _, name := range slices.SortedFunc(maps.Keys(by), func(a, b string) int { return cmp.Or(by[b]-by[a], cmp.Compare(a, b)) }) {
		if len(all) == most {
			all = append(all, "and others")
			break
		}
		all = append(all, fmt.Sprintf("%s %d", name, by[name]))
	}
	return strings.Join(all, ", ")
}

// Journal renders what a policy decided, one line each.
func (r Result) Journal() string {
	var w strings.Builder
	for _, d := range r.Decisions {
		run := d.Run
		if run == "" {
			run = "gate"
		}
		fmt.Fprintf(&w, "%s  %-9s %s: %s\n", d.At.UTC().Format(time.DateTime), d.What, run, d.Reason)
	}
	return w.String()
}

// everyRun begins a sentence on all of so many runs.
func everyRun(n int) string {
	if n == 1 {
		return "the only run is"
	}
	return fmt.Sprintf("all %d runs are", n)
}
