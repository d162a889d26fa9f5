// Package identity describes this machine: what the host knows about itself,
// what EC2's instance metadata has about the instance, and which ECS cluster
// it joined. It holds values only; package discover below it reads them.
package identity

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Identity is everything known about this machine at one moment. Host is always
// filled in; Instance and ECS are there only when Known.
type Identity struct {
	Host     Host     `json:"host"`
	Instance Instance `json:"instance"`
	ECS      ECS      `json:"ecs"`
	Notices  []Notice `json:"notices,omitempty"`
	// MetadataSilent is true while the last try to read the instance metadata failed, so
	// that Instance and Notices may be old.
	MetadataSilent bool `json:"-"`
	// Problems are the reasons why something above is missing.
	Problems []problem.Problem `json:"problems,omitempty"`
}

// Host is what the machine knows by itself.
type Host struct {
	Name string `json:"name"`
	// LocalAddr is the address at which this host reaches its own published
	// container ports: the primary address, never loopback, because a published
	// port on loopback goes through Docker's userland proxy.
	LocalAddr netip.Addr `json:"local_addr"`
	// CPUs is the number of online processors.
	CPUs int `json:"cpus"`
}

// Instance is what IMDSv2 returns.
type Instance struct {
	// Known is false until IMDS has answered once; every other field is then empty.
	Known        bool   `json:"known"`
	ID           string `json:"id,omitempty"`
	Type         string `json:"type,omitempty"`
	Region       string `json:"region,omitempty"`
	Zone         string `json:"zone,omitempty"`
	AccountID    string `json:"account_id,omitempty"`
	ImageID      string `json:"image_id,omitempty"`
	Architecture string `json:"architecture,omitempty"`
	// LifeCycle is how the instance is paid for: "on-demand", "spot", "scheduled", "capacity-block".
	LifeCycle string `json:"life_cycle,omitempty"`
	// StartedAt is the document's pendingTime: it changes at every start, not at
	// a reboot, and so marks the epoch of T2 launch credits.
	StartedAt time.Time `json:"started_at,omitzero"`
	Primary   Interface `json:"primary_interface"`
	// Others are the further network interfaces, sorted by MAC; their LocalAddr is
	// not read.
	Others []Interface `json:"other_interfaces,omitempty"`
	// Tags are the instance tags; nil with TagsKnown false when the instance does
	// not allow tags in its metadata (the default).
	Tags      map[string]string `json:"tags,omitempty"`
	TagsKnown bool              `json:"tags_known"`
}

// PublicAddrs are the public addresses of all interfaces.
func (i Instance) PublicAddrs() []netip.Addr {
	all := slices.Clone(i.Primary.PublicAddr)
	for _, n := range i.Others {
		all = append(all, n.PublicAddr...)
	}
	return all
}

// Interface is a network interface; the primary one has device number 0.
type Interface struct {
	ID         string       `json:"id,omitempty"`
	MAC        string       `json:"mac,omitempty"`
	SubnetID   string       `json:"subnet_id,omitempty"`
	VPCID      string       `json:"vpc_id,omitempty"`
	LocalAddr  netip.Addr   `json:"local_addr"`
	PublicAddr []netip.Addr `json:"public_addrs,omitempty"`
}

// ECS is what the ECS agent on this host reports about itself.
type ECS struct {
	// Known is false while no ECS agent answers.
	Known                bool   `json:"known"`
	Cluster              string `json:"cluster,omitempty"`
	ContainerInstanceARN string `json:"container_instance_arn,omitempty"`
	AgentVersion         string `json:"agent_version,omitempty"`
}

// Notice is an announcement that this instance will be taken away or touched.
type Notice struct {
	Kind NoticeKind `json:"kind"`
	// Text is that of the metadata, bounded and printable.
	Text string `json:"text"`
	// At is when the announced thing happens; zero when it is not known.
	At time.Time `json:"at,omitzero"`
}

// NoticeKind is the source of a notice.
type NoticeKind string

// The notices that EC2 gives through IMDS, and the operator's own.
const (
	SpotInterruption       NoticeKind = "spot-interruption"
	Rebalance              NoticeKind = "rebalance"
	AutoScalingTermination NoticeKind = "auto-scaling-termination"
	// Retirement is a scheduled event that ends or stops the instance soon.
	Retirement NoticeKind = "retirement"
	// Maintenance is a scheduled event that the instance outlives, or a retirement
	// that is still far away.
	Maintenance NoticeKind = "maintenance"
	// Operator is the operator's announcement that the instance leaves.
	Operator NoticeKind = "operator"
)

// retireAhead is how long before its scheduled end an instance counts as leaving.
// EC2 announces it weeks ahead; batches may run until there is just time to end them.
const retireAhead = time.Hour

// ScheduledKind is the kind of a scheduled event with that code, e.g.
// "instance-retirement", at that moment; the zero time is at any moment (EC2 User
// Guide, "Scheduled events for your instances").
func ScheduledKind(code string, at, now time.Time) NoticeKind {
	ends := code == "instance-retirement" || code == "instance-stop"
	if ends && !now.Before(at.Add(-retireAhead)) {
		return Retirement
	}
	return Maintenance
}

// WithOperator returns the identity with one more notice if the operator announced that the
// instance leaves.
func (id Identity) WithOperator(leaving bool) Identity {
	if leaving {
		id.Notices = append(slices.Clip(id.Notices), Notice{Kind: Operator, Text: "nagaya leave"})
	}
	return id
}

// Leaving reports whether the instance is about to go away by one of the notices.
func (id Identity) Leaving() bool { return id.WhyLeaving() != "" }

// WhyLeaving returns the reason, as one clause, why the instance is about to go away;
// empty when it stays.
func (id Identity) WhyLeaving() string {
	for _, n := range id.Notices {
		if why := leaving[n.Kind]; why != "" {
			return why
		}
	}
	return ""
}

// leaving has the notices by which an instance is about to go away.
var leaving = map[NoticeKind]string{
	SpotInterruption:       "EC2 interrupts this Spot Instance",
	AutoScalingTermination: "Auto Scaling terminates this instance",
	Retirement:             "EC2 has scheduled the end of this instance",
	Operator:               "the operator announced that this instance leaves",
	Rebalance:              "EC2 recommends moving away from this Spot Instance",
}

var (
	longID  = regexp.MustCompile(`[0-9a-f]{64}`)
	shortID = regexp.MustCompile(`^[0-9a-f]{12}$`)
)

// ContainerIDs returns the ids that the container of a process may have, the best
// guess first; none where nothing points to a container. It takes the texts of
// /proc/self/cgroup and /proc/self/mountinfo (cgroups(7), proc_pid_mountinfo(5)) and
// the host name. The engine of that container may cut or hide each of them, and the
// last is a short id: only its list has the right one.
//
// With cgroups of version 1, and in the host's cgroup namespace, the cgroup is named
// by the id; otherwise there are the files that Docker and Podman mount from a
// directory so named. Where a container shares another's network these are the
// other's.
func ContainerIDs(cgroup, mountinfo, hostname string) []string {
	var ids []string
	add := func(id string) {
		if id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	for line := range strings.Lines(cgroup) {
		all := longID.FindAllString(line, -1)
		if len(all) > 0 {
			add(all[len(all)-1]) // the innermost of containers in containers
		}
	}
	for line := range strings.Lines(mountinfo) {
		f := strings.Fields(line)
		if len(f) < 5 || !slices.Contains([]string{"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}, f[4]) {
			continue // the host's processes see what is mounted for containers too, elsewhere
		}
		add(longID.FindString(f[3]))
	}
	if shortID.MatchString(hostname) {
		add(hostname)
	}
	return ids
}
