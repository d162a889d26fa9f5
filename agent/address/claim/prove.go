package claim

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Proof is one thing that was tried.
type Proof struct {
	// What was tried: an action of EC2, e.g. "ec2:AssociateAddress", or "address",
	// whether a claim names one that can come here.
	What string
	// Claim is the text of the claim that it is about; empty is all.
	Claim string
	// Found is what was found where nothing is wrong.
	Found string
	// Problem is what is wrong; nil when nothing is. What only a better hand-over
	// needs is a warning.
	Problem *problem.Problem
}

// Prove tries every permission that a claim may need by dry runs, which change
// nothing, and checks that each claim names one address that can come here. The
// situation must tell the identity. Nothing is claimed, nothing is proved.
func Prove(ctx context.Context, o Options, s address.Situation) []Proof {
	c := newClaimer(o, func(address.Report) {})
	c.situation = s
	if len(c.held) == 0 {
		return nil
	}
	if !c.known() {
		return []Proof{{What: "address", Problem: &problem.Problem{
			Code: "address-identity-unknown", Severity: problem.Error, Subject: "address",
			Text: "the identity of this instance is not known, so nothing about its addresses can be proved",
			Hint: "see what 'nagaya status' says about instance metadata",
		}}}
	}
	p := &prover{claimer: c}
	p.prove(ctx)
	return p.all
}

// prover is a claimer that only tries.
type prover struct {
	*claimer
	all []Proof
}

func (p *prover) found(what, claim, text string) {
	p.all = append(p.all, Proof{What: what, Claim: claim, Found: text})
}

func (p *prover) wrong(what, claim string, err error) {
	one := p.explain(err, claim)
	p.all = append(p.all, Proof{What: what, Claim: claim, Problem: &one})
}

func (p *prover) prove(ctx context.Context) {
	const see, look, tag = "ec2:DescribeAddresses", "ec2:DescribeInstances", "ec2:CreateTags"
	var err error
	if p.api, err = p.o.API(ctx, p.situation.Identity.Instance.Region); err != nil {
		p.wrong(see, "", err)
		return
	}
	all, err := p.addresses(ctx)
	if err != nil {
		p.wrong(see, "", err)
		return
	}
	p.found(see, "", "allowed")
	self := p.situation.Identity.Instance
	known, err := p.instances(ctx, []string{self.ID})
	if err != nil {
		p.wrong(look, "", err)
	} else {
		p.found(look, "", "allowed")
	}
	p.learn(known)
	found, errs := pick(p.o.Claims, all)
	for i, h := range p.held {
		if errs[i] != nil {
			p.wrong("address", h.report.Claim, errs[i])
			continue
		}
		h.report.Known, h.report.Address, h.report.Holder = true, found[i], address.Holder{Kind: p.kind(h, found[i]), InstanceID: found[i].InstanceID}
	}
	for i, placed := range p.place() {
		if errs[i] == nil {
			p.proveClaim(ctx, p.held[i], placed)
		}
	}
	p.dry(ctx, tag, "", " on this instance: stand-bys will see only late that it is leaving", func(ctx context.Context, o func(*ec2.Options)) error { return p.dryTag(ctx, self.ID, o) })
}

// proveClaim tries what would be done with one address.
func (p *prover) proveClaim(ctx context.Context, h *holding, placed address.Placed) {
	self, a, claim := p.situation.Identity.Instance, h.report.Address, h.report.Claim
	group := address.BorderGroup(self.Region, self.Zone)
	switch {
	case h.report.Holder.Kind == address.Service:
		p.wrong("address", claim, &serviceHeld{a})
		return
	case group != "" && a.BorderGroup != "" && group != a.BorderGroup:
		p.wrong("address", claim, &abroad{address: a.BorderGroup, self: group})
		return
	case placed.Reason != "":
		p.wrong("address", claim, &noPlace{reason: placed.Reason})
		return
	}
	holder := string(h.report.Holder.Kind)
	if h.report.Holder.Kind == address.Other {
		holder = a.InstanceID
	}
	p.found("address", claim, fmt.Sprintf("%s is %s, held by %s; its place here is %s", a.PublicIP, a.AllocationID, holder, placed.Place))
	yes := true
	in := &ec2.AssociateAddressInput{AllocationId: &a.AllocationID, NetworkInterfaceId: &placed.Place.InterfaceID, AllowReassociation: &yes, DryRun: &yes}
	if placed.Place.PrivateAddr.IsValid() {
		private := placed.Place.PrivateAddr.String()
		in.PrivateIpAddress = &private
	}
	p.dry(ctx, "ec2:AssociateAddress", claim, "", func(ctx context.Context, o func(*ec2.Options)) error {
		_, err := p.api.AssociateAddress(ctx, in, o)
		return err
	})
	if a.AssociationID == "" {
		p.found("ec2:DisassociateAddress", claim, "not tried, because nobody holds the address,")
	} else {
		out := &ec2.DisassociateAddressInput{AssociationId: &a.AssociationID, DryRun: &yes}
		p.dry(ctx, "ec2:DisassociateAddress", claim, ": several stand-bys may take the address from each other, and it cannot be released now",
			func(ctx context.Context, o func(*ec2.Options)) error {
				_, err := p.api.DisassociateAddress(ctx, out, o)
				return err
			})
	}
	p.dry(ctx, "ec2:CreateTags", claim, " on the address: other instances cannot be told that this one is leaving",
		func(ctx context.Context, o func(*ec2.Options)) error { return p.dryTag(ctx, a.AllocationID, o) })
}

// dry makes a dry run. EC2 answers one that would have succeeded with the error
// DryRunOperation (EC2 API reference, "Dry run"). What is missing without the
// permission makes it a warning; without that it is an error.
func (p *prover) dry(ctx context.Context, action, claim, missing string, call func(context.Context, func(*ec2.Options)) error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := call(ctx, onlyThrottled)
	var api smithy.APIError
	if err == nil || errors.As(err, &api) && api.ErrorCode() == "DryRunOperation" {
		p.found(action, claim, "allowed")
		return
	}
	one := p.explain(err, claim)
	if missing != "" {
		one.Severity = problem.Warning
		one.Text += missing
	}
	p.all = append(p.all, Proof{What: action, Claim: claim, Problem: &one})
}

func (c *claimer) dryTag(ctx context.Context, resource string, o func(*ec2.Options)) error {
	yes, key, value := true, address.SignTag, ""
	_, err := c.api.CreateTags(ctx, &ec2.CreateTagsInput{DryRun: &yes, Resources: []string{resource}, Tags: []types.Tag{{Key: &key, Value: &value}}}, o)
	return err
}
