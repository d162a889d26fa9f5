package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/rehearsal"
)

// written puts a file into a directory of the test's and returns its name.
func written(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// recorded is a week with busy days and quiet nights.
func recorded() string {
	var b strings.Builder
	b.WriteString("timestamp,value\n")
	at := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	for range 7 * 288 {
		v := 2.0
		if h := at.Hour(); h >= 8 && h < 18 {
			v = 13
		}
		fmt.Fprintf(&b, "%s,%v\n", at.Format(time.DateTime), v)
		at = at.Add(5 * time.Minute)
	}
	return b.String()
}

const nightly = "jobs:\n  - {name: report, schedule: '0 20 * * *', need: 60, estimate: 50, deadline: 10h, cores: 1}\n"

func TestSimulate(t *testing.T) {
	trace, jobs := written(t, "cpu.csv", recorded()), written(t, "jobs.yaml", nightly)
	args := []string{"simulate", "--config", os.DevNull, "--type", "t3.micro", "--trace", trace, "--jobs", jobs}
	got := nagaya(t, args...)
	if got.code != exitOK || !strings.Contains(got.out, "clairvoyant") || !strings.Contains(got.out, "jobs need 360 credits") {
		t.Errorf("%+v", got)
	}
	got = nagaya(t, append(args, "--policy", "gate,cron", "--json")...)
	var r rehearsal.Report
	if err := json.Unmarshal([]byte(got.out), &r); err != nil {
		t.Fatalf("%v: %+v", err, got)
	}
	if len(r.Results) != 2 || len(r.Results[0].Steps) != 7*288 || len(r.Results[0].Decisions) < 6 || r.Results[0].InTime != 6 {
		t.Errorf("%d results; gate: %d steps, %d decisions, %d in time", len(r.Results), len(r.Results[0].Steps), len(r.Results[0].Decisions), r.Results[0].InTime)
	}
	got = nagaya(t, append(args, "--policy", "gate", "--journal", "--days", "9")...)
	if !strings.Contains(got.out, "running   report@2026-03-09T20:00: admitted") || !strings.Contains(got.out, "9.0 days") {
		t.Errorf("%+v", got)
	}
}

// Several files are one trace; the plot shows the balance, and a trace that stands at the baseline is called censored.
func TestSimulateShowsMoreThanSums(t *testing.T) {
	lines := strings.SplitAfter(recorded(), "\n")
	first, second := written(t, "1.csv", strings.Join(lines[:1000], "")), written(t, "2.csv", strings.Join(lines[900:], ""))
	jobs := written(t, "jobs.yaml", nightly)
	args := []string{"simulate", "--config", os.DevNull, "--type", "T3.MICRO", "--trace", second, "--trace", first, "--policy", "gate"}
	got := nagaya(t, append(args, "--jobs", jobs)...)
	for _, want := range []string{"7.0 days from 2026-03-02", "lowest balance with the policy gate, in parts of 2h20m", "       288 |", "  jobs run  ", "advice: "} {
		if got.code != exitOK || !strings.Contains(got.out, want) {
			t.Errorf("exit %d, without %q:\n%s", got.code, want, got.out)
		}
	}
	if strings.Contains(got.out, "censored") || strings.Contains(got.out, "throttled  ") {
		t.Errorf("nothing was throttled:\n%s", got.out)
	}
	throttled := written(t, "cpu.csv", strings.ReplaceAll(recorded(), ",13\n", ",10.1\n"))
	got = nagaya(t, "simulate", "--config", os.DevNull, "--type", "t3.micro", "--trace", throttled, "--policy", "gate")
	if !strings.Contains(got.out, "stands at the baseline of t3.micro for 70.0 hours") || !strings.Contains(got.out, "censored") {
		t.Errorf("%+v", got)
	}
}

func TestSimulateSaysWhatIsWrong(t *testing.T) {
	trace, jobs := written(t, "cpu.csv", recorded()), written(t, "jobs.yaml", nightly)
	for _, row := range []struct {
		args []string
		want string
	}{
		{nil, "--type is missing"},
		{[]string{"--type", "m5.large"}, "not burstable"},
		{[]string{"--type", "t3.micro"}, "--trace is missing"},
		{[]string{"--type", "t3.micro", "--trace", jobs}, "is no trace"},
		{[]string{"--type", "t3.micro", "--trace", trace + "x"}, "no such file"},
		{[]string{"--type", "t3.micro", "--trace", trace, "--jobs", trace}, "--jobs"},
		{[]string{"--type", "t3.micro", "--trace", trace, "--policy", "luck"}, `"luck" is not gate`},
		{[]string{"--type", "t3.micro", "--trace", trace, "--mode", "free"}, "neither standard nor unlimited"},
		{[]string{"--type", "t3.micro", "--trace", trace, "--balance", "300"}, "0 to 288"},
		{[]string{"--type", "t3.micro", "--trace", trace, "--threshold", "0"}, "--threshold"},
		{[]string{"--type", "t3.micro", "--trace", trace, "--days", "-1"}, "--days"},
		{[]string{"--type", "t3.micro", "--trace", trace, "more"}, "unexpected argument"},
	} {
		got := nagaya(t, append([]string{"simulate", "--config", os.DevNull}, row.args...)...)
		if got.code != exitUsage || !strings.Contains(got.errs, row.want) {
			t.Errorf("%v: %+v, want %q", row.args, got, row.want)
		}
	}
}

// The gate of a rehearsal keeps to the windows of the configuration.
func TestSimulateKeepsToTheWindows(t *testing.T) {
	trace, jobs := written(t, "cpu.csv", recorded()), written(t, "jobs.yaml", nightly)
	file := written(t, "nagaya.yaml", "gate: {windows: ['Mon-Thu 23:00-02:00 Europe/Berlin', 'Fri-Sun 07:00-08:00 Asia/Tokyo']}\n")
	args := []string{"simulate", "--config", file, "--type", "t3.micro", "--trace", trace, "--jobs", jobs, "--policy", "gate"}
	got := nagaya(t, append(args, "--json")...)
	var r rehearsal.Report
	if err := json.Unmarshal([]byte(got.out), &r); err != nil {
		t.Fatalf("%v: %+v", err, got)
	}
	started := 0
	for _, x := range r.Results[0].Runs {
		if x.Started.IsZero() {
			continue
		}
		started++
		hour := x.Started.UTC().Hour()
		if weekend := x.Due.Weekday() >= time.Friday || x.Due.Weekday() == time.Sunday; weekend && hour != 22 || !weekend && hour < 22 && hour > 0 {
			t.Errorf("%s started at %s", x.ID, x.Started)
		}
	}
	if started < 6 {
		t.Errorf("%d runs started", started)
	}
	if got = nagaya(t, append(args, "--journal")...); !strings.Contains(got.out, "outside the windows") {
		t.Errorf("no reason tells of the windows:\n%s", got.out)
	}
	file = written(t, "nagaya.yaml", "gate: {windows: ['22:00-06:00 Asia/Nowhere']}\n")
	got = nagaya(t, "simulate", "--config", file, "--type", "t3.micro", "--trace", trace, "--jobs", jobs)
	if got.code != exitUsage || !strings.Contains(got.errs, `gate.windows: the time zone "Asia/Nowhere" is not known`) {
		t.Errorf("a wrong zone: %+v", got)
	}
}

// One signal is enough, whatever they compute or read: timeout(1) sends no other.
func TestASignalEndsWhatComputesForLong(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "cpu.csv")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"simulate", "--config", os.DevNull, "--type", "t3.micro", "--trace", pipe},
		{"plan", "--instance", "name=a,type=t3.micro,trace=" + pipe},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("terminated signal received")) // as of signal.NotifyContext
		if code := run(ctx, args, io.Discard, io.Discard); code != 143 {
			t.Errorf("%s: exit code %d", args[0], code)
		}
		if f, err := os.OpenFile(pipe, os.O_WRONLY, 0); err == nil { // who reads it ends
			f.Close()
		}
	}
}
