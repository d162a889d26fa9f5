package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/nagaya-ecs/nagaya/agent/report/socket"
)

func (c *cli) reloadVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use: "reload", Short: "Have the agent read its configuration again, and say whether it is right", Args: noArgs,
		Long: `Reload is for whoever wants to know at once: a change of the file is noticed by itself.
When it ends the configuration is in force; what runs through nginx goes on. One that is
wrong is not taken, and what is wrong with it is printed.

It exits with 0 when the configuration is in force, 2 when it is wrong, and 3 when no
agent answers. 'systemctl reload nagaya' does the same.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := c.client().Reload(cmd.Context())
			if errors.Is(err, socket.ErrNoAgent) {
				return c.explain(err)
			}
			if err != nil {
				return usage(fmt.Errorf("the configuration is wrong, and the one from before stays in force:\n%w", err))
			}
			_, err = fmt.Fprintln(c.out, "the configuration is in force")
			return err
		},
	}
	c.addRunDir(cmd)
	return cmd
}
