package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/rehearsal"
	"github.com/nagaya-ecs/nagaya/agent/rehearsal/history"
)

// planFlags are the command line of 'plan'.
type planFlags struct {
	instances, types, prices []string
	cloud, jobs              []string
	region                   string
	days                     int
	system                   float64
	quiet                    bool
	sure                     float64
	samples                  int
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
		RunE: endable(func(cmd *cobra.Command, _ []string) error {
			q, err := c.question(cmd.Context(), f)
			if err != nil {
				return usage(err)
			}
			tell, end := c.progress(f.quiet)
			q.Progress = tell
			a, err := rehearsal.Consolidate(q)
			end()
			if err != nil {
				return usage(err)
			}
			return c.print(a, a.Text())
		}),
	}
	fs := cmd.Flags()
	fs.StringArrayVar(&f.instances, "instance", nil, "an instance of today: name=,type=,trace= and, if wanted, vcpus= (of the trace), jobs=, memory= (GiB that its services need); once for each. Its type may be any; several trace= are put together")
	fs.StringSliceVar(&f.cloud, "from-cloudwatch", nil, "instance `ids`, or tag:KEY=VALUE for all that have it, whose load is read from CloudWatch")
	fs.StringArrayVar(&f.jobs, "jobs", nil, "jobs of an instance from CloudWatch, by its name or id: NAME=`FILE`; once for each")
	fs.IntVar(&f.days, "days", 14, "how many days are read from CloudWatch, 2 to 63")
	fs.StringVar(&f.region, "region", "", "AWS Region of the instances from CloudWatch (default: that of the environment)")
	fs.StringSliceVar(&f.types, "types", []string{"t3.nano", "t3.micro", "t3.small", "t3.medium", "t3.large", "t3.xlarge", "t3.2xlarge"}, "types to choose from, besides those of today")
	fs.StringArrayVar(&f.prices, "price", nil, "US dollars an hour of a type, e.g. t3.micro=0.0136; once for each")
	fs.Float64Var(&f.sure, "sure", 90, "per cent of the resampled times in which they must fit")
	fs.IntVar(&f.samples, "samples", 100, "how many times the days are resampled")
	fs.Float64Var(&f.system, "system-memory", 0.3, "GiB that system, Docker, ECS agent and nagaya take on each instance")
	fs.BoolVar(&f.quiet, "quiet", false, "do not tell at a terminal how far it is")
	c.addJSON(cmd)
	return cmd
}

// question reads what the flags name, and asks the cloud if they say so. Errors but the cloud's are those of usage.
func (c *cli) question(ctx context.Context, f planFlags) (rehearsal.Question, error) {
	q := rehearsal.Question{Sure: f.sure / 100, Samples: f.samples, System: f.system}
	switch {
	case len(f.instances) == 0 && len(f.cloud) == 0:
		return q, errors.New("--instance is missing, e.g. --instance name=web,type=t3.small,trace=web.csv; or --from-cloudwatch")
	case !(f.sure > 0 && f.sure <= 100):
		return q, fmt.Errorf("--sure %v is not 1 to 100 per cent", f.sure)
	case !(f.system >= 0 && f.system < 1e4):
		return q, fmt.Errorf("--system-memory %v is not 0 or more", f.system)
	case f.samples < 1:
		return q, fmt.Errorf("--samples %d is less than 1", f.samples)
	}
	for _, text := range f.instances {
		t, err := readTenant(text)
		if err != nil {
			return q, fmt.Errorf("--instance %q: %w", text, err)
		}
		q.Tenants = append(q.Tenants, t)
	}
	recorded, err := c.recorded(ctx, f)
	if err != nil {
		return q, err
	}
	q.Tenants = append(q.Tenants, recorded...)
	seen := map[string]bool{}
	for _, t := range q.Tenants {
		if seen[t.Name] {
			return q, fmt.Errorf("there is an instance %q already", t.Name)
		}
		seen[t.Name] = true
	}
	q.Types, err = f.offers(q.Tenants)
	return q, err
}

// recorded are the instances whose load is read from CloudWatch, with the jobs that the flags name.
func (c *cli) recorded(ctx context.Context, f planFlags) (found []rehearsal.Tenant, err error) {
	jobs := map[string][]rehearsal.Job{}
	for _, text := range f.jobs {
		name, file, ok := strings.Cut(text, "=")
		if !ok || name == "" || file == "" {
			return nil, fmt.Errorf("--jobs %q is not like mail=mail.yaml", text)
		}
		if jobs[name], err = readJobs(file); err != nil {
			return nil, err
		}
	}
	if len(f.cloud) > 0 {
		if found, err = c.readCloud(ctx, history.Options{Region: f.region, Which: f.cloud, Days: f.days}); err != nil {
			return nil, err
		}
	}
	for i, t := range found {
		found[i].Jobs = jobs[t.Name]
		delete(jobs, t.Name)
	}
	for name := range jobs {
		return nil, fmt.Errorf("--jobs: there is no %q from CloudWatch", name)
	}
	return found, nil
}

// offers are the types to choose from: those of the flags and the burstable ones of today. What the others of today cost is set in the tenants.
func (f planFlags) offers(tenants []rehearsal.Tenant) (types []rehearsal.Type, err error) {
	prices := map[string]float64{}
	for _, text := range f.prices {
		name, value, _ := strings.Cut(strings.ToLower(text), "=")
		p, err := strconv.ParseFloat(value, 64)
		if err != nil || !(p > 0 && p < 1000) {
			return nil, fmt.Errorf("--price %q is not like t3.micro=0.0136", text)
		}
		prices[name] = p
	}
	names, seen := slices.Clone(f.types), map[string]bool{}
	for i, t := range tenants {
		if credit.Burstable(t.Spec.Type) {
			names = append(names, t.Spec.Type)
			continue
		}
		host, _ := rehearsal.Host(t.Spec.Type)
		if tenants[i].Price = cmp.Or(prices[t.Spec.Type], host.Price); tenants[i].Price <= 0 {
			return nil, unpriced(t.Spec.Type)
		}
		seen[t.Spec.Type] = true
	}
	for _, name := range names {
		name = strings.ToLower(name) // people write T3.MICRO
		o, ok := rehearsal.Offer(name, prices[name])
		if !ok {
			return nil, fmt.Errorf("--types: %q is not burstable or not known", name)
		}
		if o.Price <= 0 {
			return nil, unpriced(name)
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

func unpriced(name string) error {
	return fmt.Errorf("what %s costs is not known; give it, as in --price %s=0.01", name, name)
}

var tenantKeys = []string{"name", "type", "trace", "vcpus", "jobs", "memory"}

// readTenant reads one instance and its files.
func readTenant(text string) (t rehearsal.Tenant, err error) {
	given := map[string]string{}
	var traces []string
	for pair := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(pair, "=")
		switch {
		case value == "":
			return t, fmt.Errorf("%q is not like name=web", pair)
		case !slices.Contains(tenantKeys, key):
			return t, fmt.Errorf("%q is none of %s", key, strings.Join(tenantKeys, ", "))
		case key == "trace":
			traces = append(traces, value)
		}
		given[key] = value
	}
	if given["name"] == "" {
		return t, errors.New("name= is missing")
	}
	t.Name = given["name"]
	for key, number := range map[string]*float64{"vcpus": &t.TraceVCPUs, "memory": &t.Memory} {
		if given[key] == "" {
			continue
		}
		if *number, err = strconv.ParseFloat(given[key], 64); err != nil || !(*number > 0 && *number < 1e6) {
			return t, fmt.Errorf("%s: %q is not a number above 0", key, given[key])
		}
	}
	if t.Spec, err = hostOfToday(given["type"], t.TraceVCPUs); err != nil {
		return t, err
	}
	if t.Trace, err = readTrace("trace=", traces...); err != nil {
		return t, err
	}
	t.Jobs, err = readJobs(given["jobs"])
	return t, err
}

// hostOfToday is the type of an instance of today, which need not be burstable.
func hostOfToday(name string, vcpus float64) (credit.Spec, error) {
	name = strings.ToLower(name)
	if name == "" || credit.Burstable(name) {
		return burstable("type=", name)
	}
	host, ok := rehearsal.Host(name)
	switch {
	case ok:
		return host.Spec, nil
	case !strings.Contains(name, "."):
		return credit.Spec{}, fmt.Errorf("type=: %q is not like t3.micro or m5.large", name)
	case vcpus == 0:
		return credit.Spec{}, fmt.Errorf("type=: how many vCPUs %s has is not known here; give vcpus= too", name)
	}
	return credit.Spec{Type: name, VCPUs: int(math.Ceil(vcpus))}, nil
}
