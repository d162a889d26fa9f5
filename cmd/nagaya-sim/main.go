// Command nagaya-sim serves a simulated AWS cloud on this machine, so that the
// real program can be tried without an account, and plays a demonstration on it.
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

func root() *cobra.Command {
	c := &cobra.Command{
		Use:           "nagaya-sim",
		Short:         "A simulated AWS cloud on this machine, and a demonstration of nagaya on it",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	c.AddCommand(cloudVerb(), demoVerb(), boxVerb(), benchVerb())
	return c
}
