package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

func viewAddress(s report.Status) (any, string, error) { return s.Address, s.Address.Text(), nil }

func (c *cli) addressVerb() *cobra.Command {
	cmd := c.viewVerb(&cobra.Command{
		Use: "address", Short: "Show who holds the Elastic IPs, and why",
		Long: `Address shows one line for each claimed address: who holds it and since when, under
which policy, when EC2 is asked next, and what was decided last and why.`,
	}, nil, viewAddress)
	cmd.AddCommand(c.addressClaimVerb(), c.addressReleaseVerb())
	return cmd
}

func (c *cli) addressClaimVerb() *cobra.Command {
	return c.requestVerb(&address.Request{}, &cobra.Command{
		Use: "claim [CLAIM]", Short: "Take the Elastic IP for this instance now, whatever the policy",
		Long: `Claim takes the named address, or all that are claimed, from its holder, except
a NAT gateway, a load balancer or another service of AWS. It also takes a release back.
The budget of associations still holds: one a minute, ten an hour.

CLAIM is an address as 'nagaya address' shows it in its first column. An address that
is here already is left alone, and that is success. It exits with 1 when an address
could not be taken, and says why.`,
		Example: "  nagaya address claim\n  nagaya address claim eipalloc-0123456789abcdef0",
	})
}

func (c *cli) addressReleaseVerb() *cobra.Command {
	r := &address.Request{Release: true}
	cmd := c.requestVerb(r, &cobra.Command{
		Use: "release [CLAIM]", Short: "Give the Elastic IP away to an instance that is ready for it",
		Long: `Release writes on the named address, or on all that are claimed, that this instance gives
it away. An instance with the policy standby or takeover that is ready takes it within
seconds, without a gap; until then it is served here. The gate closes. This instance does
not take it again until 'nagaya address claim' is called here or the host reboots.

With --now it does not wait for another instance: the address is free at once and nothing
serves it until another instance has taken it. An instance with more than one network interface gets no
other public address then, and may not be reachable any more.

It exits with 1 when other instances could not be told, and says why.`,
		Example: "  nagaya address release\n  nagaya address release 203.0.113.10 --now",
	})
	cmd.Flags().BoolVar(&r.Now, "now", false, "free the address at once, whether or not another instance is ready")
	return cmd
}

// requestVerb makes a verb that sends the request about one address or all, and shows the
// addresses after it.
func (c *cli) requestVerb(r *address.Request, cmd *cobra.Command) *cobra.Command {
	cmd.Args = takes(0, 1, "one claim, or none for all")
	cmd.ValidArgsFunction = c.completes(func(s report.Status) (all []string) {
		for _, one := range s.Address.Claims {
			all = append(all, one.Claim)
		}
		return all
	})
	return c.viewVerb(cmd, func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			if r.Claim = args[0]; r.Claim == "" {
				return usage(errors.New("the claim is empty; leave it out for all"))
			}
		}
		return c.client().Address(cmd.Context(), *r)
	}, viewAddress)
}

func (c *cli) leaveVerb() *cobra.Command {
	undo := false
	cmd := c.viewVerb(&cobra.Command{
		Use: "leave", Short: "Announce that this instance goes away: close the gate and hand the addresses over",
		Long: `Leave does what a notice of EC2 does: the gate closes, so that no batch starts here any
more, and the addresses say that their holder is leaving. An instance with the policy
standby or takeover that is ready takes them, without a gap; until then they are served
here. This instance takes no address meanwhile. What runs goes on.

It holds over a restart of the agent, until 'nagaya leave --undo' or a reboot of the host.
With --undo the instance stays after all; an address that has moved already is taken back
only where the policy says so.`,
		Example: "  nagaya leave\n  nagaya leave --undo",
	}, func(cmd *cobra.Command, _ []string) error {
		return c.client().Leave(cmd.Context(), !undo)
	}, func(s report.Status) (any, string, error) {
		word := "is leaving"
		if undo {
			word = "stays"
		}
		return s.Address, "this instance " + word + "\n\n" + s.Address.Text(), nil
	})
	cmd.Flags().BoolVar(&undo, "undo", false, "stay after all")
	return cmd
}
