package publish

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/batch"
	batchtypes "github.com/aws/aws-sdk-go-v2/service/batch/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/nagaya-ecs/nagaya/agent/awserror"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Attributes is the one call to ECS.
type Attributes interface {
	PutAttributes(context.Context, *ecs.PutAttributesInput, ...func(*ecs.Options)) (*ecs.PutAttributesOutput, error)
}

// ComputeEnvironments is the one call to AWS Batch.
type ComputeEnvironments interface {
	UpdateComputeEnvironment(context.Context, *batch.UpdateComputeEnvironmentInput, ...func(*batch.Options)) (*batch.UpdateComputeEnvironmentOutput, error)
}

// Attribute is the name of the container instance's attribute; its value is open or closed. A
// placement constraint reads it: memberOf(attribute:nagaya.batch == open).
const Attribute = "nagaya.batch"

// reaffirm is how often the attribute is set again: it is lost when the instance registers anew.
const reaffirm = time.Hour

var errNoInstance = errors.New("the ECS agent on this host has not told its container instance yet")

// attribute sets the attribute of this container instance.
type attribute struct {
	api    Attributes
	where  func() identity.ECS
	region func() string
}

func (a attribute) name() string         { return "ecs-attribute" }
func (a attribute) again() time.Duration { return reaffirm }
func (a attribute) every() bool          { return false }

func (a attribute) target() string {
	if e := a.where(); e.Known && e.ContainerInstanceARN != "" {
		return e.ContainerInstanceARN
	}
	return "this container instance"
}

func (a attribute) tell(ctx context.Context, d gate.Decision) error {
	e := a.where()
	if !e.Known || e.ContainerInstanceARN == "" || e.Cluster == "" {
		return errNoInstance
	}
	name, value := Attribute, gate.Word(d.Open)
	_, err := a.api.PutAttributes(ctx, &ecs.PutAttributesInput{
		Cluster: &e.Cluster,
		Attributes: []ecstypes.Attribute{{
			Name: &name, Value: &value, TargetType: ecstypes.TargetTypeContainerInstance, TargetId: &e.ContainerInstanceARN,
		}},
	}, func(o *ecs.Options) {
		if r := a.region(); r != "" {
			o.Region = r
		}
	})
	return err
}

func (a attribute) problem(err error) problem.Problem {
	p := problem.Problem{
		Code: "ecs-attribute-failed", Severity: problem.Error, Subject: "ECS",
		Text: awserror.Sentence("the attribute "+Attribute+" cannot be set", err),
		Hint: "see that the instance has a role and reaches ECS of its Region; nagaya tries again by itself",
	}
	switch {
	case errors.Is(err, errNoInstance):
		p.Code, p.Severity = "ecs-instance-unknown", problem.Warning
		p.Hint = "start the ECS agent, or leave the attribute out of the configuration"
	case awserror.Denied(err):
		p.Code, p.Hint = "ecs-attribute-denied", "allow the action ecs:PutAttributes to the instance's role"
	}
	return p
}

// environment enables and disables a compute environment: while it is disabled, AWS Batch keeps the jobs
// of its queues and starts none; what runs goes on (AWS Batch API Reference, UpdateComputeEnvironment).
type environment struct {
	api         ComputeEnvironments
	environment string
	region      func() string
}

func (e environment) name() string         { return "batch" }
func (e environment) target() string       { return e.environment }
func (e environment) again() time.Duration { return 0 }
func (e environment) every() bool          { return false }

func (e environment) tell(ctx context.Context, d gate.Decision) error {
	state := batchtypes.CEStateDisabled
	if d.Open {
		state = batchtypes.CEStateEnabled
	}
	_, err := e.api.UpdateComputeEnvironment(ctx, &batch.UpdateComputeEnvironmentInput{
		ComputeEnvironment: &e.environment, State: state,
	}, func(o *batch.Options) {
		if r := e.region(); r != "" {
			o.Region = r
		}
	})
	return err
}

func (e environment) problem(err error) problem.Problem {
	p := problem.Problem{
		Code: "batch-environment-failed", Severity: problem.Error, Subject: "compute environment " + e.environment,
		Text: awserror.Sentence("the compute environment cannot be enabled or disabled", err),
		Hint: "see that it exists and is VALID; nagaya tries again by itself",
	}
	if awserror.Denied(err) {
		p.Code, p.Hint = "batch-environment-denied", "allow the action batch:UpdateComputeEnvironment to the instance's role"
	}
	return p
}
