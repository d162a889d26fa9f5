package main

import (
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/bench"
)

func benchVerb() *cobra.Command {
	c := &cobra.Command{Use: "bench", Short: "Measure what nagaya costs on this machine"}
	o := bench.IdleOptions{}
	idle := &cobra.Command{
		Use: "idle", Short: "Memory and CPU time of an agent with nothing to do, nginx's and peers' beside", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Bin, o.Out, o.Progress = filepath.Dir(self), c.OutOrStdout(), c.ErrOrStderr()
			return bench.Idle(c.Context(), o)
		},
	}
	idle.Flags().IntVar(&o.Containers, "containers", 20, "number of routed containers")
	idle.Flags().DurationVar(&o.Settle, "settle", 30*time.Second, "how long the agent is left alone before")
	idle.Flags().DurationVar(&o.Span, "span", time.Minute, "how long it is measured")
	idle.Flags().StringVar(&o.Peers, "peers", "", "the `directory` with the peers that are measured beside; default none")
	idle.Flags().BoolVar(&o.JSON, "json", false, "print the result as JSON")
	c.AddCommand(idle, benchRoutesVerb(), benchAddressVerb(), benchHostileVerb())
	return c
}

func benchAddressVerb() *cobra.Command {
	o := bench.AddressOptions{}
	c := &cobra.Command{
		Use: "address", Short: "What claiming and handing over an Elastic IP takes and loses", Args: cobra.NoArgs,
		Long: `Address drives several agents in one simulated cloud. Each has a network namespace, an
nginx and containers of its own, and an association of the Elastic IP moves the packets
of a client that measures. It needs root, Docker and nginx, and beside this program
claim.test, the compiled tests of agent/address/claim; 'make bench-address' sees to all
of it. It prints what was measured and whether what must hold does, and fails if
something does not.

The parts: a a host boots, b planned moves under load, c the holder is powered off,
d the holder is cut off, e days, outages and crowds on a virtual clock.`,
		RunE: func(c *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Bin, o.Out, o.Progress = filepath.Dir(self), c.OutOrStdout(), c.ErrOrStderr()
			return bench.Address(c.Context(), o)
		},
	}
	c.Flags().StringSliceVar(&o.Only, "only", nil, "measure only these `parts`, e.g. a,b")
	c.Flags().BoolVar(&o.Quick, "quick", false, "take fewer samples")
	c.Flags().BoolVar(&o.JSON, "json", false, "print the result as JSON")
	return c
}

func benchHostileVerb() *cobra.Command {
	o := bench.RoutesOptions{}
	c := &cobra.Command{
		Use: "hostile", Short: "What one hostile family of containers costs others", Args: cobra.NoArgs,
		Long: `Hostile asks fifty sites of as many families 200 times a second in all, and deploys one
hostile family beside them again and again, each time with something else that a
container should not get or do: hosts, certificates and ports of others, words of
nginx, large labels, endless answers and more. It prints what the others lost, how long another's
change took with the attack and without it, and what agent and nginx used, and fails
if the others lost anything. It takes ten minutes, with --quick a minute and a half.`,
		RunE: func(c *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Bin, o.Out, o.Progress = filepath.Dir(self), c.OutOrStdout(), c.ErrOrStderr()
			return bench.Hostile(c.Context(), o)
		},
	}
	c.Flags().BoolVar(&o.Quick, "quick", false, "take a minute and a half")
	c.Flags().BoolVar(&o.JSON, "json", false, "print the result as JSON")
	c.Flags().StringVar(&o.Nginx, "nginx", "", "the nginx `binary` to measure with; default the one in PATH")
	return c
}

func benchRoutesVerb() *cobra.Command {
	o := bench.RoutesOptions{}
	c := &cobra.Command{
		Use: "routes", Short: "What following containers takes and loses, with peers beside", Args: cobra.NoArgs,
		Long: `Routes drives the program with a real Docker Engine and a real nginx, and prints what
was measured and whether what must hold does. It fails if something does not. --peers
names a directory with caddy-docker-proxy and docker-gen, as 'make bench-routes' fills
it: the parts that say so measure them in turn with nagaya, on the same engine and by
the same requests.

The parts:

` + bench.PartsHelp() + `

Without --only and --quick it takes about twenty minutes.`,
		RunE: func(c *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Bin, o.Out, o.Progress = filepath.Dir(self), c.OutOrStdout(), c.ErrOrStderr()
			return bench.Routes(c.Context(), o)
		},
	}
	c.Flags().StringSliceVar(&o.Only, "only", nil, "measure only these `parts`, e.g. a,b")
	c.Flags().BoolVar(&o.Quick, "quick", false, "take fewer samples")
	c.Flags().BoolVar(&o.JSON, "json", false, "print the result as JSON")
	c.Flags().StringVar(&o.Peers, "peers", "", "the `directory` with the peers that are measured beside; default none")
	c.Flags().StringVar(&o.Nginx, "nginx", "", "the nginx `binary` to measure with; default the one in PATH")
	return c
}
