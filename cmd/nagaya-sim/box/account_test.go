package box

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/vpc"
)

// account stands in for the services of AWS that the documents' commands call and the
// simulated cloud does not have. The real AWS CLI has judged the parameters, signed the
// request and sent it by the service's own protocol before it comes here; it gets the
// least answer that it goes on with. What is not known here fails the command.
type account struct {
	mu   sync.Mutex
	seen []string // actions since take
	made bool     // the stack
}

// answers are those to the actions, by name.
var answers = map[string]string{
	"UpdateComputeEnvironment":      `{"computeEnvironmentName": "nightly"}`,
	"DescribeComputeEnvironments":   `{"computeEnvironments": [{"computeEnvironmentName": "nightly", "ecsClusterArn": "` + batchCluster + `"}]}`,
	"ListContainerInstances":        `{"containerInstanceArns": []}`,
	"CreateService":                 `{"service": {}}`,
	"UpdateService":                 `{"service": {}}`,
	"DeleteService":                 `{"service": {}}`,
	"DescribeServices":              `{"services": [{"status": "ACTIVE", "desiredCount": 1, "runningCount": 1, "deployments": [{}]}], "failures": []}`,
	"CreateComponent":               `{}`,
	"PutObject":                     ``,
	"GetMetricStatistics":           `<r><GetMetricStatisticsResult><Label>CPUUtilization</Label><Datapoints/></GetMetricStatisticsResult></r>`,
	"ModifyInstanceMetadataOptions": `<r><instanceId>i-ID</instanceId></r>`,
	"RunInstances":                  `<r><reservationId>r-1</reservationId></r>`,
	"CreateChangeSet":               `<r><CreateChangeSetResult><Id>arn:aws:cloudformation:ap-northeast-1:123456789012:changeSet/c/1</Id></CreateChangeSetResult></r>`,
	"DescribeChangeSet":             `<r><DescribeChangeSetResult><Status>CREATE_COMPLETE</Status></DescribeChangeSetResult></r>`,
	"ExecuteChangeSet":              `<r><ExecuteChangeSetResult/></r>`,
	"DescribeStacks":                `<r><DescribeStacksResult><Stacks><member><StackName>shop</StackName><StackStatus>CREATE_COMPLETE</StackStatus></member></Stacks></DescribeStacksResult></r>`,
	"GetTemplateSummary":            `<r><GetTemplateSummaryResult/></r>`,
}

const batchCluster = "arn:aws:ecs:ap-northeast-1:123456789012:cluster/nightly_Batch_1"

// action is what a request asks for: by the header of the JSON protocol, the form of the
// query protocol, the path of the REST protocol, or S3's method.
func action(r *http.Request, body []byte) string {
	if _, name, found := strings.Cut(r.Header.Get("X-Amz-Target"), "."); found {
		return name
	}
	if form, err := url.ParseQuery(string(body)); err == nil && form.Get("Action") != "" {
		return form.Get("Action")
	}
	if strings.Contains(r.Header.Get("Authorization"), "/s3/") && r.Method == http.MethodPut {
		return "PutObject"
	}
	last := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	for name := range answers {
		if strings.EqualFold(name, last) {
			return name
		}
	}
	return r.Method + " " + r.URL.Path
}

func (a *account) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	name := action(r, body)
	a.seen = append(a.seen, name)
	answer, known := answers[name]
	switch {
	case !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 "):
		http.Error(w, "not signed", http.StatusForbidden)
	case !known:
		http.Error(w, name+" is not known here", http.StatusBadRequest)
	case name == "DescribeStacks" && !a.made:
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `<r><Error><Code>ValidationError</Code><Message>Stack with id shop does not exist</Message></Error></r>`)
	default:
		a.made = a.made || name == "ExecuteChangeSet"
		if json.Valid([]byte(answer)) {
			w.Header().Set("Content-Type", "application/json")
		}
		_, _ = io.WriteString(w, answer)
	}
}

// take returns the actions that came since the last time.
func (a *account) take() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	seen := a.seen
	a.seen = nil
	return seen
}

// open makes the account listen where the boxes reach it, and returns its URL.
func (a *account) open(t *testing.T, s *Set) string {
	t.Helper()
	l, err := s.VPC.Listen("tcp", vpc.ServiceAddr+":0")
	must(t, err)
	server := &http.Server{Handler: a, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return "http://" + l.Addr().String()
}
