package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// onVirtualClock runs the tests of package claim that measure on a virtual clock, and
// prints the attributes that they report.
func (b *bench) onVirtualClock(ctx context.Context) error {
	const run = "^(TestTenAgentsAndOneAddress|TestCallsOfADay|TestOutagesGiveNothingUp)$"
	schedules := b.count(1000, 100)
	cmd := exec.CommandContext(ctx, filepath.Join(b.o.Bin, "claim.test"), "-test.v", "-test.run", run, "-schedules", strconv.Itoa(schedules))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("running the tests of package claim, which 'make bench-address' compiles: %w", err)
	}
	got := readAttributes(out.String())
	for _, r := range []struct {
		what, test, bound string
	}{
		{"10 agents, one address, seeded schedules with faults", "TestTenAgentsAndOneAddress", "one holder at every quiet end, the right one; moves within the budget; nobody believes wrongly for more than 30 s"},
		{"24 h, the holder", "TestCallsOfADay/i-self_one", "0 Associate; ≤ 300 Describe"},
		{"24 h, a standby", "TestCallsOfADay/i-other_one", "0 Associate; ≤ 6000 Describe"},
		{"24 h, the holder of three addresses", "TestCallsOfADay/i-self_three", "0 Associate; ≤ 300 Describe"},
		{"24 h, a standby for three addresses", "TestCallsOfADay/i-other_three", "0 Associate; ≤ 6000 Describe"},
		{"EC2 is out for an hour, then IMDS for another; the holder", "TestOutagesGiveNothingUp/i-self", "nothing given up, nothing moved"},
		{"EC2 is out for an hour, then IMDS for another; a standby", "TestOutagesGiveNothingUp/i-other", "nothing given up, nothing moved"},
	} {
		t := got[r.test]
		row := Row{What: r.what, Bound: r.bound, Missed: t == nil || !t.passed, Figures: map[string]float64{}}
		if t == nil {
			row.Got = "not measured: " + firstLine(out.String())
			b.add(row)
			continue
		}
		var said []string
		for _, a := range t.attributes {
			said = append(said, a.value+" "+strings.ReplaceAll(a.key, "-", " "))
			if v, err := strconv.ParseFloat(a.value, 64); err == nil {
				row.Figures[a.key] = v
			}
		}
		row.Got = strings.Join(said, ", ")
		b.add(row)
	}
	return nil
}

// outcome is what one test reported.
type outcome struct {
	passed     bool
	attributes []struct{ key, value string }
}

// readAttributes reads what testing.T.Attr and the end of each test wrote.
func readAttributes(text string) map[string]*outcome {
	all := map[string]*outcome{}
	of := func(test string) *outcome {
		if all[test] == nil {
			all[test] = &outcome{}
		}
		return all[test]
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "=== ATTR "); ok {
			f := strings.SplitN(strings.TrimSpace(rest), " ", 3)
			if len(f) == 3 {
				o := of(f[0])
				o.attributes = append(o.attributes, struct{ key, value string }{f[1], f[2]})
			}
		}
		if rest, ok := strings.CutPrefix(line, "--- PASS: "); ok {
			test, _, _ := strings.Cut(rest, " ")
			of(test).passed = true
		}
	}
	return all
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}
