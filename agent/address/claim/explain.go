package claim

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/awserror"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// filters select the claimed address. They are used for all three forms, the
// allocation id too: an unknown id in a filter is an empty answer rather than an
// error, so "not found" looks the same however it was named.
func filters(c address.Claim) []types.Filter {
	name, value := "allocation-id", c.AllocationID
	switch {
	case c.PublicIP.IsValid():
		name, value = "public-ip", c.PublicIP.String()
	case c.TagKey != "":
		name, value = "tag:"+c.TagKey, c.TagValue
	}
	return []types.Filter{{Name: &name, Values: []string{value}}}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// notOne is the error of a claim that names no address, or several.
type notOne struct{ all []address.Address }

func (e *notOne) Error() string {
	if len(e.all) == 0 {
		return "the claim names no Elastic IP of this account and Region"
	}
	var names []string
	for _, a := range e.all[:min(len(e.all), 5)] {
		names = append(names, fmt.Sprintf("%s (%s)", a.AllocationID, a.PublicIP))
	}
	return fmt.Sprintf("the claim names %d Elastic IPs: %s", len(e.all), strings.Join(names, ", "))
}

// unverified is the error of an association that EC2 confirmed and then did not show.
type unverified struct {
	association, found string
	err                error
}

func (e *unverified) Error() string {
	if e.err != nil {
		return fmt.Sprintf("association %s could not be verified: %v", e.association, e.err)
	}
	return fmt.Sprintf("association %s was replaced by %q", e.association, e.found)
}

func (e *unverified) Unwrap() error { return e.err }

// explain turns an error into the problem that an operator reads.
func (c *claimer) explain(err error) problem.Problem {
	p := problem.Problem{Code: "address-failed", Severity: problem.Error, Subject: "address " + c.o.Claim.String(), Text: bounded(err.Error()), Hint: "it is tried again by itself; see the journal for the whole error"}
	var one *notOne
	var lost *unverified
	var api smithy.APIError
	var op *smithy.OperationError
	var network net.Error
	switch {
	case errors.As(err, &one) && len(one.all) == 0:
		p.Code, p.Hint = "address-not-found", "check address.claim, the Region of this instance ("+c.situation.Identity.Instance.Region+") and that the address was not released"
	case errors.As(err, &one):
		p.Code, p.Hint = "address-ambiguous", "let address.claim name one of them by its allocation id"
	case errors.As(err, &lost):
		p.Code, p.Hint = "address-lost-race", "another instance claims the same address; give only one of them policy takeover"
	case errors.As(err, &api):
		action := "the call"
		if errors.As(err, &op) {
			action = "ec2:" + op.OperationName
		}
		c.explainAPI(&p, api, action)
	case errors.As(err, &network):
		p.Code, p.Hint = "ec2-unreachable", c.wayOut()
	}
	return p
}

func (c *claimer) explainAPI(p *problem.Problem, api smithy.APIError, action string) {
	p.Text = bounded(fmt.Sprintf("%s answered %s: %s", action, api.ErrorCode(), api.ErrorMessage()))
	if awserror.Denied(api) {
		p.Code = "address-denied"
		p.Text = "the instance's role may not call " + action
		p.Hint = fmt.Sprintf(`add {"Effect":"Allow","Action":%q,"Resource":"*"} to the role, or the narrower statements of packaging/iam-policy.json`, action)
		return
	}
	switch api.ErrorCode() {
	case "AuthFailure":
		p.Code, p.Hint = "address-not-ours", "normal for a minute after the first boot; if it stays, the address belongs to another account or service"
	case "Resource.AlreadyAssociated":
		p.Code, p.Severity, p.Hint = "address-lost-race", problem.Warning, "another instance was quicker; who holds it is looked up again"
	case "RequestLimitExceeded", "Throttling":
		p.Code, p.Severity, p.Hint = "ec2-throttled", problem.Warning, "the account calls EC2 too often; it is tried again by itself"
	}
}

// wayOut says how this host could reach EC2's API.
func (c *claimer) wayOut() string {
	if len(c.situation.Identity.Instance.Primary.PublicAddr) == 0 {
		return "this instance has no public address: give its subnet auto-assigned public addresses, a NAT gateway, or a VPC endpoint for EC2"
	}
	return "check the security group's outbound rules, the route table and DNS"
}

// bounded makes a text of AWS or the network fit to be shown.
func bounded(s string) string { return problem.Printable(s, 400) }
