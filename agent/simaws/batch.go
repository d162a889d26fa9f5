package simaws

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// batchService speaks REST JSON.
type batchService struct{}

func (batchService) name() string  { return "batch" }
func (batchService) scope() string { return "batch" }

// batchPaths are the actions by their paths.
var batchPaths = map[string]string{
	"/v1/describecomputeenvironments": "DescribeComputeEnvironments",
	"/v1/updatecomputeenvironment":    "UpdateComputeEnvironment",
}

func (batchService) action(r *http.Request, _ []byte) string {
	if r.Method != http.MethodPost {
		return ""
	}
	return batchPaths[r.URL.Path]
}

func (batchService) do(w *World, r *request) (reply, *apiError) {
	var out any
	var fail *apiError
	switch r.action {
	case "DescribeComputeEnvironments":
		out, fail = w.describeEnvironments(r.body)
	case "UpdateComputeEnvironment":
		out, fail = w.updateEnvironment(r.body)
	default:
		fail = &apiError{code: "UnknownOperationException", message: "The simulated AWS Batch has no operation at " + r.http.URL.Path, status: 404}
	}
	if fail != nil {
		return reply{}, fail
	}
	return jsonReply("application/json", 200, out), nil
}

func (batchService) refuse(why refusal, text string) *apiError { return jsonRefusal(why, text) }

func (batchService) deny() string { return "AccessDeniedException" }

func (batchService) fail(e *apiError, _ string) reply {
	out := jsonReply("application/json", e.status, map[string]string{"message": e.message})
	out.header = map[string]string{"X-Amzn-Errortype": e.code}
	return out
}

type environmentJSON struct {
	Name          string            `json:"computeEnvironmentName"`
	ARN           string            `json:"computeEnvironmentArn"`
	ECSClusterARN string            `json:"ecsClusterArn"`
	Type          string            `json:"type"`
	State         string            `json:"state"`
	Status        string            `json:"status"`
	StatusReason  string            `json:"statusReason"`
	UnmanagedVCPU int               `json:"unmanagedvCpus,omitempty"`
	Tags          map[string]string `json:"tags"`
	UUID          string            `json:"uuid"`
	Orchestration string            `json:"containerOrchestrationType"`
}

func (w *World) environmentARN(e *environment) string {
	return w.arn("batch", "compute-environment/"+e.name)
}

// environmentNamed finds a compute environment by name or ARN.
func (w *World) environmentNamed(name string) *environment {
	return w.environments[strings.TrimPrefix(name, w.arn("batch", "compute-environment/"))]
}

func (w *World) environmentJSON(e *environment) environmentJSON {
	x := environmentJSON{
		Name:          e.name,
		ARN:           w.environmentARN(e),
		ECSClusterARN: w.arn("ecs", "cluster/"+e.cluster),
		Type:          e.kind,
		State:         e.state,
		Status:        "VALID",
		StatusReason:  "ComputeEnvironment Healthy",
		UnmanagedVCPU: e.vcpus,
		Tags:          e.tags,
		UUID:          e.uuid,
		Orchestration: "ECS",
	}
	if x.Tags == nil {
		x.Tags = map[string]string{}
	}
	if e.busyUntil.After(w.Now()) {
		x.Status, x.StatusReason = "UPDATING", "ComputeEnvironment is being updated"
	}
	return x
}

func (w *World) describeEnvironments(body []byte) (any, *apiError) {
	var in struct {
		Names      []string `json:"computeEnvironments"`
		MaxResults *int     `json:"maxResults"`
		NextToken  string   `json:"nextToken"`
	}
	if fail := decodeBatch(body, &in); fail != nil {
		return nil, fail
	}
	var all []environmentJSON
	for _, name := range sortedKeys(w.environments) {
		e := w.environments[name]
		if len(in.Names) == 0 || slices.ContainsFunc(in.Names, func(n string) bool { return w.environmentNamed(n) == e }) {
			all = append(all, w.environmentJSON(e))
		}
	}
	page, next, fail := paged(all, in.MaxResults, in.NextToken, "ClientException")
	if fail != nil {
		return nil, fail
	}
	return struct {
		Environments []environmentJSON `json:"computeEnvironments"`
		NextToken    string            `json:"nextToken,omitempty"`
	}{page, next}, nil
}

func (w *World) updateEnvironment(body []byte) (any, *apiError) {
	var in struct {
		Name      string `json:"computeEnvironment"`
		State     string `json:"state"`
		Unmanaged *int   `json:"unmanagedvCpus"`
	}
	if fail := decodeBatch(body, &in); fail != nil {
		return nil, fail
	}
	e := w.environmentNamed(in.Name)
	switch {
	case e == nil:
		return nil, failed("ClientException", "%s does not exist", in.Name)
	case in.State != "" && in.State != "ENABLED" && in.State != "DISABLED":
		return nil, failed("ClientException", "state %s is neither ENABLED nor DISABLED", in.State)
	case e.busyUntil.After(w.Now()):
		return nil, failed("ClientException", "Cannot update, resource is being modified.")
	case in.Unmanaged != nil && e.kind != "UNMANAGED":
		return nil, failed("ClientException", "unmanagedvCpus is only for an unmanaged compute environment")
	}
	setDefault(&in.State, e.state)
	e.state = in.State
	if in.Unmanaged != nil {
		e.vcpus = *in.Unmanaged
	}
	e.busyUntil = w.Now().Add(time.Duration(w.conditions.BatchUpdateTakes))
	return struct {
		Name string `json:"computeEnvironmentName"`
		ARN  string `json:"computeEnvironmentArn"`
	}{e.name, w.environmentARN(e)}, nil
}

func decodeBatch(body []byte, v any) *apiError {
	if fail := decodeJSON(body, v); fail != nil {
		return failed("ClientException", "%s", fail.message)
	}
	return nil
}
