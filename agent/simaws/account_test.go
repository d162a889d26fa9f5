package simaws_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/batch"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

// one returns the default address as DescribeAddresses shows it.
func one(t *testing.T, client *ec2.Client) types.Address {
	t.Helper()
	out, err := client.DescribeAddresses(t.Context(), &ec2.DescribeAddressesInput{AllocationIds: []string{eip}})
	must(t, err)
	return out.Addresses[0]
}

func tagsOf(a types.Address) map[string]string {
	tags := map[string]string{}
	for _, tag := range a.Tags {
		tags[*tag.Key] = *tag.Value
	}
	return tags
}

func TestTagsOnAddresses(t *testing.T) {
	c := serve(t, newHand())
	client := ec2Client(t, c)
	create := func(id, key string, value *string) error {
		_, err := client.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{id}, Tags: []types.Tag{{Key: &key, Value: value}}})
		return err
	}
	remove := func(tags ...types.Tag) error {
		_, err := client.DeleteTags(t.Context(), &ec2.DeleteTagsInput{Resources: []string{eip}, Tags: tags})
		return err
	}
	wantTags := func(want map[string]string) {
		t.Helper()
		if d := cmp.Diff(want, tagsOf(one(t, client))); d != "" {
			t.Error(d)
		}
	}
	must(t, create(eip, "sign", aws.String("one")))
	must(t, create(eip, "sign", aws.String("two")))
	must(t, create(eip, "empty", nil))
	wantTags(map[string]string{"Name": "nagaya", "sign": "two", "empty": ""})
	must(t, remove(types.Tag{Key: aws.String("sign"), Value: aws.String("one")}, types.Tag{Key: aws.String("empty")}))
	wantTags(map[string]string{"Name": "nagaya", "sign": "two"})
	must(t, create(host, "bell", aws.String("rung")))
	if i, _ := c.State().Instance(host); i.Tags["bell"] != "rung" {
		t.Errorf("tags of the instance: %v", i.Tags)
	}
	must(t, remove())
	wantTags(map[string]string{})

	for _, row := range []struct{ id, key, code string }{
		{"eipalloc-0dead", "k", "InvalidAllocationID.NotFound"},
		{"i-00000000000000009", "k", "InvalidInstanceID.NotFound"},
		{"vol-1", "k", "InvalidID"},
		{eip, "aws:k", "InvalidParameterValue"},
		{eip, string(make([]byte, 129)), "InvalidParameterValue"},
	} {
		wantCode(t, create(row.id, row.key, aws.String("v")), row.code)
	}
	wantCode(t, create(eip, "k", aws.String(string(make([]byte, 257)))), "InvalidParameterValue")
	_, err := client.CreateTags(t.Context(), &ec2.CreateTagsInput{DryRun: aws.Bool(true), Resources: []string{eip}, Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}})
	wantCode(t, err, "DryRunOperation")
	wantTags(map[string]string{})
}

// Answers are of different ages, as if different servers gave them.
func TestAddressesOfDifferentAges(t *testing.T) {
	clock := newHand()
	c := serve(t, clock)
	client := ec2Client(t, c)
	clock.move(time.Minute)
	c.SetConditions(simaws.Conditions{AddressLagMost: simaws.Duration(10 * time.Second)})
	associate(t, c, host)
	must(t, c.SetAddressTags(eip, map[string]string{"sign": "new"}))
	clock.move(5 * time.Second)
	old, young := 0, 0
	for range 40 {
		held := aws.ToString(one(t, client).InstanceId)
		out, err := client.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{host}})
		must(t, err)
		shown := aws.ToString(out.Reservations[0].Instances[0].PublicIpAddress)
		for _, fresh := range []bool{held == host, shown == simaws.DefaultPublicIP} {
			if fresh {
				young++
			} else {
				old++
			}
		}
	}
	if old < 10 || young < 10 {
		t.Errorf("%d old answers and %d young ones of 80", old, young)
	}
	clock.move(5 * time.Second)
	for range 20 {
		if a := one(t, client); aws.ToString(a.InstanceId) != host || tagsOf(a)["sign"] != "new" {
			t.Fatalf("after the longest lag: %+v", a)
		}
	}
}

func TestAddressesOfServices(t *testing.T) {
	for name, spec := range map[string]simaws.AddressSpec{
		"of a NAT gateway":       {ForeignInterface: "eni-0nat"},
		"managed by a service":   {ServiceManaged: "alb"},
		"of another Local Zone":  {BorderGroup: "us-west-2-lax-1"},
		"held and managed, both": {ForeignInterface: "eni-0alb", ServiceManaged: "alb"},
	} {
		t.Run(name, func(t *testing.T) {
			c := serve(t, newHand())
			id, err := c.AddAddress(spec)
			must(t, err)
			client := ec2Client(t, c)
			in := toInterface(primary(t, c, host), true)
			in.AllocationId = &id
			_, err = client.AssociateAddress(t.Context(), in)
			want := "AuthFailure"
			if spec.BorderGroup != "" {
				want = "InvalidParameterValue"
			}
			wantCode(t, err, want)
			out, err := client.DescribeAddresses(t.Context(), &ec2.DescribeAddressesInput{AllocationIds: []string{id}})
			must(t, err)
			a := out.Addresses[0]
			if string(a.ServiceManaged) != spec.ServiceManaged {
				t.Errorf("managed by %q", a.ServiceManaged)
			}
			if a.AssociationId != nil {
				_, err = client.DisassociateAddress(t.Context(), &ec2.DisassociateAddressInput{AssociationId: a.AssociationId})
				wantCode(t, err, "AuthFailure")
			}
		})
	}
	c := serve(t, newHand())
	there := addInstance(t, c, simaws.InstanceSpec{Zone: "-lax-1a", BorderGroup: "ap-northeast-1-lax-1"})
	id, err := c.AddAddress(simaws.AddressSpec{BorderGroup: "ap-northeast-1-lax-1"})
	must(t, err)
	in := toInterface(primary(t, c, there), false)
	in.AllocationId = &id
	_, err = ec2Client(t, c).AssociateAddress(t.Context(), in)
	must(t, err)
}

func TestRolesThatMayLittle(t *testing.T) {
	c := serve(t, newHand())
	cfg := sdkOn(t, c, host)
	client := ec2.NewFromConfig(cfg)
	tag := func(dry bool) error {
		_, err := client.CreateTags(t.Context(), &ec2.CreateTagsInput{DryRun: &dry, Resources: []string{eip}, Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}})
		return err
	}
	put := func() error {
		_, err := ecs.NewFromConfig(cfg).ListAttributes(t.Context(), &ecs.ListAttributesInput{TargetType: "container-instance", Cluster: aws.String("default")})
		return err
	}
	environments := func() error {
		_, err := batch.NewFromConfig(cfg).DescribeComputeEnvironments(t.Context(), &batch.DescribeComputeEnvironmentsInput{})
		return err
	}
	for _, row := range []struct {
		allow                  []string
		tag, dry, put, compute string
	}{
		{nil, "", "DryRunOperation", "", ""},
		{[]string{}, "UnauthorizedOperation", "UnauthorizedOperation", "AccessDeniedException", "AccessDeniedException"},
		{[]string{"ec2:CreateTags", "ecs:*"}, "", "DryRunOperation", "", "AccessDeniedException"},
		{[]string{"ec2:Describe*", "batch:DescribeComputeEnvironments"}, "UnauthorizedOperation", "UnauthorizedOperation", "AccessDeniedException", ""},
	} {
		must(t, c.SetAllow(host, row.allow))
		wantCode(t, tag(true), row.dry)
		wantCode(t, tag(false), row.tag)
		wantCode(t, put(), row.put)
		wantCode(t, environments(), row.compute)
	}
	must(t, c.SetAllow(host, []string{"cloudwatch:GetMetricStatistics"}))
	must(t, askAll["cloudwatch"](t, cfg))
}

func TestRoleIsUnknownAtFirst(t *testing.T) {
	clock := newHand()
	c := serve(t, clock)
	c.SetConditions(simaws.Conditions{RoleUnknown: simaws.Duration(time.Minute)})
	fresh := addInstance(t, c, simaws.InstanceSpec{})
	client := ec2.NewFromConfig(sdkOn(t, c, fresh))
	for _, code := range []string{"AuthFailure", ""} {
		_, err := client.DescribeAddresses(t.Context(), &ec2.DescribeAddressesInput{})
		wantCode(t, err, code)
		clock.move(time.Minute)
	}
}

// The buckets are AWS's: 100 Describe calls at once and 20 a second, 50 and 10 of
// those that ask for everything, 50 and 5 of those that change something.
func TestTokenBuckets(t *testing.T) {
	clock := newHand()
	c := serve(t, clock)
	c.SetConditions(simaws.Conditions{Throttling: true})
	client := ec2Client(t, c)
	filter := []types.Filter{{Name: aws.String("instance-id"), Values: []string{host}}}
	rows := []struct {
		name       string
		size, fill int
		call       func() error
	}{
		{"describe", 100, 20, func() error {
			_, err := client.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{Filters: filter})
			return err
		}},
		{"everything", 50, 10, func() error {
			_, err := client.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{})
			return err
		}},
		{"change", 50, 5, func() error {
			_, err := client.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{eip}, Tags: []types.Tag{{Key: aws.String("k")}}})
			return err
		}},
	}
	through := func(call func() error) (n int) {
		for {
			err := call()
			if api := smithy.APIError(nil); errors.As(err, &api) && api.ErrorCode() == "RequestLimitExceeded" {
				return n
			}
			must(t, err)
			n++
		}
	}
	for _, row := range rows {
		if n := through(row.call); n != row.size {
			t.Errorf("%s: %d calls at once, want %d", row.name, n, row.size)
		}
	}
	clock.move(2 * time.Second)
	for _, row := range rows {
		if n := through(row.call); n != 2*row.fill {
			t.Errorf("%s: %d calls two seconds later, want %d", row.name, n, 2*row.fill)
		}
	}
}

func TestCallsOfEachInstance(t *testing.T) {
	c := serve(t, newHand())
	other := addInstance(t, c, simaws.InstanceSpec{})
	mine, theirs := ec2Client(t, c), ec2.NewFromConfig(sdkOn(t, c, other))
	one(t, mine)
	one(t, theirs)
	one(t, theirs)
	if a, b := c.CountBy(host, "ec2", "DescribeAddresses"), c.CountBy(other, "ec2", "DescribeAddresses"); a != 1 || b != 2 {
		t.Errorf("%d and %d calls, want 1 and 2", a, b)
	}
	if n := c.Calls().ByInstance[other]["ec2"]["DescribeAddresses"]; n != 2 {
		t.Errorf("%d calls in the book, want 2", n)
	}
}

// Two hosts see the same association, each in its own metadata, and whoever keeps
// the network is told where each public address leads.
func TestAddressMovesBetweenHosts(t *testing.T) {
	var told [][]simaws.PublicAddress
	w := simaws.New(simaws.Options{Moved: func(all []simaws.PublicAddress) { told = append(told, all) }})
	_, err := w.Populate("default", simaws.ScenarioOptions{})
	must(t, err)
	c, err := simaws.Serve(w, simaws.ServeOptions{})
	must(t, err)
	t.Cleanup(c.Close)
	other := addInstance(t, c, simaws.InstanceSpec{PrivateIP: "10.0.0.20", SecondaryPrivateIPs: []string{"10.0.0.21"}, NoAutoPublicIP: true})
	auto, _ := c.State().Instance(host)
	_, err = c.Associate(eip, host, "")
	must(t, err)
	_, err = c.Associate(eip, other, "10.0.0.21")
	must(t, err)
	again, _ := c.State().Instance(host)
	if got := again.PublicIPs; len(got) != 1 || got[0] == simaws.DefaultPublicIP || got[0] == auto.PublicIPs[0] {
		t.Errorf("the host that lost the address has %v, before that %v; want another auto-assigned one", got, auto.PublicIPs)
	}
	want := [][]simaws.PublicAddress{
		{{PublicIP: auto.PublicIPs[0], PrivateIP: "10.0.0.10", Instance: host}},
		{{PublicIP: simaws.DefaultPublicIP, PrivateIP: "10.0.0.10", Instance: host}},
		{{PublicIP: again.PublicIPs[0], PrivateIP: "10.0.0.10", Instance: host}, {PublicIP: simaws.DefaultPublicIP, PrivateIP: "10.0.0.21", Instance: other}},
	}
	for _, all := range append(told, want...) {
		slices.SortFunc(all, func(a, b simaws.PublicAddress) int { return strings.Compare(a.PrivateIP, b.PrivateIP) })
	}
	if d := cmp.Diff(want, told); d != "" {
		t.Error(d)
	}
	for id, path := range map[string]string{host: again.PublicIPs[0], other: simaws.DefaultPublicIP} {
		i, _ := c.State().Instance(id)
		base := c.Endpoints().IMDS[id]
		_, text := plain(t, http.MethodGet, base+"/latest/meta-data/network/interfaces/macs/"+i.MAC+"/public-ipv4s", map[string]string{tokenName: token(t, base)})
		if text != path {
			t.Errorf("metadata of %s shows %q, want %q", id, text, path)
		}
	}
}
