package simaws

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// cloudWatchService speaks smithy RPC v2 CBOR with the query error header.
type cloudWatchService struct{}

const (
	cloudWatchPath = "/service/GraniteServiceVersion20100801/operation/"
	cloudWatchType = "com.amazonaws.cloudwatch#"
)

// cborEncoding writes times as the protocol wants them: tag 1, seconds.
var cborEncoding = func() cbor.EncMode {
	m, err := cbor.EncOptions{Time: cbor.TimeUnixDynamic, TimeTag: cbor.EncTagRequired}.EncMode()
	if err != nil {
		panic(err)
	}
	return m
}()

func (cloudWatchService) name() string  { return "cloudwatch" }
func (cloudWatchService) scope() string { return "monitoring" }

func (cloudWatchService) action(r *http.Request, _ []byte) string {
	action, _ := strings.CutPrefix(r.URL.Path, cloudWatchPath)
	if r.Method != http.MethodPost || strings.Contains(action, "/") || r.Header.Get("Smithy-Protocol") != "rpc-v2-cbor" {
		return ""
	}
	return action
}

func (cloudWatchService) deny() string { return "AccessDenied" }

func (cloudWatchService) refuse(why refusal, text string) *apiError {
	switch why {
	case notSigned:
		return &apiError{code: "MissingAuthenticationToken", message: "Request is missing Authentication Token", status: 403}
	case wrongScope:
		return &apiError{code: "SignatureDoesNotMatch", message: text, status: 403}
	case expiredKey:
		return &apiError{code: "ExpiredToken", message: "The security token included in the request is expired", status: 403}
	default:
		return &apiError{code: "InvalidClientTokenId", message: "The security token included in the request is invalid.", status: 403}
	}
}

// cloudWatchShapes are the error shapes of the model whose names differ from the
// codes of the query protocol.
var cloudWatchShapes = map[string]string{
	"InvalidParameterValue":       "InvalidParameterValueException",
	"InvalidParameterCombination": "InvalidParameterCombinationException",
	"MissingParameter":            "MissingRequiredParameterException",
	"InternalServiceError":        "InternalServiceFault",
}

func (cloudWatchService) fail(e *apiError, _ string) reply {
	shape, known := cloudWatchShapes[e.code]
	if !known {
		shape = e.code
	}
	fault := "Sender"
	if e.status >= 500 {
		fault = "Receiver"
	}
	out := cborReply(map[string]string{"__type": cloudWatchType + shape, "message": e.message})
	out.status = e.status
	out.header["X-Amzn-Query-Error"] = e.code + ";" + fault
	return out
}

func cborReply(v any) reply {
	body, err := cborEncoding.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("simaws: an answer of its own that CBOR cannot hold: %v", err))
	}
	return reply{
		status:      200,
		contentType: "application/cbor",
		header:      map[string]string{"Smithy-Protocol": "rpc-v2-cbor"},
		body:        body,
	}
}

type dimension struct {
	Name  string
	Value string
}

type statisticsInput struct {
	Namespace          string
	MetricName         string
	Dimensions         []dimension
	StartTime          time.Time
	EndTime            time.Time
	Period             int
	Statistics         []string
	ExtendedStatistics []string
	Unit               string
}

type datapoint struct {
	Timestamp   time.Time
	SampleCount *float64 `cbor:",omitempty"`
	Sum         *float64 `cbor:",omitempty"`
	Average     *float64 `cbor:",omitempty"`
	Minimum     *float64 `cbor:",omitempty"`
	Maximum     *float64 `cbor:",omitempty"`
	Unit        string
}

type statisticsOutput struct {
	Label      string
	Datapoints []datapoint
}

func (cloudWatchService) do(w *World, r *request) (reply, *apiError) {
	if r.action != "GetMetricStatistics" {
		return reply{}, &apiError{code: "UnknownOperationException", message: "The simulated CloudWatch has no operation " + r.action, status: 404}
	}
	var in statisticsInput
	if err := cbor.Unmarshal(r.body, &in); err != nil {
		return reply{}, &apiError{code: "SerializationException", message: err.Error(), status: 400}
	}
	if fail := in.check(); fail != nil {
		return reply{}, fail
	}
	out := statisticsOutput{Label: in.MetricName, Datapoints: []datapoint{}}
	if !w.conditions.MetricsMissing {
		out.Datapoints = append(out.Datapoints, w.datapoints(in)...)
	}
	return cborReply(out), nil
}

// maxDatapoints is what one GetMetricStatistics may ask for (CloudWatch API
// reference, GetMetricStatistics).
const maxDatapoints = 1440

func (in *statisticsInput) check() *apiError {
	switch {
	case in.Namespace == "", in.MetricName == "", in.StartTime.IsZero(), in.EndTime.IsZero():
		return failed("MissingParameter", "The parameters Namespace, MetricName, StartTime and EndTime are required.")
	case in.Period < 60 || in.Period%60 != 0:
		return failed("InvalidParameterValue", "The parameter Period must be a value that is a multiple of 60.")
	case len(in.Statistics) == 0 && len(in.ExtendedStatistics) == 0:
		return failed("MissingParameter", "The parameter Statistics or ExtendedStatistics is required.")
	case len(in.Statistics) > 0 && len(in.ExtendedStatistics) > 0:
		return failed("InvalidParameterCombination", "The parameters Statistics and ExtendedStatistics must not both be given.")
	case len(in.ExtendedStatistics) > 0:
		return failed("InvalidParameterValue", "The simulated CloudWatch has no ExtendedStatistics.")
	}
	for _, s := range in.Statistics {
		if !slices.Contains([]string{"SampleCount", "Average", "Sum", "Minimum", "Maximum"}, s) {
			return failed("InvalidParameterValue", "The parameter Statistics must not contain %q.", s)
		}
	}
	// A start is rounded down to the whole minute, and periods count from there.
	in.StartTime = in.StartTime.Truncate(time.Minute)
	if !in.StartTime.Before(in.EndTime) {
		return failed("InvalidParameterValue", "The parameter StartTime must be less than the parameter EndTime.")
	}
	if n := in.EndTime.Sub(in.StartTime) / in.period(); n > maxDatapoints {
		return failed("InvalidParameterCombination", "You have requested up to %d datapoints, which exceeds the limit of 1,440. You may reduce the datapoints requested by increasing Period, or decreasing the time range.", n)
	}
	return nil
}

func (in *statisticsInput) period() time.Duration { return time.Duration(in.Period) * time.Second }

// metricUnits are the metrics that there are, in namespace AWS/EC2.
var metricUnits = map[string]string{
	"CPUCreditUsage":           "Count",
	"CPUCreditBalance":         "Count",
	"CPUSurplusCreditBalance":  "Count",
	"CPUSurplusCreditsCharged": "Count",
	"CPUUtilization":           "Percent",
}

// value is what the row says of a metric. The two surplus metrics exist only for
// unlimited instances (EC2 User Guide, "Monitor your CPU credits").
func (s sample) value(metric string) (float64, bool) {
	switch metric {
	case "CPUCreditUsage":
		return s.usage, true
	case "CPUCreditBalance":
		return s.balance, true
	case "CPUSurplusCreditBalance":
		return s.surplus, s.mode == Unlimited
	case "CPUSurplusCreditsCharged":
		return s.charged, s.mode == Unlimited || s.charged > 0
	case "CPUUtilization":
		return s.percent, true
	}
	return 0, false
}

// datapoints sums the visible rows up by period, in no order at all.
func (w *World) datapoints(in statisticsInput) []datapoint {
	unit := metricUnits[in.MetricName]
	if in.Namespace != "AWS/EC2" || unit == "" || in.Unit != "" && in.Unit != unit ||
		len(in.Dimensions) != 1 || in.Dimensions[0].Name != "InstanceId" {
		return nil
	}
	i := w.instances[in.Dimensions[0].Value]
	if i == nil || !i.hw.burstable() && in.MetricName != "CPUUtilization" {
		return nil
	}
	buckets := map[time.Time][]float64{}
	var order []time.Time
	now := w.Now()
	for _, s := range i.ledger.rows {
		v, ok := s.value(in.MetricName)
		if !ok || s.visible.After(now) || s.at.Before(in.StartTime) || !s.at.Before(in.EndTime) {
			continue
		}
		start := in.StartTime.Add(s.at.Sub(in.StartTime).Truncate(in.period())).UTC()
		if buckets[start] == nil {
			order = append(order, start)
		}
		buckets[start] = append(buckets[start], v)
	}
	w.jumble(order)
	all := make([]datapoint, 0, len(order))
	for _, start := range order {
		all = append(all, summary(start, unit, buckets[start], in.Statistics))
	}
	return all
}

// jumble leaves two or more moments in any order but the right one.
func (w *World) jumble(order []time.Time) {
	if len(order) < 2 {
		return
	}
	w.rnd.Shuffle(len(order), func(a, b int) { order[a], order[b] = order[b], order[a] })
	if slices.IsSortedFunc(order, time.Time.Compare) {
		order[0], order[len(order)-1] = order[len(order)-1], order[0]
	}
}

func summary(start time.Time, unit string, values []float64, statistics []string) datapoint {
	d := datapoint{Timestamp: start, Unit: unit}
	count, sum := float64(len(values)), 0.0
	for _, v := range values {
		sum += v
	}
	lowest, highest, mean := slices.Min(values), slices.Max(values), sum/count
	for _, s := range statistics {
		switch s {
		case "SampleCount":
			d.SampleCount = &count
		case "Sum":
			d.Sum = &sum
		case "Average":
			d.Average = &mean
		case "Minimum":
			d.Minimum = &lowest
		case "Maximum":
			d.Maximum = &highest
		}
	}
	return d
}
