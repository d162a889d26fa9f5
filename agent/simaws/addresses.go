package simaws

import (
	"fmt"
	"maps"
	"net/netip"
	"time"
)

// AddressSpec describes an Elastic IP to add. Every field has a default.
type AddressSpec struct {
	// AllocationID and PublicIP are made up when empty.
	AllocationID string            `json:"allocation_id,omitempty"`
	PublicIP     string            `json:"public_ip,omitempty"`
	Tags         map[string]string `json:"tags,omitempty"`
	// BorderGroup is the network border group; default the Region.
	BorderGroup string `json:"border_group,omitempty"`
	// ForeignInterface associates the address with an interface that belongs to no
	// instance, e.g. that of a NAT gateway. Nobody can take it from there.
	ForeignInterface string `json:"foreign_interface,omitempty"`
	// ServiceManaged is the service of AWS that manages the address, e.g. "alb".
	// Nobody else can associate it.
	ServiceManaged string `json:"service_managed,omitempty"`
}

type address struct {
	allocation  string
	publicIP    string
	tags        map[string]string
	borderGroup string
	managed     string
	held        *association
}

// association is what binds an Elastic IP to one private address. Every new one
// has a new id.
type association struct {
	id        string
	eni       string
	instance  string
	privateIP string
}

// AddAddress allocates an Elastic IP and returns its allocation id.
func (w *World) AddAddress(s AddressSpec) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	setDefault(&s.AllocationID, w.newID("eipalloc"))
	setDefault(&s.PublicIP, w.freePublicIP())
	setDefault(&s.BorderGroup, w.region)
	if a, err := netip.ParseAddr(s.PublicIP); err != nil || !a.Is4() {
		return "", fmt.Errorf("public address %q is not an IPv4 address", s.PublicIP)
	}
	if w.addresses[s.AllocationID] != nil {
		return "", fmt.Errorf("address %q exists already", s.AllocationID)
	}
	for _, a := range w.addresses {
		if a.publicIP == s.PublicIP {
			return "", fmt.Errorf("public address %q is allocated already as %s", s.PublicIP, a.allocation)
		}
	}
	a := &address{
		allocation:  s.AllocationID,
		publicIP:    s.PublicIP,
		tags:        maps.Clone(s.Tags),
		borderGroup: s.BorderGroup,
		managed:     s.ServiceManaged,
	}
	if s.ForeignInterface != "" {
		a.held = &association{id: w.newID("eipassoc"), eni: s.ForeignInterface, privateIP: w.freePrivateIP()}
	}
	w.addresses[s.AllocationID] = a
	w.remember()
	return s.AllocationID, nil
}

// ReleaseAddress gives an Elastic IP back; an associated one is taken off first.
func (w *World) ReleaseAddress(allocationID string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.addresses[allocationID]
	if a == nil {
		return &NotFoundError{"address", allocationID}
	}
	w.detach(a)
	delete(w.addresses, allocationID)
	w.remember()
	return nil
}

// SetAddressTags replaces the tags of an Elastic IP.
func (w *World) SetAddressTags(allocationID string, tags map[string]string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.addresses[allocationID]
	if a == nil {
		return &NotFoundError{"address", allocationID}
	}
	a.tags = maps.Clone(tags)
	w.remember()
	return nil
}

// Associate moves an Elastic IP to the primary interface of an instance, from
// whoever holds it, as somebody else's AssociateAddress would. privateIP is
// empty for the primary private address. It returns the association id.
func (w *World) Associate(allocationID, instanceID, privateIP string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a, i := w.addresses[allocationID], w.instances[instanceID]
	switch {
	case a == nil:
		return "", &NotFoundError{"address", allocationID}
	case i == nil:
		return "", &NotFoundError{"instance", instanceID}
	}
	t := target{inst: i, eni: i.enis[0], privateIP: privateIP}
	if err := t.settle(); err != nil {
		return "", err
	}
	return w.attach(a, t), nil
}

// Disassociate takes an Elastic IP off whoever holds it.
func (w *World) Disassociate(allocationID string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.addresses[allocationID]
	if a == nil {
		return &NotFoundError{"address", allocationID}
	}
	w.detach(a)
	w.remember()
	return nil
}

// target is one private address of one interface.
type target struct {
	inst      *instance
	eni       *eni
	privateIP string
}

// attach makes the association. What held the address loses it, and what the
// target had is displaced; an association that exists already is kept as it is.
func (w *World) attach(a *address, t target) string {
	if a.held != nil && a.held.eni == t.eni.id && a.held.privateIP == t.privateIP {
		return a.held.id
	}
	if other := w.addressOn(t.eni.id, t.privateIP); other != nil {
		other.held = nil
	}
	old := a.held
	a.held = &association{id: w.newID("eipassoc"), eni: t.eni.id, instance: t.inst.id, privateIP: t.privateIP}
	if t.privateIP == t.eni.privateIPs[0] {
		t.eni.auto = autoAddress{}
	}
	w.bereaved(old)
	w.remember()
	return a.held.id
}

// detach frees the address.
func (w *World) detach(a *address) {
	old := a.held
	a.held = nil
	w.bereaved(old)
}

// bereaved gives an auto-assigned address to the instance that has just lost the
// association, if it may have one.
func (w *World) bereaved(old *association) {
	if old == nil {
		return
	}
	if i := w.instances[old.instance]; i != nil && i.state == "running" {
		w.assignPublic(i, time.Duration(w.conditions.AutoPublicDelay))
	}
}

// assignPublic gives the primary interface an auto-assigned public address after
// the delay. EC2 gives none while there is more than one interface, or while a
// secondary private address holds an Elastic IP (EC2 User Guide, "Instance addressing").
func (w *World) assignPublic(i *instance, delay time.Duration) {
	n := i.enis[0]
	if !i.autoPublic || len(i.enis) > 1 || n.auto.ip != "" {
		return
	}
	for _, ip := range n.privateIPs {
		if w.addressOn(n.id, ip) != nil {
			return
		}
	}
	n.auto = autoAddress{ip: w.freePublicIP(), from: w.Now().Add(delay)}
}

// freeAll takes every Elastic IP off an instance.
func (w *World) freeAll(i *instance) {
	for _, a := range w.addresses {
		if a.held != nil && a.held.instance == i.id {
			a.held = nil
		}
	}
}

func (w *World) addressOn(eniID, privateIP string) *address {
	for _, a := range w.addresses {
		if a.held != nil && a.held.eni == eniID && a.held.privateIP == privateIP {
			return a
		}
	}
	return nil
}

// publicPair is a public address and the private one that it belongs to.
type publicPair struct{ public, private string }

// publicIPs lists the public addresses of an interface as they were in the view,
// in the order of the private addresses.
func (w *World) publicIPs(v view, n *eni) []publicPair {
	var all []publicPair
	for k, ip := range n.privateIPs {
		found := ""
		for allocation, held := range v.holder {
			if a := w.addresses[allocation]; a != nil && held.eni == n.id && held.privateIP == ip {
				found = a.publicIP
			}
		}
		if auto := v.auto[n.id]; found == "" && k == 0 && auto.ip != "" && (v.early || !auto.from.After(w.Now())) {
			found = auto.ip
		}
		if found != "" {
			all = append(all, publicPair{found, ip})
		}
	}
	return all
}
