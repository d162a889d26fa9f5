package claim

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/nagaya-ecs/nagaya/agent/address"
)

// seen is one address of EC2's answer, with its tags.
type seen struct {
	address.Address
	tags map[string]string
}

// filters select the claimed addresses in one call. An allocation id is given as a
// filter too: an unknown id in a filter is an empty answer rather than an error, so
// "not found" looks the same however an address was named. Filters of several
// kinds would have to hold all at once; then everything is asked for instead.
func filters(claims []address.Claim) []types.Filter {
	var one string
	var values []string
	for _, c := range claims {
		name, value := "allocation-id", c.AllocationID
		switch {
		case c.PublicIP.IsValid():
			name, value = "public-ip", c.PublicIP.String()
		case c.TagKey != "":
			name, value = "tag:"+c.TagKey, literal(c.TagValue)
		}
		if one != "" && one != name {
			return nil
		}
		one, values = name, append(values, value)
	}
	return []types.Filter{{Name: &one, Values: values}}
}

// literal keeps EC2 from reading * and ? as wildcards (EC2 User Guide, "Filtering").
func literal(s string) string {
	var b []byte
	for i := range len(s) {
		if s[i] == '*' || s[i] == '?' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return string(b)
}

// matches reports whether the claim names the address.
func (s seen) matches(c address.Claim) bool {
	switch {
	case c.AllocationID != "":
		return s.AllocationID == c.AllocationID
	case c.PublicIP.IsValid():
		return s.PublicIP == c.PublicIP
	}
	v, ok := s.tags[c.TagKey]
	return ok && v == c.TagValue
}

// addresses asks EC2 for the claimed addresses, in one call.
func (c *claimer) addresses(ctx context.Context) ([]seen, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := c.api.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{Filters: filters(c.o.Claims)})
	if err != nil {
		return nil, err
	}
	var all []seen
	for _, a := range out.Addresses {
		ip, err := netip.ParseAddr(deref(a.PublicIp))
		if err != nil || deref(a.AllocationId) == "" {
			continue
		}
		one := seen{tags: map[string]string{}, Address: address.Address{
			AllocationID: deref(a.AllocationId), AssociationID: deref(a.AssociationId), PublicIP: ip,
			InterfaceID: deref(a.NetworkInterfaceId), InstanceID: deref(a.InstanceId),
			BorderGroup: deref(a.NetworkBorderGroup), ServiceManaged: string(a.ServiceManaged),
		}}
		one.PrivateAddr, _ = netip.ParseAddr(deref(a.PrivateIpAddress))
		for _, t := range a.Tags {
			one.tags[deref(t.Key)] = deref(t.Value)
		}
		one.Sign = one.tags[address.SignTag]
		all = append(all, one)
	}
	return all, nil
}

// pick returns the one address that each claim names, or why it has none.
func pick(claims []address.Claim, all []seen) ([]address.Address, []error) {
	found, errs := make([]address.Address, len(claims)), make([]error, len(claims))
	first := map[string]int{}
	for i, c := range claims {
		var hits []address.Address
		for _, s := range all {
			if s.matches(c) {
				hits = append(hits, s.Address)
			}
		}
		if len(hits) != 1 {
			errs[i] = &notOne{all: hits}
			continue
		}
		found[i] = hits[0]
		if j, ok := first[found[i].AllocationID]; ok {
			errs[i] = &twice{other: claims[j].String(), allocation: found[i].AllocationID}
			continue
		}
		first[found[i].AllocationID] = i
	}
	return found, errs
}

// instance is what EC2 says of one instance.
type instance struct {
	state      string
	launched   time.Time
	bell       string
	publics    []netip.Addr
	interfaces []types.InstanceNetworkInterface
}

// instances asks EC2 for the named instances, in one call. One that EC2 does not
// know is missing in the answer.
func (c *claimer) instances(ctx context.Context, ids []string) (map[string]instance, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	name := "instance-id"
	out, err := c.api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{Filters: []types.Filter{{Name: &name, Values: ids}}})
	if err != nil {
		return nil, err
	}
	all := map[string]instance{}
	for _, r := range out.Reservations {
		for _, i := range r.Instances {
			all[deref(i.InstanceId)] = readInstance(i)
		}
	}
	return all, nil
}

func readInstance(i types.Instance) instance {
	one := instance{interfaces: i.NetworkInterfaces}
	if i.State != nil {
		one.state = string(i.State.Name)
	}
	if i.LaunchTime != nil {
		one.launched = *i.LaunchTime
	}
	for _, t := range i.Tags {
		if deref(t.Key) == address.SignTag {
			one.bell = deref(t.Value)
		}
	}
	add := func(a *types.InstanceNetworkInterfaceAssociation) {
		if a == nil {
			return
		}
		if ip, err := netip.ParseAddr(deref(a.PublicIp)); err == nil {
			one.publics = append(one.publics, ip)
		}
	}
	for _, n := range i.NetworkInterfaces {
		add(n.Association)
		for _, p := range n.PrivateIpAddresses {
			add(p.Association)
		}
	}
	return one
}

// ownInterfaces reads which private addresses of this instance can take a claimed
// address: all but those that have another Elastic IP, which would be displaced. The
// primary interface comes first.
func (c *claimer) ownInterfaces(self instance) []address.Interface {
	primary := c.situation.Identity.Instance.Primary.ID
	var all []address.Interface
	for _, n := range self.interfaces {
		one := address.Interface{ID: deref(n.NetworkInterfaceId)}
		for _, p := range n.PrivateIpAddresses {
			ip, err := netip.ParseAddr(deref(p.PrivateIpAddress))
			if err != nil || c.occupied(p) {
				continue
			}
			if isPrimary(p) {
				one.PrivateAddrs = slices.Insert(one.PrivateAddrs, 0, ip)
				continue
			}
			one.PrivateAddrs = append(one.PrivateAddrs, ip)
		}
		if one.ID == primary {
			all = slices.Insert(all, 0, one)
			continue
		}
		all = append(all, one)
	}
	if len(all) == 0 || all[0].ID != primary {
		return nil
	}
	return all
}

func isPrimary(p types.InstancePrivateIpAddress) bool { return p.Primary != nil && *p.Primary }

// occupied reports whether the private address has an Elastic IP that is not claimed.
// What EC2 assigned by itself belongs to "amazon" (API reference,
// InstanceNetworkInterfaceAssociation), and only a primary address has such a one.
func (c *claimer) occupied(p types.InstancePrivateIpAddress) bool {
	a := p.Association
	if a == nil || c.claims(deref(a.PublicIp)) {
		return false
	}
	owner := deref(a.IpOwnerId)
	return !isPrimary(p) || owner != "" && owner != "amazon"
}

// claims reports whether the public address is one of the claimed ones.
func (c *claimer) claims(public string) bool {
	return slices.ContainsFunc(c.held, func(h *holding) bool {
		return h.report.Known && h.report.Address.PublicIP.String() == public
	})
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// twice is the error of a claim that names the same address as another one.
type twice struct{ other, allocation string }

func (e *twice) Error() string {
	return fmt.Sprintf("it names %s, which %q names too", e.allocation, e.other)
}
