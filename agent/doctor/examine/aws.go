package examine

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/nagaya-ecs/nagaya/agent/doctor"
	"github.com/nagaya-ecs/nagaya/agent/identity"
)

// Clock compares this host's clock with the one of AWS, by the Date of its answers.
// It wraps what makes the requests.
type Clock struct {
	Next http.RoundTripper

	// skew is by how much this host's clock is ahead; nil when AWS has not answered.
	skew atomic.Pointer[time.Duration]
}

// RoundTrip implements http.RoundTripper.
func (c *Clock) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.Next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if at, perr := http.ParseTime(resp.Header.Get("Date")); perr == nil {
		c.skew.Store(new(time.Since(at)))
	}
	return resp, nil
}

const (
	// refused is the skew beyond which AWS refuses signed requests (Signature
	// Version 4: requests expire after five minutes).
	refused = 5 * time.Minute
	// noticed is the skew beyond which times in logs and deadlines mislead. A Date
	// is in whole seconds, and on its way for a while.
	noticed = 10 * time.Second
)

// Finding is what was found; nothing when AWS has not answered.
func (c *Clock) Finding() []doctor.Finding {
	const check = "clock"
	const remedy = "let the clock follow the Amazon Time Sync Service: server 169.254.169.123 in chrony.conf, then systemctl restart chronyd"
	skew := c.skew.Load()
	if skew == nil {
		return nil
	}
	off := skew.Abs().Round(time.Second)
	word := "ahead of"
	if *skew < 0 {
		word = "behind"
	}
	text := fmt.Sprintf("this host's clock is %s %s AWS's", off, word)
	switch {
	case off >= refused:
		return []doctor.Finding{doctor.Bad(check, text+", and AWS refuses requests because of that", remedy)}
	case off >= noticed:
		return []doctor.Finding{doctor.Doubtful(check, text, remedy)}
	}
	return []doctor.Finding{doctor.Good(check, "this host's clock agrees with AWS's within %s", max(off, time.Second))}
}

// EC2 is what is asked of EC2.
type EC2 interface {
	DescribeInstances(context.Context, *ec2.DescribeInstancesInput, ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error)
	DescribeInstanceCreditSpecifications(context.Context, *ec2.DescribeInstanceCreditSpecificationsInput, ...func(*ec2.Options)) (*ec2.DescribeInstanceCreditSpecificationsOutput, error)
}

// Instance asks EC2 how the metadata of this instance may be read. The error is that of
// the call: it shows whether EC2 can be reached at all.
func Instance(ctx context.Context, api EC2, id identity.Instance, container bool) ([]doctor.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*timeout)
	defer cancel()
	name := "instance-id"
	out, err := api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{Filters: []ec2types.Filter{{Name: &name, Values: []string{id.ID}}}})
	if err != nil {
		return nil, err
	}
	for _, r := range out.Reservations {
		for _, i := range r.Instances {
			if i.InstanceId != nil && *i.InstanceId == id.ID {
				return append(metadataOptions(i, container), tagsInMetadata(i, id.TagsKnown)...), nil
			}
		}
	}
	return []doctor.Finding{doctor.Doubtful("metadata-options", fmt.Sprintf("EC2 does not know instance %s yet", id.ID), "try again in a minute")}, nil
}

// metadataOptions checks who can read the metadata, and so use the role.
func metadataOptions(i ec2types.Instance, container bool) []doctor.Finding {
	const check = "metadata-options"
	o := i.MetadataOptions
	if o == nil || o.HttpPutResponseHopLimit == nil {
		return nil
	}
	hops := *o.HttpPutResponseHopLimit
	change := "aws ec2 modify-instance-metadata-options --instance-id " + *i.InstanceId
	switch {
	case container && hops < 2:
		return []doctor.Finding{doctor.Bad(check, "the hop limit of the metadata is 1, and nagaya runs in a container: without the host network no answer reaches it", change+" --http-put-response-hop-limit 2, or use the host network")}
	case o.HttpTokens != ec2types.HttpTokensStateRequired:
		return []doctor.Finding{doctor.Doubtful(check, "version 1 of the metadata is allowed: whatever makes a task fetch an URL can read the role's credentials", change+" --http-tokens required")}
	case !container && hops > 1:
		return []doctor.Finding{doctor.Good(check, "version 2 only, hop limit %d: tasks in bridge mode can use this instance's role, unless a firewall rule keeps them from 169.254.169.254", hops)}
	}
	return []doctor.Finding{doctor.Good(check, "version 2 only, hop limit %d", hops)}
}

// tagsInMetadata finds settings in tags that the metadata does not show.
func tagsInMetadata(i ec2types.Instance, shown bool) []doctor.Finding {
	const check = "tags"
	if shown {
		return []doctor.Finding{doctor.Good(check, "instance tags are in the metadata")}
	}
	for _, t := range i.Tags {
		if t.Key != nil && strings.HasPrefix(*t.Key, "nagaya:") && *t.Key != "nagaya:holder" {
			return []doctor.Finding{doctor.Doubtful(check, fmt.Sprintf("the setting in the instance tag %.80q is not read: tags are not in the metadata", *t.Key),
				"aws ec2 modify-instance-metadata-options --instance-metadata-tags enabled --instance-id "+*i.InstanceId)}
		}
	}
	return []doctor.Finding{doctor.Good(check, "no setting comes from instance tags, which the metadata does not show")}
}

// Metrics is the one question to CloudWatch.
type Metrics interface {
	GetMetricStatistics(context.Context, *cloudwatch.GetMetricStatisticsInput, ...func(*cloudwatch.Options)) (*cloudwatch.GetMetricStatisticsOutput, error)
}

// CreditMode tries ec2:DescribeInstanceCreditSpecifications, which only reads, and
// returns the mode: "standard" or "unlimited", empty where EC2 does not return it.
func CreditMode(ctx context.Context, api EC2, id identity.Instance) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*timeout)
	defer cancel()
	out, err := api.DescribeInstanceCreditSpecifications(ctx, &ec2.DescribeInstanceCreditSpecificationsInput{InstanceIds: []string{id.ID}})
	if err != nil {
		return "", err
	}
	for _, s := range out.InstanceCreditSpecifications {
		if s.CpuCredits != nil {
			return *s.CpuCredits, nil
		}
	}
	return "", nil
}

// CreditBalance tries cloudwatch:GetMetricStatistics, which only reads and is free.
func CreditBalance(ctx context.Context, api Metrics, id identity.Instance) error {
	ctx, cancel := context.WithTimeout(ctx, 3*timeout)
	defer cancel()
	namespace, metric, dimension, period := "AWS/EC2", "CPUCreditBalance", "InstanceId", int32(300)
	end := time.Now()
	start := end.Add(-30 * time.Minute)
	_, err := api.GetMetricStatistics(ctx, &cloudwatch.GetMetricStatisticsInput{
		Namespace: &namespace, MetricName: &metric, Statistics: []cwtypes.Statistic{cwtypes.StatisticAverage},
		Dimensions: []cwtypes.Dimension{{Name: &dimension, Value: &id.ID}}, Period: &period, StartTime: &start, EndTime: &end,
	}, func(o *cloudwatch.Options) { o.Region = id.Region })
	return err
}
