package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/nagaya-ecs/nagaya/agent/report/socket"
)

func (c *cli) reloadVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use: "reload", Short: "Reload the configuration of the agent, and report whether it is right", Args: noArgs,
		Long: `Reload reports at once whether the configuration is right; without it a change of the
file is noticed too. When it ends the configuration is in force; nginx goes on serving,
and opens its logs again. A wrong one is refused, and what is wrong with it is printed.

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
