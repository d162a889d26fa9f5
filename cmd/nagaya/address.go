package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

func addressPart(s report.Status) any    { return s.Address }
func addressText(s report.Status) string { return s.Address.Text() }

func (c *cli) addressVerb() *cobra.Command {
	cmd := c.viewVerb("address", "Show who holds the Elastic IPs, and why",
		`Address shows one line for each claimed address: who holds it and since when, under
which policy, when EC2 is asked next, and what was decided last and why.`,
		addressPart, addressText)
	cmd.AddCommand(c.addressClaimVerb(), c.addressReleaseVerb())
	return cmd
}

func (c *cli) addressClaimVerb() *cobra.Command {
	return c.requestVerb(&address.Request{}, "claim [CLAIM]", "Take the Elastic IP for this instance now, whatever the policy",
		`Claim takes the named address, or all that are claimed, from its holder, except
a NAT gateway, a load balancer or another service of AWS. It also takes a release back.
The budget of associations still holds: one a minute, ten an hour.

CLAIM is an address as 'nagaya address' shows it in its first column. An address that
is here already is left alone, and that is success. It exits with 1 when an address
could not be taken, and says why.`,
		"  nagaya address claim\n  nagaya address claim eipalloc-0123456789abcdef0")
}

func (c *cli) addressReleaseVerb() *cobra.Command {
	r := &address.Request{Release: true}
	cmd := c.requestVerb(r, "release [CLAIM]", "Give the Elastic IP away to an instance that is ready for it",
		`Release writes on the named address, or on all that are claimed, that this instance gives
it away. An instance with the policy standby or takeover that is ready takes it within
seconds, without a gap; until then it is served here. The gate closes. This instance does
not take it again until 'nagaya address claim' is called here or the host reboots.

With --now it does not wait for another instance: the address is free at once and nothing
serves it until another instance has taken it. An instance with more than one network interface gets no
other public address then, and may not be reachable any more.

It exits with 1 when other instances could not be told, and says why.`,
		"  nagaya address release\n  nagaya address release 203.0.113.10 --now")
	cmd.Flags().BoolVar(&r.Now, "now", false, "free the address at once, whether or not another instance is ready")
	return cmd
}

// requestVerb makes a verb that sends the request about one address or all, and shows the
// addresses after it.
func (c *cli) requestVerb(r *address.Request, use, short, long, example string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Example: example,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage(fmt.Errorf("unexpected argument %q: takes one claim, or none for all", args[1]))
			}
			return nil
		},
		ValidArgsFunction: c.completeClaims,
	}
	c.addRunDir(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			if r.Claim = args[0]; r.Claim == "" {
				return usage(errors.New("the claim is empty; leave it out for all"))
			}
		}
		if err := c.client().Address(cmd.Context(), *r); err != nil {
			return c.explain(err)
		}
		return c.show(cmd, asJSON, addressPart, addressText)
	}
	return cmd
}

// completeClaims offers what the running agent claims.
func (c *cli) completeClaims(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	s, err := c.client().Status(cmd.Context())
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var all []string
	for _, one := range s.Address.Claims {
		all = append(all, one.Claim)
	}
	return slices.Clip(all), cobra.ShellCompDirectiveNoFileComp
}

func (c *cli) leaveVerb() *cobra.Command {
	var undo, asJSON bool
	cmd := &cobra.Command{
		Use: "leave", Short: "Announce that this instance goes away: close the gate and hand the addresses over", Args: noArgs,
		Long: `Leave does what a notice of EC2 does: the gate closes, so that no batch starts here any
more, and the addresses say that their holder is leaving. An instance with the policy
standby or takeover that is ready takes them, without a gap; until then they are served
here. This instance takes no address meanwhile. What runs goes on.

It holds over a restart of the agent, until 'nagaya leave --undo' or a reboot of the host.
With --undo the instance stays after all; an address that has moved already is taken back
only where the policy says so.`,
		Example: "  nagaya leave\n  nagaya leave --undo",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.client().Leave(cmd.Context(), !undo); err != nil {
				return c.explain(err)
			}
			return c.show(cmd, asJSON, addressPart, func(s report.Status) string {
				if undo {
					return "this instance stays\n\n" + addressText(s)
				}
				return "this instance is leaving\n\n" + addressText(s)
			})
		},
	}
	c.addRunDir(cmd)
	cmd.Flags().BoolVar(&undo, "undo", false, "stay after all")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
