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
		Use: "idle", Short: "Memory and CPU time of an agent with nothing to do, nginx's beside", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Bin, o.Out = filepath.Dir(self), c.OutOrStdout()
			return bench.Idle(c.Context(), o)
		},
	}
	idle.Flags().IntVar(&o.Containers, "containers", 20, "number of routed containers")
	idle.Flags().DurationVar(&o.Settle, "settle", 30*time.Second, "how long the agent is left alone before")
	idle.Flags().DurationVar(&o.Span, "span", time.Minute, "how long it is measured")
	c.AddCommand(idle)
	return c
}
