package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/nagaya-ecs/nagaya/agent/history"
	"github.com/nagaya-ecs/nagaya/agent/history/keep"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

func (c *cli) historyVerb() *cobra.Command {
	since := ""
	cmd := &cobra.Command{
		Use: "history", Short: "Show what happened: address, deployments, gate, jobs", Args: noArgs,
		Long: `History lists what the agent has recorded in state-dir: who held the address, when a
service was deployed, nginx reloaded or refused a change, the gate opened or closed, and
what jobs were promised and spent. The newest are kept, thousands of them; what comes again
and again is kept once an hour, with the number of the others. It needs no running agent.

The last line is the command that shows the last event in the journal; --json has one for
each event.`,
		Example: "  nagaya history --since 7d",
	}
	cmd.Flags().StringVar(&since, "since", "7d", "how far back: a number with m, h, d or w")
	addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.showPast(cmd, since, func(dir string, from, to time.Time) (any, string, int, error) {
			all, err := keep.ReadEvents(dir, from, to)
			return append([]history.Event{}, all...), history.EventsText(all, from, to), len(all), err
		})
	}
	return cmd
}

// trafficSince shows what hosts have served.
func (c *cli) trafficSince(cmd *cobra.Command, since string) error {
	return c.showPast(cmd, since, func(dir string, from, to time.Time) (any, string, int, error) {
		t, err := keep.ReadHosts(dir, from, to)
		return t, t.Text(from, to, c.width()), len(t.Hosts), err
	})
}

// creditsSince draws what was recorded of the credits.
func (c *cli) creditsSince(cmd *cobra.Command, since string) error {
	return c.showPast(cmd, since, func(dir string, from, to time.Time) (any, string, int, error) {
		all, err := keep.Read(dir, from, to)
		return append([]history.Record{}, all...), history.Text(all, from, to), len(all), err
	})
}

// showPast shows what the agent has recorded in a time that ends now. read returns it as a value and as text, and how many
// things that are.
func (c *cli) showPast(cmd *cobra.Command, since string, read func(dir string, from, to time.Time) (any, string, int, error)) error {
	back, err := report.ParseSpan(since)
	if err != nil {
		return usage(fmt.Errorf("--since: %w", err))
	}
	asJSON, err := cmd.Flags().GetBool("json")
	if err != nil {
		return err
	}
	dir, now := filepath.Join(c.agentConfig().StateDir, keep.Dir), time.Now()
	v, text, n, err := read(dir, now.Add(-back), now)
	if err != nil {
		return err
	}
	if n == 0 {
		text += "The agent records in " + dir + "; if it has another state-dir, name its configuration with --config.\n"
	}
	return c.print(asJSON, v, text)
}
