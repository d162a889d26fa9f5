package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/nagaya-ecs/nagaya/agent/history"
	"github.com/nagaya-ecs/nagaya/agent/history/keep"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

// creditsSince shows what was recorded.
func (c *cli) creditsSince(cmd *cobra.Command, since string) error {
	span, err := report.ParseSpan(since)
	if err != nil {
		return usage(fmt.Errorf("--since: %w", err))
	}
	dir, to := filepath.Join(c.agentConfig().StateDir, keep.Dir), time.Now()
	from := to.Add(-span)
	all, err := keep.Read(dir, from, to)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	asJSON, err := cmd.Flags().GetBool("json")
	if err != nil {
		return err
	}
	text := history.Text(all, from, to)
	if len(all) == 0 {
		text += "The agent records each whole minute in " + dir + "; if it has another state-dir, name its configuration with --config.\n"
	}
	return c.print(asJSON, append([]history.Record{}, all...), text)
}
