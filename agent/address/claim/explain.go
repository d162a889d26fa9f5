package claim

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/aws/smithy-go"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/awserror"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Explain turns an error of EC2, or of the way to it, into what the operator of this
// instance reads.
func Explain(err error, self identity.Identity) problem.Problem {
	c := newClaimer(Options{}, func(address.Report) {})
	c.situation.Identity = self
	return c.explain(err, "")
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

// quicker is the error of an address that another instance took first.
type quicker struct{}

func (*quicker) Error() string { return "another instance was quicker" }

// noPlace is the error of an address that has nowhere to go on this instance.
type noPlace struct {
	reason string
	held   bool
}

func (e *noPlace) Error() string { return e.reason }

func isMisplaced(err error) bool {
	var e *noPlace
	return errors.As(err, &e) && e.held
}

// abroad is the error of an address of another network border group.
type abroad struct{ address, self string }

func (e *abroad) Error() string {
	return fmt.Sprintf("the address is of network border group %s, this instance of %s", e.address, e.self)
}

// serviceHeld is the error of an address that a service of AWS holds.
type serviceHeld struct{ a address.Address }

func (e *serviceHeld) Error() string {
	if e.a.ServiceManaged != "" {
		return fmt.Sprintf("the address is managed by a service of AWS (%s) and is never taken from it", e.a.ServiceManaged)
	}
	return fmt.Sprintf("the address is on network interface %s, which belongs to no instance (a NAT gateway, a load balancer, or an interface that is not attached), and is never taken from it", e.a.InterfaceID)
}

// explain turns an error into the problem that an operator reads. Without a claim
// it is about all of them.
func (c *claimer) explain(err error, claim string) problem.Problem {
	if claim == "" {
		var all []string
		for _, h := range c.held {
			all = append(all, h.report.Claim)
		}
		claim = bounded(strings.Join(all, ", "))
	}
	p := problem.Problem{Code: "address-failed", Severity: problem.Error, Subject: "address " + claim, Claim: claim, Text: bounded(err.Error()), Hint: "it is tried again by itself; see the journal for the whole error"}
	if c.explainOwn(&p, err) {
		return p
	}
	var api smithy.APIError
	var network net.Error
	switch {
	case errors.As(err, &api):
		c.explainAPI(&p, err, api)
	case strings.Contains(err.Error(), "get credentials"):
		p.Code, p.Hint = "ec2-no-credentials", "attach an instance profile with a role to this instance; it is tried again by itself"
	case errors.As(err, &network):
		c.explainNetwork(&p, err)
	}
	return p
}

// explainOwn explains what this package found out itself.
func (c *claimer) explainOwn(p *problem.Problem, err error) bool {
	var one *notOne
	var same *twice
	var first *quicker
	var place *noPlace
	var other *abroad
	var service *serviceHeld
	switch {
	case errors.As(err, &one) && len(one.all) == 0:
		p.Code, p.Hint = "address-not-found", "check address.claim, the Region of this instance ("+c.situation.Identity.Instance.Region+") and that the address was not released or transferred"
	case errors.As(err, &one):
		p.Code, p.Hint = "address-ambiguous", "let address.claim name one of them by its allocation id"
	case errors.As(err, &same):
		p.Code, p.Hint = "address-claimed-twice", "remove one of the two claims"
	case errors.As(err, &first):
		p.Code, p.Severity, p.Hint = "address-lost-race", problem.Warning, "who holds it is looked up again by itself"
	case errors.As(err, &place) && place.held:
		p.Code, p.Severity, p.Hint = "address-misplaced", problem.Warning, "correct the place in address.claim, or run 'nagaya address release --now' and 'nagaya address claim'"
	case errors.As(err, &place):
		p.Code, p.Hint = "address-no-private-ip", "assign another private IPv4 address to the interface (aws ec2 assign-private-ip-addresses --secondary-private-ip-address-count 1 --network-interface-id "+c.situation.Identity.Instance.Primary.ID+") and to the host, or correct the place behind @ in address.claim"
	case errors.As(err, &service):
		p.Code, p.Hint = "address-of-a-service", "let address.claim name another Elastic IP, or disassociate this one from what holds it"
	case errors.As(err, &other):
		p.Code, p.Hint = "address-border-group", "allocate an address in the network border group of this instance; the two cannot be joined"
	default:
		return false
	}
	return true
}

func (c *claimer) explainAPI(p *problem.Problem, err error, api smithy.APIError) {
	action := "the call"
	var op *smithy.OperationError
	if errors.As(err, &op) {
		action = "ec2:" + op.OperationName
	}
	p.Text = bounded(fmt.Sprintf("%s answered %s: %s", action, api.ErrorCode(), api.ErrorMessage()))
	if awserror.Denied(api) {
		p.Code = "address-denied"
		p.Text = "the instance's role may not call " + action
		p.Hint = "add " + c.statement(action) + " to the role's policy, or the narrower statements of packaging/iam-policy.json"
		return
	}
	switch api.ErrorCode() {
	case "AuthFailure":
		p.Code, p.Hint = "address-not-ours", "normal for a minute after the first boot; if it stays, the address belongs to another account or service"
		if time.Since(c.born) < young {
			p.Severity = problem.Warning
		}
	case "Resource.AlreadyAssociated":
		if strings.Contains(api.ErrorMessage(), "resource eni-") {
			p.Code, p.Hint = "address-place-taken", "another Elastic IP is on that private address: disassociate it, or name another place behind @ in address.claim"
			return
		}
		p.Code, p.Severity, p.Hint = "address-lost-race", problem.Warning, "another instance was quicker; who holds it is looked up again"
	case "RequestLimitExceeded", "Throttling":
		p.Code, p.Severity, p.Hint = "ec2-throttled", problem.Warning, "the account calls EC2 too often; it is tried again by itself"
	case "RequestExpired":
		p.Code, p.Hint = "clock-wrong", "the clock of this host is wrong: let it follow 169.254.169.123 (chrony)"
	}
}

// statement is the policy statement that grants the action, as narrow as is known.
func (c *claimer) statement(action string) string {
	self := c.situation.Identity.Instance
	arn := func(resource string) string {
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
	s := struct {
		Effect, Action string
		Resource       any
	}{"Allow", action, "*"}
	addresses := []string{}
	for _, h := range c.held {
		switch {
		case h.report.Known:
			addresses = append(addresses, arn("elastic-ip/"+h.report.Address.AllocationID))
		case h.claim.AllocationID != "":
			addresses = append(addresses, arn("elastic-ip/"+h.claim.AllocationID))
		}
	}
	switch {
	case len(addresses) == 0:
	case action == "ec2:AssociateAddress" || action == "ec2:DisassociateAddress":
		s.Resource = append(addresses, arn("network-interface/*"), arn("instance/*"))
	case action == "ec2:CreateTags":
		s.Resource = append(addresses, arn("instance/"+self.ID))
	}
	b, _ := json.Marshal(s) // strings only: it cannot fail
	return string(b)
}

// explainNetwork says how this host could reach EC2's API.
func (c *claimer) explainNetwork(p *problem.Problem, err error) {
	self := c.situation.Identity.Instance
	endpoint := "com.amazonaws." + self.Region + ".ec2"
	p.Code = "ec2-unreachable"
	var dns *net.DNSError
	what := "EC2's API does not answer"
	switch {
	case errors.As(err, &dns):
		what = "the name of EC2's API is not resolved"
	case strings.Contains(err.Error(), "refused"):
		what = "EC2's API refuses connections"
	}
	p.Text = bounded(what + ": " + err.Error())
	if len(self.PublicAddrs()) == 0 {
		p.Hint = "this instance has no public IPv4 address, so it has no way out by itself: let its subnet assign one at launch (it is replaced by the Elastic IP), or route to a NAT gateway, or make a VPC endpoint " + endpoint + " with private DNS"
		return
	}
	p.Hint = "check the route to an internet gateway, the outbound rules of the security group and the network ACL, and DNS; or make a VPC endpoint " + endpoint + " with private DNS"
}

// bounded makes a text of AWS or the network fit to be shown.
func bounded(s string) string { return problem.Printable(s, 400) }
