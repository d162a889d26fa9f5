package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/report/socket"
)

func (c *cli) certsVerb() *cobra.Command {
	cmd := c.viewVerb(&cobra.Command{
		Use: "certs", Short: "Show the certificates: for which hosts, from where, when they are renewed",
		Long: `Certs shows one line for each certificate that sites use or wait for: its hosts and
names, who issued it and from where it came (your file, ACME, an import), how long it is
still valid, when it is renewed, and why not if it waits. Times are UTC. 'nagaya status'
says more about what is wrong.`,
	}, nil, func(s report.Status) (any, string, error) {
		r := s.Certificates()
		return r, r.Text(s.At), nil
	})
	cmd.AddCommand(c.certsImportVerb(), c.certsRenewVerb())
	return cmd
}

func (c *cli) certsRenewVerb() *cobra.Command {
	host := ""
	return c.viewVerb(&cobra.Command{
		Use: "renew HOST", Short: "Order a new certificate for a host now",
		Long: `Renew orders a new certificate for the host, as if the one that it has were due, and shows
it when it is there. It waits up to 6 minutes. The limits of the CA hold: it exits with 1 when they,
or something else, allow no order now, and says what and until when. What the host has goes on
being served.`,
		Example: "  nagaya certs renew www.example.com",
		Args:    takes(1, 1, "the host"), ValidArgsFunction: c.completes(orderedHosts),
	}, func(cmd *cobra.Command, args []string) error {
		var ok bool
		if host, ok = pattern.CanonicalHost(args[0]); !ok {
			return usage(hinted(fmt.Errorf("%q is not a host name", args[0]), "name a host as 'nagaya certs' shows it"))
		}
		err := c.client().Renew(cmd.Context(), host)
		if err == nil || errors.Is(err, socket.ErrNoAgent) {
			return err
		}
		return hinted(fmt.Errorf("no new certificate for %s: %w", host, err), "'nagaya certs' shows which hosts have certificates ordered, and what they wait for; docs/certificates.md says how to switch it on")
	}, func(s report.Status) (any, string, error) {
		r := s.Certificates()
		r.Entries = slices.DeleteFunc(r.Entries, func(e certs.Entry) bool { return !slices.Contains(e.Hosts, host) })
		return r, r.Text(s.At), nil
	})
}

// orderedHosts are those whose certificates are ordered, sorted.
func orderedHosts(s report.Status) (all []string) {
	for _, e := range s.Orders.Entries {
		if e.Source != "file" {
			all = append(all, e.Hosts...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
