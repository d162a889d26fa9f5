// Command nagaya-sim serves a simulated AWS cloud on this machine, so that the
// real program can be tried without an account.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "nagaya-sim:", err)
		os.Exit(1)
	}
}

// verbs are the subcommands; each file of a verb adds its own.
var verbs []func() *cobra.Command

func root() *cobra.Command {
	c := &cobra.Command{
		Use:           "nagaya-sim",
		Short:         "A simulated AWS cloud on this machine",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	for _, verb := range verbs {
		c.AddCommand(verb())
	}
	return c
}
