package publish

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/batch"
	batchtypes "github.com/aws/aws-sdk-go-v2/service/batch/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/nagaya-ecs/nagaya/agent/atomicfile"
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

// reaffirm is how often the attribute is set again: it is lost when the instance registers again.
const reaffirm = time.Hour

// outlet is one place where the decision is published.
type outlet struct {
	name   string
	target func(identity.Identity) string
	// publish is idempotent. It may fail; it is then tried again.
	publish func(context.Context, message) error
	// every is whether each decision matters and not only whether the gate is open.
	every bool
	// again is when it must be published again although the gate has not changed; 0 for never.
	again time.Duration
	// failed is the problem of a failure; its code and hint are those of denied where a permission is missing.
	failed, denied problem.Problem
}

func (o outlet) problem(err error) problem.Problem {
	p := o.failed
	p.Severity, p.Text = problem.Error, awserror.Sentence(p.Text, err)
	switch {
	case errors.Is(err, errNoInstance):
		p.Code, p.Severity = "ecs-instance-unknown", problem.Warning
		p.Hint = "start the ECS agent, or leave the attribute out of the configuration"
	case o.denied.Code != "" && awserror.Denied(err):
		p.Code, p.Hint = o.denied.Code, o.denied.Hint
	}
	return p
}

func (o Options) outlets() []outlet {
	var outs []outlet
	if o.File != "" {
		outs = append(outs, file(o.File))
	}
	if o.ECS != nil {
		outs = append(outs, attribute(o.ECS))
	}
	if o.Batch != nil && o.ComputeEnvironment != "" {
		outs = append(outs, environment(o.Batch, o.ComputeEnvironment))
	}
	return outs
}

// file writes the decision as JSON. A reader sees the old file or the new one, never
// a part; after valid_until it must take the gate as closed, because the writer may have been killed.
func file(path string) outlet {
	return outlet{
		name: "file", every: true, target: func(identity.Identity) string { return path },
		failed: problem.Problem{
			Code: "gate-file-failed", Subject: "file " + path, File: path, Text: "the gate's file cannot be written",
			Hint: "make its directory writable for nagaya, with room left; readers take an old file as closed",
		},
		publish: func(_ context.Context, m message) error {
			text, err := json.MarshalIndent(m.Decision, "", "  ")
			if err != nil {
				return fmt.Errorf("encoding the decision: %w", err)
			}
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			// Everybody may read it: cron jobs and containers run as anyone.
			return atomicfile.Write(path, append(text, '\n'), 0o644)
		},
	}
}

var errNoInstance = errors.New("the ECS agent on this host has not reported its container instance yet")

// attribute sets the attribute of this container instance.
func attribute(api Attributes) outlet {
	return outlet{
		name: "ecs-attribute", again: reaffirm,
		target: func(who identity.Identity) string {
			if who.ECS.Known {
				return cmp.Or(who.ECS.ContainerInstanceARN, "this container instance")
			}
			return "this container instance"
		},
		failed: problem.Problem{
			Code: "ecs-attribute-failed", Subject: "ECS", Text: "the attribute " + Attribute + " cannot be set",
			Hint: "see that the instance has a role and reaches ECS of its Region; nagaya tries again by itself",
		},
		denied: problem.Problem{Code: "ecs-attribute-denied", Hint: "allow the action ecs:PutAttributes to the instance's role"},
		publish: func(ctx context.Context, m message) error {
			e, name, value := m.who.ECS, Attribute, gate.Word(m.Open)
			if !e.Known || e.ContainerInstanceARN == "" || e.Cluster == "" {
				return errNoInstance
			}
			_, err := api.PutAttributes(ctx, &ecs.PutAttributesInput{
				Cluster: &e.Cluster,
				Attributes: []ecstypes.Attribute{{
					Name: &name, Value: &value, TargetType: ecstypes.TargetTypeContainerInstance, TargetId: &e.ContainerInstanceARN,
				}},
			}, func(o *ecs.Options) { o.Region = cmp.Or(m.who.Instance.Region, o.Region) })
			return err
		},
	}
}

// environment enables and disables a compute environment: while it is disabled, AWS Batch keeps the jobs
// of its queues and starts none; what runs goes on (AWS Batch API Reference, UpdateComputeEnvironment).
func environment(api ComputeEnvironments, name string) outlet {
	return outlet{
		name: "batch", target: func(identity.Identity) string { return name },
		failed: problem.Problem{
			Code: "batch-environment-failed", Subject: "compute environment " + name,
			Text: "the compute environment cannot be enabled or disabled",
			Hint: "see that it exists and is VALID; nagaya tries again by itself",
		},
		denied: problem.Problem{Code: "batch-environment-denied", Hint: "allow the action batch:UpdateComputeEnvironment to the instance's role"},
		publish: func(ctx context.Context, m message) error {
			state := batchtypes.CEStateDisabled
			if m.Open {
				state = batchtypes.CEStateEnabled
			}
			_, err := api.UpdateComputeEnvironment(ctx, &batch.UpdateComputeEnvironmentInput{ComputeEnvironment: &name, State: state},
				func(o *batch.Options) { o.Region = cmp.Or(m.who.Instance.Region, o.Region) })
			return err
		},
	}
}
