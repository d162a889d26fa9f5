package main

import "github.com/spf13/cobra"

func (c *cli) certsVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use: "certs", Short: "Bring certificates of other programs into the store", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.certsImportVerb())
	return cmd
}
