// Package tasks says what runs on this host, as one immutable snapshot merged
// from all sources: Docker's list, the ECS agent's opinion of the same
// containers, and the operator's files for what does not run in Docker. It holds
// values and the merge; the packages below it ask.
package tasks

import (
	"net/netip"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Snapshot is what there is to route to at one moment. It is never changed after it was made.
type Snapshot struct {
	// At is when Docker's list was read.
	At time.Time `json:"at,omitzero"`
	// Complete is false until Docker has listed once and every other source, the ECS agent
	// too, has listed or failed: then "no containers" means "unknown", and nothing may be taken away because of it.
	Complete bool `json:"complete"`
	// Silent are those of the sources, see Containers.
	Silent []string `json:"-"`
	// ECSAgent is true while the ECS agent answers. Heard is true once every source has
	// been asked, whether it answered or not.
	ECSAgent bool `json:"-"`
	Heard    bool `json:"-"`
	// Containers are sorted by ID.
	Containers []Container `json:"containers"`
	// Problems are those of all sources, sorted.
	Problems []problem.Problem `json:"problems,omitempty"`
}

// Containers is what one source lists. Complete is false until it succeeded once; a later failure leaves the
// list as it was and is a problem.
type Containers struct {
	At       time.Time
	Complete bool
	List     []Container
	// Silent are beginnings of the IDs of containers that it may have listed before its start: whether it
	// still would is unknown.
	Silent   []string
	Problems []problem.Problem
}

// Agent is what the ECS agent says. Complete is false while the agent does not
// answer; Containers then still holds what it said last, because silence never
// means "no tasks".
type Agent struct {
	Complete bool
	// Heard is true once it has been asked, or where there is none to ask.
	Heard bool
	// Answered is true once it has answered, this process or one before. TrustLabels is true
	// where the operator says that only ECS starts containers with ECS's labels.
	Answered, TrustLabels bool
	Tasks                 int // how many tasks it lists
	// Containers are those of its tasks, by Docker's id.
	Containers map[string]AgentContainer
	Problems   []problem.Problem
}

// AgentContainer is what the ECS agent says of one container.
type AgentContainer struct {
	Task TaskRef `json:"task"`
	// Stopping is true when the agent wants the task stopped.
	Stopping bool `json:"stopping,omitempty"`
	// TaskNetwork is true when the task has a network interface of its own (awsvpc), with
	// these addresses and ports.
	TaskNetwork bool         `json:"task_network,omitempty"`
	Addrs       []netip.Addr `json:"addrs,omitempty"`
	Ports       []Port       `json:"ports,omitempty"`
}

// Container is one Docker container.
type Container struct {
	// ID is Docker's full 64-digit id. What stands in a file has one that begins
	// with FileIDs.
	ID string `json:"id"`
	// Origin is what lists it.
	Origin Origin `json:"origin,omitempty"`
	// File is the base name of the operator's file that it stands in, where Origin is File.
	File  string `json:"file,omitempty"`
	Name  string `json:"name"`
	Image string `json:"image"`
	// ServiceKey is equal for containers that run the same service outside of ECS and Compose (function ServiceKey);
	// empty where it is not known.
	ServiceKey string `json:"service_key,omitempty"`
	// AutoRemove is true where Docker removes the container when it ends (docker run --rm).
	AutoRemove bool `json:"auto_remove,omitempty"`
	// Labels and Env are only those that have a meaning to nagaya (Keep), so that secrets
	// never enter the program's state.
	Labels map[string]string `json:"labels,omitempty"`
	Env    map[string]string `json:"env,omitempty"`

	State      State     `json:"state"`
	Health     Health    `json:"health"`
	CreatedAt  time.Time `json:"created_at"`
	StartedAt  time.Time `json:"started_at,omitzero"`
	FinishedAt time.Time `json:"finished_at,omitzero"`
	ExitCode   int       `json:"exit_code"`
	OOMKilled  bool      `json:"oom_killed,omitempty"`
	Restarts   int       `json:"restarts,omitempty"`
	// Stopping is true once the container was sent its stop signal, or the ECS
	// agent wants its task stopped: it still answers, but not for long.
	Stopping bool `json:"stopping,omitempty"`

	Network NetworkMode `json:"network"`
	// Ports are the container's ports, published or only exposed, sorted and
	// without duplicates.
	Ports []Port `json:"ports,omitempty"`
	// Addrs are the container's own addresses on Docker networks, or its task
	// ENI's from the ECS agent.
	Addrs []netip.Addr `json:"addrs,omitempty"`
	// Networks are the Docker networks that the container is on, sorted by name. They
	// matter to an nginx that is a container itself.
	Networks []Network `json:"networks,omitempty"`
	// NetworkOf is the ID of the container whose network this one shares
	// (network mode container:<id>); empty otherwise.
	NetworkOf string `json:"network_of,omitempty"`

	// Task is the ECS task the container belongs to; its zero value when it is
	// not an ECS container. Unlisted is true where labels name a task and the ECS agent
	// does not list the container.
	Task     TaskRef `json:"task"`
	Unlisted bool    `json:"unlisted,omitempty"`
}

// Origin says what lists a container.
type Origin string

const (
	// Local is the Docker Engine of this host. Its containers alone have CPU time, ports of
	// this host and batches here.
	Local Origin = ""
	// File is an operator's file about what does not run in Docker.
	File Origin = "file"
)

// FileIDs begin the IDs of what stands in files.
const FileIDs = "static-"

// Network is a container's place on one Docker network.
type Network struct {
	Name string `json:"name"`
	// Addrs are the container's own addresses there, IPv4 first.
	Addrs []netip.Addr `json:"addrs,omitempty"`
	// Gateway is the host's address there; invalid when there is none.
	Gateway netip.Addr `json:"gateway,omitzero"`
	// Apart is true where it is known that this host is not on that network, so that it reaches
	// no container there: macvlan, ipvlan, overlay, and a bridge without the host.
	Apart bool `json:"apart,omitempty"`
}

// TaskRef is what Docker's labels and the ECS agent say about a container's task.
type TaskRef struct {
	ARN           string `json:"arn,omitempty"`
	Family        string `json:"family,omitempty"`
	Revision      string `json:"revision,omitempty"`
	ContainerName string `json:"container_name,omitempty"`
	Cluster       string `json:"cluster,omitempty"`
}

// Port is one port of a container. HostPort 0 means that it is not published,
// or not bound yet: never "port 0".
type Port struct {
	Container uint16 `json:"container"`
	Protocol  string `json:"protocol"` // "tcp" or "udp"
	// HostIP is the one address of this host that the port is bound to; invalid
	// when it is bound to all of them, "::" when to all of IPv6 only.
	HostIP netip.Addr `json:"host_ip,omitzero"`
	Host   uint16     `json:"host,omitempty"`
}

// State is Docker's word for what a container is doing.
type State string

// Docker's container states (Engine API, ContainerState.Status).
const (
	Created    State = "created"
	Running    State = "running"
	Paused     State = "paused"
	Restarting State = "restarting"
	Removing   State = "removing"
	Exited     State = "exited"
	Dead       State = "dead"
)

// Health is what the container's HEALTHCHECK says.
type Health string

// Docker's health states; NoCheck when the image has no HEALTHCHECK.
const (
	NoCheck   Health = ""
	Starting  Health = "starting"
	Healthy   Health = "healthy"
	Unhealthy Health = "unhealthy"
)

// NetworkMode is how a container is connected.
type NetworkMode string

// The modes that decide where an upstream is.
const (
	Bridge NetworkMode = "bridge" // Docker's default bridge or a user network
	Host   NetworkMode = "host"
	AWSVPC NetworkMode = "awsvpc"
	None   NetworkMode = "none"
	// Direct is what stands in a file: it is reached at the first of Addrs.
	Direct NetworkMode = "direct"
)

// Ref names the container as people know it: the ECS family and container name
// when it has them, else Docker's name, else the short id; what stands in a file is
// named by that file too.
func (c Container) Ref() string {
	switch {
	case c.File != "":
		return c.File + ":" + c.Name
	case c.Task.Family != "" && c.Task.ContainerName != "":
		return c.Task.Family + ":" + c.Task.Revision + "/" + c.Task.ContainerName
	case c.Name != "":
		return c.Name
	case len(c.ID) > 12:
		return c.ID[:12]
	}
	return c.ID
}
