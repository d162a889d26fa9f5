package stage

import (
	"context"
	"net/http"
	"sync"
)

// ecsTasks are what the simulated ECS agent of a stage lists.
type ecsTasks struct {
	mu    sync.Mutex
	tasks []map[string]any
	// set tells it; nil is the control endpoint of a cloud that is a process.
	set func(document any) error
}

// list has the simulated ECS agent list a container that was made with ECS's labels, as the
// real one does before it starts it.
func (s *Stage) list(ctx context.Context, id string, labels map[string]string) error {
	const prefix = "com.amazonaws.ecs."
	family := labels[prefix+"task-definition-family"]
	if family == "" || s.ecs.set == nil && s.ControlURL == "" {
		return nil
	}
	s.ecs.mu.Lock()
	defer s.ecs.mu.Unlock()
	s.ecs.tasks = append(s.ecs.tasks, map[string]any{
		"Arn": labels[prefix+"task-arn"], "DesiredStatus": "RUNNING", "KnownStatus": "RUNNING",
		"Family": family, "Version": labels[prefix+"task-definition-version"],
		"Containers": []map[string]any{{"DockerId": id, "Name": labels[prefix+"container-name"]}},
	})
	document := map[string]any{"Tasks": s.ecs.tasks}
	if s.ecs.set != nil {
		return s.ecs.set(document)
	}
	return s.Control(ctx, http.MethodPut, "/instances/"+s.InstanceID+"/tasks", document, nil)
}
