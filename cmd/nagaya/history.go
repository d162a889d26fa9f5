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
	asJSON := addJSON(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		dir, from, to, err := c.since(since)
		if err != nil {
			return err
		}
		all, err := keep.ReadEvents(dir, from, to)
		if err != nil {
			return err
		}
		text := history.EventsText(all, from, to)
		if len(all) == 0 {
			text += nothingIn(dir)
		}
		return c.print(*asJSON, append([]history.Event{}, all...), text)
	}
	return cmd
}

// since is where the agent records, and the time that is asked for.
func (c *cli) since(span string) (dir string, from, to time.Time, err error) {
	back, err := report.ParseSpan(span)
	if err != nil {
		return "", from, to, usage(fmt.Errorf("--since: %w", err))
	}
	to = time.Now()
	return filepath.Join(c.agentConfig().StateDir, keep.Dir), to.Add(-back), to, nil
}

func nothingIn(dir string) string {
	return "The agent records in " + dir + "; if it has another state-dir, name its configuration with --config.\n"
}

// trafficSince shows what hosts have served.
func (c *cli) trafficSince(cmd *cobra.Command, since string) error {
	dir, from, to, err := c.since(since)
	if err != nil {
		return err
	}
	t, err := keep.ReadHosts(dir, from, to)
	if err != nil {
		return err
	}
	asJSON, err := cmd.Flags().GetBool("json")
	if err != nil {
		return err
	}
	text := t.Text(from, to, c.width())
	if len(t.Hosts) == 0 {
		text += nothingIn(dir)
	}
	return c.print(asJSON, t, text)
}

// creditsSince shows what was recorded.
func (c *cli) creditsSince(cmd *cobra.Command, since string) error {
	dir, from, to, err := c.since(since)
	if err != nil {
		return err
	}
	all, err := keep.Read(dir, from, to)
	if err != nil {
		return err
	}
	asJSON, err := cmd.Flags().GetBool("json")
	if err != nil {
		return err
	}
	text := history.Text(all, from, to)
	if len(all) == 0 {
		text += nothingIn(dir)
	}
	return c.print(asJSON, append([]history.Record{}, all...), text)
}
