// Package history reads from AWS what instances have used: their types from EC2 and their CPU use from CloudWatch.
package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/nagaya-ecs/nagaya/agent/awsclient"
	"github.com/nagaya-ecs/nagaya/agent/awserror"
	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/rehearsal"
)

// Options say what is read, with the credentials and settings of the environment.
type Options struct {
	// Region is where the instances are; empty is the one of the environment or the caller's profile.
	Region string
	// Which are instance ids, and tags as tag:KEY=VALUE, which stand for all running and stopped instances that have them.
	Which []string
	// Days is how far back, 2 to 63: CloudWatch keeps points of five minutes so long.
	Days int
}

// reader is one Read.
type reader struct {
	Options
	ec2        *ec2.Client
	cloudwatch *cloudwatch.Client
	end        time.Time
}

const (
	// MostDays is how long CloudWatch keeps points of five minutes.
	MostDays = 63
	// mostPoints is what one call answers (CloudWatch API Reference, GetMetricStatistics): five days.
	mostPoints    = 1440
	mostInstances = 1000
	// readTimeout bounds all questions together: a hundred calls for eight instances and 63 days.
	readTimeout = 5 * time.Minute
)

var (
	idForm  = pattern.Of(40, `i-[0-9a-f]{8,32}`)
	tagForm = pattern.Of(400, `tag:[^=]+=.*`)
)

// Check says what is wrong with Options.Which and Days.
func (o Options) Check() error {
	for _, w := range o.Which {
		if !idForm.MatchString(w) && !tagForm.MatchString(w) {
			return fmt.Errorf("%.60q is neither an instance id (i-…) nor tag:KEY=VALUE", w)
		}
	}
	if o.Days < 2 || o.Days > MostDays {
		return fmt.Errorf("%d days are not 2 to %d, which is how long CloudWatch keeps points of five minutes", o.Days, MostDays)
	}
	return nil
}

// Read takes options that passed Check and returns the instances as tenants, named by their tag Name or else by their id, and what was left out and why. An error names the
// call that failed and the permission that it needs.
func Read(ctx context.Context, o Options) (tenants []rehearsal.Tenant, leftOut []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	c, err := awsclient.New(ctx)
	if err != nil {
		return nil, nil, err
	}
	if c.Base.Region = cmp.Or(o.Region, c.Base.Region); c.Base.Region == "" {
		return nil, nil, errors.New("no Region is known; give it with --region or AWS_REGION")
	}
	r := reader{o, c.EC2(""), c.CloudWatch(), time.Now().UTC().Truncate(credit.Period)}
	instances, err := r.instances(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(instances) > rehearsal.MaxTenants {
		return nil, nil, fmt.Errorf("%s are %d instances; give at most %d", strings.Join(o.Which, ", "), len(instances), rehearsal.MaxTenants)
	}
	names := map[string]bool{}
	for _, i := range instances {
		id, kind := *i.InstanceId, string(i.InstanceType)
		spec, ok := credit.Lookup(kind)
		if n := vcpus(i); !ok && !credit.Burstable(kind) && n > 0 {
			spec, ok = credit.Spec{Type: kind, VCPUs: n}, true
		}
		if !ok {
			leftOut = append(leftOut, fmt.Sprintf("%s: the vCPUs or the credit rules of type %s are not known", id, kind))
			continue
		}
		t := rehearsal.Tenant{Name: tagName(i), Spec: spec}
		if names[t.Name] {
			t.Name = id
		}
		if t.Trace, err = r.trace(ctx, id); err != nil {
			return nil, leftOut, err
		}
		if len(t.Trace.Values) == 0 {
			leftOut = append(leftOut, fmt.Sprintf("%s: CloudWatch has no CPUUtilization of the last %d days", id, o.Days))
			continue
		}
		if credit.Burstable(kind) {
			t.Mode = r.mode(ctx, id)
		}
		names[t.Name] = true
		tenants = append(tenants, t)
	}
	return tenants, leftOut, nil
}

// vcpus is the number of vCPUs that EC2 says, or that its type is known to have; 0 is not known.
func vcpus(i ec2types.Instance) int {
	if o := i.CpuOptions; o != nil && aws.ToInt32(o.CoreCount) > 0 {
		return int(aws.ToInt32(o.CoreCount) * max(aws.ToInt32(o.ThreadsPerCore), 1))
	}
	host, _ := rehearsal.Host(string(i.InstanceType))
	return host.Spec.VCPUs
}

// tagName is the name that people gave an instance; its id without one.
func tagName(i ec2types.Instance) string {
	for _, t := range i.Tags {
		if aws.ToString(t.Key) == "Name" && aws.ToString(t.Value) != "" {
			return *t.Value
		}
	}
	return *i.InstanceId
}

// instances asks EC2, for each instance once.
func (r reader) instances(ctx context.Context) ([]ec2types.Instance, error) {
	var all []ec2types.Instance
	for _, w := range r.Which {
		in := ec2.DescribeInstancesInput{InstanceIds: []string{w}}
		tag, byTag := strings.CutPrefix(w, "tag:")
		if byTag {
			key, value, _ := strings.Cut(tag, "=")
			in = ec2.DescribeInstancesInput{Filters: []ec2types.Filter{
				{Name: aws.String("tag:" + key), Values: []string{value}},
				{Name: aws.String("instance-state-name"), Values: []string{"running", "stopped"}},
			}}
		}
		found := 0
		for pages := ec2.NewDescribeInstancesPaginator(r.ec2, &in); pages.HasMorePages() && found <= mostInstances; {
			out, err := pages.NextPage(ctx)
			if err != nil {
				return nil, failed("EC2 did not describe "+w, "ec2:DescribeInstances", err)
			}
			for _, group := range out.Reservations {
				found += len(group.Instances)
				all = append(all, slices.DeleteFunc(group.Instances, func(i ec2types.Instance) bool {
					return i.InstanceId == nil || slices.ContainsFunc(all, func(x ec2types.Instance) bool { return *x.InstanceId == *i.InstanceId })
				})...)
			}
		}
		switch {
		case found > mostInstances:
			return nil, fmt.Errorf("%s are more than a thousand instances", w)
		case found == 0 && byTag:
			return nil, fmt.Errorf("no instance that runs or is stopped has %s", w)
		}
	}
	return all, nil
}

// mode asks EC2 for the credit option of an instance. An answer that names none, or no answer, is not known.
func (r reader) mode(ctx context.Context, id string) credit.Mode {
	out, err := r.ec2.DescribeInstanceCreditSpecifications(ctx, &ec2.DescribeInstanceCreditSpecificationsInput{InstanceIds: []string{id}})
	if err != nil {
		return ""
	}
	for _, s := range out.InstanceCreditSpecifications {
		if m := credit.Mode(aws.ToString(s.CpuCredits)); aws.ToString(s.InstanceId) == id && (m == credit.Standard || m == credit.Unlimited) {
			return m
		}
	}
	return ""
}

// trace asks CloudWatch, five days at a time. A trace without values means that there are none.
func (r reader) trace(ctx context.Context, id string) (rehearsal.Trace, error) {
	var points []credit.Measure
	for from := r.end.Add(-time.Duration(r.Days) * 24 * time.Hour); from.Before(r.end); from = from.Add(mostPoints * credit.Period) {
		to := from.Add(min(mostPoints*credit.Period, r.end.Sub(from)))
		out, err := r.cloudwatch.GetMetricStatistics(ctx, &cloudwatch.GetMetricStatisticsInput{
			Namespace: aws.String("AWS/EC2"), MetricName: aws.String("CPUUtilization"), Statistics: []cwtypes.Statistic{cwtypes.StatisticAverage},
			Dimensions: []cwtypes.Dimension{{Name: aws.String("InstanceId"), Value: &id}},
			Period:     aws.Int32(int32(credit.Period / time.Second)), StartTime: &from, EndTime: &to,
		})
		if err != nil {
			return rehearsal.Trace{}, failed("CloudWatch did not tell the CPUUtilization of "+id, "cloudwatch:GetMetricStatistics", err)
		}
		for _, d := range out.Datapoints {
			if d.Timestamp != nil && d.Average != nil && *d.Average >= 0 {
				points = append(points, credit.Measure{At: d.Timestamp.UTC(), Value: min(*d.Average, 100)})
			}
		}
	}
	if len(points) < 2 {
		return rehearsal.Trace{}, nil
	}
	t, err := rehearsal.Regular(points)
	if err != nil {
		err = fmt.Errorf("the CPUUtilization of %s is no trace: %w", id, err)
	}
	return t, err
}

func failed(what, action string, err error) error {
	text := awserror.Sentence(what, err)
	if awserror.Denied(err) {
		text += "; allow the action " + action + " to whose credentials these are"
	}
	return errors.New(text)
}
