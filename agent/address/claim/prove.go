package claim

import (
	"context"
	"fmt"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/awserror"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Prove tries every permission that a claim may need by dry runs, which change
// nothing, and checks that each claim names one address that can come here. The
// situation must tell the identity. Without a claim there is nothing to prove.
func Prove(ctx context.Context, o Options, x address.Situation) []address.Proof {
	p := &prover{claimer: newClaimer(o, nil)}
	p.situation = x
	switch {
	case len(p.states) == 0:
	case !p.active():
		why := problem.Of("address", "address-identity-unknown", "see what 'nagaya status' says about instance metadata",
			"the identity of this instance is not known, so nothing about its addresses can be proved")
		p.all = []address.Proof{{What: "address", Problem: &why}}
	default:
		p.prove(ctx)
	}
	return p.all
}

// prover is a claimer that only tries.
type prover struct {
	*claimer
	all []address.Proof
}

// add notes what was tried, and what was found unless there is an error.
func (p *prover) add(what, claim, found string, err error) {
	one := address.Proof{What: what, Claim: claim, Found: found}
	if err != nil {
		why := p.explain(err, claim)
		one.Found, one.Problem = "", &why
	}
	p.all = append(p.all, one)
}

// addDryRun notes a dry run. EC2 answers one that would have succeeded with the error
// DryRunOperation (EC2 API reference, "Dry run"). It is a warning where something is only
// missing without the permission.
func (p *prover) addDryRun(action, claim, missing string, err error) {
	if awserror.Code(err) == "DryRunOperation" {
		err = nil
	}
	p.add(action, claim, "allowed", err)
	if err != nil && missing != "" {
		why := p.all[len(p.all)-1].Problem
		why.Severity = problem.Warning
		why.Text += missing
	}
}

func (p *prover) prove(ctx context.Context) {
	p.api = p.o.API(p.self().Region)
	all, err := addresses(ctx, p.api)
	p.add("ec2:DescribeAddresses", "", "allowed", err)
	if err != nil {
		return
	}
	found, errs := pick(p.o.Claims, all, p.self().Region)
	described, err := instances(ctx, p.api, []string{p.self().ID}, found)
	p.add("ec2:DescribeInstances", "", "allowed", err)
	p.setOwn(described)
	for i, s := range p.states {
		if errs[i] == nil {
			s.Report.Known, s.Report.Address = true, found[i]
			s.Report.Holder = address.Holder{Kind: address.KindOfHolder(found[i], p.self()), InstanceID: found[i].InstanceID}
		}
	}
	places := p.places()
	for i, s := range p.states {
		if errs[i] == nil && s.Report.Holder.Kind == address.Service {
			by := "on network interface " + found[i].InterfaceID + ", which belongs to no instance (a NAT gateway, a load balancer, or an interface that is not attached)"
			if service := found[i].ServiceManaged; service != "" {
				by = "managed by a service of AWS (" + service + ")"
			}
			errs[i] = newFault("address-of-a-service", problem.Error, "let address.claim name another Elastic IP, or disassociate this one from what holds it", "the address is %s, and is never taken from it", by)
		}
		if errs[i] == nil {
			errs[i] = placeError(found[i], places[i], p.self())
		}
		if errs[i] != nil {
			p.add("address", s.Report.Claim, "", errs[i])
			continue
		}
		p.proveClaim(ctx, s, places[i].Place)
	}
	p.addDryRun("ec2:CreateTags", "", " on this instance: standby instances will see only late that it is leaving", writeTag(ctx, p.api, p.self().ID, "", true))
	if last := &p.all[len(p.all)-1]; last.Problem == nil {
		last.Found = "allowed on this instance"
	}
}

// proveClaim tries what would be done with one address.
func (p *prover) proveClaim(ctx context.Context, s *address.State, at address.Place) {
	a, claim, holder := s.Report.Address, s.Report.Claim, string(s.Report.Holder.Kind)
	if s.Report.Holder.Kind == address.Other {
		holder = a.InstanceID
	}
	p.add("address", claim, fmt.Sprintf("%s is %s, held by %s; its place here is %s", a.PublicIP, a.AllocationID, holder, at), nil)
	_, err := associate(ctx, p.api, a.AllocationID, at, true, true)
	p.addDryRun("ec2:AssociateAddress", claim, "", err)
	if a.AssociationID == "" {
		p.add("ec2:DisassociateAddress", claim, "not tried, because the address is free,", nil)
	} else {
		p.addDryRun("ec2:DisassociateAddress", claim, ": several standby instances may take the address from each other, and it cannot be released now", disassociate(ctx, p.api, a.AssociationID, true))
	}
	p.addDryRun("ec2:CreateTags", claim, " on the address: other instances cannot be told that this one is leaving", writeTag(ctx, p.api, a.AllocationID, "", true))
}
