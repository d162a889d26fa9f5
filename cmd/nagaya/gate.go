package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

func (c *cli) gateVerb() *cobra.Command {
	var why string
	cmd := c.viewVerb(&cobra.Command{
		Use: "gate", Short: "Show whether batches may start, and which jobs wait",
		Long: `Gate without a verb shows the decision and the queue; with --why it explains where one job stands, and
what each start that was compared is expected to cost. 'gate check' is for scripts,
'gate wait' holds until a job may start, 'gate run' starts it then.`,
		Example: "  nagaya gate --why report",
	}, nil, func(s report.Status) (any, string, error) {
		if why == "" {
			return s.Gate, s.Gate.Text(s.At), nil
		}
		jobs, text, ok := s.Gate.Decision.Why(why)
		if !ok {
			return nil, "", fmt.Errorf("the gate knows no job %q now; 'nagaya gate' lists those that it knows", why)
		}
		return jobs, text, nil
	})
	cmd.Flags().StringVar(&why, "why", "", "explain the `job` of this name or id")
	cmd.AddCommand(c.gateCheckVerb(), c.gateWaitVerb(), c.gateRunVerb(), c.gateFreeVerb())
	return cmd
}

func (c *cli) gateCheckVerb() *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use: "check", Short: "Exit with 0 if a batch may start now, with 1 if not", Args: noArgs,
		Long: `Check prints the decision and exits with 0 while the gate is open, with 1 while it
is closed, and with 3 when the agent does not answer. It suits ExecCondition= of
systemd units and the beginning of cron lines.`,
		Example: "  0 2 * * * nagaya gate check --quiet && /usr/local/bin/report",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.status(cmd)
			if err != nil {
				return err
			}
			d, text := s.Gate.Decision, ""
			if !quiet {
				text = fmt.Sprintf("%s: %s\n", gate.Word(d.Open), cmp.Or(d.Reason, "nothing has been decided yet"))
			}
			return c.verdict(nil, text, !d.Open)
		},
	}
	c.addRunDir(cmd)
	cmd.Flags().BoolVar(&quiet, "quiet", false, "print nothing")
	return cmd
}

// jobFlags describe a job on the command line.
type jobFlags struct {
	gate.Job
	deadline string
	within   time.Duration
	refuse   bool
}

func (f *jobFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.Name, "name", "", "name of the job, by which its cost is learned (required for wait; run takes the command's)")
	cmd.Flags().Float64Var(&f.Need, "need", 0, "CPU credits (minutes of one vCPU) that it will take; 0 lets the agent learn it")
	cmd.Flags().Float64Var(&f.Cores, "cores", 0, "most vCPUs that it uses at once; 0 is all")
	cmd.Flags().StringVar(&f.deadline, "deadline", "", "when it must have ended: RFC 3339, or HH:MM today or tomorrow, local time")
	cmd.Flags().DurationVar(&f.within, "within", 0, "when it must have ended, from now; instead of --deadline")
	cmd.Flags().BoolVar(&f.refuse, "refuse", false, "when it cannot end in time any more, refuse instead of starting late")
}

// job makes the job that the flags describe.
func (f *jobFlags) job(now time.Time) (_ gate.Job, err error) {
	j := f.Job
	if f.refuse {
		j.Late = gate.LateRefuse
	}
	switch {
	case f.deadline != "" && f.within != 0:
		return j, usage(errors.New("--deadline and --within are two ways to say the same; give one"))
	case f.within < 0:
		return j, usage(fmt.Errorf("--within %s lies in the past", f.within))
	case f.within > 0:
		j.Deadline = now.Add(f.within)
	case f.deadline != "":
		if j.Deadline, err = parseDeadline(f.deadline, now); err != nil {
			return j, err
		}
		if !j.Deadline.After(now) {
			return j, usage(fmt.Errorf("--deadline %s lies in the past: it is %s; give a later one, or none if the job may end whenever", f.deadline, now.UTC().Format(time.RFC3339)))
		}
	}
	j.ID = fmt.Sprintf("%.*s-%d-%d", mostNameInID, j.Name, os.Getpid(), now.Unix())
	if err = (gate.Asked{Job: j, State: gate.Waiting}).Validate(); err != nil {
		err = usage(err)
	}
	return j, err
}

// mostNameInID is how much of a job's name its id has.
const mostNameInID = 96

// parseDeadline reads a moment, or a time of day, which is the next such time.
func parseDeadline(text string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if t, ok := gate.NextTimeOfDay(text, now); ok {
		return t, nil
	}
	return time.Time{}, usage(fmt.Errorf("--deadline %q is neither like 2026-01-31T06:00:00Z nor like 06:00", text))
}
