package simaws

import (
	"fmt"
	"maps"
	"time"
)

// ContainerInstanceSpec registers an instance in an ECS cluster.
type ContainerInstanceSpec struct {
	// Cluster is the name of a cluster of this world; default "default".
	Cluster string `json:"cluster,omitempty"`
	// InstanceID is the EC2 instance.
	InstanceID string `json:"instance_id"`
	// ID is the last part of the ARN, 32 hexadecimal digits; made up when empty.
	ID string `json:"id,omitempty"`
	// Tags are those of the container instance, not of the EC2 instance.
	Tags map[string]string `json:"tags,omitempty"`
}

// ComputeEnvironmentSpec describes a compute environment of AWS Batch.
type ComputeEnvironmentSpec struct {
	Name string `json:"name"`
	// Type is UNMANAGED (the default) or MANAGED.
	Type string `json:"type,omitempty"`
	// State is ENABLED (the default) or DISABLED.
	State string            `json:"state,omitempty"`
	Tags  map[string]string `json:"tags,omitempty"`
}

type cluster struct {
	name    string
	members map[string]*member
}

// member is one container instance. A nil value is an attribute without a value.
type member struct {
	id         string
	instance   string
	registered time.Time
	tags       map[string]string
	builtin    map[string]string
	custom     map[string]*string
}

type environment struct {
	name    string
	uuid    string
	kind    string
	state   string
	cluster string
	vcpus   int
	tags    map[string]string
	// busyUntil is when the last update is done; until then the status is UPDATING.
	busyUntil time.Time
}

// AddCluster makes an ECS cluster.
func (w *World) AddCluster(name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if name == "" {
		return fmt.Errorf("a cluster needs a name")
	}
	if w.clusters[name] != nil {
		return fmt.Errorf("cluster %q exists already", name)
	}
	w.clusters[name] = &cluster{name: name, members: map[string]*member{}}
	return nil
}

// AddContainerInstance registers an instance in a cluster and returns the ARN of
// the container instance. An instance is in one cluster only.
func (w *World) AddContainerInstance(s ContainerInstanceSpec) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	setDefault(&s.Cluster, "default")
	setDefault(&s.ID, w.hex(32))
	c, i := w.clusters[s.Cluster], w.instances[s.InstanceID]
	switch {
	case c == nil:
		return "", &NotFoundError{"cluster", s.Cluster}
	case i == nil:
		return "", &NotFoundError{"instance", s.InstanceID}
	}
	if old, _ := w.membership(i.id); old != nil {
		return "", fmt.Errorf("instance %q is registered already in cluster %q", i.id, old.name)
	}
	c.members[s.ID] = &member{
		id:         s.ID,
		instance:   i.id,
		registered: w.Now(),
		tags:       maps.Clone(s.Tags),
		builtin: map[string]string{
			"ecs.ami-id":            i.image,
			"ecs.availability-zone": i.zone,
			"ecs.cpu-architecture":  i.hw.arch,
			"ecs.instance-type":     i.hw.name,
			"ecs.os-family":         "LINUX",
			"ecs.os-type":           "linux",
			"ecs.subnet-id":         subnetID,
			"ecs.vpc-id":            vpcID,
		},
		custom: map[string]*string{},
	}
	return w.memberARN(c, s.ID), nil
}

// membership finds the container instance of an EC2 instance.
func (w *World) membership(instanceID string) (*cluster, *member) {
	for _, c := range w.clusters {
		for _, m := range c.members {
			if m.instance == instanceID {
				return c, m
			}
		}
	}
	return nil, nil
}

func (w *World) arn(service, resource string) string {
	return "arn:aws:" + service + ":" + w.region + ":" + w.account + ":" + resource
}

func (w *World) memberARN(c *cluster, id string) string {
	return w.arn("ecs", "container-instance/"+c.name+"/"+id)
}

// AddComputeEnvironment makes a compute environment with an ECS cluster of its
// own, as AWS Batch does. It returns the name of the cluster.
func (w *World) AddComputeEnvironment(s ComputeEnvironmentSpec) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	setDefault(&s.Type, "UNMANAGED")
	setDefault(&s.State, "ENABLED")
	switch {
	case s.Name == "":
		return "", fmt.Errorf("a compute environment needs a name")
	case w.environments[s.Name] != nil:
		return "", fmt.Errorf("compute environment %q exists already", s.Name)
	case s.Type != "UNMANAGED" && s.Type != "MANAGED":
		return "", fmt.Errorf("type %q is neither UNMANAGED nor MANAGED", s.Type)
	case s.State != "ENABLED" && s.State != "DISABLED":
		return "", fmt.Errorf("state %q is neither ENABLED nor DISABLED", s.State)
	}
	uuid := fmt.Sprintf("%s-%s-%s-%s-%s", w.hex(8), w.hex(4), w.hex(4), w.hex(4), w.hex(12))
	e := &environment{
		name:    s.Name,
		uuid:    uuid,
		kind:    s.Type,
		state:   s.State,
		cluster: s.Name + "_Batch_" + uuid,
		tags:    maps.Clone(s.Tags),
	}
	w.environments[s.Name] = e
	w.clusters[e.cluster] = &cluster{name: e.cluster, members: map[string]*member{}}
	return e.cluster, nil
}
