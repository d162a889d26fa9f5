package claim

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Prove tries every permission that a claim may need by dry runs, which change
// nothing, and checks that each claim names one address that can come here. It
// returns what is wrong; what only a better hand-over needs is a warning. The
// situation must tell the identity.
func Prove(ctx context.Context, o Options, s address.Situation) []problem.Problem {
	c := newClaimer(o, func(address.Report) {})
	c.situation = s
	if len(c.held) == 0 {
		return nil
	}
	if !c.known() {
		return []problem.Problem{{
			Code: "address-identity-unknown", Severity: problem.Error, Subject: "address",
			Text: "the identity of this instance is not known, so nothing about its addresses can be proved",
			Hint: "see what 'nagaya status' says about instance metadata",
		}}
	}
	return c.prove(ctx)
}

func (c *claimer) prove(ctx context.Context) []problem.Problem {
	var err error
	if c.api, err = c.o.API(ctx, c.situation.Identity.Instance.Region); err != nil {
		return []problem.Problem{c.explain(err, "")}
	}
	all, err := c.addresses(ctx)
	if err != nil {
		return []problem.Problem{c.explain(err, "")}
	}
	var ps []problem.Problem
	self := c.situation.Identity.Instance
	known, err := c.instances(ctx, []string{self.ID})
	if err != nil {
		ps = append(ps, c.explain(err, ""))
	}
	c.learn(known)
	found, errs := pick(c.o.Claims, all)
	for i, h := range c.held {
		if errs[i] != nil {
			ps = append(ps, c.explain(errs[i], h.report.Claim))
			continue
		}
		h.report.Known, h.report.Address, h.report.Holder.Kind = true, found[i], c.kind(h, found[i])
	}
	for i, placed := range c.place() {
		if errs[i] == nil {
			ps = append(ps, c.proveClaim(ctx, c.held[i], placed)...)
		}
	}
	if p, ok := c.allowed(ctx, func(o func(*ec2.Options)) error { return c.dryTag(ctx, self.ID, o) }, ""); !ok {
		p.Severity = problem.Warning
		p.Text += " on this instance: stand-bys will see only late that it is leaving"
		ps = append(ps, p)
	}
	problem.Sort(ps)
	return ps
}

// proveClaim tries what would be done with one address.
func (c *claimer) proveClaim(ctx context.Context, h *holding, placed address.Placed) []problem.Problem {
	var ps []problem.Problem
	self := c.situation.Identity.Instance
	if group := address.BorderGroup(self.Region, self.Zone); group != "" && h.report.Address.BorderGroup != "" && group != h.report.Address.BorderGroup {
		return append(ps, c.explain(&abroad{address: h.report.Address.BorderGroup, self: group}, h.report.Claim))
	}
	if placed.Reason != "" {
		return append(ps, c.explain(&noPlace{reason: placed.Reason}, h.report.Claim))
	}
	yes := true
	in := &ec2.AssociateAddressInput{AllocationId: &h.report.Address.AllocationID, NetworkInterfaceId: &placed.Place.InterfaceID, AllowReassociation: &yes, DryRun: &yes}
	if placed.Place.PrivateAddr.IsValid() {
		private := placed.Place.PrivateAddr.String()
		in.PrivateIpAddress = &private
	}
	if p, ok := c.allowed(ctx, func(o func(*ec2.Options)) error { _, err := c.api.AssociateAddress(ctx, in, o); return err }, h.report.Claim); !ok {
		ps = append(ps, p)
	}
	if id := h.report.Address.AssociationID; id != "" && h.report.Holder.Kind != address.Service {
		out := &ec2.DisassociateAddressInput{AssociationId: &id, DryRun: &yes}
		if p, ok := c.allowed(ctx, func(o func(*ec2.Options)) error { _, err := c.api.DisassociateAddress(ctx, out, o); return err }, h.report.Claim); !ok {
			p.Severity = problem.Warning
			p.Text += ": several stand-bys may take the address from each other, and it cannot be released now"
			ps = append(ps, p)
		}
	}
	if p, ok := c.allowed(ctx, func(o func(*ec2.Options)) error { return c.dryTag(ctx, h.report.Address.AllocationID, o) }, h.report.Claim); !ok {
		p.Severity = problem.Warning
		p.Text += " on the address: other instances cannot be told that this one is leaving"
		ps = append(ps, p)
	}
	return ps
}

func (c *claimer) dryTag(ctx context.Context, resource string, o func(*ec2.Options)) error {
	yes, key, value := true, address.SignTag, ""
	_, err := c.api.CreateTags(ctx, &ec2.CreateTagsInput{DryRun: &yes, Resources: []string{resource}, Tags: []types.Tag{{Key: &key, Value: &value}}}, o)
	return err
}

// allowed makes a dry run. EC2 answers one that would have succeeded with the
// error DryRunOperation (EC2 API reference, "Dry run").
func (c *claimer) allowed(ctx context.Context, call func(func(*ec2.Options)) error, claim string) (problem.Problem, bool) {
	if ctx.Err() != nil {
		return problem.Problem{}, true
	}
	err := call(onlyThrottled)
	var api smithy.APIError
	if err == nil || errors.As(err, &api) && api.ErrorCode() == "DryRunOperation" {
		return problem.Problem{}, true
	}
	return c.explain(err, claim), false
}
