package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/demo"
	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

func demoVerb() *cobra.Command {
	var end string
	c := &cobra.Command{
		Use:   "demo",
		Short: "Play the main job of nagaya on this machine, and take everything away again",
		Long: `Demo starts the simulated cloud, the agent and some containers, and shows the main
job step by step. It needs a Docker Engine (DOCKER_HOST), nginx and curl, and the
programs nagaya and household beside this one; 'make demo' sees to all of it.

With KEEP=1 in the environment everything is left running at the end.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if end != "" {
				return stage.End(c.Context(), end)
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			return demo.Play(c.Context(), demo.Options{Bin: filepath.Dir(self), Keep: os.Getenv("KEEP") == "1", Out: c.OutOrStdout()})
		},
	}
	c.Flags().StringVar(&end, "end", "", "take away what an earlier demonstration with KEEP=1 left in this `directory`")
	return c
}
