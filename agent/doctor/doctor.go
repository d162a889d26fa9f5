// Package doctor holds what an examination of the host found: one finding for each
// check, with what to do about it. Package examine below it looks at the host.
package doctor

import (
	"fmt"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Level is the result of a check.
type Level string

// The levels, from good to bad.
const (
	OK Level = "ok"
	// Warn: it works, but less well than it could, or not for long.
	Warn Level = "warn"
	// Fail: something that is configured does not work.
	Fail Level = "fail"
)

// Finding is the outcome of one check.
type Finding struct {
	// Check is a kebab-case word that never changes, because scripts match it.
	Check string `json:"check"`
	Level Level  `json:"level"`
	// Text is one sentence without a full stop.
	Text string `json:"text"`
	// Remedy is what to do; empty when all is well.
	Remedy string `json:"remedy,omitempty"`
}

// Good is a finding without a fault.
func Good(check, format string, args ...any) Finding {
	return Finding{Check: check, Level: OK, Text: fmt.Sprintf(format, args...)}
}

// Doubtful is a finding that works less well than it could.
func Doubtful(check, text, remedy string) Finding {
	return Finding{Check: check, Level: Warn, Text: text, Remedy: remedy}
}

// Bad is a finding that something does not work.
func Bad(check, text, remedy string) Finding {
	return Finding{Check: check, Level: Fail, Text: text, Remedy: remedy}
}

// Of makes a finding of a problem.
func Of(check string, p problem.Problem) Finding {
	f := Finding{Check: check, Level: Fail, Text: p.Text, Remedy: p.Hint}
	if p.Severity != problem.Error {
		f.Level = Warn
	}
	return f
}

// Report is a whole examination, in the order in which it was made: what the
// later checks need comes first.
type Report struct {
	Findings []Finding `json:"findings"`
}

// Add appends findings.
func (r *Report) Add(all ...Finding) { r.Findings = append(r.Findings, all...) }

// Count returns how many findings are of the level.
func (r Report) Count(l Level) int {
	n := 0
	for _, f := range r.Findings {
		if f.Level == l {
			n++
		}
	}
	return n
}

// Text shows the report to people: one line for each check, and a second one with
// the remedy where there is one.
func (r Report) Text() string {
	var b strings.Builder
	width := 0
	for _, f := range r.Findings {
		width = max(width, len(f.Check))
	}
	for _, f := range r.Findings {
		level := string(f.Level)
		if f.Level == Fail {
			level = "FAIL"
		}
		fmt.Fprintf(&b, "%-4s  %-*s  %s\n", level, width, f.Check, f.Text)
		if f.Remedy != "" {
			fmt.Fprintf(&b, "%*s→ %s\n", width+8, "", f.Remedy)
		}
	}
	fmt.Fprintf(&b, "\n%s: %d ok, %s, %d failed\n", problem.Counted(len(r.Findings), "check"), r.Count(OK), problem.Counted(r.Count(Warn), "warning"), r.Count(Fail))
	return b.String()
}
