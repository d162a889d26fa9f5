package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/readfile"
	"github.com/nagaya-ecs/nagaya/agent/rehearsal"
)

// simulateFlags are the command line of 'simulate'.
type simulateFlags struct {
	kind, mode, trace, jobs, policy string
	vcpus, balance, threshold       float64
	days                            float64
	lag                             time.Duration
	json, journal                   bool
}

func (c *cli) simulateVerb() *cobra.Command {
	var f simulateFlags
	cmd := &cobra.Command{
		Use: "simulate", Short: "Show what the gate would have done with recorded load and assumed jobs", Args: noArgs,
		Long: `Simulate passes the services' recorded load and a list of jobs through the program's
own estimator, forecast and gate on a virtual clock, and prints the result
beside cron, a threshold, and a bound that knows the future. The gate is configured
as for the agent (gate.*). It needs neither the agent nor AWS.

The trace is the CPU use in per cent, at any regular step: CSV with a time and a value in
each line, the CSV that CloudWatch's console exports, or what
'aws cloudwatch get-metric-statistics --metric-name CPUUtilization --statistics Average'
prints. docs/batches.md describes the file of jobs.`,
		Example: "  nagaya simulate --type t3.micro --trace cpu.csv --jobs jobs.yaml --policy all",
		RunE: func(*cobra.Command, []string) error {
			o, policies, err := c.rehearse(f)
			if err != nil {
				return usage(err)
			}
			r, err := rehearsal.Play(o, policies...)
			if err != nil {
				return usage(err)
			}
			if f.json {
				return writeJSON(c.out, r)
			}
			text := r.Text()
			if f.journal {
				for _, x := range r.Results {
					text += fmt.Sprintf("\n%s\n%s", x.Policy, x.Journal())
				}
			}
			_, err = io.WriteString(c.out, text)
			return err
		},
	}
	words := []string{"all"}
	for _, p := range rehearsal.Policies {
		words = append(words, string(p))
	}
	fs := cmd.Flags()
	fs.StringVar(&f.kind, "type", "", "instance `type`, e.g. t3.micro (required)")
	fs.StringVar(&f.trace, "trace", "", "`file` with the services' load (required)")
	fs.StringVar(&f.jobs, "jobs", "", "YAML `file` of the jobs; none if absent")
	fs.Float64Var(&f.vcpus, "trace-vcpus", 0, "vCPUs of the machine that was recorded; default those of the type")
	fs.StringVar(&f.policy, "policy", "all", "gate, cron, threshold, clairvoyant, or several with commas between, or all")
	fs.StringVar(&f.mode, "mode", "standard", "credit option: standard or unlimited")
	fs.Float64Var(&f.balance, "balance", 0, "credits at the beginning, besides a T2's launch credits")
	fs.Float64Var(&f.days, "days", 0, "how long; default as long as the trace. Its last day repeats")
	fs.Float64Var(&f.threshold, "threshold", 50, "per cent of the largest balance from which on the policy threshold starts a job")
	fs.DurationVar(&f.lag, "lag", 10*time.Minute, "how old CloudWatch's points are when they can be read")
	fs.BoolVar(&f.journal, "journal", false, "print every decision with its reason, too")
	fs.BoolVar(&f.json, "json", false, "print JSON, with every run, decision and step")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(credit.Types(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("policy", cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// rehearse reads what the flags name. Every error is one of usage.
func (c *cli) rehearse(f simulateFlags) (rehearsal.Options, []rehearsal.Policy, error) {
	o := rehearsal.Options{
		TraceVCPUs: f.vcpus, Balance: f.balance, Length: time.Duration(f.days * float64(24*time.Hour)),
		Lag: f.lag, Threshold: f.threshold / 100, Steps: f.json,
	}
	spec, err := burstable(f.kind)
	if err != nil {
		return o, nil, err
	}
	o.Spec = spec
	switch o.Mode = credit.Mode(f.mode); {
	case o.Mode != credit.Standard && o.Mode != credit.Unlimited:
		return o, nil, fmt.Errorf("--mode %q is neither standard nor unlimited", f.mode)
	case !(f.days >= 0):
		return o, nil, fmt.Errorf("--days %v is less than none", f.days)
	case !(f.threshold > 0 && f.threshold <= 100):
		return o, nil, fmt.Errorf("--threshold %v is not 1 to 100 per cent", f.threshold)
	case f.lag <= 0 || f.lag > 24*time.Hour:
		return o, nil, fmt.Errorf("--lag %s is not within a day", f.lag)
	}
	policies, err := readPolicies(f.policy)
	if err != nil {
		return o, nil, err
	}
	if o.Trace, err = readTrace("--trace", f.trace); err != nil {
		return o, nil, err
	}
	if o.Jobs, err = readJobs(f.jobs); err != nil {
		return o, nil, err
	}
	r, err := c.resolve()
	if err != nil {
		return o, nil, err
	}
	o.Settings, err = gate.NewSettings(r.Config.Gate, time.LoadLocation)
	return o, policies, err
}

// burstable looks a type up.
func burstable(name string) (credit.Spec, error) {
	if name == "" {
		return credit.Spec{}, errors.New("--type is missing, e.g. --type t3.micro")
	}
	spec, ok := credit.Lookup(name)
	if !ok {
		return spec, fmt.Errorf("--type %q is not burstable or not known; known are the sizes of t2, t3, t3a and t4g", name)
	}
	return spec, nil
}

func readPolicies(text string) ([]rehearsal.Policy, error) {
	if text == "all" {
		return rehearsal.Policies, nil
	}
	var all []rehearsal.Policy
	for _, word := range strings.Split(text, ",") {
		p := rehearsal.Policy(strings.TrimSpace(word))
		if !slices.Contains(rehearsal.Policies, p) {
			return nil, fmt.Errorf("--policy %q is not gate, cron, threshold, clairvoyant or all", word)
		}
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all, nil
}

// readTrace reads the file that a flag names.
func readTrace(flag, name string) (rehearsal.Trace, error) {
	if name == "" {
		return rehearsal.Trace{}, fmt.Errorf("%s is missing: a file with the CPU use in per cent", flag)
	}
	text, err := readBounded(name, rehearsal.MaxTrace)
	if err != nil {
		return rehearsal.Trace{}, fmt.Errorf("%s: %w", flag, err)
	}
	t, err := rehearsal.ReadTrace(text)
	if err != nil {
		return t, fmt.Errorf("%s: %s is no trace: %w", flag, name, err)
	}
	return t, nil
}

// readJobs reads the jobs' file; no name is no jobs.
func readJobs(name string) ([]rehearsal.Job, error) {
	if name == "" {
		return nil, nil
	}
	text, err := readBounded(name, rehearsal.MaxTrace)
	if err != nil {
		return nil, fmt.Errorf("--jobs: %w", err)
	}
	jobs, err := rehearsal.ReadJobs(text, time.LoadLocation)
	if err != nil {
		return nil, fmt.Errorf("--jobs: %s: %w", name, err)
	}
	return jobs, nil
}

// readBounded reads a file, - for the standard input, up to a number of bytes and one more.
func readBounded(name string, most int64) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(os.Stdin, most+1))
	}
	return readfile.Any(name, most)
}
