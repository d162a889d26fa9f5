package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nagaya-ecs/nagaya/agent/rehearsal"
	"github.com/nagaya-ecs/nagaya/agent/rehearsal/history"
)

// planFlags are the command line of 'plan'.
type planFlags struct {
	instances, types, prices []string
	cloud, jobs              []string
	region                   string
	days                     int
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
Linux on demand in us-east-1 unless --price says otherwise. That jobs can be in time is judged by a bound that
knows the future; 'nagaya simulate' shows what the gate makes of them. It needs no agent, and no AWS but for
--from-cloudwatch.

With --from-cloudwatch the load is read from CloudWatch, with the credentials and Region of the environment: the actions
ec2:DescribeInstances and cloudwatch:GetMetricStatistics, one call for five days of an instance, within the free tier.

Traces and jobs are files such as 'nagaya simulate' reads; the traces must have two whole days
in common.`,
		Example: "  nagaya plan --instance name=web,type=t3.small,trace=web.csv,memory=0.7 --instance name=mail,type=t3.micro,trace=mail.csv,jobs=mail.yaml\n" +
			"  nagaya plan --from-cloudwatch tag:team=web --jobs mail=mail.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := f.question(cmd.Context(), c.errs)
			if err != nil {
				return err
			}
			a, err := rehearsal.Consolidate(q)
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
	fs.StringSliceVar(&f.cloud, "from-cloudwatch", nil, "instance `ids`, or tag:KEY=VALUE for all that have it, whose load is read from CloudWatch")
	fs.StringArrayVar(&f.jobs, "jobs", nil, "jobs of an instance from CloudWatch, by its name or id: NAME=`FILE`; once for each")
	fs.IntVar(&f.days, "days", 14, "how many days are read from CloudWatch, 2 to 63")
	fs.StringVar(&f.region, "region", "", "AWS Region of the instances from CloudWatch (default: that of the environment)")
	fs.StringSliceVar(&f.types, "types", []string{"t3.nano", "t3.micro", "t3.small", "t3.medium", "t3.large", "t3.xlarge", "t3.2xlarge"}, "types to choose from, besides those of today")
	fs.StringArrayVar(&f.prices, "price", nil, "US dollars an hour of a type, e.g. t3.micro=0.0136; once for each")
	fs.Float64Var(&f.sure, "sure", 90, "per cent of the resampled times in which they must fit")
	fs.IntVar(&f.samples, "samples", 100, "how many times the days are resampled")
	fs.BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

func (f planFlags) history() history.Options {
	return history.Options{Region: f.region, Which: f.cloud, Days: f.days}
}

// question reads what the flags name, and asks the cloud if they say so. Errors but the cloud's are those of usage.
func (f planFlags) question(ctx context.Context, errs io.Writer) (rehearsal.Question, error) {
	q, err := f.written()
	if err != nil {
		return q, usage(err)
	}
	jobs, err := f.jobFiles()
	if err != nil {
		return q, usage(err)
	}
	if len(f.cloud) > 0 {
		if err := f.history().Check(); err != nil {
			return q, usage(fmt.Errorf("--from-cloudwatch: %w", err))
		}
		found, leftOut, err := history.Read(ctx, f.history())
		for _, why := range leftOut {
			printNote(errs, "left out: %s", why)
		}
		if err != nil {
			return q, err
		}
		for _, t := range found {
			if hasTenant(q.Tenants, t.Name) {
				return q, usage(fmt.Errorf("--instance and --from-cloudwatch both have a %q", t.Name))
			}
			t.Jobs = jobs[t.Name]
			delete(jobs, t.Name)
			q.Tenants = append(q.Tenants, t)
		}
	}
	for name := range jobs {
		return q, usage(fmt.Errorf("--jobs: there is no %q from CloudWatch", name))
	}
	if q.Types, err = f.offers(q.Tenants); err != nil {
		return q, usage(err)
	}
	return q, nil
}

// jobFiles reads the jobs of instances from CloudWatch.
func (f planFlags) jobFiles() (map[string][]rehearsal.Job, error) {
	all := map[string][]rehearsal.Job{}
	for _, text := range f.jobs {
		name, file, ok := strings.Cut(text, "=")
		if !ok || name == "" || file == "" {
			return nil, fmt.Errorf("--jobs %q is not like mail=mail.yaml", text)
		}
		jobs, err := readJobs(file)
		if err != nil {
			return nil, err
		}
		all[name] = jobs
	}
	return all, nil
}

func hasTenant(all []rehearsal.Tenant, name string) bool {
	return slices.ContainsFunc(all, func(t rehearsal.Tenant) bool { return t.Name == name })
}

// written reads what the flags name by themselves.
func (f planFlags) written() (rehearsal.Question, error) {
	q := rehearsal.Question{Sure: f.sure / 100, Samples: f.samples}
	switch {
	case len(f.instances) == 0 && len(f.cloud) == 0:
		return q, errors.New("--instance is missing, e.g. --instance name=web,type=t3.small,trace=web.csv; or --from-cloudwatch")
	case !(f.sure > 0 && f.sure <= 100):
		return q, fmt.Errorf("--sure %v is not 1 to 100 per cent", f.sure)
	case f.samples < 1:
		return q, fmt.Errorf("--samples %d is less than 1", f.samples)
	}
	for _, text := range f.instances {
		t, err := readTenant(text)
		if err != nil {
			return q, fmt.Errorf("--instance %q: %w", text, err)
		}
		if hasTenant(q.Tenants, t.Name) {
			return q, fmt.Errorf("--instance %q: there is a %q already", text, t.Name)
		}
		q.Tenants = append(q.Tenants, t)
	}
	// What is wrong with the types is said before the cloud is asked.
	_, err := f.offers(q.Tenants)
	if len(f.cloud) > 0 && len(f.prices) > 0 {
		err = nil // a price may be that of an instance which is not known yet
	}
	return q, err
}

// offers are the types to choose from: those of the flags and of today.
func (f planFlags) offers(tenants []rehearsal.Tenant) (types []rehearsal.Type, err error) {
	prices := map[string]float64{}
	for _, text := range f.prices {
		name, value, _ := strings.Cut(text, "=")
		p, err := strconv.ParseFloat(value, 64)
		if err != nil || !(p > 0 && p < 1000) {
			return nil, fmt.Errorf("--price %q is not like t3.micro=0.0136", text)
		}
		prices[name] = p
	}
	names := slices.Clone(f.types)
	for _, t := range tenants {
		names = append(names, t.Spec.Type)
	}
	seen := map[string]bool{}
	for _, name := range names {
		o, ok := rehearsal.Offer(name, prices[name])
		if !ok {
			return nil, fmt.Errorf("--types: %q is not burstable or not known", name)
		}
		if !seen[name] {
			types = append(types, o)
		}
		seen[name] = true
	}
	for name := range prices {
		if !seen[name] {
			return nil, fmt.Errorf("--price: %q is not among the types to choose from", name)
		}
	}
	return types, nil
}

var tenantKeys = []string{"name", "type", "trace", "vcpus", "jobs", "memory"}

// readTenant reads one instance and its files.
func readTenant(text string) (t rehearsal.Tenant, err error) {
	given := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(pair, "=")
		switch {
		case value == "":
			return t, fmt.Errorf("%q is not like name=web", pair)
		case !slices.Contains(tenantKeys, key):
			return t, fmt.Errorf("%q is none of %s", key, strings.Join(tenantKeys, ", "))
		}
		given[key] = value
	}
	if given["name"] == "" {
		return t, errors.New("name= is missing")
	}
	o, ok := rehearsal.Offer(given["type"], 0)
	switch {
	case given["type"] == "":
		return t, errors.New("type= is missing, e.g. type=t3.micro")
	case !ok:
		return t, fmt.Errorf("type %q is not burstable or not known; known are the sizes of t2, t3, t3a and t4g", given["type"])
	}
	t.Name, t.Spec = given["name"], o.Spec
	for key, number := range map[string]*float64{"vcpus": &t.TraceVCPUs, "memory": &t.Memory} {
		if given[key] == "" {
			continue
		}
		if *number, err = strconv.ParseFloat(given[key], 64); err != nil || !(*number > 0 && *number < 1e6) {
			return t, fmt.Errorf("%s: %q is not a number above 0", key, given[key])
		}
	}
	if t.Trace, err = readTrace("trace=", given["trace"]); err != nil {
		return t, err
	}
	t.Jobs, err = readJobs(given["jobs"])
	return t, err
}
