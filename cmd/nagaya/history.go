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
	c.addJSON(cmd)
	cmd.RunE = func(*cobra.Command, []string) error { return c.showPast(since, eventsPast) }
	return cmd
}

// past reads what was recorded in a time: as a value and for people, and how many things that are.
type past func(dir string, from, to time.Time) (v any, text string, n int, err error)

func eventsPast(dir string, from, to time.Time) (any, string, int, error) {
	all, err := keep.ReadEvents(dir, from, to)
	return all, history.EventsText(all, from, to), len(all), err
}

func creditsPast(dir string, from, to time.Time) (any, string, int, error) {
	all, err := keep.Read(dir, from, to)
	return all, history.Text(all, from, to), len(all), err
}

func (c *cli) servedPast(dir string, from, to time.Time) (any, string, int, error) {
	t, err := keep.ReadHosts(dir, from, to)
	return t, t.Text(from, to, c.width()), len(t.Hosts), err
}

// showPast shows what the agent has recorded in a time that ends now.
func (c *cli) showPast(since string, read past) error {
	back, err := report.ParseSpan(since)
	if err != nil {
		return usage(fmt.Errorf("--since: %w", err))
	}
	dir, now := filepath.Join(c.agentConfig().StateDir, keep.Dir), time.Now()
	v, text, n, err := read(dir, now.Add(-back), now)
	if err != nil {
		return err
	}
	if n == 0 {
		text += "The agent records in " + dir + "; if it has another state-dir, name its configuration with --config.\n"
	}
	return c.print(v, text)
}
