package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/nagaya-ecs/nagaya/agent/history"
	"github.com/nagaya-ecs/nagaya/agent/history/keep"
)

// creditsSince shows what was recorded.
func (c *cli) creditsSince(cmd *cobra.Command, since string) error {
	span, err := parseSpan(since)
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

// parseSpan reads a number with m, h, d or w: more than none, and at most a year.
func parseSpan(text string) (time.Duration, error) {
	units := map[byte]time.Duration{'m': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	const most = 366 * 24 * time.Hour
	if text != "" {
		n, err := strconv.ParseUint(text[:len(text)-1], 10, 32)
		if unit := units[text[len(text)-1]]; err == nil && n > 0 && unit > 0 && time.Duration(n) <= most/unit {
			return time.Duration(n) * unit, nil
		}
	}
	return 0, fmt.Errorf("%q is no time such as 90m, 12h, 7d or 52w (at most 366d)", text)
}
