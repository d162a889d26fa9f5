package rehearsal

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
)

// mustHold is what is asked of the gate in sum over the cases that concern it.
type mustHold []*asked

// asked is one row: the sums of the cases, and what is measured of them.
type asked struct {
	what, bound string
	line
	better   int // cases in which the gate has at most half of cron's score
	measured func(*asked) float64
	most     float64
}

func (a *asked) gateTo(p Policy) float64 { return a.score[Gate] / max(a.score[p], tiny) }

// count adds a case to a row.
func (m *mustHold) count(what, bound string, most float64, measured func(*asked) float64, rep Report) {
	i := slices.IndexFunc(*m, func(a *asked) bool { return a.what == what })
	if i < 0 {
		i = len(*m)
		*m = append(*m, &asked{what: what, bound: bound, most: most, measured: measured})
	}
	(*m)[i].count(rep)
}

func (m *mustHold) add(way, needs string, part float64, rep Report) {
	row := func(concerns bool, what, bound string, most float64, measured func(*asked) float64) {
		if concerns {
			m.count(what, bound, most, measured, rep)
		}
	}
	to := func(p Policy) func(*asked) float64 { return func(a *asked) float64 { return a.gateTo(p) } }
	unlimited, run := strings.HasPrefix(way, "unlimited"), strings.Contains(way, "run")
	leaves := rep.Spare >= 0.1*rep.Idle.Account.Earned
	row(true, strings.TrimSuffix(way, ": ")+", worse than the better of cron and threshold", "no case", 0, func(a *asked) float64 { return float64(a.broken) })
	row(unlimited, "unlimited, credits charged", "0", 0.5, func(a *asked) float64 { return a.charged })
	row(unlimited && leaves, "unlimited, 10 % spare: gate / cron", "0.5", 0.5, to(Cron))
	row(unlimited && leaves, "unlimited, 10 % spare: gate / bound", "1.5", 1.5, to(Clairvoyant))
	for name, most := range map[string]float64{"constant needs": 0.85, "needs vary (sigma 0.25)": 0.9, "needs vary (sigma 0.5)": 0.9} {
		row(needs == name, name+": gate / script", fmt.Sprint(most), most, to(Script))
	}
	row(!unlimited && !run, "standard, refuse: gate / bound, median", "1.25", 1.25, func(a *asked) float64 { return median(a.ratios) })
	if run {
		m.overload(part, rep)
	}
}

// overload is the part of what is spare from which on jobs are more than an instance can do.
const overload = 1.5

// overload counts a case of default settings if its jobs are that many.
func (m *mustHold) overload(part float64, rep Report) {
	if part >= overload {
		m.count("default settings, jobs of 150 %: cases above half of cron's", "10 %", 0.1, func(a *asked) float64 { return 1 - float64(a.better)/float64(a.cases) }, rep)
	}
}

func (a *asked) count(rep Report) {
	before, cron := a.score[Gate], a.score[Cron]
	a.line.add(rep)
	if a.score[Gate]-before <= 0.5*(a.score[Cron]-cron) {
		a.better++
	}
}

// text is a table in Markdown.
func (m mustHold) text() string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 8, 1, ' ', tabwriter.Debug)
	fmt.Fprint(w, "what\tcases\tasked\tmeasured\tholds")
	for _, p := range columns {
		fmt.Fprintf(w, "\t%s", p)
	}
	fmt.Fprintln(w)
	for _, a := range m {
		x, holds := a.measured(a), "yes"
		if x > a.most {
			holds = "no"
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%.4g\t%s", a.what, a.cases, a.bound, x, holds)
		for _, p := range columns {
			fmt.Fprintf(w, "\t%.0f", a.score[p])
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	return out.String()
}
