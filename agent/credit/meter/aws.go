package meter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/nagaya-ecs/nagaya/agent/awserror"
	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// MetricStatistics is the one question to CloudWatch. GetMetricStatistics is within the free
// tier, GetMetricData is not.
type MetricStatistics interface {
	GetMetricStatistics(context.Context, *cloudwatch.GetMetricStatisticsInput, ...func(*cloudwatch.Options)) (*cloudwatch.GetMetricStatisticsOutput, error)
}

// CreditSpecifications is the one question to EC2.
type CreditSpecifications interface {
	DescribeInstanceCreditSpecifications(context.Context, *ec2.DescribeInstanceCreditSpecificationsInput, ...func(*ec2.Options)) (*ec2.DescribeInstanceCreditSpecificationsOutput, error)
}

const (
	// window is how far back CloudWatch is asked: points are minutes late, and a window as
	// short as a period is empty just when a point is due.
	window = time.Hour
	// newcomer is the age of an instance up to which it is no news that there are no points yet.
	newcomer    = 20 * time.Minute
	callTimeout = 20 * time.Second
	retryFirst  = 5 * time.Second
	mostPoints  = 24
	// ahead is how far a point may lie in the future, for a clock that is slow.
	ahead = 5 * time.Minute
)

// errWait makes repeat ask again soon although nothing failed.
var errWait = errors.New("no answer yet")

// repeat asks until ctx ends: every so often when all is well, with growing pauses up to that when not.
func repeat(ctx context.Context, every time.Duration, ask func(context.Context) (answer, error), answers chan<- answer) {
	pause := backoff.Backoff{First: retryFirst, Most: every}
	for {
		a, err := ask(ctx)
		select {
		case <-ctx.Done():
			return
		case answers <- a:
		}
		wait := every
		if err != nil {
			wait = pause.Next()
		} else {
			pause.Reset()
		}
		if !backoff.Sleep(ctx, wait) {
			return
		}
	}
}

// explain is the problem of a question that failed; where a permission is missing, it has the code and hint of denied.
func explain(err error, failed, denied problem.Problem) *problem.Problem {
	if awserror.Denied(err) {
		failed.Code, failed.Hint = denied.Code, denied.Hint
	}
	failed.Text = awserror.Sentence(failed.Text, err)
	return &failed
}

// cloudQuestion asks CloudWatch about one instance and remembers the newest point of each metric.
type cloudQuestion struct {
	api      MetricStatistics
	instance identity.Instance
	last     map[string]credit.Metric
}

const topicCloud, topicMode = "cloudwatch", "credit-mode"

func (q cloudQuestion) ask(ctx context.Context) (answer, error) {
	a := answer{instance: q.instance.ID, about: topicCloud}
	for _, m := range []struct {
		name   string
		stat   cwtypes.Statistic
		period time.Duration
	}{
		// A balance is asked for by the minute, although it comes every five:
		// CloudWatch stamps an answer with the begin of its period, and a stamp
		// up to five minutes early would replay that much twice.
		{"CPUCreditBalance", cwtypes.StatisticAverage, time.Minute},
		{"CPUSurplusCreditBalance", cwtypes.StatisticAverage, time.Minute},
		{"CPUCreditUsage", cwtypes.StatisticSum, credit.Period},
	} {
		points, err := q.points(ctx, m.name, m.stat, m.period)
		if err != nil {
			a.problem = explain(err, problem.Problem{
				Code: "cloudwatch-failed", Severity: problem.Error, Subject: "CloudWatch", Text: "CloudWatch did not answer for " + m.name,
				Hint: "see that the instance has a role and reaches CloudWatch of its Region; nagaya asks again by itself",
			}, problem.Problem{Code: "cloudwatch-denied", Hint: "allow the action cloudwatch:GetMetricStatistics to the instance's role, with resource *"})
			return a, err
		}
		if m.stat == cwtypes.StatisticSum {
			a.cloud = &credit.Cloud{Balance: q.last["CPUCreditBalance"], Surplus: q.last["CPUSurplusCreditBalance"], Usage: points}
		} else if n := len(points); n > 0 && !points[n-1].At.Before(q.last[m.name].At) {
			q.last[m.name] = credit.Metric{Known: true, Measure: points[n-1]}
		}
	}
	if a.cloud.Balance.Known {
		return a, nil
	}
	if time.Since(q.instance.StartedAt) > newcomer {
		a.problem = &problem.Problem{
			Code: "cloudwatch-no-points", Subject: "CloudWatch",
			Text: fmt.Sprintf("CloudWatch has had no point of CPUCreditBalance for %.40q for an hour; the balance is not known", q.instance.ID),
			Hint: "look at the metric in the CloudWatch console; nagaya asks again by itself",
		}
	}
	return a, errWait
}

// points returns the valid points of one metric, oldest first.
func (q cloudQuestion) points(ctx context.Context, name string, stat cwtypes.Statistic, period time.Duration) ([]credit.Measure, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	now := time.Now()
	start, end := now.Add(-window).Truncate(credit.Period), now.Add(credit.Period).Truncate(credit.Period)
	out, err := q.api.GetMetricStatistics(ctx, &cloudwatch.GetMetricStatisticsInput{
		Namespace: aws.String("AWS/EC2"), MetricName: &name, Statistics: []cwtypes.Statistic{stat},
		Dimensions: []cwtypes.Dimension{{Name: aws.String("InstanceId"), Value: &q.instance.ID}},
		Period:     aws.Int32(int32(period / time.Second)), StartTime: &start, EndTime: &end,
	}, func(o *cloudwatch.Options) { o.Region = cmp.Or(q.instance.Region, o.Region) })
	if err != nil {
		return nil, err
	}
	var points []credit.Measure
	for _, d := range out.Datapoints {
		v := d.Average
		if stat == cwtypes.StatisticSum {
			v = d.Sum
		}
		if d.Timestamp == nil || v == nil || !(*v >= 0) || math.IsInf(*v, 0) || d.Timestamp.After(now.Add(ahead)) {
			continue
		}
		points = append(points, credit.Measure{At: d.Timestamp.UTC(), Value: *v})
	}
	slices.SortFunc(points, func(a, b credit.Measure) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Value, b.Value))
	})
	return points[max(0, len(points)-mostPoints):], nil
}

// modeQuestion asks EC2 for the credit mode of one instance.
type modeQuestion struct {
	api      CreditSpecifications
	instance identity.Instance
}

func (q modeQuestion) ask(ctx context.Context) (answer, error) {
	a := answer{instance: q.instance.ID, about: topicMode}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := q.api.DescribeInstanceCreditSpecifications(ctx, &ec2.DescribeInstanceCreditSpecificationsInput{
		InstanceIds: []string{q.instance.ID},
	}, func(o *ec2.Options) { o.Region = cmp.Or(q.instance.Region, o.Region) })
	if err == nil {
		for _, s := range out.InstanceCreditSpecifications {
			if m := credit.Mode(aws.ToString(s.CpuCredits)); aws.ToString(s.InstanceId) == q.instance.ID && (m == credit.Standard || m == credit.Unlimited) {
				a.mode = m
				return a, nil
			}
		}
		err = errors.New("the answer names no mode for this instance")
	}
	a.problem = explain(err, problem.Problem{
		Code: "credit-mode-failed", Subject: "EC2", Text: "EC2 did not tell the credit mode",
		Hint: "nagaya asks again by itself; meanwhile it spends no surplus credits",
	}, problem.Problem{Code: "credit-mode-denied", Hint: "allow the action ec2:DescribeInstanceCreditSpecifications to the instance's role, with resource *"})
	return a, err
}
