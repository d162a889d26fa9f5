package simaws_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

func ec2Client(t *testing.T, c *simaws.Cloud) *ec2.Client {
	t.Helper()
	return ec2.NewFromConfig(sdkOn(t, c, host))
}

func primary(t *testing.T, c *simaws.Cloud, id string) string {
	t.Helper()
	i, ok := c.State().Instance(id)
	if !ok {
		t.Fatalf("no instance %s", id)
	}
	return i.InterfaceIDs[0]
}

func TestDescribeAddresses(t *testing.T) {
	c := serve(t, newHand())
	other, err := c.AddAddress(simaws.AddressSpec{AllocationID: "eipalloc-0ffffffffffffffff", PublicIP: "198.51.100.7", Tags: map[string]string{"Role": "nat"}, ForeignInterface: "eni-0nat"})
	must(t, err)
	client := ec2Client(t, c)
	association, err := c.Associate(eip, host, "")
	must(t, err)
	byFilter := func(name string, values ...string) *ec2.DescribeAddressesInput {
		return &ec2.DescribeAddressesInput{Filters: []types.Filter{{Name: aws.String(name), Values: values}}}
	}
	for _, row := range []struct {
		name string
		in   *ec2.DescribeAddressesInput
		want []string
		code string
	}{
		{name: "all", in: &ec2.DescribeAddressesInput{}, want: []string{eip, other}},
		{name: "allocation id", in: &ec2.DescribeAddressesInput{AllocationIds: []string{eip}}, want: []string{eip}},
		{name: "public ip", in: &ec2.DescribeAddressesInput{PublicIps: []string{"198.51.100.7"}}, want: []string{other}},
		{name: "unknown allocation id", in: &ec2.DescribeAddressesInput{AllocationIds: []string{"eipalloc-0dead"}}, code: "InvalidAllocationID.NotFound"},
		{name: "unknown public ip", in: &ec2.DescribeAddressesInput{PublicIps: []string{"192.0.2.1"}}, code: "InvalidAddress.NotFound"},
		{name: "filter allocation-id", in: byFilter("allocation-id", eip, "eipalloc-0dead"), want: []string{eip}},
		{name: "filter public-ip", in: byFilter("public-ip", simaws.DefaultPublicIP), want: []string{eip}},
		{name: "filter tag", in: byFilter("tag:Name", "nagaya"), want: []string{eip}},
		{name: "filter tag with a wildcard", in: byFilter("tag:Name", "na*a?a"), want: []string{eip}},
		{name: "filter tag of nobody", in: byFilter("tag:Name", "naga"), want: nil},
		{name: "filter tag-key", in: byFilter("tag-key", "Role"), want: []string{other}},
		{name: "filter instance-id", in: byFilter("instance-id", host), want: []string{eip}},
		{name: "filter network-interface-id", in: byFilter("network-interface-id", "eni-0nat"), want: []string{other}},
		{name: "filter association-id", in: byFilter("association-id", association), want: []string{eip}},
		{name: "filter that there is not", in: byFilter("colour", "red"), code: "InvalidParameterValue"},
		{name: "dry run", in: &ec2.DescribeAddressesInput{DryRun: aws.Bool(true)}, code: "DryRunOperation"},
	} {
		t.Run(row.name, func(t *testing.T) {
			out, err := client.DescribeAddresses(t.Context(), row.in)
			wantCode(t, err, row.code)
			if err != nil {
				return
			}
			var got []string
			for _, a := range out.Addresses {
				got = append(got, aws.ToString(a.AllocationId))
			}
			slices.Sort(got)
			if d := cmp.Diff(row.want, got); d != "" {
				t.Error(d)
			}
		})
	}
	t.Run("all fields", func(t *testing.T) {
		out, err := client.DescribeAddresses(t.Context(), &ec2.DescribeAddressesInput{AllocationIds: []string{eip}})
		must(t, err)
		a := out.Addresses[0]
		got := []string{*a.PublicIp, string(a.Domain), *a.InstanceId, *a.AssociationId, *a.NetworkInterfaceId, *a.NetworkInterfaceOwnerId, *a.PrivateIpAddress, *a.NetworkBorderGroup, *a.Tags[0].Key, *a.Tags[0].Value}
		want := []string{simaws.DefaultPublicIP, "vpc", host, association, primary(t, c, host), "123456789012", "10.0.0.10", "ap-northeast-1", "Name", "nagaya"}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})
	t.Run("held without an instance", func(t *testing.T) {
		out, err := client.DescribeAddresses(t.Context(), &ec2.DescribeAddressesInput{AllocationIds: []string{other}})
		must(t, err)
		a := out.Addresses[0]
		if a.InstanceId != nil || a.AssociationId == nil || aws.ToString(a.NetworkInterfaceId) != "eni-0nat" {
			t.Errorf("instance %v, association %v, interface %v", a.InstanceId, a.AssociationId, a.NetworkInterfaceId)
		}
	})
}

// stage is a cloud with an interface of this host and three other instances.
type stage struct {
	cloud                       *simaws.Cloud
	mine, theirs, wide, booting string
}

func TestAssociateAddress(t *testing.T) {
	for _, row := range []struct {
		name string
		// before prepares the cloud, in makes the request.
		before func(*testing.T, stage)
		in     func(stage) *ec2.AssociateAddressInput
		code   string
		// holder is who has the address afterwards.
		holder func(stage) string
	}{
		{
			name:   "a free address",
			in:     func(s stage) *ec2.AssociateAddressInput { return toInterface(s.mine, false) },
			holder: func(stage) string { return host },
		},
		{
			name:   "to the only interface of an instance",
			in:     func(stage) *ec2.AssociateAddressInput { return toInstance(host) },
			holder: func(stage) string { return host },
		},
		{
			name:   "an instance with several interfaces",
			in:     func(s stage) *ec2.AssociateAddressInput { return toInstance(s.wide) },
			code:   "InvalidInstanceID",
			holder: nobody,
		},
		{
			name:   "held elsewhere, not to be taken",
			before: func(t *testing.T, s stage) { associate(t, s.cloud, s.theirs) },
			in:     func(s stage) *ec2.AssociateAddressInput { return toInterface(s.mine, false) },
			code:   "Resource.AlreadyAssociated",
			holder: func(s stage) string { return s.theirs },
		},
		{
			name:   "held elsewhere, taken",
			before: func(t *testing.T, s stage) { associate(t, s.cloud, s.theirs) },
			in:     func(s stage) *ec2.AssociateAddressInput { return toInterface(s.mine, true) },
			holder: func(stage) string { return host },
		},
		{
			name:   "mine already, not to be taken",
			before: func(t *testing.T, s stage) { associate(t, s.cloud, host) },
			in:     func(s stage) *ec2.AssociateAddressInput { return toInterface(s.mine, false) },
			holder: func(stage) string { return host },
		},
		{
			name: "the interface has another address",
			before: func(t *testing.T, s stage) {
				other, err := s.cloud.AddAddress(simaws.AddressSpec{})
				must(t, err)
				_, err = s.cloud.Associate(other, host, "")
				must(t, err)
			},
			in:     func(s stage) *ec2.AssociateAddressInput { return toInterface(s.mine, false) },
			code:   "Resource.AlreadyAssociated",
			holder: nobody,
		},
		{
			name: "an address that there is not",
			in: func(s stage) *ec2.AssociateAddressInput {
				in := toInterface(s.mine, false)
				in.AllocationId = aws.String("eipalloc-0dead")
				return in
			},
			code:   "InvalidAllocationID.NotFound",
			holder: nobody,
		},
		{
			name:   "an interface that there is not",
			in:     func(stage) *ec2.AssociateAddressInput { return toInterface("eni-0dead", false) },
			code:   "InvalidNetworkInterfaceID.NotFound",
			holder: nobody,
		},
		{
			name:   "an instance that there is not",
			in:     func(stage) *ec2.AssociateAddressInput { return toInstance("i-00000000000000000") },
			code:   "InvalidInstanceID.NotFound",
			holder: nobody,
		},
		{
			name:   "an instance that is not up yet",
			in:     func(s stage) *ec2.AssociateAddressInput { return toInstance(s.booting) },
			code:   "IncorrectInstanceState",
			holder: nobody,
		},
		{
			name: "by public address",
			in: func(s stage) *ec2.AssociateAddressInput {
				return &ec2.AssociateAddressInput{PublicIp: aws.String(simaws.DefaultPublicIP), InstanceId: aws.String(host)}
			},
			code:   "InvalidParameterCombination",
			holder: nobody,
		},
		{
			name: "a private address that is not there",
			in: func(s stage) *ec2.AssociateAddressInput {
				in := toInterface(s.mine, false)
				in.PrivateIpAddress = aws.String("10.0.0.99")
				return in
			},
			code:   "InvalidParameterValue",
			holder: nobody,
		},
		{
			name: "dry run",
			in: func(s stage) *ec2.AssociateAddressInput {
				in := toInterface(s.mine, true)
				in.DryRun = aws.Bool(true)
				return in
			},
			code:   "DryRunOperation",
			holder: nobody,
		},
		{
			name: "not allowed",
			before: func(t *testing.T, s stage) {
				_, err := s.cloud.AddFault(simaws.Fault{Service: "ec2", Action: "AssociateAddress", Code: "UnauthorizedOperation"})
				must(t, err)
			},
			in:     func(s stage) *ec2.AssociateAddressInput { return toInterface(s.mine, true) },
			code:   "UnauthorizedOperation",
			holder: nobody,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := serve(t, newHand())
			s := stage{
				cloud:   c,
				mine:    primary(t, c, host),
				theirs:  addInstance(t, c, simaws.InstanceSpec{}),
				wide:    addInstance(t, c, simaws.InstanceSpec{ExtraInterfaces: 1}),
				booting: addInstance(t, c, simaws.InstanceSpec{State: "pending"}),
			}
			if row.before != nil {
				row.before(t, s)
			}
			out, err := ec2Client(t, c).AssociateAddress(t.Context(), row.in(s))
			wantCode(t, err, row.code)
			a, _ := c.State().Address(eip)
			if want := row.holder(s); a.InstanceID != want {
				t.Errorf("the address is held by %q, want %q", a.InstanceID, want)
			}
			if err == nil && aws.ToString(out.AssociationId) != a.AssociationID {
				t.Errorf("association %q was answered, %q is there", aws.ToString(out.AssociationId), a.AssociationID)
			}
		})
	}
}

func nobody(stage) string { return "" }

func toInterface(eni string, take bool) *ec2.AssociateAddressInput {
	return &ec2.AssociateAddressInput{AllocationId: aws.String(eip), NetworkInterfaceId: aws.String(eni), AllowReassociation: aws.Bool(take)}
}

func toInstance(id string) *ec2.AssociateAddressInput {
	return &ec2.AssociateAddressInput{AllocationId: aws.String(eip), InstanceId: aws.String(id)}
}

func associate(t *testing.T, c *simaws.Cloud, instance string) string {
	t.Helper()
	id, err := c.Associate(eip, instance, "")
	must(t, err)
	return id
}

func TestAssociationIDsFence(t *testing.T) {
	c := serve(t, newHand())
	client := ec2Client(t, c)
	theirs := addInstance(t, c, simaws.InstanceSpec{})
	first, err := client.AssociateAddress(t.Context(), toInterface(primary(t, c, host), false))
	must(t, err)
	again, err := client.AssociateAddress(t.Context(), toInterface(primary(t, c, host), true))
	must(t, err)
	if *again.AssociationId != *first.AssociationId {
		t.Error("associating what is associated already made a new association")
	}
	stolen := associate(t, c, theirs)
	if stolen == *first.AssociationId {
		t.Error("a new association has an old id")
	}
	_, err = client.DisassociateAddress(t.Context(), &ec2.DisassociateAddressInput{AssociationId: first.AssociationId})
	wantCode(t, err, "InvalidAssociationID.NotFound")
	_, err = client.DisassociateAddress(t.Context(), &ec2.DisassociateAddressInput{AssociationId: aws.String(stolen)})
	must(t, err)
	if a, _ := c.State().Address(eip); a.InstanceID != "" {
		t.Errorf("the address is still held by %s", a.InstanceID)
	}
}

func TestTerminationFreesTheAddress(t *testing.T) {
	c := serve(t, newHand())
	theirs := addInstance(t, c, simaws.InstanceSpec{})
	associate(t, c, theirs)
	for _, row := range []struct{ state, holder string }{
		{"stopped", theirs},
		{"shutting-down", theirs},
		{"terminated", ""},
	} {
		must(t, c.SetState(theirs, row.state))
		if a, _ := c.State().Address(eip); a.InstanceID != row.holder {
			t.Errorf("%s: held by %q, want %q", row.state, a.InstanceID, row.holder)
		}
	}
}

func TestDescribeInstances(t *testing.T) {
	clock := newHand()
	c := serve(t, clock)
	spot := addInstance(t, c, simaws.InstanceSpec{Type: "t3.small", LifeCycle: "spot", ExtraInterfaces: 1, SecondaryPrivateIPs: []string{"10.0.0.77"}})
	client := ec2Client(t, c)
	associate(t, c, host)

	out, err := client.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{host}})
	must(t, err)
	i := out.Reservations[0].Instances[0]
	n := i.NetworkInterfaces[0]
	got := []any{*i.InstanceId, i.InstanceType, i.State.Name, *i.State.Code, i.LaunchTime.UTC(), *i.PrivateIpAddress, *i.PublicIpAddress, *i.Placement.AvailabilityZone, len(i.Tags), *n.NetworkInterfaceId, *n.Attachment.DeviceIndex, *n.Association.PublicIp, *n.PrivateIpAddresses[0].Primary}
	want := []any{host, types.InstanceTypeT3Micro, types.InstanceStateNameRunning, int32(16), clock.now().Add(-24 * time.Hour), "10.0.0.10", simaws.DefaultPublicIP, "ap-northeast-1a", 2, primary(t, c, host), int32(0), simaws.DefaultPublicIP, true}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}

	out, err = client.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{Filters: []types.Filter{{Name: aws.String("instance-state-name"), Values: []string{"terminated"}}}})
	must(t, err)
	if got := *out.Reservations[0].Instances[0].InstanceId; len(out.Reservations) != 1 || got != simaws.DefaultPredecessor {
		t.Errorf("terminated: %s and %d more", got, len(out.Reservations)-1)
	}

	out, err = client.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{spot}})
	must(t, err)
	i = out.Reservations[0].Instances[0]
	if i.InstanceLifecycle != types.InstanceLifecycleTypeSpot || len(i.NetworkInterfaces) != 2 || len(i.NetworkInterfaces[0].PrivateIpAddresses) != 2 {
		t.Errorf("life cycle %q, %d interfaces", i.InstanceLifecycle, len(i.NetworkInterfaces))
	}

	_, err = client.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{"i-00000000000000000"}})
	wantCode(t, err, "InvalidInstanceID.NotFound")
	_, err = client.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{"this-one"}})
	wantCode(t, err, "InvalidInstanceID.Malformed")
}

func TestDescribeCreditSpecifications(t *testing.T) {
	c := serve(t, newHand())
	unlimited := addInstance(t, c, simaws.InstanceSpec{Type: "t3.small"})
	steady := addInstance(t, c, simaws.InstanceSpec{Type: "m5.large"})
	client := ec2Client(t, c)
	for _, row := range []struct {
		name string
		ids  []string
		want map[string]string
	}{
		{"named", []string{host, unlimited, steady}, map[string]string{host: "standard", unlimited: "unlimited", steady: "standard"}},
		{"not named", nil, map[string]string{unlimited: "unlimited"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			out, err := client.DescribeInstanceCreditSpecifications(t.Context(), &ec2.DescribeInstanceCreditSpecificationsInput{InstanceIds: row.ids})
			must(t, err)
			got := map[string]string{}
			for _, s := range out.InstanceCreditSpecifications {
				got[*s.InstanceId] = *s.CpuCredits
			}
			if d := cmp.Diff(row.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDescribeInstanceTypes(t *testing.T) {
	client := ec2Client(t, serve(t, newHand()))
	out, err := client.DescribeInstanceTypes(t.Context(), &ec2.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{"t4g.small"}})
	must(t, err)
	x := out.InstanceTypes[0]
	got := []any{x.InstanceType, *x.BurstablePerformanceSupported, *x.VCpuInfo.DefaultVCpus, *x.MemoryInfo.SizeInMiB, x.ProcessorInfo.SupportedArchitectures, *x.NetworkInfo.MaximumNetworkInterfaces}
	want := []any{types.InstanceType("t4g.small"), true, int32(2), int64(2048), []types.ArchitectureType{"arm64"}, int32(3)}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	out, err = client.DescribeInstanceTypes(t.Context(), &ec2.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{"t8i.medium"}})
	must(t, err)
	if x := out.InstanceTypes[0]; !*x.BurstablePerformanceSupported || *x.MemoryInfo.SizeInMiB != 4096 {
		t.Errorf("t8i.medium: burstable %v, %d MiB", *x.BurstablePerformanceSupported, *x.MemoryInfo.SizeInMiB)
	}
	for _, unknown := range []types.InstanceType{"t9.huge", "t8i.large"} {
		_, err = client.DescribeInstanceTypes(t.Context(), &ec2.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{unknown}})
		wantCode(t, err, "InvalidInstanceType")
	}
}

func TestDescribeTags(t *testing.T) {
	client := ec2Client(t, serve(t, newHand()))
	out, err := client.DescribeTags(t.Context(), &ec2.DescribeTagsInput{Filters: []types.Filter{
		{Name: aws.String("resource-id"), Values: []string{host, eip}},
		{Name: aws.String("key"), Values: []string{"Name"}},
	}})
	must(t, err)
	got := map[string]string{}
	for _, x := range out.Tags {
		got[*x.ResourceId+" "+string(x.ResourceType)] = *x.Value
	}
	want := map[string]string{host + " instance": "nagaya", eip + " elastic-ip": "nagaya"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestStaleAddresses(t *testing.T) {
	clock := newHand()
	c := serve(t, clock)
	client := ec2Client(t, c)
	c.SetConditions(simaws.Conditions{AddressLag: simaws.Duration(2 * time.Second)})
	clock.move(time.Minute)
	associate(t, c, host)
	for _, row := range []struct {
		after time.Duration
		want  string
	}{{0, ""}, {time.Second, ""}, {time.Second, host}} {
		clock.move(row.after)
		out, err := client.DescribeAddresses(t.Context(), &ec2.DescribeAddressesInput{AllocationIds: []string{eip}})
		must(t, err)
		if got := aws.ToString(out.Addresses[0].InstanceId); got != row.want {
			t.Errorf("%s later: held by %q, want %q", row.after, got, row.want)
		}
	}
}

func TestUnknownEC2Action(t *testing.T) {
	_, err := ec2Client(t, serve(t, newHand())).DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{})
	wantCode(t, err, "InvalidAction")
}

func TestFaults(t *testing.T) {
	describe := func(ctx context.Context, client *ec2.Client) error {
		_, err := client.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{})
		return err
	}
	t.Run("a number of times", func(t *testing.T) {
		c := serve(t, newHand())
		client := ec2Client(t, c)
		_, err := c.AddFault(simaws.Fault{Service: "ec2", Action: "DescribeAddresses", Code: "RequestLimitExceeded", Times: 2})
		must(t, err)
		for n, code := range []string{"RequestLimitExceeded", "RequestLimitExceeded", ""} {
			err := describe(t.Context(), client)
			wantCode(t, err, code)
			var response *smithyhttp.ResponseError
			if n == 0 && (!errors.As(err, &response) || response.HTTPStatusCode() != 503) {
				t.Errorf("error %v, want the status 503", err)
			}
		}
		if n := c.Count("ec2", "DescribeAddresses"); n != 3 {
			t.Errorf("%d calls were counted, want 3", n)
		}
	})
	t.Run("until it is cleared", func(t *testing.T) {
		c := serve(t, newHand())
		client := ec2Client(t, c)
		id, err := c.AddFault(simaws.Fault{Service: "ec2", Code: "Unavailable"})
		must(t, err)
		wantCode(t, describe(t.Context(), client), "Unavailable")
		wantCode(t, describe(t.Context(), client), "Unavailable")
		must(t, c.ClearFault(id))
		wantCode(t, describe(t.Context(), client), "")
	})
	t.Run("the SDK retries a throttled call", func(t *testing.T) {
		c := serve(t, newHand())
		_, err := c.AddFault(simaws.Fault{Service: "ec2", Code: "RequestLimitExceeded", Times: 1})
		must(t, err)
		cfg := sdkOn(t, c, host)
		must(t, describe(t.Context(), ec2.NewFromConfig(cfg, func(o *ec2.Options) { o.RetryMaxAttempts = 2 })))
	})
	for _, row := range []struct {
		drop   string
		holder string
	}{{"before", ""}, {"after", host}} {
		t.Run("the answer is lost "+row.drop+" the effect", func(t *testing.T) {
			c := serve(t, newHand())
			client := ec2Client(t, c)
			_, err := c.AddFault(simaws.Fault{Service: "ec2", Action: "AssociateAddress", Drop: row.drop, Times: 1})
			must(t, err)
			_, err = client.AssociateAddress(t.Context(), toInterface(primary(t, c, host), false))
			if err == nil {
				t.Error("an answer came")
			}
			if a, _ := c.State().Address(eip); a.InstanceID != row.holder {
				t.Errorf("held by %q, want %q", a.InstanceID, row.holder)
			}
			if log := c.Calls().Log; !log[len(log)-1].Dropped {
				t.Errorf("the last call is %+v, want it dropped", log[len(log)-1])
			}
		})
	}
	t.Run("a delay outlasts the caller", func(t *testing.T) {
		c := serve(t, newHand())
		client := ec2Client(t, c)
		must(t, describe(t.Context(), client))
		_, err := c.AddFault(simaws.Fault{Service: "ec2", Delay: simaws.Duration(time.Hour)})
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := describe(ctx, client); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want the deadline", err)
		}
	})
	t.Run("only one instance", func(t *testing.T) {
		c := serve(t, newHand())
		theirs := addInstance(t, c, simaws.InstanceSpec{})
		_, err := c.AddFault(simaws.Fault{Service: "ec2", Instance: theirs, Code: "UnauthorizedOperation"})
		must(t, err)
		wantCode(t, describe(t.Context(), ec2Client(t, c)), "")
		wantCode(t, describe(t.Context(), ec2.NewFromConfig(sdkOn(t, c, theirs))), "UnauthorizedOperation")
	})
}

func TestFaultsThatCannotBe(t *testing.T) {
	w := simaws.New(simaws.Options{})
	for _, f := range []simaws.Fault{
		{Service: "sns", Code: "x"},
		{Service: "ec2"},
		{Service: "ec2", Drop: "sometimes"},
		{Service: "ec2", Code: "x", Times: -1},
		{Service: "ec2", Status: 200},
	} {
		if _, err := w.AddFault(f); err == nil {
			t.Errorf("%+v was taken", f)
		}
	}
	if err := w.ClearFault(7); !errors.As(err, new(*simaws.NotFoundError)) {
		t.Errorf("error %v, want a NotFoundError", err)
	}
}
