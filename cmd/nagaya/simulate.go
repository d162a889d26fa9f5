package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/readfile"
	"github.com/nagaya-ecs/nagaya/agent/rehearsal"
	"github.com/nagaya-ecs/nagaya/agent/rehearsal/history"
)

// simulateFlags are the command line of 'simulate'.
type simulateFlags struct {
	rehearsal.Options
	kind, mode, jobs, region string
	traces, cloud            []string
	policies                 []string
	percent, days            float64
	journal, quiet           bool
}

func (c *cli) simulateVerb() *cobra.Command {
	var f simulateFlags
	cmd := &cobra.Command{
		Use: "simulate", Short: "Show what the gate would have done with recorded load and assumed jobs", Args: noArgs,
		Long: `Simulate passes the services' recorded load and a list of jobs through the program's
own estimator, forecast and gate on a virtual clock, and prints the result
beside cron, a threshold, scripts, and a bound that knows the future. The gate is configured
as for the agent (gate.*). It needs neither the agent nor AWS.

The trace is the CPU use in per cent, at any regular step: CSV with a time and a value in
each line, the CSV that CloudWatch's console exports, or what
'aws cloudwatch get-metric-statistics --metric-name CPUUtilization --statistics Average'
prints; several files are put together. With --from-cloudwatch it is read from CloudWatch, as by 'nagaya plan',
and the credit option from EC2 (action ec2:DescribeInstanceCreditSpecifications).
docs/batches.md describes the file of jobs.`,
		Example: "  nagaya simulate --type t3.micro --trace cpu.csv --jobs jobs.yaml --policy all\n" +
			"  nagaya simulate --from-cloudwatch i-0123456789abcdef0 --jobs jobs.yaml",
		RunE: endable(func(cmd *cobra.Command, _ []string) error {
			o, policies, err := c.rehearse(cmd.Context(), f)
			if err != nil {
				return usage(err)
			}
			tell, end := c.progress(f.quiet)
			o.Progress, o.Advise, o.Steps = tell, true, c.asJSON
			r, err := rehearsal.Play(o, policies...)
			end()
			if err != nil {
				return usage(err)
			}
			text := r.Text()
			if f.journal {
				for _, x := range r.Results {
					text += fmt.Sprintf("\n%s\n%s", x.Policy, x.Journal())
				}
			}
			return c.print(r, text)
		}),
	}
	fs := cmd.Flags()
	fs.StringVar(&f.kind, "type", "", "instance `type`, e.g. t3.micro (required, but with --from-cloudwatch: that of the instance)")
	fs.StringArrayVar(&f.traces, "trace", nil, "`file` with the services' load (required); several are put together, of two files' values of one time the last counts")
	fs.StringSliceVar(&f.cloud, "from-cloudwatch", nil, "`id` of the instance, or tag:KEY=VALUE, whose load is read from CloudWatch instead, of the last 14 days or --days")
	fs.StringVar(&f.region, "region", "", "AWS Region of that instance (default: that of the environment)")
	fs.StringVar(&f.jobs, "jobs", "", "YAML `file` of the jobs; none if absent")
	fs.Float64Var(&f.TraceVCPUs, "trace-vcpus", 0, "vCPUs of the machine that was recorded; default those of the type")
	fs.StringSliceVar(&f.policies, "policy", []string{"all"}, policyWords()+", or several with commas between, or all")
	fs.StringVar(&f.mode, "mode", "", "credit option: standard or unlimited; default standard, with --from-cloudwatch that of the instance")
	fs.Float64Var(&f.Balance, "balance", 0, "credits at the beginning, besides a T2's launch credits")
	fs.Float64Var(&f.days, "days", 0, "how long; default as long as the trace. Its last day repeats")
	fs.Float64Var(&f.percent, "threshold", 50, "per cent of the largest balance from which on the policy threshold starts a job")
	fs.DurationVar(&f.Lag, "lag", 10*time.Minute, "how old CloudWatch's points are when they can be read")
	fs.BoolVar(&f.journal, "journal", false, "print every decision with its reason, too")
	fs.BoolVar(&f.quiet, "quiet", false, "do not tell at a terminal how far it is")
	fs.BoolVar(&c.asJSON, "json", false, "print JSON, with every run, decision and step")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(credit.Types(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("policy", cobra.FixedCompletions(append(strings.Split(policyWords(), ", "), "all"), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// rehearse reads what the flags name, and asks the cloud if they say so. Errors but the cloud's are those of usage.
func (c *cli) rehearse(ctx context.Context, f simulateFlags) (o rehearsal.Options, policies []rehearsal.Policy, err error) {
	o = f.Options
	if len(f.cloud) > 0 {
		if err := c.fromCloud(ctx, &f, &o); err != nil {
			return o, nil, err
		}
	}
	if o.Spec, err = burstable("--type", f.kind); err != nil {
		return o, nil, err
	}
	o.Mode, o.Length, o.Threshold = cmp.Or(credit.Mode(f.mode), credit.Standard), time.Duration(f.days*float64(24*time.Hour)), f.percent/100
	switch {
	case o.Mode != credit.Standard && o.Mode != credit.Unlimited:
		return o, nil, fmt.Errorf("--mode %q is neither standard nor unlimited", f.mode)
	case !(f.days >= 0):
		return o, nil, fmt.Errorf("--days %v is less than none", f.days)
	case !(f.percent > 0 && f.percent <= 100):
		return o, nil, fmt.Errorf("--threshold %v is not 1 to 100 per cent", f.percent)
	case o.Lag <= 0 || o.Lag > 24*time.Hour:
		return o, nil, fmt.Errorf("--lag %s is not within a day", o.Lag)
	}
	if policies, err = readPolicies(f.policies); err != nil {
		return o, nil, err
	}
	if len(f.cloud) == 0 {
		if o.Trace, err = readTrace("--trace", f.traces...); err != nil {
			return o, nil, err
		}
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

// fromCloud reads the load of one instance from CloudWatch.
func (c *cli) fromCloud(ctx context.Context, f *simulateFlags, o *rehearsal.Options) error {
	if len(f.traces) > 0 {
		return errors.New("--trace and --from-cloudwatch are two sources of the load; give one")
	}
	const usual = 14
	days := usual
	if f.days > 0 {
		days = min(max(int(math.Ceil(f.days)), 2), history.MostDays)
	}
	found, err := c.readCloud(ctx, history.Options{Region: f.region, Which: f.cloud, Days: days})
	switch {
	case err != nil:
		return err
	case len(found) != 1:
		return fmt.Errorf("--from-cloudwatch: %d instances with a load; give one", len(found))
	}
	o.Trace = found[0].Trace
	if f.kind == "" {
		f.kind = found[0].Spec.Type
	}
	if f.mode == "" {
		if f.mode = string(found[0].Mode); f.mode == "" {
			c.note("EC2 did not tell the credit option of %s (action ec2:DescribeInstanceCreditSpecifications): it is taken to be standard; --mode gives another", found[0].Name)
		}
	}
	if o.TraceVCPUs == 0 {
		o.TraceVCPUs = float64(found[0].Spec.VCPUs)
	}
	return nil
}

// readCloud reads instances from CloudWatch and says which were left out.
func (c *cli) readCloud(ctx context.Context, o history.Options) ([]rehearsal.Tenant, error) {
	if err := o.Check(); err != nil {
		return nil, fmt.Errorf("--from-cloudwatch: %w", err)
	}
	found, leftOut, err := history.Read(ctx, o)
	for _, why := range leftOut {
		c.note("left out: %s", why)
	}
	if err != nil {
		return nil, &exitError{code: exitNo, err: err}
	}
	return found, nil
}

// burstable looks up the type that a flag names.
func burstable(flag, name string) (credit.Spec, error) {
	spec, ok := credit.Lookup(strings.ToLower(name)) // people write T3.MICRO
	switch {
	case name == "":
		return spec, fmt.Errorf("%s is missing, e.g. t3.micro", flag)
	case !ok:
		return spec, fmt.Errorf("%s: %q is not burstable or not known; known are the sizes of t2, t3, t3a, t4g and t8i", flag, name)
	}
	return spec, nil
}

// policyWords are all policies, for people.
func policyWords() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(rehearsal.Policies), " ", ", "), "[]")
}

func readPolicies(words []string) (all []rehearsal.Policy, err error) {
	for _, word := range words {
		p := rehearsal.Policy(word)
		switch {
		case word == "all":
			return rehearsal.Policies, nil
		case !slices.Contains(rehearsal.Policies, p):
			return nil, fmt.Errorf("--policy %q is not %s or all", word, policyWords())
		}
		all = append(all, p)
	}
	return all, nil
}

// readTrace reads the files that a flag names.
func readTrace(flag string, names ...string) (t rehearsal.Trace, err error) {
	if len(names) == 0 || names[0] == "" {
		return t, fmt.Errorf("%s is missing: a file with the CPU use in per cent", flag)
	}
	var all []credit.Measure
	for _, name := range names {
		text, err := readBounded(name)
		if err != nil {
			return t, fmt.Errorf("%s: %w", flag, err)
		}
		points, err := rehearsal.ReadPoints(text)
		if err != nil {
			return t, fmt.Errorf("%s: %s is no trace: %w", flag, name, err)
		}
		all = append(all, points...)
	}
	if t, err = rehearsal.Regular(all); err != nil {
		return t, fmt.Errorf("%s: %s is no trace: %w", flag, strings.Join(names, " with "), err)
	}
	return t, nil
}

// readJobs reads the jobs' file; no name is no jobs.
func readJobs(name string) ([]rehearsal.Job, error) {
	if name == "" {
		return nil, nil
	}
	text, err := readBounded(name)
	if err != nil {
		return nil, fmt.Errorf("--jobs: %w", err)
	}
	jobs, err := rehearsal.ReadJobs(text, time.LoadLocation)
	if err != nil {
		return nil, fmt.Errorf("--jobs: %s: %w", name, err)
	}
	return jobs, nil
}

// readBounded reads a file, - for the standard input.
func readBounded(name string) ([]byte, error) {
	if name == "-" {
		name = "/dev/stdin"
	}
	return readfile.Any(name, rehearsal.MaxTrace)
}
