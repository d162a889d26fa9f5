package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/box"
)

func boxVerb() *cobra.Command {
	var o box.ShellOptions
	c := &cobra.Command{
		Use:   "box [flags] [-- COMMAND ARGS...]",
		Short: "Start a pretend ECS instance that is a whole machine, and a shell on it",
		Long: `Box starts a container with systemd, journald, a Docker Engine and nginx, in a simulated
cloud, lets its first boot install the package as user data would, and gives a shell on it.
When the shell ends, everything is taken away again. It needs root, a Docker Engine
(DOCKER_HOST) and the docker command; 'make box' sees to all of it.

A command is run instead of the shell; its exit code is not 0 if it failed.`,
		RunE: func(c *cobra.Command, args []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Bin, o.Out, o.Command = filepath.Dir(self), c.ErrOrStderr(), args
			o.Tar, o.UserData = ".cache/box.tar", "packaging/user-data/ecs.sh"
			return box.Shell(c.Context(), o)
		},
	}
	c.Flags().StringVar(&o.Package, "package", "", "the .deb `file` to install")
	c.Flags().IntVar(&o.Count, "count", 1, "how many boxes, 1 to 9; the shell is on the first")
	_ = c.MarkFlagRequired("package") // there is such a flag
	return c
}
