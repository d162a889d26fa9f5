package simaws

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ecsService speaks AWS JSON 1.1.
type ecsService struct{}

const ecsTarget = "AmazonEC2ContainerServiceV20141113."

func (ecsService) name() string  { return "ecs" }
func (ecsService) scope() string { return "ecs" }

func (ecsService) action(r *http.Request, _ []byte) string {
	action, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), ecsTarget)
	if !ok || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" {
		return ""
	}
	return action
}

var ecsActions = map[string]func(*World, []byte) (any, *apiError){
	"DescribeContainerInstances": (*World).describeContainerInstances,
	"ListAttributes":             (*World).listAttributes,
	"PutAttributes":              (*World).putAttributes,
}

func (ecsService) do(w *World, r *request) (reply, *apiError) {
	act := ecsActions[r.action]
	if act == nil {
		return reply{}, failed("UnknownOperationException", "The simulated ECS has no operation %s", r.action)
	}
	out, fail := act(w, r.body)
	if fail != nil {
		return reply{}, fail
	}
	return jsonReply("application/x-amz-json-1.1", 200, out), nil
}

func (ecsService) refuse(why refusal, text string) *apiError { return jsonRefusal(why, text) }

// jsonRefusal is how the JSON protocols word a request that is not let in.
func jsonRefusal(why refusal, text string) *apiError {
	switch why {
	case notSigned:
		return &apiError{code: "MissingAuthenticationTokenException", message: "Missing Authentication Token", status: 403}
	case wrongScope:
		return &apiError{code: "InvalidSignatureException", message: text, status: 403}
	case expiredKey:
		return &apiError{code: "ExpiredTokenException", message: "The security token included in the request is expired", status: 403}
	default:
		return &apiError{code: "UnrecognizedClientException", message: "The security token included in the request is invalid.", status: 403}
	}
}

func (ecsService) deny() string { return "AccessDeniedException" }

func (ecsService) fail(e *apiError, _ string) reply {
	return jsonReply("application/x-amz-json-1.1", e.status, map[string]string{"__type": e.code, "message": e.message})
}

func jsonReply(contentType string, status int, v any) reply {
	body, err := json.Marshal(v)
	if err != nil {
		panic("simaws: an answer of its own that JSON cannot hold: " + err.Error())
	}
	return reply{status: status, contentType: contentType, body: body}
}

func decodeJSON(body []byte, v any) *apiError {
	if err := json.Unmarshal(body, v); err != nil {
		return failed("SerializationException", "%v", err)
	}
	return nil
}

// attributeJSON is an attribute of a container instance.
type attributeJSON struct {
	Name       string  `json:"name"`
	Value      *string `json:"value,omitempty"`
	TargetID   string  `json:"targetId,omitempty"`
	TargetType string  `json:"targetType,omitempty"`
}

// clusterNamed finds a cluster by short name or ARN; empty is "default".
func (w *World) clusterNamed(name string) (*cluster, *apiError) {
	setDefault(&name, "default")
	short := strings.TrimPrefix(name, w.arn("ecs", "cluster/"))
	c := w.clusters[short]
	if c == nil {
		return nil, failed("ClusterNotFoundException", "Cluster not found.")
	}
	return c, nil
}

// memberNamed finds a container instance by its id or its full ARN.
func (w *World) memberNamed(c *cluster, name string) *member {
	return c.members[strings.TrimPrefix(name, w.memberARN(c, ""))]
}

// maxAttributes is how many custom attributes a resource, and how many
// attributes one call, may have (ECS API reference, PutAttributes).
const maxAttributes = 10

// The characters of an attribute (ECS API reference, Attribute).
var (
	attributeName  = regexp.MustCompile(`^[A-Za-z0-9\-_./\\]{1,128}$`)
	attributeValue = regexp.MustCompile(`^[A-Za-z0-9\-_./\\@: ]{1,128}$`)
)

func (w *World) putAttributes(body []byte) (any, *apiError) {
	var in struct {
		Cluster    string          `json:"cluster"`
		Attributes []attributeJSON `json:"attributes"`
	}
	if fail := decodeJSON(body, &in); fail != nil {
		return nil, fail
	}
	c, fail := w.clusterNamed(in.Cluster)
	if fail != nil {
		return nil, fail
	}
	if n := len(in.Attributes); n == 0 || n > maxAttributes {
		return nil, failed("InvalidParameterException", "There must be 1 to %d attributes, not %d.", maxAttributes, n)
	}
	for _, a := range in.Attributes {
		if fail := w.checkAttribute(c, a); fail != nil {
			return nil, fail
		}
	}
	var out struct {
		Attributes []attributeJSON `json:"attributes"`
	}
	for _, a := range in.Attributes {
		m := w.memberNamed(c, a.TargetID)
		m.custom[a.Name] = a.Value
		out.Attributes = append(out.Attributes, attributeJSON{Name: a.Name, Value: a.Value, TargetID: w.memberARN(c, m.id)})
	}
	return out, nil
}

func (w *World) checkAttribute(c *cluster, a attributeJSON) *apiError {
	if a.TargetType != "" && a.TargetType != "container-instance" {
		return failed("InvalidParameterException", "The target type %q is not container-instance.", a.TargetType)
	}
	if a.TargetID == "" {
		return failed("InvalidParameterException", "The attribute %q has no targetId.", a.Name)
	}
	m := w.memberNamed(c, a.TargetID)
	switch {
	case m == nil:
		return failed("TargetNotFoundException", "The container instance %s was not found in the cluster %s.", a.TargetID, c.name)
	case !attributeName.MatchString(a.Name):
		return failed("InvalidParameterException", "The attribute name %q is not valid.", a.Name)
	case a.Value != nil && !attributeValue.MatchString(*a.Value):
		return failed("InvalidParameterException", "The value %q of the attribute %q is not valid.", *a.Value, a.Name)
	case m.builtin[a.Name] != "":
		return failed("InvalidParameterException", "The attribute %q is reserved.", a.Name)
	}
	if _, have := m.custom[a.Name]; !have && len(m.custom) >= maxAttributes {
		return failed("AttributeLimitExceededException", "The container instance has %d custom attributes already.", maxAttributes)
	}
	return nil
}

func (m *member) attributes() []attributeJSON {
	var all []attributeJSON
	for _, k := range sortedKeys(m.builtin) {
		v := m.builtin[k]
		all = append(all, attributeJSON{Name: k, Value: &v})
	}
	for _, k := range sortedKeys(m.custom) {
		all = append(all, attributeJSON{Name: k, Value: m.custom[k]})
	}
	return all
}

func (w *World) listAttributes(body []byte) (any, *apiError) {
	var in struct {
		Cluster        string `json:"cluster"`
		TargetType     string `json:"targetType"`
		AttributeName  string `json:"attributeName"`
		AttributeValue string `json:"attributeValue"`
		MaxResults     *int   `json:"maxResults"`
		NextToken      string `json:"nextToken"`
	}
	if fail := decodeJSON(body, &in); fail != nil {
		return nil, fail
	}
	c, fail := w.clusterNamed(in.Cluster)
	if fail != nil {
		return nil, fail
	}
	if in.TargetType != "container-instance" {
		return nil, failed("InvalidParameterException", "The target type must be container-instance.")
	}
	var all []attributeJSON
	for _, id := range sortedKeys(c.members) {
		for _, a := range c.members[id].attributes() {
			if in.AttributeName != "" && a.Name != in.AttributeName || in.AttributeValue != "" && (a.Value == nil || *a.Value != in.AttributeValue) {
				continue
			}
			a.TargetID = w.memberARN(c, id)
			all = append(all, a)
		}
	}
	page, next, fail := paged(all, in.MaxResults, in.NextToken, "InvalidParameterException")
	if fail != nil {
		return nil, fail
	}
	return struct {
		Attributes []attributeJSON `json:"attributes"`
		NextToken  string          `json:"nextToken,omitempty"`
	}{page, next}, nil
}

// paged cuts one page of at most 100 out of all. The token is the place to go on from.
func paged[T any](all []T, maxResults *int, token, code string) (page []T, next string, fail *apiError) {
	size, from := 100, 0
	if maxResults != nil {
		size = *maxResults
	}
	if size < 1 || size > 100 {
		return nil, "", failed(code, "maxResults must be within 1 and 100.")
	}
	if token != "" {
		n, err := strconv.Atoi(token)
		if err != nil || n < 0 || n > len(all) {
			return nil, "", failed(code, "The nextToken is not valid.")
		}
		from = n
	}
	end := min(len(all), from+size)
	if end < len(all) {
		next = strconv.Itoa(end)
	}
	return append([]T{}, all[from:end]...), next, nil
}

type keyValueJSON struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

type resourceJSON struct {
	Name         string `json:"name"`
	Type         string `json:"type"`
	IntegerValue int    `json:"integerValue"`
}

type containerInstanceJSON struct {
	ContainerInstanceARN string            `json:"containerInstanceArn"`
	EC2InstanceID        string            `json:"ec2InstanceId"`
	Version              int               `json:"version"`
	VersionInfo          map[string]string `json:"versionInfo"`
	Status               string            `json:"status"`
	AgentConnected       bool              `json:"agentConnected"`
	RunningTasksCount    int               `json:"runningTasksCount"`
	PendingTasksCount    int               `json:"pendingTasksCount"`
	RegisteredAt         float64           `json:"registeredAt"`
	RegisteredResources  []resourceJSON    `json:"registeredResources"`
	RemainingResources   []resourceJSON    `json:"remainingResources"`
	Attributes           []attributeJSON   `json:"attributes"`
	Tags                 []keyValueJSON    `json:"tags"`
}

type failureJSON struct {
	ARN    string `json:"arn"`
	Reason string `json:"reason"`
}

func (w *World) describeContainerInstances(body []byte) (any, *apiError) {
	var in struct {
		Cluster            string   `json:"cluster"`
		ContainerInstances []string `json:"containerInstances"`
		Include            []string `json:"include"`
	}
	if fail := decodeJSON(body, &in); fail != nil {
		return nil, fail
	}
	c, fail := w.clusterNamed(in.Cluster)
	if fail != nil {
		return nil, fail
	}
	if n := len(in.ContainerInstances); n == 0 || n > 100 {
		return nil, failed("InvalidParameterException", "There must be 1 to 100 container instances, not %d.", n)
	}
	out := struct {
		ContainerInstances []containerInstanceJSON `json:"containerInstances"`
		Failures           []failureJSON           `json:"failures"`
	}{[]containerInstanceJSON{}, []failureJSON{}}
	for _, name := range in.ContainerInstances {
		m := w.memberNamed(c, name)
		if m == nil {
			arn := name
			if !strings.HasPrefix(arn, "arn:") {
				arn = w.memberARN(c, name)
			}
			out.Failures = append(out.Failures, failureJSON{arn, "MISSING"})
			continue
		}
		out.ContainerInstances = append(out.ContainerInstances, w.memberJSON(c, m, slices.Contains(in.Include, "TAGS")))
	}
	return out, nil
}

func (w *World) memberJSON(c *cluster, m *member, tags bool) containerInstanceJSON {
	i := w.instances[m.instance]
	resources := []resourceJSON{
		{"CPU", "INTEGER", 1024 * i.hw.vcpus},
		// What the kernel keeps for itself is not registered.
		{"MEMORY", "INTEGER", i.hw.memoryMiB - i.hw.memoryMiB/16},
	}
	running, pending := i.taskCounts()
	x := containerInstanceJSON{
		ContainerInstanceARN: w.memberARN(c, m.id),
		EC2InstanceID:        m.instance,
		Version:              1,
		VersionInfo:          map[string]string{"agentVersion": agentVersion, "agentHash": agentHash, "dockerVersion": "DockerVersion: 25.0.16"},
		Status:               "ACTIVE",
		AgentConnected:       i.state == "running",
		RunningTasksCount:    running,
		PendingTasksCount:    pending,
		RegisteredAt:         float64(m.registered.UnixMilli()) / 1000,
		RegisteredResources:  resources,
		RemainingResources:   resources,
		Attributes:           m.attributes(),
		Tags:                 []keyValueJSON{},
	}
	if tags {
		for _, k := range sortedKeys(m.tags) {
			x.Tags = append(x.Tags, keyValueJSON{k, m.tags[k]})
		}
	}
	return x
}

// taskCounts counts what the agent's tasks say of themselves.
func (i *instance) taskCounts() (running, pending int) {
	var d struct {
		Tasks []struct{ KnownStatus string }
	}
	if json.Unmarshal(i.tasks, &d) != nil {
		return 0, 0
	}
	for _, t := range d.Tasks {
		switch t.KnownStatus {
		case "RUNNING":
			running++
		case "PENDING":
			pending++
		}
	}
	return running, pending
}
