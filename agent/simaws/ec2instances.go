package simaws

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

type stateXML struct {
	Code int    `xml:"code"`
	Name string `xml:"name"`
}

// stateCodes are those of EC2's InstanceState.
var stateCodes = map[string]int{
	"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80,
}

type associationXML struct {
	PublicIP  string `xml:"publicIp"`
	IPOwnerID string `xml:"ipOwnerId"`
}

type privateXML struct {
	PrivateIPAddress string          `xml:"privateIpAddress"`
	Primary          bool            `xml:"primary"`
	Association      *associationXML `xml:"association,omitempty"`
}

type interfaceXML struct {
	NetworkInterfaceID string          `xml:"networkInterfaceId"`
	SubnetID           string          `xml:"subnetId"`
	VPCID              string          `xml:"vpcId"`
	OwnerID            string          `xml:"ownerId"`
	Status             string          `xml:"status"`
	MACAddress         string          `xml:"macAddress"`
	PrivateIPAddress   string          `xml:"privateIpAddress"`
	DeviceIndex        int             `xml:"attachment>deviceIndex"`
	AttachmentStatus   string          `xml:"attachment>status"`
	AttachTime         string          `xml:"attachment>attachTime"`
	Association        *associationXML `xml:"association,omitempty"`
	PrivateIPs         []privateXML    `xml:"privateIpAddressesSet>item"`
	InterfaceType      string          `xml:"interfaceType"`
}

type instanceXML struct {
	InstanceID        string         `xml:"instanceId"`
	ImageID           string         `xml:"imageId"`
	State             stateXML       `xml:"instanceState"`
	InstanceType      string         `xml:"instanceType"`
	LaunchTime        string         `xml:"launchTime"`
	Zone              string         `xml:"placement>availabilityZone"`
	Tenancy           string         `xml:"placement>tenancy"`
	SubnetID          string         `xml:"subnetId,omitempty"`
	VPCID             string         `xml:"vpcId,omitempty"`
	PrivateIPAddress  string         `xml:"privateIpAddress,omitempty"`
	IPAddress         string         `xml:"ipAddress,omitempty"`
	Architecture      string         `xml:"architecture"`
	InstanceLifecycle string         `xml:"instanceLifecycle,omitempty"`
	Hypervisor        string         `xml:"hypervisor"`
	Cores             int            `xml:"cpuOptions>coreCount"`
	ThreadsPerCore    int            `xml:"cpuOptions>threadsPerCore"`
	Tags              []tagXML       `xml:"tagSet>item"`
	Interfaces        []interfaceXML `xml:"networkInterfaceSet>item"`
}

type reservationXML struct {
	ReservationID string        `xml:"reservationId"`
	OwnerID       string        `xml:"ownerId"`
	Instances     []instanceXML `xml:"instancesSet>item"`
}

func unknownInstance(id string) *apiError {
	if digits, ok := strings.CutPrefix(id, "i-"); !ok || strings.Trim(digits, "0123456789abcdef") != "" || len(digits) != 8 && len(digits) != 17 {
		return failed("InvalidInstanceID.Malformed", "Invalid id: \"%s\"", id)
	}
	return failed("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", id)
}

// chosen returns the instances that are named, or all, in the order of their ids.
func (w *World) chosen(q query) ([]*instance, *apiError) {
	ids := q.list("InstanceId")
	for _, id := range ids {
		if w.instances[id] == nil {
			return nil, unknownInstance(id)
		}
	}
	var all []*instance
	for _, id := range sortedKeys(w.instances) {
		if len(ids) == 0 || slices.Contains(ids, id) {
			all = append(all, w.instances[id])
		}
	}
	return all, q.dryRun()
}

func (w *World) describeInstances(q query) (any, *apiError) {
	chosen, fail := w.chosen(q)
	if fail != nil {
		return nil, fail
	}
	filters := q.filters()
	if _, fail := instanceFields(instanceXML{}, nil).match(filters); fail != nil {
		return nil, fail
	}
	var out struct {
		Reservations []reservationXML `xml:"reservationSet>item"`
	}
	for _, i := range chosen {
		x := w.instanceXML(i)
		if ok, _ := instanceFields(x, i.tags).match(filters); ok {
			out.Reservations = append(out.Reservations, reservationXML{
				ReservationID: reservationID(i),
				OwnerID:       w.account,
				Instances:     []instanceXML{x},
			})
		}
	}
	return out, nil
}

func reservationID(i *instance) string { return "r-" + strings.TrimPrefix(i.id, "i-") }

func (w *World) instanceXML(i *instance) instanceXML {
	x := instanceXML{
		InstanceID:     i.id,
		ImageID:        i.image,
		State:          stateXML{stateCodes[i.state], i.state},
		InstanceType:   i.hw.name,
		LaunchTime:     i.launched.Format("2006-01-02T15:04:05.000Z"),
		Zone:           i.zone,
		Tenancy:        "default",
		Architecture:   i.hw.arch,
		Hypervisor:     "nitro",
		Cores:          max(1, i.hw.vcpus/2),
		ThreadsPerCore: min(2, i.hw.vcpus),
		Tags:           tagsXML(i.tags),
	}
	if i.hw.xen {
		x.Hypervisor = "xen"
	}
	if i.lifeCycle == "spot" {
		x.InstanceLifecycle = "spot"
	}
	if i.state == "terminated" {
		return x
	}
	x.SubnetID, x.VPCID = subnetID, vpcID
	x.PrivateIPAddress = i.enis[0].privateIPs[0]
	seen := w.stale()
	for _, n := range i.enis {
		x.Interfaces = append(x.Interfaces, w.interfaceXML(seen, i, n))
	}
	if a := x.Interfaces[0].Association; a != nil {
		x.IPAddress = a.PublicIP
	}
	return x
}

func (w *World) interfaceXML(v view, i *instance, n *eni) interfaceXML {
	x := interfaceXML{
		NetworkInterfaceID: n.id,
		SubnetID:           subnetID,
		VPCID:              vpcID,
		OwnerID:            w.account,
		Status:             "in-use",
		MACAddress:         n.mac,
		PrivateIPAddress:   n.privateIPs[0],
		DeviceIndex:        n.device,
		AttachmentStatus:   "attached",
		AttachTime:         i.launched.Format(time.RFC3339),
		InterfaceType:      "interface",
	}
	pairs := w.publicIPs(v, n)
	for k, ip := range n.privateIPs {
		p := privateXML{PrivateIPAddress: ip, Primary: k == 0}
		for _, pair := range pairs {
			if pair.private == ip {
				p.Association = &associationXML{pair.public, w.ownerOf(pair.public)}
			}
		}
		x.PrivateIPs = append(x.PrivateIPs, p)
	}
	x.Association = x.PrivateIPs[0].Association
	return x
}

// ownerOf is the account for an Elastic IP, "amazon" for an auto-assigned address.
func (w *World) ownerOf(publicIP string) string {
	if w.addressByIP(publicIP) != nil {
		return w.account
	}
	return "amazon"
}

func instanceFields(x instanceXML, tags map[string]string) fields {
	f := fields{
		"instance-id":                            {x.InstanceID},
		"instance-lifecycle":                     {x.InstanceLifecycle},
		"instance-state-code":                    {strconv.Itoa(x.State.Code)},
		"instance-state-name":                    {x.State.Name},
		"instance-type":                          {x.InstanceType},
		"availability-zone":                      {x.Zone},
		"image-id":                               {x.ImageID},
		"ip-address":                             {x.IPAddress},
		"private-ip-address":                     {x.PrivateIPAddress},
		"subnet-id":                              {x.SubnetID},
		"vpc-id":                                 {x.VPCID},
		"network-interface.network-interface-id": nil,
		"network-interface.addresses.association.public-ip": nil,
	}
	for _, n := range x.Interfaces {
		const id, public = "network-interface.network-interface-id", "network-interface.addresses.association.public-ip"
		f[id] = append(f[id], n.NetworkInterfaceID)
		for _, p := range n.PrivateIPs {
			if p.Association != nil {
				f[public] = append(f[public], p.Association.PublicIP)
			}
		}
	}
	return f.withTags(tags)
}

// describeCreditSpecifications answers "standard" also for an instance that is
// not burstable; without ids it answers only the unlimited ones (EC2 API
// reference, DescribeInstanceCreditSpecifications).
func (w *World) describeCreditSpecifications(q query) (any, *apiError) {
	chosen, fail := w.chosen(q)
	if fail != nil {
		return nil, fail
	}
	named := len(q.list("InstanceId")) > 0
	type item struct {
		InstanceID string `xml:"instanceId"`
		CPUCredits string `xml:"cpuCredits"`
	}
	var out struct {
		Items []item `xml:"instanceCreditSpecificationSet>item"`
	}
	filters := q.filters()
	for _, i := range chosen {
		ok, fail := fields{"instance-id": {i.id}}.match(filters)
		if fail != nil {
			return nil, fail
		}
		if ok && (named || i.ledger.mode == Unlimited && i.hw.burstable()) {
			out.Items = append(out.Items, item{i.id, string(i.ledger.mode)})
		}
	}
	return out, nil
}

type typeXML struct {
	InstanceType    string   `xml:"instanceType"`
	Current         bool     `xml:"currentGeneration"`
	Burstable       bool     `xml:"burstablePerformanceSupported"`
	Hypervisor      string   `xml:"hypervisor"`
	VCPUs           int      `xml:"vCpuInfo>defaultVCpus"`
	MemoryMiB       int      `xml:"memoryInfo>sizeInMiB"`
	Architectures   []string `xml:"processorInfo>supportedArchitectures>item"`
	MaximumENIs     int      `xml:"networkInfo>maximumNetworkInterfaces"`
	SupportedUsages []string `xml:"supportedUsageClasses>item"`
}

func (w *World) describeInstanceTypes(q query) (any, *apiError) {
	names, filters := q.list("InstanceType"), q.filters()
	var unknown []string
	for _, n := range names {
		if _, ok := hardwareOf(n); !ok {
			unknown = append(unknown, n)
		}
	}
	if len(unknown) > 0 {
		return nil, failed("InvalidInstanceType", "The following supplied instance types do not exist: [%s]", strings.Join(unknown, ", "))
	}
	if fail := q.dryRun(); fail != nil {
		return nil, fail
	}
	var out struct {
		Items []typeXML `xml:"instanceTypeSet>item"`
	}
	for _, h := range catalog {
		if len(names) > 0 && !slices.Contains(names, h.name) {
			continue
		}
		ok, fail := typeFields(h).match(filters)
		if fail != nil {
			return nil, fail
		}
		if !ok {
			continue
		}
		x := typeXML{
			InstanceType: h.name, Current: true, Burstable: h.burstable(), Hypervisor: "nitro",
			VCPUs: h.vcpus, MemoryMiB: h.memoryMiB, Architectures: []string{h.arch},
			MaximumENIs: h.maxENIs, SupportedUsages: []string{"on-demand", "spot"},
		}
		if h.xen {
			x.Hypervisor = "xen"
		}
		out.Items = append(out.Items, x)
	}
	return out, nil
}

func typeFields(h hardware) fields {
	return fields{
		"instance-type":                         {h.name},
		"burstable-performance-supported":       {strconv.FormatBool(h.burstable())},
		"current-generation":                    {"true"},
		"processor-info.supported-architecture": {h.arch},
		"vcpu-info.default-vcpus":               {strconv.Itoa(h.vcpus)},
	}
}

func (w *World) describeTags(q query) (any, *apiError) {
	if fail := q.dryRun(); fail != nil {
		return nil, fail
	}
	type item struct {
		ResourceID   string `xml:"resourceId"`
		ResourceType string `xml:"resourceType"`
		Key          string `xml:"key"`
		Value        string `xml:"value"`
	}
	var out struct {
		Items []item `xml:"tagSet>item"`
	}
	filters := q.filters()
	var fail *apiError
	add := func(id, kind string, tags map[string]string) {
		for _, k := range sortedKeys(tags) {
			ok, bad := fields{"resource-id": {id}, "resource-type": {kind}, "key": {k}, "value": {tags[k]}}.match(filters)
			if bad != nil {
				fail = bad
			}
			if ok {
				out.Items = append(out.Items, item{id, kind, k, tags[k]})
			}
		}
	}
	for _, id := range sortedKeys(w.instances) {
		add(id, "instance", w.instances[id].tags)
	}
	for _, id := range sortedKeys(w.addresses) {
		add(id, "elastic-ip", w.addresses[id].tags)
	}
	if fail != nil {
		return nil, fail
	}
	return out, nil
}
