package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nagaya-ecs/nagaya/agent/rehearsal"
)

// planFlags are the command line of 'plan'.
type planFlags struct {
	instances, types, prices []string
	sure                     float64
	samples                  int
	json                     bool
}

func (c *cli) planVerb() *cobra.Command {
	var f planFlags
	cmd := &cobra.Command{
		Use: "plan", Short: "Show which instances would fit together on one, and what that saves", Args: noArgs,
		Long: `Plan takes the recorded load of several instances and their nightly jobs, and finds the
cheapest way to let them share t-type instances: the services are throttled no more than today, and
all jobs can be in time. How sure that is comes from resampling the days. Prices are those of
Linux on demand in us-east-1 unless --price says otherwise. It needs neither the agent nor AWS.

Traces and jobs are files such as 'nagaya simulate' reads; the traces must have two whole days
in common.`,
		Example: "  nagaya plan --instance name=web,type=t3.small,trace=web.csv,memory=0.7 --instance name=mail,type=t3.micro,trace=mail.csv,jobs=mail.yaml",
		RunE: func(*cobra.Command, []string) error {
			q, err := f.question()
			if err != nil {
				return usage(err)
			}
			a, err := rehearsal.Settle(q)
			if err != nil {
				return usage(err)
			}
			if f.json {
				return writeJSON(c.out, a)
			}
			_, err = io.WriteString(c.out, a.Text())
			return err
		},
	}
	fs := cmd.Flags()
	fs.StringArrayVar(&f.instances, "instance", nil, "an instance of today: name=,type=,trace= and, if wanted, vcpus= (of the trace), jobs=, memory= (GiB that it needs); once for each")
	fs.StringSliceVar(&f.types, "types", []string{"t3.nano", "t3.micro", "t3.small", "t3.medium", "t3.large", "t3.xlarge", "t3.2xlarge"}, "types to choose from, besides those of today")
	fs.StringArrayVar(&f.prices, "price", nil, "US dollars an hour of a type, e.g. t3.micro=0.0136; once for each")
	fs.Float64Var(&f.sure, "sure", 90, "per cent of the resampled times in which they must fit")
	fs.IntVar(&f.samples, "samples", 100, "how many times the days are resampled")
	fs.BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

// question reads what the flags name.
func (f planFlags) question() (rehearsal.Question, error) {
	q := rehearsal.Question{Sure: f.sure / 100, Samples: f.samples}
	switch {
	case len(f.instances) == 0:
		return q, errors.New("--instance is missing, e.g. --instance name=web,type=t3.small,trace=web.csv")
	case !(f.sure > 0 && f.sure <= 100):
		return q, fmt.Errorf("--sure %v is not 1 to 100 per cent", f.sure)
	case f.samples < 1:
		return q, fmt.Errorf("--samples %d is less than 1", f.samples)
	}
	prices := map[string]float64{}
	for _, text := range f.prices {
		name, value, _ := strings.Cut(text, "=")
		p, err := strconv.ParseFloat(value, 64)
		if err != nil || !(p > 0 && p < 1000) {
			return q, fmt.Errorf("--price %q is not like t3.micro=0.0136", text)
		}
		prices[name] = p
	}
	names := f.types
	for _, text := range f.instances {
		t, err := readTenant(text)
		if err != nil {
			return q, fmt.Errorf("--instance %q: %w", text, err)
		}
		for _, other := range q.Tenants {
			if other.Name == t.Name {
				return q, fmt.Errorf("--instance %q: there is a %q already", text, t.Name)
			}
		}
		q.Tenants = append(q.Tenants, t)
		names = append(names, t.Spec.Type)
	}
	seen := map[string]bool{}
	for _, name := range names {
		o, ok := rehearsal.Offer(name, prices[name])
		if !ok {
			return q, fmt.Errorf("--types: %q is not burstable or not known", name)
		}
		if !seen[name] {
			q.Types = append(q.Types, o)
		}
		seen[name] = true
	}
	for name := range prices {
		if !seen[name] {
			return q, fmt.Errorf("--price: %q is not among the types to choose from", name)
		}
	}
	return q, nil
}

// readTenant reads one instance and its files.
func readTenant(text string) (rehearsal.Tenant, error) {
	var t rehearsal.Tenant
	var kind, trace, jobs string
	for _, pair := range strings.Split(text, ",") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || value == "" {
			return t, fmt.Errorf("%q is not like name=web", pair)
		}
		var err error
		switch key {
		case "name":
			t.Name = value
		case "type":
			kind = value
		case "trace":
			trace = value
		case "jobs":
			jobs = value
		case "vcpus":
			t.TraceVCPUs, err = positiveNumber(value)
		case "memory":
			t.Memory, err = positiveNumber(value)
		default:
			return t, fmt.Errorf("%q is none of name, type, trace, vcpus, jobs, memory", key)
		}
		if err != nil {
			return t, fmt.Errorf("%s: %w", key, err)
		}
	}
	if t.Name == "" {
		return t, errors.New("name= is missing")
	}
	if kind == "" {
		return t, errors.New("type= is missing, e.g. type=t3.micro")
	}
	o, ok := rehearsal.Offer(kind, 0)
	if !ok {
		return t, fmt.Errorf("type %q is not burstable or not known; known are the sizes of t2, t3, t3a and t4g", kind)
	}
	t.Spec = o.Spec
	var err error
	if t.Trace, err = readTrace("trace=", trace); err != nil {
		return t, err
	}
	t.Jobs, err = readJobs(jobs)
	return t, err
}

func positiveNumber(text string) (float64, error) {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !(v > 0 && v < 1e6) {
		return 0, fmt.Errorf("%q is not a number above 0", text)
	}
	return v, nil
}
