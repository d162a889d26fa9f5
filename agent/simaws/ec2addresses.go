package simaws

import (
	"slices"
)

type addressXML struct {
	PublicIP                string   `xml:"publicIp"`
	AllocationID            string   `xml:"allocationId"`
	Domain                  string   `xml:"domain"`
	InstanceID              string   `xml:"instanceId,omitempty"`
	AssociationID           string   `xml:"associationId,omitempty"`
	NetworkInterfaceID      string   `xml:"networkInterfaceId,omitempty"`
	NetworkInterfaceOwnerID string   `xml:"networkInterfaceOwnerId,omitempty"`
	PrivateIPAddress        string   `xml:"privateIpAddress,omitempty"`
	Tags                    []tagXML `xml:"tagSet>item"`
	PublicIPv4Pool          string   `xml:"publicIpv4Pool"`
	NetworkBorderGroup      string   `xml:"networkBorderGroup"`
	ServiceManaged          string   `xml:"serviceManaged,omitempty"`
}

func (w *World) describeAddresses(q query) (any, *apiError) {
	allocations, ips, filters := q.list("AllocationId"), q.list("PublicIp"), q.filters()
	for _, id := range allocations {
		if w.addresses[id] == nil {
			return nil, unknownAllocation(id)
		}
	}
	for _, ip := range ips {
		if w.addressByIP(ip) == nil {
			return nil, failed("InvalidAddress.NotFound", "Address '%s' not found.", ip)
		}
	}
	if fail := q.dryRun(); fail != nil {
		return nil, fail
	}
	if _, fail := addressFields(addressXML{}, nil).match(filters); fail != nil {
		return nil, fail
	}
	var out struct {
		Addresses []addressXML `xml:"addressesSet>item"`
	}
	seen := w.stale()
	for _, id := range sortedKeys(w.addresses) {
		a := w.addresses[id]
		if len(allocations) > 0 && !slices.Contains(allocations, id) || len(ips) > 0 && !slices.Contains(ips, a.publicIP) {
			continue
		}
		x := w.addressXML(a, seen)
		if ok, _ := addressFields(x, seen.tags[id]).match(filters); ok {
			out.Addresses = append(out.Addresses, x)
		}
	}
	return out, nil
}

func unknownAllocation(id string) *apiError {
	return failed("InvalidAllocationID.NotFound", "The allocation ID '%s' does not exist", id)
}

func (w *World) addressByIP(ip string) *address {
	for _, a := range w.addresses {
		if a.publicIP == ip {
			return a
		}
	}
	return nil
}

func (w *World) addressXML(a *address, seen view) addressXML {
	x := addressXML{
		PublicIP:           a.publicIP,
		AllocationID:       a.allocation,
		Domain:             "vpc",
		Tags:               tagsXML(seen.tags[a.allocation]),
		PublicIPv4Pool:     "amazon",
		NetworkBorderGroup: a.borderGroup,
		ServiceManaged:     a.managed,
	}
	if held, ok := seen.holder[a.allocation]; ok {
		x.InstanceID = held.instance
		x.AssociationID = held.id
		x.NetworkInterfaceID = held.eni
		x.NetworkInterfaceOwnerID = w.account
		x.PrivateIPAddress = held.privateIP
	}
	return x
}

func addressFields(x addressXML, tags map[string]string) fields {
	one := func(s string) []string {
		if s == "" {
			return nil
		}
		return []string{s}
	}
	return fields{
		"allocation-id":              one(x.AllocationID),
		"association-id":             one(x.AssociationID),
		"instance-id":                one(x.InstanceID),
		"network-border-group":       one(x.NetworkBorderGroup),
		"network-interface-id":       one(x.NetworkInterfaceID),
		"network-interface-owner-id": one(x.NetworkInterfaceOwnerID),
		"private-ip-address":         one(x.PrivateIPAddress),
		"public-ip":                  one(x.PublicIP),
	}.withTags(tags)
}

func (w *World) associateAddress(q query) (any, *apiError) {
	allocation := q.Get("AllocationId")
	if allocation == "" && q.Get("PublicIp") != "" {
		return nil, failed("InvalidParameterCombination", "You must specify an allocation id when mapping an address to a VPC instance")
	}
	if allocation == "" {
		return nil, failed("MissingParameter", "Either public IP or allocation id must be specified")
	}
	a := w.addresses[allocation]
	if a == nil {
		return nil, unknownAllocation(allocation)
	}
	t, fail := w.associateTarget(q)
	if fail != nil {
		return nil, fail
	}
	if a.borderGroup != t.inst.borderGroup {
		return nil, failed("InvalidParameterValue", "The address with allocation id %s is of the network border group %s, the network interface of %s", allocation, a.borderGroup, t.inst.borderGroup)
	}
	if a.managed != "" {
		return nil, notYours()
	}
	if q.Get("AllowReassociation") == "false" {
		if fail := w.refuseTaken(a, t); fail != nil {
			return nil, fail
		}
	}
	if a.held != nil && a.held.instance == "" {
		return nil, notYours()
	}
	if fail := q.dryRun(); fail != nil {
		return nil, fail
	}
	return struct {
		Return        bool   `xml:"return"`
		AssociationID string `xml:"associationId"`
	}{true, w.attach(a, t)}, nil
}

// notYours is EC2's word for an address that a service of AWS holds or manages.
func notYours() *apiError {
	return failed("AuthFailure", "You do not have permission to access the specified resource.")
}

// refuseTaken is what AllowReassociation=false asks for: nothing may be taken
// from anybody. An association that is the wanted one already is no obstacle.
func (w *World) refuseTaken(a *address, t target) *apiError {
	on := w.addressOn(t.eni.id, t.privateIP)
	if a.held != nil && on != a {
		return failed("Resource.AlreadyAssociated", "resource %s is already associated with associate-id %s", a.allocation, a.held.id)
	}
	if on != nil && on != a {
		return failed("Resource.AlreadyAssociated", "resource %s and %s is already associated with public address %s", t.eni.id, t.privateIP, on.publicIP)
	}
	return nil
}

// associateTarget finds the private address that the request means.
func (w *World) associateTarget(q query) (target, *apiError) {
	t := target{privateIP: q.Get("PrivateIpAddress")}
	instanceID, eniID := q.Get("InstanceId"), q.Get("NetworkInterfaceId")
	switch {
	case instanceID == "" && eniID == "":
		return t, failed("MissingParameter", "Either 'InstanceId' or 'NetworkInterfaceId' must be specified")
	case instanceID != "" && eniID != "":
		return t, failed("InvalidParameterCombination", "You may specify either 'InstanceId' or 'NetworkInterfaceId', but not both")
	case instanceID != "":
		t.inst = w.instances[instanceID]
		if t.inst == nil {
			return t, unknownInstance(instanceID)
		}
		if len(t.inst.enis) > 1 {
			return t, failed("InvalidInstanceID", "There are multiple interfaces attached to instance '%s'. Please specify an interface ID for the operation instead.", instanceID)
		}
		t.eni = t.inst.enis[0]
	default:
		t.inst, t.eni = w.interfaceByID(eniID)
		if t.eni == nil {
			return t, failed("InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist", eniID)
		}
	}
	return t, t.settle()
}

// settle fills in the primary private address and checks that the target can
// take an address now.
func (t *target) settle() *apiError {
	if t.inst.state != "running" && t.inst.state != "stopped" {
		return failed("IncorrectInstanceState", "The instance to which '%s' is attached is not in a valid state for this operation: %s", t.eni.id, t.inst.state)
	}
	if t.privateIP == "" {
		t.privateIP = t.eni.privateIPs[0]
	}
	if !slices.Contains(t.eni.privateIPs, t.privateIP) {
		return failed("InvalidParameterValue", "The private IP address %s is not assigned to the network interface %s", t.privateIP, t.eni.id)
	}
	return nil
}

func (w *World) interfaceByID(id string) (*instance, *eni) {
	for _, i := range w.instances {
		if i.state == "terminated" {
			continue
		}
		for _, n := range i.enis {
			if n.id == id {
				return i, n
			}
		}
	}
	return nil, nil
}

func (w *World) disassociateAddress(q query) (any, *apiError) {
	id := q.Get("AssociationId")
	if id == "" {
		return nil, failed("MissingParameter", "Either public IP or association id must be specified")
	}
	var a *address
	for _, have := range w.addresses {
		if have.held != nil && have.held.id == id {
			a = have
		}
	}
	if a == nil {
		return nil, failed("InvalidAssociationID.NotFound", "The association ID '%s' does not exist", id)
	}
	if a.managed != "" || a.held.instance == "" {
		return nil, notYours()
	}
	if fail := q.dryRun(); fail != nil {
		return nil, fail
	}
	w.detach(a)
	w.remember()
	return struct {
		Return bool `xml:"return"`
	}{true}, nil
}
