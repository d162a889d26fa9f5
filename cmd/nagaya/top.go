package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nagaya-ecs/nagaya/agent/report"
)

func (c *cli) topVerb() *cobra.Command {
	var every time.Duration
	var once bool
	cmd := &cobra.Command{
		Use: "top", Short: "Show the state, the jobs and the hosts by traffic, refreshed", Args: noArgs,
		Long: `Top shows what 'nagaya status' does, the jobs at the gate, and the hosts by their traffic, and
refreshes it until q or Ctrl-C is pressed. Requests, answers of 5xx and bytes a second are those since the
refresh before. While no agent answers it says so, and goes on trying.

Where the output is no terminal, and with --once, it prints that one time and ends; there are no rates then. It
has no colours where NO_COLOR is set.`,
		Example: "  nagaya top --every 2s",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < time.Second {
				return usage(fmt.Errorf("--every %s: at least 1s, because each refresh costs the agent CPU time", every))
			}
			out, ok := c.out.(*os.File)
			if once || !ok || !isTerminal(out) || os.Getenv("TERM") == "dumb" {
				s, err := c.status(cmd)
				if err != nil {
					return err
				}
				return c.print(nil, paint(s.Top(report.Status{}, c.width(), 0), false, false))
			}
			t, err := takeTerminal(out, os.Stdin)
			if err != nil {
				return fmt.Errorf("preparing the terminal: %w", err)
			}
			defer t.restore(os.Stdin)
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			return (&top{ask: c.client().Status, explain: c.explain, every: every, terminal: t}).run(ctx)
		},
	}
	c.addRunDir(cmd)
	cmd.Flags().DurationVar(&every, "every", 5*time.Second, "how long a refresh is after the one before, at least 1s")
	cmd.Flags().BoolVar(&once, "once", false, "print it once, as where the output is no terminal")
	return cmd
}

// top is one run of the verb at a terminal.
type top struct {
	ask      func(context.Context) (report.Status, error)
	explain  func(error) error
	every    time.Duration
	terminal *terminal
	// now is the last answer, and before is the one before that.
	now, before report.Status
	err         error
}

// look is an answer of the agent, or why there is none.
type look struct {
	status report.Status
	err    error
}

// run refreshes until a key, the end of the terminal or ctx ends it.
func (t *top) run(ctx context.Context) error {
	looks := make(chan look)
	go t.look(ctx, looks)
	for {
		if _, err := t.terminal.out.WriteString(t.frame(t.terminal.size())); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case l := <-looks:
			if t.err = l.err; l.err == nil {
				t.before, t.now = t.now, l.status
			}
		case <-t.terminal.resized:
		case key, open := <-t.terminal.keys:
			if !open || key == 'q' || key == 'Q' {
				return nil
			}
		}
	}
}

// look asks the agent again and again, never while an answer is outstanding.
func (t *top) look(ctx context.Context, looks chan<- look) {
	for {
		asked, cancel := context.WithTimeout(ctx, t.every)
		s, err := t.ask(asked)
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("the agent does not answer within %s", t.every)
		}
		cancel()
		select {
		case looks <- look{s, err}:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(t.every):
		case <-ctx.Done():
			return
		}
	}
}

// frame is what is written to the terminal for one refresh. Its last row says how fresh the others are.
func (t *top) frame(width, height int) string {
	var rows []report.Row
	var foot report.Row
	at := t.now.At.Local().Format("15:04:05 MST")
	switch known := !t.now.At.IsZero(); {
	case known && t.err == nil:
		foot.Text = fmt.Sprintf("%s, every %s; q ends", at, t.every)
	case known:
		foot = report.Row{Text: "no answer since " + at + ", trying again; q ends", Style: report.Alarm}
	case t.err != nil:
		rows = report.Lines(t.explain(t.err).Error(), width)
		foot = report.Row{Text: "trying again; q ends", Style: report.Alarm}
	default:
		foot.Text = "asking the agent; q ends"
	}
	if !t.now.At.IsZero() {
		rows = t.now.Top(t.before, width, height-1)
	}
	for len(rows) < height-1 {
		rows = append(rows, report.Row{})
	}
	rows = append(rows[:height-1:height-1], foot)
	return "\x1b[H" + strings.TrimSuffix(paint(rows, true, os.Getenv("NO_COLOR") == ""), "\n")
}

// paint writes rows, over others if erase is set.
func paint(rows []report.Row, erase, colour bool) string {
	codes := map[report.Style]string{report.Heading: "1", report.Caution: "33", report.Alarm: "1;31"}
	var b strings.Builder
	for _, r := range rows {
		if erase {
			b.WriteString("\x1b[2K")
		}
		if code := codes[r.Style]; colour && code != "" {
			r.Text = "\x1b[" + code + "m" + r.Text + "\x1b[0m"
		}
		b.WriteString(r.Text + "\n")
	}
	return b.String()
}
