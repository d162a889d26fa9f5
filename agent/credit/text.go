package credit

import (
	"fmt"
	"math"
	"strings"
	"time"
)

const (
	barWidth   = 40
	plotHeight = 8
)

// Text renders the report for people, as of now. It ends with a line feed.
func (r Report) Text(now time.Time) string {
	var w strings.Builder
	r.writeHead(&w)
	if r.Known {
		r.writeBalance(&w, now)
	}
	r.writeUse(&w)
	if r.Known {
		r.writeForecast(&w, now)
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&w, "\n%s: %s (%s)\n  %s\n", p.Severity, p.Text, p.Code, p.Hint)
	}
	return w.String()
}

func (r Report) writeHead(w *strings.Builder) {
	switch {
	case r.Type == "":
		w.WriteString("The instance type is not known yet.\n")
	case !r.Burstable:
		fmt.Fprintf(w, "%s has no CPU credits.\n", r.Type)
	case r.Max == 0:
		fmt.Fprintf(w, "%s: its credit rules are not known.\n", r.Type)
	default:
		mode := string(r.Mode)
		if !r.ModeKnown {
			mode += " (assumed)"
		}
		fmt.Fprintf(w, "%s, %s: earns %s credits an hour, holds at most %s\n", r.Type, mode, number(r.EarnPerHour), number(r.Max))
		if !r.Known {
			w.WriteString("The balance is not known yet: no point of CloudWatch has arrived.\n")
		}
	}
}

func (r Report) writeBalance(w *strings.Builder, now time.Time) {
	full := int(math.Round(clamp(r.Balance/r.Max, 0, 1) * barWidth))
	fmt.Fprintf(w, "\n  balance    %s ±%s  [%s%s] %.0f %%\n", number(r.Balance), number(r.ErrorBar),
		strings.Repeat("#", full), strings.Repeat("-", barWidth-full), 100*r.Balance/r.Max)
	if r.Surplus > 0 {
		fmt.Fprintf(w, "  surplus    %s of %s borrowed; earnings repay it first\n", number(r.Surplus), number(r.Max))
	}
	fmt.Fprintf(w, "  seen       CloudWatch at %s, %s ago; since then from /proc/stat\n", clock(r.AnchorAt), short(now.Sub(r.AnchorAt)))
}

func (r Report) writeUse(w *strings.Builder) {
	s, d := r.SpentLastHour, r.LastDay
	fmt.Fprintf(w, "  last hour  spent %s: services %s, batches %s\n", number(s.Services+s.Batch), number(s.Services), number(s.Batch))
	if r.Max == 0 {
		return
	}
	fmt.Fprintf(w, "  last day   earned %s, services %s, batches %s, thrown away %s", number(d.Earned), number(d.Services), number(d.Batch), number(d.Discarded))
	if d.Charged > 0 {
		fmt.Fprintf(w, ", charged %s", number(d.Charged))
	}
	w.WriteString("\n")
	if r.Bill.OfMonth > 0 {
		fmt.Fprintf(w, "  billed     %s of surplus today, %s this month (UTC)\n", number(r.Bill.OfDay), number(r.Bill.OfMonth))
	}
}

func (r Report) writeForecast(w *strings.Builder, now time.Time) {
	switch {
	case r.FullAt.IsZero():
		w.WriteString("  ahead      not full within 24 h")
	case !r.FullAt.After(now):
		w.WriteString("  ahead      full now")
	default:
		fmt.Fprintf(w, "  ahead      full at %s, in %s", clock(r.FullAt), short(r.FullAt.Sub(now)))
	}
	fmt.Fprintf(w, "; %s will be thrown away within 24 h\n", number(r.Discarded))
	fmt.Fprintf(w, "  headroom   %s can be spent without being throttled or charged, reserve not kept\n", number(r.Headroom))
	r.writePlots(w)
}

// column is one hour of a plot: sure is drawn as #, what is above it up to likely as +.
type column struct {
	at           time.Time
	sure, likely float64
}

// writePlots draws the balance of the last hours and of the next: # is sure even at high demand, + needs usual demand.
func (r Report) writePlots(w *strings.Builder) {
	var past, next []column
	for _, h := range r.Hours {
		if h.BalanceKnown {
			past = append(past, column{h.At, h.Balance, h.Balance})
		}
	}
	for _, p := range r.Forecast {
		next = append(next, column{p.At, p.Low, p.Balance})
	}
	if len(past) > 1 {
		r.writePlot(w, fmt.Sprintf("last %d hours", len(past)), past)
	}
	if len(next) > 0 {
		r.writePlot(w, fmt.Sprintf("next %d hours without batches (# at high demand of the services, + at usual demand)", len(next)), next)
	}
}

func (r Report) writePlot(w *strings.Builder, title string, columns []column) {
	fmt.Fprintf(w, "\n  %s\n", title)
	for row := plotHeight; row > 0; row-- {
		mark := r.Max * (float64(row) - 0.5) / plotHeight
		label := ""
		if row%2 == 0 {
			label = number(r.Max * float64(row) / plotHeight)
		}
		fmt.Fprintf(w, "  %7s |", label)
		var line strings.Builder
		for _, c := range columns {
			switch {
			case c.sure >= mark:
				line.WriteString("## ")
			case c.likely >= mark:
				line.WriteString("++ ")
			default:
				line.WriteString("   ")
			}
		}
		w.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	fmt.Fprintf(w, "  %7s +%s\n  %7s  ", "0", strings.Repeat("-", 3*len(columns)), "")
	var line strings.Builder
	for i, c := range columns {
		if i%3 == 0 {
			fmt.Fprintf(&line, "%-9s", c.at.Format("15:04"))
		}
	}
	w.WriteString(strings.TrimRight(line.String(), " ") + "\n")
}

func clock(t time.Time) string { return t.Format("15:04:05 MST") }

// number prints credits with one decimal, without it from 100 on.
func number(x float64) string {
	if math.Abs(x) >= 99.95 || x == math.Trunc(x) {
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.1f", x)
}
