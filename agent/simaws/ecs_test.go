package simaws_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/batch"
	batchtypes "github.com/aws/aws-sdk-go-v2/service/batch/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

// attribute is the one attribute of this name and value, for the given target.
func attribute(name, value, target string) []types.Attribute {
	a := types.Attribute{Name: aws.String(name), TargetId: aws.String(target), TargetType: types.TargetTypeContainerInstance}
	if value != "" {
		a.Value = aws.String(value)
	}
	return []types.Attribute{a}
}

func TestPutAttributes(t *testing.T) {
	c := serve(t, newHand())
	client := ecs.NewFromConfig(sdkOn(t, c, host))
	arn := c.State().ContainerInstances[0].ARN
	for _, row := range []struct {
		name string
		in   *ecs.PutAttributesInput
		code string
		want map[string]string
	}{
		{"by ARN", &ecs.PutAttributesInput{Cluster: aws.String("default"), Attributes: attribute("nagaya.batch", "closed", arn)}, "", map[string]string{"nagaya.batch": "closed"}},
		{"by id in the default cluster", &ecs.PutAttributesInput{Attributes: attribute("nagaya.batch", "open", arn[len(arn)-32:])}, "", map[string]string{"nagaya.batch": "open"}},
		{"without a value", &ecs.PutAttributesInput{Attributes: attribute("empty", "", arn)}, "", map[string]string{"nagaya.batch": "open", "empty": ""}},
		{"no such cluster", &ecs.PutAttributesInput{Cluster: aws.String("nowhere"), Attributes: attribute("a", "b", arn)}, "ClusterNotFoundException", nil},
		{"no such target", &ecs.PutAttributesInput{Attributes: attribute("a", "b", "0123")}, "TargetNotFoundException", nil},
		{"a bad name", &ecs.PutAttributesInput{Attributes: attribute("a b", "b", arn)}, "InvalidParameterException", nil},
		{"a bad value", &ecs.PutAttributesInput{Attributes: attribute("a", "b,c", arn)}, "InvalidParameterException", nil},
		{"a reserved name", &ecs.PutAttributesInput{Attributes: attribute("ecs.os-type", "windows", arn)}, "InvalidParameterException", nil},
		{"nothing", &ecs.PutAttributesInput{Attributes: []types.Attribute{}}, "InvalidParameterException", nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := client.PutAttributes(t.Context(), row.in)
			wantCode(t, err, row.code)
			if row.want == nil {
				row.want = map[string]string{"nagaya.batch": "open", "empty": ""}
			}
			if d := cmp.Diff(row.want, c.State().ContainerInstances[0].Attributes); d != "" {
				t.Error(d)
			}
		})
	}
	for n := range 8 {
		_, err := client.PutAttributes(t.Context(), &ecs.PutAttributesInput{Attributes: attribute(fmt.Sprint("more", n), "x", arn)})
		must(t, err)
	}
	_, err := client.PutAttributes(t.Context(), &ecs.PutAttributesInput{Attributes: attribute("eleventh", "x", arn)})
	wantCode(t, err, "AttributeLimitExceededException")
}

func TestListAttributes(t *testing.T) {
	c := serve(t, newHand())
	client := ecs.NewFromConfig(sdkOn(t, c, host))
	arn := c.State().ContainerInstances[0].ARN
	_, err := client.PutAttributes(t.Context(), &ecs.PutAttributesInput{Attributes: attribute("nagaya.batch", "open", arn)})
	must(t, err)
	in := func(name, value string) *ecs.ListAttributesInput {
		return &ecs.ListAttributesInput{TargetType: types.TargetTypeContainerInstance, AttributeName: aws.String(name), AttributeValue: aws.String(value)}
	}
	for _, row := range []struct {
		name, value string
		want        int
	}{{"nagaya.batch", "", 1}, {"nagaya.batch", "open", 1}, {"nagaya.batch", "closed", 0}, {"ecs.instance-type", "t3.micro", 1}} {
		out, err := client.ListAttributes(t.Context(), in(row.name, row.value))
		must(t, err)
		if len(out.Attributes) != row.want {
			t.Errorf("%s=%s: %d attributes, want %d", row.name, row.value, len(out.Attributes), row.want)
		}
		for _, a := range out.Attributes {
			if aws.ToString(a.TargetId) != arn {
				t.Errorf("target %q", aws.ToString(a.TargetId))
			}
		}
	}
	pages, all := 0, 0
	for p := ecs.NewListAttributesPaginator(client, &ecs.ListAttributesInput{TargetType: types.TargetTypeContainerInstance, MaxResults: aws.Int32(4)}); p.HasMorePages(); pages++ {
		out, err := p.NextPage(t.Context())
		must(t, err)
		all += len(out.Attributes)
	}
	if pages != 3 || all != 9 {
		t.Errorf("%d attributes on %d pages, want 9 on 3", all, pages)
	}
}

func TestDescribeContainerInstances(t *testing.T) {
	clock := newHand()
	c := serve(t, clock)
	client := ecs.NewFromConfig(sdkOn(t, c, host))
	arn := c.State().ContainerInstances[0].ARN
	must(t, c.SetTasks(host, []byte(`{"Tasks":[{"KnownStatus":"RUNNING"},{"KnownStatus":"RUNNING"},{"KnownStatus":"PENDING"},{"KnownStatus":"STOPPED"}]}`)))
	out, err := client.DescribeContainerInstances(t.Context(), &ecs.DescribeContainerInstancesInput{ContainerInstances: []string{arn, "0123456789abcdef0123456789abcdef"}})
	must(t, err)
	x := out.ContainerInstances[0]
	got := []any{*x.ContainerInstanceArn, *x.Ec2InstanceId, *x.Status, x.AgentConnected, x.RunningTasksCount, x.PendingTasksCount, x.RegisteredAt.UTC(), x.RegisteredResources[0].IntegerValue}
	want := []any{arn, host, "ACTIVE", true, int32(2), int32(1), clock.now(), int32(2048)}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if f := out.Failures; len(f) != 1 || aws.ToString(f[0].Reason) != "MISSING" {
		t.Errorf("failures %+v", f)
	}
}

func TestUnknownECSAction(t *testing.T) {
	_, err := ecs.NewFromConfig(sdkOn(t, serve(t, newHand()), host)).ListClusters(t.Context(), nil)
	wantCode(t, err, "UnknownOperationException")
}

func TestComputeEnvironments(t *testing.T) {
	clock := newHand()
	c := serve(t, clock)
	client := batch.NewFromConfig(sdkOn(t, c, host))
	state := func() string {
		out, err := client.DescribeComputeEnvironments(t.Context(), &batch.DescribeComputeEnvironmentsInput{ComputeEnvironments: []string{"night"}})
		must(t, err)
		return string(out.ComputeEnvironments[0].State) + " " + string(out.ComputeEnvironments[0].Status)
	}
	update := func(name string, s batchtypes.CEState) error {
		_, err := client.UpdateComputeEnvironment(t.Context(), &batch.UpdateComputeEnvironmentInput{ComputeEnvironment: aws.String(name), State: s})
		return err
	}
	out, err := client.DescribeComputeEnvironments(t.Context(), &batch.DescribeComputeEnvironmentsInput{})
	must(t, err)
	e := out.ComputeEnvironments[0]
	if want := "arn:aws:ecs:ap-northeast-1:123456789012:cluster/night_Batch_" + *e.Uuid; len(out.ComputeEnvironments) != 1 || *e.EcsClusterArn != want || e.Type != batchtypes.CETypeUnmanaged {
		t.Errorf("%s, %s", *e.EcsClusterArn, e.Type)
	}
	if got := state(); got != "ENABLED VALID" {
		t.Error(got)
	}
	must(t, update("night", batchtypes.CEStateDisabled))
	if got := state(); got != "DISABLED VALID" {
		t.Error(got)
	}
	c.SetConditions(simaws.Conditions{BatchUpdateTakes: simaws.Duration(time.Minute)})
	must(t, update(*e.ComputeEnvironmentArn, batchtypes.CEStateEnabled))
	if got := state(); got != "ENABLED UPDATING" {
		t.Error(got)
	}
	wantCode(t, update("night", batchtypes.CEStateDisabled), "ClientException")
	clock.move(time.Minute)
	if got := state(); got != "ENABLED VALID" {
		t.Error(got)
	}
	wantCode(t, update("day", batchtypes.CEStateDisabled), "ClientException")
	wantCode(t, update("night", "PAUSED"), "ClientException")

	out, err = client.DescribeComputeEnvironments(t.Context(), &batch.DescribeComputeEnvironmentsInput{ComputeEnvironments: []string{"day"}})
	must(t, err)
	if len(out.ComputeEnvironments) != 0 {
		t.Errorf("%d environments for a name that there is not", len(out.ComputeEnvironments))
	}
	_, err = client.DescribeJobs(t.Context(), &batch.DescribeJobsInput{Jobs: []string{"x"}})
	wantCode(t, err, "UnknownOperationException")
}
