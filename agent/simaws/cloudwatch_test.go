package simaws_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

// statistics asks for half an hour of a metric up to end.
func statistics(metric, instance string, end time.Time) *cloudwatch.GetMetricStatisticsInput {
	return &cloudwatch.GetMetricStatisticsInput{
		Namespace:  aws.String("AWS/EC2"),
		MetricName: aws.String(metric),
		Dimensions: []types.Dimension{{Name: aws.String("InstanceId"), Value: aws.String(instance)}},
		StartTime:  aws.Time(end.Add(-30 * time.Minute)),
		EndTime:    aws.Time(end),
		Period:     aws.Int32(300),
		Statistics: []types.Statistic{types.StatisticAverage, types.StatisticSum},
	}
}

// points asks for a metric and returns its averages by time, oldest first.
func points(t *testing.T, client *cloudwatch.Client, in *cloudwatch.GetMetricStatisticsInput) (at []time.Time, values []float64) {
	t.Helper()
	out, err := client.GetMetricStatistics(t.Context(), in)
	must(t, err)
	slices.SortFunc(out.Datapoints, func(a, b types.Datapoint) int { return a.Timestamp.Compare(*b.Timestamp) })
	for _, d := range out.Datapoints {
		at = append(at, d.Timestamp.UTC())
		values = append(values, *d.Average)
	}
	return at, values
}

func TestCreditsBecomeDatapoints(t *testing.T) {
	clock := newHand()
	c := serve(t, clock)
	client := cloudwatch.NewFromConfig(sdkOn(t, c, host))
	must(t, c.SetCredits(host, simaws.Credits{Balance: 100}, false))
	must(t, c.SetCPU(host, 100))
	start := clock.now()
	clock.move(11 * time.Minute)

	for _, row := range []struct {
		metric string
		want   []float64
	}{
		// A t3.micro has two vCPUs and earns one credit in five minutes.
		{"CPUCreditUsage", []float64{10, 10}},
		{"CPUCreditBalance", []float64{91, 82}},
		{"CPUUtilization", []float64{100, 100}},
		{"CPUSurplusCreditBalance", nil},
		{"CPUSurplusCreditsCharged", nil},
		{"NetworkIn", nil},
	} {
		t.Run(row.metric, func(t *testing.T) {
			in := statistics(row.metric, host, clock.now())
			in.StartTime = aws.Time(start.Add(5 * time.Minute))
			at, got := points(t, client, in)
			if len(got) != len(row.want) {
				t.Fatalf("%v, want %v", got, row.want)
			}
			for n := range got {
				if math.Abs(got[n]-row.want[n]) > 1e-6 {
					t.Errorf("%v, want %v", got, row.want)
				}
				if want := start.Add(time.Duration(n+1) * 5 * time.Minute); !at[n].Equal(want) {
					t.Errorf("time stamp %s, want %s", at[n], want)
				}
			}
		})
	}
}

func TestSurplusDatapoints(t *testing.T) {
	clock := newHand()
	c := serve(t, clock)
	client := cloudwatch.NewFromConfig(sdkOn(t, c, host))
	must(t, c.SetCreditMode(host, simaws.Unlimited))
	must(t, c.SetCredits(host, simaws.Credits{Surplus: 285}, false))
	must(t, c.SetCPU(host, 100))
	clock.move(5 * time.Minute)
	for metric, want := range map[string]float64{
		"CPUCreditBalance":         0,
		"CPUSurplusCreditBalance":  288,
		"CPUSurplusCreditsCharged": 6,
	} {
		in := statistics(metric, host, clock.now().Add(time.Minute))
		in.StartTime = aws.Time(clock.now())
		if _, got := points(t, client, in); len(got) != 1 || math.Abs(got[0]-want) > 1e-6 {
			t.Errorf("%s: %v, want %v", metric, got, want)
		}
	}
}

func TestSurplusIsChargedAtTheStop(t *testing.T) {
	clock := newHand()
	c := serve(t, clock)
	theirs := addInstance(t, c, simaws.InstanceSpec{CreditMode: simaws.Unlimited})
	client := cloudwatch.NewFromConfig(sdkOn(t, c, host))
	must(t, c.SetCredits(theirs, simaws.Credits{Surplus: 40}, false))
	must(t, c.SetState(theirs, "stopped"))
	clock.move(20 * time.Minute)
	if _, got := points(t, client, statistics("CPUSurplusCreditsCharged", theirs, clock.now())); len(got) != 1 || got[0] != 40 {
		t.Errorf("charged %v, want 40 once", got)
	}
}

func TestDatapointsAreUnordered(t *testing.T) {
	clock := newHand()
	c := serve(t, clock)
	client := cloudwatch.NewFromConfig(sdkOn(t, c, host))
	for range 20 {
		out, err := client.GetMetricStatistics(t.Context(), statistics("CPUCreditBalance", host, clock.now()))
		must(t, err)
		if len(out.Datapoints) != 6 {
			t.Fatalf("%d datapoints, want 6", len(out.Datapoints))
		}
		if slices.IsSortedFunc(out.Datapoints, func(a, b types.Datapoint) int { return a.Timestamp.Compare(*b.Timestamp) }) {
			t.Fatal("the datapoints came in order")
		}
	}
}

func TestLateAndMissingDatapoints(t *testing.T) {
	clock := newHand()
	c := serve(t, clock)
	client := cloudwatch.NewFromConfig(sdkOn(t, c, host))
	newest := func() time.Time {
		at, _ := points(t, client, statistics("CPUCreditBalance", host, clock.now().Add(time.Minute)))
		if len(at) == 0 {
			return time.Time{}
		}
		return at[len(at)-1]
	}
	noon := clock.now()
	c.SetConditions(simaws.Conditions{MetricLag: simaws.Duration(3 * time.Minute)})
	clock.move(7 * time.Minute)
	if got := newest(); got.After(noon) {
		t.Errorf("the newest is %s, two minutes old with a lag of three", got)
	}
	clock.move(time.Minute)
	if got := newest(); !got.After(noon) {
		t.Errorf("the newest is %s, want the one after noon", got)
	}
	c.SetConditions(simaws.Conditions{MetricsMissing: true})
	if got := newest(); !got.IsZero() {
		t.Errorf("%s was answered, want nothing", got)
	}
}

func TestFreshInstanceHasNoDatapoints(t *testing.T) {
	clock := newHand()
	c := serve(t, clock)
	fresh := addInstance(t, c, simaws.InstanceSpec{})
	steady := addInstance(t, c, simaws.InstanceSpec{Type: "m5.large", LaunchTime: clock.now().Add(-time.Hour)})
	client := cloudwatch.NewFromConfig(sdkOn(t, c, host))
	for _, id := range []string{fresh, steady, "i-00000000000000000"} {
		if at, _ := points(t, client, statistics("CPUCreditBalance", id, clock.now().Add(time.Minute))); len(at) != 0 {
			t.Errorf("%s has %d datapoints", id, len(at))
		}
	}
}

func TestPublish(t *testing.T) {
	clock := newHand()
	c := serve(t, clock)
	client := cloudwatch.NewFromConfig(sdkOn(t, c, host))
	c.SetConditions(simaws.Conditions{MetricLag: simaws.Duration(time.Hour)})
	clock.move(2 * time.Minute)
	must(t, c.SetCredits(host, simaws.Credits{Balance: 7}, true))
	// The last period holds the row of noon and the published one.
	in := statistics("CPUCreditBalance", host, clock.now().Add(time.Second))
	in.StartTime = aws.Time(clock.now().Add(-27 * time.Minute))
	at, got := points(t, client, in)
	if n := len(got); n == 0 || got[n-1] != 7 {
		t.Errorf("balances %v at %v, want the newest to be 7", got, at)
	}
	// The usage of the folded row is not lost: 2 vCPUs at 5 % for seven minutes.
	in.MetricName = aws.String("CPUCreditUsage")
	in.StartTime = aws.Time(clock.now().Add(-2 * time.Minute))
	if _, got := points(t, client, in); len(got) != 1 || math.Abs(got[0]-0.7) > 1e-6 {
		t.Errorf("usage %v, want 0.7", got)
	}
}

func TestPeriodsCountFromTheStart(t *testing.T) {
	clock := newHand()
	c := serve(t, clock)
	client := cloudwatch.NewFromConfig(sdkOn(t, c, host))
	in := statistics("CPUCreditUsage", host, clock.now())
	in.StartTime = aws.Time(clock.now().Add(-29*time.Minute + 20*time.Second))
	at, _ := points(t, client, in)
	want := clock.now().Add(-29 * time.Minute)
	if len(at) == 0 || !at[0].Equal(want) {
		t.Errorf("time stamps %v, want the first at %s", at, want)
	}

	in = statistics("CPUCreditUsage", host, clock.now())
	in.Period = aws.Int32(1800)
	out, err := client.GetMetricStatistics(t.Context(), in)
	must(t, err)
	if len(out.Datapoints) != 1 {
		t.Fatalf("%d datapoints, want one", len(out.Datapoints))
	}
	// Six rows of 2 vCPUs at 5 % for five minutes.
	if d := out.Datapoints[0]; math.Abs(*d.Sum-3) > 1e-6 || math.Abs(*d.Average-0.5) > 1e-6 || d.Unit != types.StandardUnitCount {
		t.Errorf("sum %v, average %v, unit %v", *d.Sum, *d.Average, d.Unit)
	}
}

func TestMetricRequestsThatAreRefused(t *testing.T) {
	clock := newHand()
	client := cloudwatch.NewFromConfig(sdkOn(t, serve(t, clock), host))
	for _, row := range []struct {
		name   string
		change func(*cloudwatch.GetMetricStatisticsInput)
		code   string
	}{
		{"too many points", func(in *cloudwatch.GetMetricStatisticsInput) {
			in.StartTime = aws.Time(clock.now().Add(-1441 * 5 * time.Minute))
		}, "InvalidParameterCombination"},
		{"just not too many", func(in *cloudwatch.GetMetricStatisticsInput) {
			in.StartTime = aws.Time(clock.now().Add(-1440 * 5 * time.Minute))
		}, ""},
		{"an odd period", func(in *cloudwatch.GetMetricStatisticsInput) { in.Period = aws.Int32(90) }, "InvalidParameterValue"},
		{"ends before it starts", func(in *cloudwatch.GetMetricStatisticsInput) { in.EndTime = in.StartTime }, "InvalidParameterValue"},
		{"no statistics", func(in *cloudwatch.GetMetricStatisticsInput) { in.Statistics = nil }, "MissingParameter"},
		{"both statistics", func(in *cloudwatch.GetMetricStatisticsInput) { in.ExtendedStatistics = []string{"p99"} }, "InvalidParameterCombination"},
	} {
		t.Run(row.name, func(t *testing.T) {
			in := statistics("CPUCreditBalance", host, clock.now())
			row.change(in)
			_, err := client.GetMetricStatistics(t.Context(), in)
			wantCode(t, err, row.code)
		})
	}
}

func TestUnknownCloudWatchAction(t *testing.T) {
	client := cloudwatch.NewFromConfig(sdkOn(t, serve(t, newHand()), host))
	_, err := client.ListMetrics(t.Context(), &cloudwatch.ListMetricsInput{})
	wantCode(t, err, "UnknownOperationException")
}

func TestThrottledCloudWatch(t *testing.T) {
	c := serve(t, newHand())
	client := cloudwatch.NewFromConfig(sdkOn(t, c, host))
	_, err := c.AddFault(simaws.Fault{Service: "cloudwatch", Code: "Throttling", Times: 1})
	must(t, err)
	_, err = client.GetMetricStatistics(t.Context(), statistics("CPUCreditBalance", host, time.Now()))
	wantCode(t, err, "Throttling")
}
