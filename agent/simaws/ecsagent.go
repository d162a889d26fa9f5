package simaws

import (
	"encoding/json"
	"net/http"
	"strings"
)

// The version that the simulated ECS agent says it has.
const (
	agentVersion = "1.106.1"
	agentHash    = "8dfceca6"
)

// emptyTask is what the real agent answers with 400 and 404.
const emptyTask = `{"Arn":"","KnownStatus":"","Family":"","Version":"","Containers":null}`

// ecsAgent is the introspection API of the ECS agent on one instance. An
// instance that does not run, or is in no cluster, has no agent: the connection
// is cut.
func (c *Cloud) ecsAgent(id string) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		call := Call{Service: "ecs-agent", Action: r.Method + " " + r.URL.Path, Instance: id}
		f, hit := c.takeFault(call.Service, call.Action, id)
		status, body := 0, []byte(nil)
		if !hit || c.begin(r, f) {
			status, body = c.introspect(id, r)
		}
		if fail := f.failure(); fail != nil && status != 0 {
			call.Error, status, body = fail.code, fail.status, []byte(emptyTask)
		}
		call.Dropped = status == 0 || f.Drop == "after"
		c.finish(call)
		if call.Dropped {
			panic(http.ErrAbortHandler)
		}
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(status)
		_, _ = rw.Write(body)
	})
}

// introspect answers one question; status 0 means that nobody is there to answer.
func (w *World) introspect(id string, r *http.Request) (status int, body []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := w.instances[id]
	cluster, m := w.membership(id)
	if i == nil || m == nil || i.state != "running" {
		return 0, nil
	}
	if r.Method != http.MethodGet {
		return http.StatusBadRequest, []byte(emptyTask)
	}
	switch r.URL.Path {
	case "/v1/metadata":
		body, _ = json.Marshal(struct {
			Cluster              string
			ContainerInstanceArn string
			Version              string
		}{cluster.name, w.memberARN(cluster, m.id), "Amazon ECS Agent - v" + agentVersion + " (" + agentHash + ")"})
		return http.StatusOK, body
	case "/v1/tasks":
		return i.answerTasks(r.URL.Query().Get("taskarn"), r.URL.Query().Get("dockerid"))
	case "/":
		return http.StatusOK, []byte(`{"AvailableCommands":["/v1/metadata","/v1/tasks","/license"]}`)
	}
	return http.StatusNotFound, []byte(emptyTask)
}

// shortDockerID is the length up to which a docker id counts as a short one.
const shortDockerID = 12

// answerTasks answers all tasks, or the one that has the ARN or the container.
func (i *instance) answerTasks(arn, docker string) (status int, body []byte) {
	if arn == "" && docker == "" {
		return http.StatusOK, i.tasks
	}
	if arn != "" && docker != "" {
		return http.StatusBadRequest, []byte(emptyTask)
	}
	var d struct{ Tasks []json.RawMessage }
	if err := json.Unmarshal(i.tasks, &d); err != nil {
		return http.StatusInternalServerError, []byte(emptyTask)
	}
	for _, raw := range d.Tasks {
		var t struct {
			Arn        string
			Containers []struct{ DockerId string }
		}
		if json.Unmarshal(raw, &t) != nil {
			continue
		}
		if arn != "" && t.Arn == arn {
			return http.StatusOK, raw
		}
		for _, k := range t.Containers {
			if docker != "" && (k.DockerId == docker || len(docker) <= shortDockerID && strings.HasPrefix(k.DockerId, docker)) {
				return http.StatusOK, raw
			}
		}
	}
	return http.StatusNotFound, []byte(emptyTask)
}
