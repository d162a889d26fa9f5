package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Row is one line of a screen, without control characters.
type Row struct {
	Text  string
	Style Style
}

// Style is how a row stands out, where a terminal can do that.
type Style int

// A row of each kind.
const (
	Plain Style = iota
	Heading
	Caution
	Alarm
)

// section is one list of the screen: its first row is a heading. What has no place is counted, and seen with the verb more.
type section struct {
	rows []Row
	more string
}

// roomy is the height from which on the state has more than a row for each subject.
const roomy = 30

// Top renders the status for a terminal: the state, problems, jobs, and the hosts by traffic. before is an earlier
// look of the same agent, from which rates follow; the zero Status has none. No row has more than
// width columns and there are at most height rows; 0 is no limit.
func (s Status) Top(before Status, width, height int) []Row {
	rows := []Row{{s.title(), Heading}}
	for _, subject := range s.State() {
		indent := len("  address   ")
		if height > 0 && height < roomy {
			indent = width // one row, which is cut
		}
		for i, line := range wrap(subject.Text, width-indent) {
			name := ""
			if i == 0 {
				name = subject.Name
			}
			rows = append(rows, Row{fmt.Sprintf("  %-9s %s", name, line), Plain})
		}
		if subject.Name == "credits" && s.Credit.Known && s.Credit.Max > 0 && height >= roomy {
			rows = append(rows, Row{"            " + s.balanceBar(width-14), Plain})
		}
	}
	sections := []section{s.topProblems(), s.topJobs(), s.topHosts(before, width)}
	wants := make([]int, len(sections))
	for i, sec := range sections {
		wants[i] = len(sec.rows)
	}
	if height > 0 {
		wants = share(height-len(rows), wants, []int{1, 1, 2})
	}
	for i, sec := range sections {
		rows = append(rows, sec.cut(wants[i])...)
	}
	if height > 0 {
		rows = rows[:min(len(rows), height)]
	}
	for i := range rows {
		rows[i].Text = fit(rows[i].Text, width)
	}
	return rows
}

// Lines are rows of a text that was written for no screen.
func Lines(text string, width int) (rows []Row) {
	for _, line := range wrap(text, width) {
		rows = append(rows, Row{Text: fit(line, width)})
	}
	return rows
}

// balanceBar draws the balance against the most that can be saved, with the reserve as a mark.
func (s Status) balanceBar(width int) string {
	width = min(max(width, 10), 72) - 2
	at := func(credits float64) int { return min(max(int(credits/s.Credit.Max*float64(width)), 0), width) }
	bar := []byte(strings.Repeat("#", at(s.Credit.Balance)) + strings.Repeat("-", width-at(s.Credit.Balance)))
	if r := s.Gate.Decision.Reserve; r > 0 {
		bar[min(at(r), width-1)] = '|'
	}
	return "[" + string(bar) + "]"
}

func (s Status) topProblems() section {
	if len(s.Problems) == 0 {
		return section{rows: []Row{{}, {"no problems", Plain}}}
	}
	severe, all := s.Severe()
	rows := []Row{{}, {fmt.Sprintf("problems: %d, %d of them severe", all, severe), Heading}}
	for _, p := range s.Problems {
		style := Caution
		if p.Severity == problem.Error {
			style = Alarm
		}
		rows = append(rows, Row{fmt.Sprintf("  %-8s %s: %s", markOf(p), p.Subject, p.Text), style}, Row{"           → " + p.Hint, Plain})
	}
	return section{rows, "nagaya status"}
}

func (s Status) topJobs() section {
	jobs := slices.DeleteFunc(slices.Clone(s.Gate.Decision.Jobs), func(e gate.Entry) bool { return e.Phase == gate.Done })
	if len(jobs) == 0 {
		return section{}
	}
	rows := []Row{{}, {fmt.Sprintf("%-20s %-9s %9s %9s  %s", "JOB", "STATE", "EXPECTED", "SPENT", "WHY"), Heading}}
	for _, e := range jobs {
		rows = append(rows, Row{fmt.Sprintf("%-20s %-9s %9.1f %9.1f  %s", fit(e.Name, 20), e.Phase, e.Expected, e.Spent, e.Told()), Plain})
	}
	return section{rows, "nagaya gate"}
}

// cut leaves so many rows, the last of which says how many there are beyond them. Fewer than three say nothing.
func (c section) cut(rows int) []Row {
	switch {
	case rows >= len(c.rows):
		return c.rows
	case rows < 3:
		return nil
	}
	return append(slices.Clone(c.rows[:rows-1]), Row{fmt.Sprintf("  … %d more rows: %s", len(c.rows)-rows+1, c.more), Plain})
}

// share gives out rows to those that want some, one after the other and as many at a time as each one's weight.
func share(rows int, wants, weights []int) []int {
	got := make([]int, len(wants))
	for given := -1; given != 0; {
		given = 0
		for i := range wants {
			n := max(min(rows, weights[i], wants[i]-got[i]), 0)
			got[i] += n
			given += n
			rows -= n
		}
	}
	return got
}

// wrap breaks a text at line feeds, and between words so that a line has at most width columns: 0 and less is no
// limit. It makes two lines of each at most.
func wrap(text string, width int) (lines []string) {
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(line)
		if at := strings.LastIndexByte(line[:columns(line, width+1)], ' '); width > 0 && utf8.RuneCountInString(line) > width && at > 0 {
			lines = append(lines, line[:at])
			line = line[at+1:]
		}
		lines = append(lines, line)
	}
	return lines
}

// columns is the length in bytes of what fits into so many columns.
func columns(text string, width int) int {
	n := 0
	for i := range text {
		if n == max(width, 0) {
			return i
		}
		n++
	}
	return len(text)
}

// fit takes what could steer a terminal out of a text and cuts it to width columns; 0 and less is no limit.
func fit(text string, width int) string {
	text = problem.Printable(text, math.MaxInt)
	if width > 0 && utf8.RuneCountInString(text) > width {
		text = text[:columns(text, width-1)] + "…"
	}
	return text
}
