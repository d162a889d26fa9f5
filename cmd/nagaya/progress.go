package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
)

const (
	// progressAfter is how long something may take before it is told how far it is.
	progressAfter = 2 * time.Second
	progressEvery = 200 * time.Millisecond
)

// progress tells people at a terminal how far something is that takes long.
type progress struct {
	out          io.Writer
	begun, shown time.Time
}

// progress returns what is told the part that is done, 0 to 1, and what ends the telling. It tells nobody where the errors go to no terminal.
func (c *cli) progress(quiet bool) (tell func(float64), end func()) {
	if file, ok := c.errs.(*os.File); quiet || !ok || !isTerminal(file) {
		return nil, func() {}
	}
	p := &progress{out: c.errs, begun: time.Now()}
	return p.tell, p.end
}

func (p *progress) tell(part float64) {
	now := time.Now()
	if now.Sub(p.begun) < progressAfter || now.Sub(p.shown) < progressEvery {
		return
	}
	p.shown = now
	fmt.Fprintf(p.out, "\rnagaya: %2.0f %% done", 100*part)
}

// end removes the line.
func (p *progress) end() {
	if !p.shown.IsZero() {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

// endable lets a signal end at once what computes for long and changes nothing.
func endable(run func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		done := make(chan error, 1)
		go func() { done <- run(cmd, args) }()
		select {
		case err := <-done:
			return err
		case <-cmd.Context().Done():
			return &exitError{code: interruptedBy(cmd.Context())}
		}
	}
}
