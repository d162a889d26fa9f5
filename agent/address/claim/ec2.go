package claim

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/awserror"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// EC2 is the part of EC2's API that a claim needs.
type EC2 interface {
	DescribeAddresses(context.Context, *ec2.DescribeAddressesInput, ...func(*ec2.Options)) (*ec2.DescribeAddressesOutput, error)
	DescribeInstances(context.Context, *ec2.DescribeInstancesInput, ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error)
	AssociateAddress(context.Context, *ec2.AssociateAddressInput, ...func(*ec2.Options)) (*ec2.AssociateAddressOutput, error)
	DisassociateAddress(context.Context, *ec2.DisassociateAddressInput, ...func(*ec2.Options)) (*ec2.DisassociateAddressOutput, error)
	CreateTags(context.Context, *ec2.CreateTagsInput, ...func(*ec2.Options)) (*ec2.CreateTagsOutput, error)
}

// callTimeout bounds one call with its retries.
const callTimeout = 20 * time.Second

// callEC2 makes one call of EC2's API.
func callEC2[In, Out any](ctx context.Context, f func(context.Context, *In, ...func(*ec2.Options)) (*Out, error), in *In, opts ...func(*ec2.Options)) (*Out, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return f(ctx, in, opts...)
}

// tagged is one address of EC2's answer, with its tags.
type tagged struct {
	address.Address
	tags map[string]string
}

// addresses asks EC2 for the Elastic IPs of the Region. A filter would spare little, since
// a Region has five of them unless the quota was raised, and does not fit claims of
// several kinds.
func addresses(ctx context.Context, api EC2) ([]tagged, error) {
	out, err := callEC2(ctx, api.DescribeAddresses, &ec2.DescribeAddressesInput{})
	if err != nil {
		return nil, err
	}
	var all []tagged
	for _, a := range out.Addresses {
		ip, err := netip.ParseAddr(aws.ToString(a.PublicIp))
		if err != nil || aws.ToString(a.AllocationId) == "" {
			continue
		}
		one := tagged{tags: tagsOf(a.Tags), Address: address.Address{
			AllocationID: *a.AllocationId, AssociationID: aws.ToString(a.AssociationId), PublicIP: ip,
			InterfaceID: aws.ToString(a.NetworkInterfaceId), InstanceID: aws.ToString(a.InstanceId),
			BorderGroup: aws.ToString(a.NetworkBorderGroup), ServiceManaged: string(a.ServiceManaged),
		}}
		one.PrivateAddr, _ = netip.ParseAddr(aws.ToString(a.PrivateIpAddress))
		one.HolderTag = one.tags[address.TagKey]
		all = append(all, one)
	}
	return all, nil
}

func tagsOf(tags []types.Tag) map[string]string {
	all := map[string]string{}
	for _, t := range tags {
		all[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return all
}

// names reports whether the claim names the address.
func names(c address.Claim, a tagged) bool {
	switch {
	case c.AllocationID != "":
		return a.AllocationID == c.AllocationID
	case c.PublicIP.IsValid():
		return a.PublicIP == c.PublicIP
	}
	v, ok := a.tags[c.TagKey]
	return ok && v == c.TagValue
}

// pick returns the one address that each claim names, or why it has none.
func pick(claims []address.Claim, all []tagged, region string) ([]address.Address, []error) {
	found, errs := make([]address.Address, len(claims)), make([]error, len(claims))
	first := map[string]address.Claim{} // by allocation id
	for i, c := range claims {
		var hits []string
		for _, a := range all {
			if names(c, a) {
				found[i] = a.Address
				hits = append(hits, fmt.Sprintf("%s (%s)", a.AllocationID, a.PublicIP))
			}
		}
		other, twice := first[found[i].AllocationID]
		switch {
		case len(hits) == 0:
			errs[i] = newFault("address-not-found", problem.Error, "check address.claim, the Region of this instance ("+region+") and that the address was not released or transferred",
				"the claim names no Elastic IP of this account and Region")
		case len(hits) > 1:
			errs[i] = newFault("address-ambiguous", problem.Error, "let address.claim name one of them by its allocation id",
				"the claim names %d Elastic IPs: %s", len(hits), strings.Join(hits[:min(len(hits), 5)], ", "))
		case twice:
			errs[i] = newFault("address-claimed-twice", problem.Error, "remove one of the two claims", "it names %s, which %q names too", found[i].AllocationID, other.String())
		default:
			first[found[i].AllocationID] = c
			continue
		}
		found[i] = address.Address{}
	}
	return found, errs
}

// instances asks EC2 for the named instances, in one call. One that EC2 does not know is
// the zero Instance. The claimed addresses do not occupy a private address.
func instances(ctx context.Context, api EC2, ids []string, claimed []address.Address) (map[string]address.Instance, error) {
	slices.Sort(ids)
	ids = slices.Compact(ids)
	name := "instance-id"
	out, err := callEC2(ctx, api.DescribeInstances, &ec2.DescribeInstancesInput{Filters: []types.Filter{{Name: &name, Values: ids}}})
	if err != nil {
		return nil, err
	}
	all := map[string]address.Instance{}
	for _, id := range ids {
		all[id] = address.Instance{}
	}
	for _, r := range out.Reservations {
		for _, i := range r.Instances {
			all[aws.ToString(i.InstanceId)] = readInstance(i, claimed)
		}
	}
	return all, nil
}

func readInstance(i types.Instance, claimed []address.Address) address.Instance {
	one := address.Instance{ID: aws.ToString(i.InstanceId), LaunchedAt: aws.ToTime(i.LaunchTime), HintTag: tagsOf(i.Tags)[address.TagKey]}
	if i.State != nil {
		one.State = string(i.State.Name)
	}
	add := func(a *types.InstanceNetworkInterfaceAssociation) {
		if a != nil {
			if ip, err := netip.ParseAddr(aws.ToString(a.PublicIp)); err == nil {
				one.PublicAddrs = append(one.PublicAddrs, ip)
			}
		}
	}
	for _, n := range i.NetworkInterfaces {
		add(n.Association)
		free := address.Interface{ID: aws.ToString(n.NetworkInterfaceId)}
		for _, p := range n.PrivateIpAddresses {
			add(p.Association)
			ip, err := netip.ParseAddr(aws.ToString(p.PrivateIpAddress))
			switch {
			case err != nil || occupied(p, claimed):
			case aws.ToBool(p.Primary):
				free.PrivateAddrs = slices.Insert(free.PrivateAddrs, 0, ip)
			default:
				free.PrivateAddrs = append(free.PrivateAddrs, ip)
			}
		}
		one.Interfaces = append(one.Interfaces, free)
	}
	return one
}

// occupied reports whether the private address has an Elastic IP that is not claimed and
// would be displaced. What EC2 assigned by itself belongs to "amazon" (API reference,
// InstanceNetworkInterfaceAssociation), and only a primary address has such a one.
func occupied(p types.InstancePrivateIpAddress, claimed []address.Address) bool {
	a := p.Association
	if a == nil || slices.ContainsFunc(claimed, func(c address.Address) bool { return c.PublicIP.String() == aws.ToString(a.PublicIp) }) {
		return false
	}
	owner := aws.ToString(a.IpOwnerId)
	return !aws.ToBool(p.Primary) || owner != "" && owner != "amazon"
}

// associate puts the address on a place of this instance, and returns the id of the
// association. A dry run changes nothing.
func associate(ctx context.Context, api EC2, allocation string, at address.Place, reassociate, dryRun bool) (string, error) {
	in := &ec2.AssociateAddressInput{
		AllocationId: &allocation,
		// The interface, not the instance: EC2 refuses an instance id as soon as
		// a task's own interface is attached (API reference, AssociateAddress).
		NetworkInterfaceId: &at.InterfaceID,
		// Always sent: what EC2 does without it differs between clients.
		AllowReassociation: &reassociate,
		DryRun:             &dryRun,
	}
	if at.PrivateAddr.IsValid() {
		private := at.PrivateAddr.String()
		in.PrivateIpAddress = &private
	}
	out, err := callEC2(ctx, api.AssociateAddress, in, once)
	switch {
	case err != nil:
		return "", err
	case out.AssociationId == nil:
		return "", errors.New("EC2 accepted the association but named no association id")
	}
	return *out.AssociationId, nil
}

func disassociate(ctx context.Context, api EC2, association string, dryRun bool) error {
	_, err := callEC2(ctx, api.DisassociateAddress, &ec2.DisassociateAddressInput{AssociationId: &association, DryRun: &dryRun})
	return err
}

// writeTag writes the holder tag on an address, or the hint tag on an instance.
func writeTag(ctx context.Context, api EC2, resource, value string, dryRun bool) error {
	key := address.TagKey
	_, err := callEC2(ctx, api.CreateTags, &ec2.CreateTagsInput{DryRun: &dryRun, Resources: []string{resource}, Tags: []types.Tag{{Key: &key, Value: &value}}})
	return err
}

// refused reports whether EC2 said no, so that certainly nothing was done. After
// any other error the call may have taken effect.
func refused(err error) bool {
	code := awserror.Code(err)
	// EC2's errors of its own: InternalError, InternalFailure, Unavailable,
	// ServiceUnavailable (EC2 API reference, "Error codes", server errors).
	return code != "" && !strings.HasPrefix(code, "Internal") && !strings.HasSuffix(code, "Unavailable")
}

// once keeps the SDK from repeating a call whose answer was lost: it may have taken
// effect, and by the second time another instance may hold the address. Who holds it is
// looked up instead.
func once(o *ec2.Options) { o.RetryMaxAttempts = 1 }
