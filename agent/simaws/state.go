package simaws

import (
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// State is the whole world at one moment, for people, tests and demonstrations.
type State struct {
	Now                 time.Time                 `json:"now"`
	AccountID           string                    `json:"account_id"`
	Region              string                    `json:"region"`
	Instances           []InstanceState           `json:"instances"`
	Addresses           []AddressState            `json:"addresses"`
	ContainerInstances  []ContainerInstanceState  `json:"container_instances"`
	ComputeEnvironments []ComputeEnvironmentState `json:"compute_environments"`
	Clusters            []string                  `json:"clusters"`
	Conditions          Conditions                `json:"conditions"`
	Faults              []Fault                   `json:"faults"`
}

// InstanceState is one instance. PublicIPs are those of the primary interface now.
type InstanceState struct {
	ID             string            `json:"id"`
	Type           string            `json:"type"`
	State          string            `json:"state"`
	LaunchTime     time.Time         `json:"launch_time"`
	Zone           string            `json:"zone"`
	BorderGroup    string            `json:"border_group"`
	LifeCycle      string            `json:"life_cycle"`
	PrivateIPs     []string          `json:"private_ips"`
	PublicIPs      []string          `json:"public_ips"`
	MAC            string            `json:"mac"`
	InterfaceIDs   []string          `json:"interface_ids"`
	Tags           map[string]string `json:"tags"`
	Metadata       Metadata          `json:"metadata"`
	CPUPercent     float64           `json:"cpu_percent"`
	CreditMode     CreditMode        `json:"credit_mode,omitempty"`
	EarnPerHour    float64           `json:"earn_per_hour"`
	MaximumBalance float64           `json:"maximum_balance"`
	Credits        Credits           `json:"credits"`
	// Points is how many five-minute rows CloudWatch has, LastPoint the newest of them.
	Points    int       `json:"points"`
	LastPoint time.Time `json:"last_point,omitzero"`
	Notices   Notices   `json:"notices"`
	// Allow are the actions of its role; null is all.
	Allow []string `json:"allow"`
	// Tasks is what the ECS agent answers under /v1/tasks.
	Tasks json.RawMessage `json:"tasks"`
}

// AddressState is one Elastic IP; the last four are empty while it is free.
type AddressState struct {
	AllocationID  string            `json:"allocation_id"`
	PublicIP      string            `json:"public_ip"`
	BorderGroup   string            `json:"border_group"`
	Managed       string            `json:"service_managed,omitempty"`
	Tags          map[string]string `json:"tags"`
	AssociationID string            `json:"association_id,omitempty"`
	InstanceID    string            `json:"instance_id,omitempty"`
	InterfaceID   string            `json:"interface_id,omitempty"`
	PrivateIP     string            `json:"private_ip,omitempty"`
}

// ContainerInstanceState is one container instance with the attributes that
// PutAttributes set; an attribute without a value is empty.
type ContainerInstanceState struct {
	ARN        string            `json:"arn"`
	Cluster    string            `json:"cluster"`
	InstanceID string            `json:"instance_id"`
	Attributes map[string]string `json:"attributes"`
}

// ComputeEnvironmentState is one compute environment of AWS Batch.
type ComputeEnvironmentState struct {
	Name    string `json:"name"`
	ARN     string `json:"arn"`
	Type    string `json:"type"`
	State   string `json:"state"`
	Status  string `json:"status"`
	Cluster string `json:"cluster"`
}

// State returns a copy of everything.
func (w *World) State() State {
	faults := w.Faults()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settleLedgers()
	s := State{
		Now:                 w.Now(),
		AccountID:           w.account,
		Region:              w.region,
		Instances:           []InstanceState{},
		Addresses:           []AddressState{},
		ContainerInstances:  []ContainerInstanceState{},
		ComputeEnvironments: []ComputeEnvironmentState{},
		Clusters:            sortedKeys(w.clusters),
		Conditions:          w.conditions,
		Faults:              faults,
	}
	now := w.asOf(0)
	for _, id := range sortedKeys(w.instances) {
		s.Instances = append(s.Instances, w.instanceState(now, w.instances[id]))
	}
	for _, id := range sortedKeys(w.addresses) {
		s.Addresses = append(s.Addresses, w.addresses[id].state())
	}
	for _, name := range s.Clusters {
		c := w.clusters[name]
		for _, id := range sortedKeys(c.members) {
			m := c.members[id]
			x := ContainerInstanceState{ARN: w.memberARN(c, id), Cluster: name, InstanceID: m.instance, Attributes: map[string]string{}}
			for k, v := range m.custom {
				x.Attributes[k] = ""
				if v != nil {
					x.Attributes[k] = *v
				}
			}
			s.ContainerInstances = append(s.ContainerInstances, x)
		}
	}
	for _, name := range sortedKeys(w.environments) {
		e := w.environments[name]
		x := w.environmentJSON(e)
		s.ComputeEnvironments = append(s.ComputeEnvironments, ComputeEnvironmentState{x.Name, x.ARN, x.Type, x.State, x.Status, e.cluster})
	}
	return s
}

// Instance returns one instance of the State; false when there is none.
func (s State) Instance(id string) (InstanceState, bool) {
	i := slices.IndexFunc(s.Instances, func(x InstanceState) bool { return x.ID == id })
	if i < 0 {
		return InstanceState{}, false
	}
	return s.Instances[i], true
}

// Address returns one Elastic IP of the State; false when there is none.
func (s State) Address(allocationID string) (AddressState, bool) {
	i := slices.IndexFunc(s.Addresses, func(x AddressState) bool { return x.AllocationID == allocationID })
	if i < 0 {
		return AddressState{}, false
	}
	return s.Addresses[i], true
}

func (w *World) instanceState(now view, i *instance) InstanceState {
	x := InstanceState{
		ID:             i.id,
		Type:           i.hw.name,
		State:          i.state,
		LaunchTime:     i.launched,
		Zone:           i.zone,
		BorderGroup:    i.borderGroup,
		LifeCycle:      i.lifeCycle,
		PrivateIPs:     slices.Clone(i.enis[0].privateIPs),
		PublicIPs:      []string{},
		MAC:            i.enis[0].mac,
		Tags:           maps.Clone(i.tags),
		Metadata:       Metadata{Tags: i.tagsInMetadata, HopLimitBlocked: i.hopBlock},
		CPUPercent:     i.ledger.percent,
		EarnPerHour:    i.hw.earnPerHour,
		MaximumBalance: i.hw.full(),
		Credits:        i.ledger.now,
		Points:         len(i.ledger.rows),
		Notices:        i.notices,
		Allow:          slices.Clone(i.allow),
		Tasks:          slices.Clone(i.tasks),
	}
	if i.hw.burstable() {
		x.CreditMode = i.ledger.mode
	}
	if n := len(i.ledger.rows); n > 0 {
		x.LastPoint = i.ledger.rows[n-1].at
	}
	for _, n := range i.enis {
		x.InterfaceIDs = append(x.InterfaceIDs, n.id)
	}
	for _, p := range w.publicIPs(now, i.enis[0]) {
		x.PublicIPs = append(x.PublicIPs, p.public)
	}
	return x
}

func (a *address) state() AddressState {
	x := AddressState{AllocationID: a.allocation, PublicIP: a.publicIP, BorderGroup: a.borderGroup, Managed: a.managed, Tags: maps.Clone(a.tags)}
	if x.Tags == nil {
		x.Tags = map[string]string{}
	}
	if a.held != nil {
		x.AssociationID, x.InstanceID, x.InterfaceID, x.PrivateIP = a.held.id, a.held.instance, a.held.eni, a.held.privateIP
	}
	return x
}
