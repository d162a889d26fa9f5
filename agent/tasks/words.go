package tasks

import (
	"maps"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/pattern"
)

// Bounds on what one container may bring along. A container is not routed whose words exceed
// them; excess ports are lost.
const (
	MaxWords   = 128  // labels or environment variables that are kept
	MaxWordLen = 8192 // bytes of one value
	MaxPorts   = 512  // ports of one container
)

// Label names that nagaya reads besides its own.
const (
	LabelPrefix         = "nagaya."
	LabelComposeProject = "com.docker.compose.project"
	LabelComposeService = "com.docker.compose.service"

	// Set by the ECS agent on every container that it starts.
	labelTaskARN       = "com.amazonaws.ecs.task-arn"
	labelFamily        = "com.amazonaws.ecs.task-definition-family"
	labelRevision      = "com.amazonaws.ecs.task-definition-version"
	labelContainerName = "com.amazonaws.ecs.container-name"
	labelCluster       = "com.amazonaws.ecs.cluster"
)

// Keep returns those labels and "NAME=value" variables of a container that have a meaning
// to nagaya, within the bounds: its own labels, what tells families and batches apart, and
// what foreign knows, which may be variables and labels. dropped are the names of those
// that exceed the bounds (sorted, each at most 64 bytes). Others are never kept, so that
// secrets do not enter the program's state.
func Keep(labels map[string]string, environ []string, foreign func(name string) bool) (keptLabels, keptEnv map[string]string, dropped []string) {
	keptLabels, dropped = keep(labels, func(name string) bool {
		return strings.HasPrefix(name, LabelPrefix) || name == LabelComposeProject || name == LabelComposeService || foreign(name)
	})
	env := map[string]string{}
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok {
			env[name] = value
		}
	}
	keptEnv, more := keep(env, func(name string) bool { return strings.HasPrefix(name, batchPrefix) || foreign(name) })
	return keptLabels, keptEnv, append(dropped, more...)
}

// batchPrefix is in front of the variables of AWS Batch's jobs.
const batchPrefix = "AWS_BATCH_"

func keep(words map[string]string, known func(string) bool) (kept map[string]string, dropped []string) {
	for _, name := range slices.Sorted(maps.Keys(words)) {
		if !known(name) {
			continue
		}
		if len(kept) == MaxWords || len(name) > 256 || len(words[name]) > MaxWordLen {
			if len(dropped) < 8 {
				dropped = append(dropped, name[:min(len(name), 64)])
			}
			continue
		}
		if kept == nil {
			kept = map[string]string{}
		}
		kept[name] = words[name]
	}
	return kept, dropped
}

// Unrouted returns the container without the words that ask for routes. Whether it is
// a batch, and all else, it goes on to say.
func (c Container) Unrouted() Container {
	c.Labels, c.Env = maps.Clone(c.Labels), maps.Clone(c.Env)
	maps.DeleteFunc(c.Labels, func(name, _ string) bool { return name != LabelPrefix+"batch" })
	maps.DeleteFunc(c.Env, func(name, _ string) bool { return !strings.HasPrefix(name, batchPrefix) })
	return c
}

// What ECS allows in names (ECS API Reference, RegisterTaskDefinition: up to 255
// letters, digits, underscores and hyphens). The pause containers' names begin
// with a tilde.
var (
	ecsName     = pattern.Of(255, `[A-Za-z0-9_~-]+`)
	ecsRevision = pattern.Of(10, `[0-9]+`)
	ecsARN      = pattern.Of(600, `arn:[A-Za-z0-9-]+:ecs:[A-Za-z0-9:/_-]+`)
	ecsCluster  = pattern.Of(512, `[A-Za-z0-9:/_-]+`)
)

// ECSRef reads the labels that the ECS agent puts on its containers.
func ECSRef(labels map[string]string) TaskRef {
	return TaskRef{
		ARN: labels[labelTaskARN], Family: labels[labelFamily], Revision: labels[labelRevision],
		ContainerName: labels[labelContainerName], Cluster: labels[labelCluster],
	}.Checked()
}

// Checked returns the reference without the fields that do not look like the agent's.
func (r TaskRef) Checked() TaskRef {
	return TaskRef{
		ARN: ecsARN.Only(r.ARN), Family: ecsName.Only(r.Family), Revision: ecsRevision.Only(r.Revision),
		ContainerName: ecsName.Only(r.ContainerName), Cluster: ecsCluster.Only(r.Cluster),
	}
}

// isPause reports whether the container only holds a task's network: the ECS
// agent names it "~internal~ecs~pause", or "~internal~ecs~pause-<name>" for
// Service Connect.
func (c Container) isPause() bool {
	return strings.HasPrefix(c.Task.ContainerName, "~internal~ecs~pause")
}

// ReadBatch reads the value of the label nagaya.batch: whether it says that this is a batch
// container, and whether it says so clearly. In doubt it is one, so that what was meant to be held
// back does not count as what is to be protected.
func ReadBatch(value string) (is, clear bool) {
	value = strings.TrimSpace(value)
	is, clear = pattern.Switch(value)
	return is || !clear, clear || value == ""
}

// IsBatch reports whether this is a batch container: by its label nagaya.batch, or where it has none,
// because AWS Batch started it.
func (c Container) IsBatch() bool {
	if value, said := c.Labels[LabelPrefix+"batch"]; said {
		is, _ := ReadBatch(value)
		return is
	}
	return c.Env[batchPrefix+"JOB_ID"] != ""
}

// Batches returns the ids of the local batch containers that run or are paused, sorted. The brake
// holds them back, and the meter counts their CPU time apart.
func (s Snapshot) Batches() []string {
	var ids []string
	for _, c := range s.Containers {
		if c.Origin == Local && c.IsBatch() && (c.State == Running || c.State == Paused) {
			ids = append(ids, c.ID)
		}
	}
	return ids
}
