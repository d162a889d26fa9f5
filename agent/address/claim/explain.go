package claim

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/aws/smithy-go"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/awserror"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// fault is an error that this package found out itself; its problem has no subject yet.
type fault struct{ problem.Problem }

func (f *fault) Error() string { return f.Text }

func newFault(code string, severity problem.Severity, hint, format string, args ...any) error {
	return &fault{problem.Problem{Code: code, Severity: severity, Hint: hint, Text: fmt.Sprintf(format, args...)}}
}

// placeError says why the address cannot come to its place on this instance; nil if it can.
func placeError(a address.Address, at address.Placed, self identity.Instance) error {
	group := address.BorderGroup(self.Region, self.Zone)
	switch {
	case group != "" && a.BorderGroup != "" && group != a.BorderGroup:
		return newFault("address-border-group", problem.Error, "allocate an address in the network border group of this instance; the two cannot be joined",
			"the address is of network border group %s, this instance of %s", a.BorderGroup, group)
	case at.Reason != "":
		return newFault("address-no-private-ip", problem.Error, "assign another private IPv4 address to the interface (aws ec2 assign-private-ip-addresses --secondary-private-ip-address-count 1 --network-interface-id "+
			self.Primary.ID+") and to the host, or correct the place behind @ in address.claim", "%s", at.Reason)
	}
	return nil
}

// Explain turns an error of EC2, or of the way to it, into what the operator of this
// instance reads.
func Explain(err error, self identity.Identity) problem.Problem {
	c := newClaimer(Options{}, nil)
	c.situation.Identity = self
	return c.explain(err, "")
}

// explain turns an error into the problem that an operator reads. Without a claim
// it is about all of them.
func (c *claimer) explain(err error, claim string) problem.Problem {
	if claim == "" {
		var all []string
		for _, s := range c.states {
			all = append(all, s.Report.Claim)
		}
		claim = printable(strings.Join(all, ", "))
	}
	p := problem.Problem{Code: "address-failed", Severity: problem.Error, Text: err.Error(), Hint: "it is tried again by itself; see the journal for the whole error"}
	var own *fault
	var api smithy.APIError
	var network net.Error
	switch {
	case errors.As(err, &own):
		p = own.Problem
	case errors.As(err, &api):
		p = c.explainAPI(p, err, api)
	case strings.Contains(err.Error(), "get credentials"):
		p.Code, p.Hint = "ec2-no-credentials", "attach an instance profile with a role to this instance; it is tried again by itself"
	case errors.As(err, &network):
		c.explainNetwork(&p, err)
	}
	p.Subject, p.Claim, p.Text = "address "+claim, claim, printable(p.Text)
	return p
}

// apiProblems are what the codes of EC2's errors mean.
var apiProblems = map[string]problem.Problem{
	"AuthFailure":                {Code: "address-not-ours", Severity: problem.Error, Hint: "normal for a minute after the first boot; if it stays, the address belongs to another account or service"},
	"Resource.AlreadyAssociated": {Code: "address-lost-race", Hint: "another instance was quicker; who holds it is looked up again"},
	"RequestLimitExceeded":       {Code: "ec2-throttled", Hint: "the account calls EC2 too often; it is tried again by itself"},
	"Throttling":                 {Code: "ec2-throttled", Hint: "the account calls EC2 too often; it is tried again by itself"},
	"RequestExpired":             {Code: "clock-wrong", Severity: problem.Error, Hint: "the clock of this host is wrong: let it follow 169.254.169.123 (chrony)"},
}

// explainAPI explains what EC2 answered.
func (c *claimer) explainAPI(p problem.Problem, err error, api smithy.APIError) problem.Problem {
	code := api.ErrorCode()
	if known, ok := apiProblems[code]; ok {
		p = known
	}
	action := "the call"
	var op *smithy.OperationError
	if errors.As(err, &op) {
		action = "ec2:" + op.OperationName
	}
	p.Text = fmt.Sprintf("%s answered %s: %s", action, code, api.ErrorMessage())
	switch {
	case awserror.Denied(api):
		p.Code, p.Text = "address-denied", "the instance's role may not call "+action
		p.Hint = "add " + c.statement(action) + " to the role's policy, or the narrower statements of packaging/iam-policy.json"
	case code == "AuthFailure" && address.Young(time.Since(c.started)):
		p.Severity = problem.Warning
	case code == "Resource.AlreadyAssociated" && strings.Contains(api.ErrorMessage(), "resource eni-"):
		p.Code, p.Severity, p.Hint = "address-place-taken", problem.Error, "another Elastic IP is on that private address: disassociate it, or name another place behind @ in address.claim"
	}
	return p
}

// statement is the policy statement that grants the action, as narrow as is known.
func (c *claimer) statement(action string) string {
	arn := func(resource string) string { return arnOf(c.self(), resource) }
	var addresses []string
	for _, s := range c.states {
		if id := s.AllocationID(); id != "" {
			addresses = append(addresses, arn("elastic-ip/"+id))
		}
	}
	s := struct {
		Effect, Action string
		Resource       any
	}{"Allow", action, "*"}
	switch {
	case len(addresses) == 0:
	case action == "ec2:AssociateAddress" || action == "ec2:DisassociateAddress":
		s.Resource = append(addresses, arn("network-interface/*"), arn("instance/*"))
	case action == "ec2:CreateTags":
		s.Resource = append(addresses, arn("instance/"+c.self().ID))
	}
	b, _ := json.Marshal(s) // strings only: it cannot fail
	return string(b)
}

// arnOf names a resource of EC2 in the Region and the account of this instance.
func arnOf(self identity.Instance, resource string) string {
	partition, account := "aws", self.AccountID
	switch {
	case strings.HasPrefix(self.Region, "cn-"):
		partition = "aws-cn"
	case strings.HasPrefix(self.Region, "us-gov-"):
		partition = "aws-us-gov"
	}
	if account == "" {
		account = "*"
	}
	return "arn:" + partition + ":ec2:" + self.Region + ":" + account + ":" + resource
}

// explainNetwork says how this host could reach EC2's API.
func (c *claimer) explainNetwork(p *problem.Problem, err error) {
	endpoint := "com.amazonaws." + c.self().Region + ".ec2"
	p.Code = "ec2-unreachable"
	var dns *net.DNSError
	what := "EC2's API does not answer"
	switch {
	case errors.As(err, &dns):
		what = "the name of EC2's API is not resolved"
	case errors.Is(err, syscall.ECONNREFUSED):
		what = "EC2's API refuses connections"
	}
	p.Text = what + ": " + err.Error()
	p.Hint = "check the route to an internet gateway, the outbound rules of the security group and the network ACL, and DNS; or make a VPC endpoint " + endpoint + " with private DNS"
	if len(c.self().PublicAddrs()) == 0 {
		p.Hint = "this instance has no public IPv4 address, so it has no way out by itself: let its subnet assign one at launch (it is replaced by the Elastic IP), or route to a NAT gateway, or make a VPC endpoint " + endpoint + " with private DNS"
	}
}

// printable makes a text of AWS or the network fit to be shown.
func printable(s string) string { return problem.Printable(s, 400) }
