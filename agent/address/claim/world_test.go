package claim

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/identity"
)

// world is a small EC2: addresses, instances, what was when, and who called.
type world struct {
	mu        sync.Mutex
	addresses map[string]*elastic
	machines  map[string]*machine
	calls     []call
	next      int
	// lag is how old an answer of a describe is; nil is not old.
	lag func() time.Duration
}

type call struct {
	at          time.Time
	who, action string
}

// elastic is an Elastic IP with its past, the newest state last.
type elastic struct {
	public, border, managed string
	past                    []holds
}

type holds struct {
	at                                time.Time
	assoc, instance, iface, privateIP string
	tags                              map[string]string
}

// machine is an instance with one interface, eni-<name>.
type machine struct {
	id       string
	state    types.InstanceStateName
	launched time.Time
	private  []string
	tags     map[string]string
	foreign  map[string]string // private address: an Elastic IP that nobody claims
}

func newWorld() *world {
	return &world{addresses: map[string]*elastic{}, machines: map[string]*machine{}}
}

func (w *world) addAddress(allocation, public string, tags map[string]string) {
	w.addresses[allocation] = &elastic{public: public, past: []holds{{tags: tags}}}
}

func (w *world) addMachine(id string, launched time.Time, private ...string) *machine {
	m := &machine{id: id, state: "running", launched: launched, private: private, tags: map[string]string{}}
	w.machines[id] = m
	return m
}

// turn tells the race detector that the test and the claim take turns.
func (w *world) turn() {
	w.mu.Lock()
	defer w.mu.Unlock()
}

func ifaceOf(id string) string { return "eni-" + strings.TrimPrefix(id, "i-") }

func (e *elastic) now() holds { return e.past[len(e.past)-1] }

// then is how the address was that long ago.
func (e *elastic) then(lag time.Duration) holds {
	at := time.Now().Add(-lag)
	for i := len(e.past) - 1; i > 0; i-- {
		if !e.past[i].at.After(at) {
			return e.past[i]
		}
	}
	return e.past[0]
}

func (e *elastic) change(h holds) {
	h.at, h.tags = time.Now(), maps.Clone(e.now().tags)
	e.past = append(e.past, h)
}

// give puts the address on an instance, as an operator may.
func (w *world) give(allocation, id, private string) string {
	w.next++
	h := holds{assoc: fmt.Sprintf("eipassoc-%d", w.next), instance: id, iface: ifaceOf(id), privateIP: private}
	if id == "" { // a NAT gateway
		h.iface = "eni-nat"
	}
	w.addresses[allocation].change(h)
	return h.assoc
}

// tag gives the address these tags and no others.
func (w *world) tag(allocation string, tags map[string]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.addresses[allocation]
	h := e.now()
	h.at, h.tags = time.Now(), tags
	e.past = append(e.past, h)
}

func (w *world) holder(allocation string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.addresses[allocation].now().instance
}

func (w *world) old() time.Duration {
	if w.lag == nil {
		return 0
	}
	return w.lag()
}

// client is the EC2 of one instance.
type client struct {
	w    *world
	who  string
	fail map[string][]error // by action, used up one by one
	// trouble, if there is any, says how a call goes wrong: before or after it took effect.
	trouble func(action string) (before, after error)
	taken   func() // called by an association, before it happens
	cost    time.Duration
}

// begin notes the call, and lets time pass for it.
func (c *client) begin(action string, dry *bool) (after, err error) {
	c.w.turn()
	time.Sleep(c.cost)
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.w.calls = append(c.w.calls, call{time.Now(), c.who, action})
	if errs := c.fail[action]; len(errs) > 0 {
		c.fail[action] = errs[1:]
		return nil, errs[0]
	}
	if dry != nil && *dry {
		return nil, refusal(action, "DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
	}
	if c.trouble != nil {
		before, after := c.trouble(action)
		return after, before
	}
	return nil, nil
}

func refusal(action, code, message string) error {
	return &smithy.OperationError{ServiceID: "EC2", OperationName: action, Err: &smithy.GenericAPIError{Code: code, Message: message}}
}

// chosen returns the values that the filters let through, all if there are none.
func chosen(fs []types.Filter, name string, tags map[string]string, value string) bool {
	for _, f := range fs {
		v, ok := value, *f.Name == name
		if k, isTag := strings.CutPrefix(*f.Name, "tag:"); isTag {
			v, ok = tags[k], true
		}
		if ok && !slices.Contains(f.Values, v) {
			return false
		}
	}
	return true
}

func (c *client) DescribeAddresses(_ context.Context, in *ec2.DescribeAddressesInput, _ ...func(*ec2.Options)) (*ec2.DescribeAddressesOutput, error) {
	if after, err := c.begin("DescribeAddresses", in.DryRun); err != nil || after != nil {
		return nil, cmpErr(err, after)
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	out := &ec2.DescribeAddressesOutput{}
	for _, id := range slices.Sorted(maps.Keys(c.w.addresses)) {
		e := c.w.addresses[id]
		h := e.then(c.w.old())
		if !chosen(in.Filters, "allocation-id", h.tags, id) || !chosen(in.Filters, "public-ip", h.tags, e.public) {
			continue
		}
		a := types.Address{AllocationId: &id, PublicIp: &e.public, NetworkBorderGroup: &e.border, ServiceManaged: types.ServiceManaged(e.managed)}
		for k, v := range h.tags {
			a.Tags = append(a.Tags, types.Tag{Key: &k, Value: &v})
		}
		if h.assoc != "" {
			a.AssociationId, a.NetworkInterfaceId, a.PrivateIpAddress = &h.assoc, &h.iface, &h.privateIP
			if h.instance != "" {
				a.InstanceId = &h.instance
			}
		}
		out.Addresses = append(out.Addresses, a)
	}
	return out, nil
}

func (c *client) DescribeInstances(_ context.Context, in *ec2.DescribeInstancesInput, _ ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error) {
	if after, err := c.begin("DescribeInstances", in.DryRun); err != nil || after != nil {
		return nil, cmpErr(err, after)
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	out := &ec2.DescribeInstancesOutput{}
	for _, id := range in.Filters[0].Values {
		m := c.w.machines[id]
		if m == nil {
			continue
		}
		iface := ifaceOf(id)
		n := types.InstanceNetworkInterface{NetworkInterfaceId: &iface}
		for i, p := range m.private {
			primary := i == 0
			one := types.InstancePrivateIpAddress{PrivateIpAddress: &p, Primary: &primary}
			if public, ok := m.foreign[p]; ok {
				owner := "123456789012"
				one.Association = &types.InstanceNetworkInterfaceAssociation{PublicIp: &public, IpOwnerId: &owner}
			}
			for _, e := range c.w.addresses {
				if h := e.then(c.w.old()); h.iface == iface && h.privateIP == p {
					one.Association = &types.InstanceNetworkInterfaceAssociation{PublicIp: &e.public}
				}
			}
			n.PrivateIpAddresses = append(n.PrivateIpAddresses, one)
		}
		i := types.Instance{InstanceId: &id, LaunchTime: &m.launched, State: &types.InstanceState{Name: m.state}, NetworkInterfaces: []types.InstanceNetworkInterface{n}}
		for k, v := range m.tags {
			i.Tags = append(i.Tags, types.Tag{Key: &k, Value: &v})
		}
		out.Reservations = append(out.Reservations, types.Reservation{Instances: []types.Instance{i}})
	}
	return out, nil
}

func cmpErr(err, after error) error {
	if err != nil {
		return err
	}
	return after
}

func (c *client) AssociateAddress(_ context.Context, in *ec2.AssociateAddressInput, _ ...func(*ec2.Options)) (*ec2.AssociateAddressOutput, error) {
	after, err := c.begin("AssociateAddress", in.DryRun)
	if err != nil {
		return nil, err
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if in.AllowReassociation == nil || in.InstanceId != nil || *in.NetworkInterfaceId != ifaceOf(c.who) {
		return nil, fmt.Errorf("unexpected input %+v", in)
	}
	m := c.w.machines[c.who]
	private := m.private[0]
	if in.PrivateIpAddress != nil {
		private = *in.PrivateIpAddress
	}
	if !slices.Contains(m.private, private) {
		return nil, refusal("AssociateAddress", "InvalidParameterValue", "not an address of the interface")
	}
	if c.taken != nil {
		c.taken()
	}
	e := c.w.addresses[*in.AllocationId]
	if e.now().assoc != "" && e.now().instance != c.who && !*in.AllowReassociation {
		return nil, refusal("AssociateAddress", "Resource.AlreadyAssociated", "resource "+*in.AllocationId+" is already associated")
	}
	if e.now().instance == c.who && e.now().privateIP == private {
		id := e.now().assoc
		return &ec2.AssociateAddressOutput{AssociationId: &id}, after
	}
	id := c.w.give(*in.AllocationId, c.who, private)
	if after != nil {
		return nil, after
	}
	return &ec2.AssociateAddressOutput{AssociationId: &id}, nil
}

func (c *client) DisassociateAddress(_ context.Context, in *ec2.DisassociateAddressInput, _ ...func(*ec2.Options)) (*ec2.DisassociateAddressOutput, error) {
	after, err := c.begin("DisassociateAddress", in.DryRun)
	if err != nil {
		return nil, err
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	for _, e := range c.w.addresses {
		if e.now().assoc == *in.AssociationId {
			e.change(holds{})
			return &ec2.DisassociateAddressOutput{}, after
		}
	}
	return nil, refusal("DisassociateAddress", "InvalidAssociationID.NotFound", "no such association")
}

func (c *client) CreateTags(_ context.Context, in *ec2.CreateTagsInput, _ ...func(*ec2.Options)) (*ec2.CreateTagsOutput, error) {
	after, err := c.begin("CreateTags", in.DryRun)
	if err != nil {
		return nil, err
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	for _, id := range in.Resources {
		for _, t := range in.Tags {
			if m := c.w.machines[id]; m != nil {
				m.tags[*t.Key] = *t.Value
				continue
			}
			e := c.w.addresses[id]
			h := e.now()
			h.tags = maps.Clone(h.tags)
			if h.tags == nil {
				h.tags = map[string]string{}
			}
			h.tags[*t.Key], h.at = *t.Value, time.Now()
			e.past = append(e.past, h)
		}
	}
	return &ec2.CreateTagsOutput{}, after
}

// count counts the calls since then.
func (w *world) count(who string, actions ...string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.calls {
		if c.who == who && slices.Contains(actions, c.action) {
			n++
		}
	}
	return n
}

// seenFrom is what instance metadata would tell the instance.
func (w *world) seenFrom(id string) identity.Identity {
	w.mu.Lock()
	defer w.mu.Unlock()
	in := identity.Instance{
		Known: true, ID: id, Region: "eu-west-1", Zone: "eu-west-1a", AccountID: "123456789012",
		Primary: identity.Interface{ID: ifaceOf(id), LocalAddr: netip.MustParseAddr(w.machines[id].private[0])},
	}
	for _, a := range slices.Sorted(maps.Keys(w.addresses)) {
		if e := w.addresses[a]; e.now().instance == id {
			in.Primary.PublicAddr = append(in.Primary.PublicAddr, netip.MustParseAddr(e.public))
		}
	}
	return identity.Identity{Instance: in}
}

func (w *world) holderTag(allocation string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.addresses[allocation].now().tags[address.TagKey]
}
