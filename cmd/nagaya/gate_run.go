package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/cgroup"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/gate/brake"
	"github.com/nagaya-ecs/nagaya/agent/proc"
	"github.com/nagaya-ecs/nagaya/agent/report/socket"
)

// Exit codes of 'gate run' besides the command's own; the shell's conventions.
const (
	exitKilled    = 124 // --kill-after ended the command, as timeout(1) says it
	exitRefused   = 125 // the job was not started
	exitNotExec   = 126 // the command could not be executed
	exitNotFound  = 127 // there is no such command
	exitSignalled = 128 // plus the number of the signal that ended the command, or the wait for it
)

const (
	// waitTimeout is how long one question of a waiting job is held open. The first one is held shorter, so that it is soon told why
	// it waits.
	firstTimeout = time.Second
	waitTimeout  = 30 * time.Second
	// retryPause is the pause after a question that the agent did not answer: it is
	// being restarted, or not there yet.
	retryPause = 2 * time.Second
	// reportEvery is how often a running job reports; the agent forgets a job that
	// is silent for gate.Silence.
	reportEvery = 30 * time.Second
	// reportTimeout bounds a report that does not wait for a change.
	reportTimeout = 5 * time.Second
	// killPause is how long a command has to end of a SIGTERM of --kill-after before it gets SIGKILL, and
	// killEvery how often it is seen whether it has taken too much.
	killPause = 30 * time.Second
	killEvery = time.Second
	// noLimit is the patience of a job that has no limit of its own.
	noLimit = time.Duration(math.MaxInt64)
)

// jobClient is the client of the gate for one job.
type jobClient struct {
	*cli
	client interface {
		Job(context.Context, gate.Asked, time.Duration) (gate.Entry, error)
	}
	job   gate.Job
	limit limit
	// expected is what the job is expected to need, in credits, when it is admitted.
	expected float64
}

func (c *cli) jobClient(job gate.Job) *jobClient {
	return &jobClient{cli: c, client: c.client(), job: job}
}

// wait waits until the job may start, and takes it out of the queue on an error. It outlives restarts of the agent: the
// same question is asked again.
func (j *jobClient) wait(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			_ = j.report(gate.Asked{State: gate.Done})
		}
	}()
	last, absent := "", false
	for {
		held := waitTimeout
		if last == "" {
			held = firstTimeout
		}
		e, err := j.client.Job(ctx, gate.Asked{Job: j.job, State: gate.Waiting}, held)
		switch {
		case errors.Is(ctx.Err(), context.Canceled):
			return &exitError{code: interruptedBy(ctx), err: fmt.Errorf("job %s was interrupted while it waited", j.job.Name)}
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrPermission): // no wait changes who this is
			return j.explain(err)
		case errors.Is(err, socket.ErrNoAgent):
			if !absent {
				j.note("%v; the job waits until it does ('systemctl status nagaya' says why)", err)
			}
			absent = true
			backoff.Sleep(ctx, retryPause)
			continue
		case err != nil:
			return err
		}
		absent = false
		switch e.Phase {
		case gate.Admitted, gate.Running:
			j.expected = e.Expected
			j.note("job %s is admitted: %s", j.job.Name, e.Told())
			return nil
		case gate.Refused:
			return fmt.Errorf("job %s is refused: %s", j.job.Name, e.Told())
		}
		if kind := kindOfReason(e.Reason); kind != last {
			last = kind
			j.note("job %s waits: %s", j.job.Name, e.Reason)
		}
	}
}

// interruptedBy is the shell's exit code for the signal that has ended the context of main.
func interruptedBy(ctx context.Context) int {
	if strings.HasPrefix(context.Cause(ctx).Error(), syscall.SIGINT.String()) {
		return exitSignalled + int(syscall.SIGINT)
	}
	return exitSignalled + int(syscall.SIGTERM)
}

// kindOfReason is a reason without its numbers, which change by the minute.
func kindOfReason(reason string) string {
	reason, _, _ = strings.Cut(reason, " (")
	return strings.Map(func(r rune) rune {
		if unicode.IsDigit(r) {
			return -1
		}
		return r
	}, reason)
}

// report says that the job runs or is done and what it has spent. An agent that is
// being restarted misses one report and gets the next; without reports it forgets the job in two minutes.
func (j *jobClient) report(asked gate.Asked) error {
	ctx, cancel := context.WithTimeout(context.Background(), reportTimeout)
	defer cancel()
	asked.Job = j.job
	_, err := j.client.Job(ctx, asked, 0)
	return err
}

func (c *cli) gateWaitVerb() *cobra.Command {
	var f jobFlags
	var patience time.Duration
	cmd := &cobra.Command{
		Use: "wait", Short: "Wait until a job of this name may start", Args: noArgs,
		Long: `Wait returns with 0 when the job may start, with 1 when it is refused or the
patience is over, with 128 plus N when signal N ended it, and with 3 when this user may not ask the agent. The credits that it was promised are set aside for two minutes;
'gate run' keeps them for as long as the job runs.`,
		Example: "  nagaya gate wait --name report --need 12 && /usr/local/bin/report",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.Name == "" {
				return usage(errors.New("--name is missing: the agent learns by it what the job costs"))
			}
			job, err := f.job(time.Now())
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), cmp.Or(patience, noLimit))
			defer cancel()
			if err = c.jobClient(job).wait(ctx); errors.Is(err, context.DeadlineExceeded) {
				err = fmt.Errorf("the job may not start yet after %s", patience)
			}
			return err
		},
	}
	c.addRunDir(cmd)
	f.add(cmd)
	cmd.Flags().DurationVar(&patience, "patience", 0, "maximum wait; 0 means no limit")
	return cmd
}

func (c *cli) gateFreeVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use: "free UNIT", Short: "Take away the CPU quota that a killed 'gate run' has left on its systemd unit",
		Long: `Free gives a unit the CPU quota back that it had before 'gate run' held its command back.
It does nothing where nothing was left behind. It suits ExecStopPost= of units that start
'gate run'; the next 'gate run' of the unit does the same.`,
		Example: "  nagaya gate free nagaya-batch@report.service",
		Args:    takes(1, 1, "the unit"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return brake.FreeUnit(cmd.Context(), c.socketDir(), args[0])
		},
	}
	c.addRunDir(cmd)
	return cmd
}

func (c *cli) gateRunVerb() *cobra.Command {
	var f jobFlags
	var after limit
	cmd := &cobra.Command{
		Use: "run [flags] -- COMMAND [ARG...]", Short: "Run a command once it may start, and account what it costs",
		Long: `Run waits until the job may start, runs the command, passes signals on to it, and reports to the
agent what it cost. The command's exit code is its own; 125 means that it was not
started, 126 and 127 that it could not be, 128 plus N that signal N ended it, or the wait for it, and 3 that
this user may not ask the agent. While no agent answers, the job waits. The command goes on if the agent
is restarted meanwhile.

A job has one run at a time: while a run of this name has not ended, the next one waits.
With --kill-after the command gets SIGTERM when it has run for so long (90m), or spent so many
times the credits that it was expected to need (3x), and SIGKILL half a minute later; its children
too, unless it runs at a terminal. The exit code is 124 then, and nothing is learned from its cost.`,
		Example: "  nagaya gate run --name report --need 12 --deadline 06:00 -- /usr/local/bin/report --yesterday",
		Args:    takes(1, math.MaxInt, "the command to run, after --"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.Name = cmp.Or(f.Name, filepath.Base(args[0]))
			job, err := f.job(time.Now())
			if err != nil {
				return err
			}
			path, err := exec.LookPath(args[0])
			if err != nil {
				return startError(err)
			}
			j := c.jobClient(job)
			j.limit = after
			if err := j.wait(cmd.Context()); err != nil {
				if _, has := errors.AsType[*exitError](err); has {
					return err
				}
				return &exitError{code: exitRefused, err: err}
			}
			return j.run(c.agentConfig().Credit.CgroupDir, c.socketDir(), path, args)
		},
	}
	cmd.Flags().SetInterspersed(false)
	c.addRunDir(cmd)
	f.add(cmd)
	cmd.Flags().Var(&after, "kill-after", "end the command when it has run for so long, e.g. 90m, or spent so many times the expected credits, e.g. 3x; 0 is never")
	return cmd
}

// run runs the command and reports on it.
func (j *jobClient) run(cgroupDir, noteDir, path string, args []string) error {
	// The command gets the signals that are for it. The context of main ends with them too, but the command decides when it ends.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	// Without a control group its cost is what the kernel says of the command, and it is held back by signals.
	own, _ := cgroup.Own("/proc", cgroupDir, os.Getpid())
	if own != nil && own.Unit != "" {
		if err := brake.FreeUnit(context.Background(), noteDir, own.Unit); err != nil {
			j.note("the CPU quota of a run that was killed stays: %v", err)
		}
	}
	cmd := exec.Command(path)
	cmd.Args = args
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// A process group of its own, to be stopped with its children; not where a
	// terminal's keys speak to the group that is there.
	grouped, which := !atTerminal(), syscall.PRIO_PROCESS
	if grouped {
		which = syscall.PRIO_PGRP
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: grouped}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		_ = j.report(gate.Asked{State: gate.Done})
		return startError(err)
	}
	braked := &brake.Job{PID: cmd.Process.Pid, Grouped: grouped, Own: own, Dir: noteDir}
	_ = syscall.Setpriority(which, cmd.Process.Pid, lowest) // the services come first
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ctx, stopReports := context.WithCancel(context.Background())
	defer stopReports()
	spent := func() float64 { return max(proc.CPUTime(cmd.Process.Pid).Minutes(), ownCost(own)) }
	_ = j.report(gate.Asked{State: gate.Running, Spent: spent()})
	entries := j.reportRunning(ctx, spent)
	var check, kill <-chan time.Time // kill is when SIGTERM has not helped
	if j.limit != (limit{}) {
		check = time.Tick(killEvery)
	}
	killed := false
	for {
		select {
		case <-check:
			why := j.limit.exceeded(time.Since(begun), spent(), j.expected)
			if why == "" {
				continue
			}
			killed, check, kill = true, nil, time.After(killPause)
			j.note("job %s is ended by --kill-after: %s", j.job.Name, why)
			_ = braked.Free()
			braked.Signal(syscall.SIGTERM)
			braked.Signal(syscall.SIGCONT) // a stopped command cannot end
		case <-kill:
			j.note("job %s has not ended of SIGTERM in %s and gets SIGKILL", j.job.Name, killPause)
			braked.Signal(syscall.SIGKILL)
		case s := <-signals:
			if s != syscall.SIGUSR1 && s != syscall.SIGUSR2 {
				_ = braked.Free() // a stopped command cannot end
			}
			_ = cmd.Process.Signal(s) // it may have ended this moment
		case e := <-entries:
			j.setBrake(ctx, braked, e)
		case err := <-ended:
			stopReports()
			for range entries { // until nothing more is on its way to the agent
			}
			_ = braked.Free()
			cost := max((cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Minutes(), ownCost(own))
			if err := j.report(gate.Asked{State: gate.Done, Spent: cost, Killed: killed, Failed: err != nil}); err != nil {
				j.note("the cost of %.2f credits was not recorded: %v", cost, err)
			}
			j.note("job %s ended after %s and spent %.2f credits", j.job.Name, time.Since(begun).Round(time.Second), cost)
			if killed {
				return &exitError{code: exitKilled}
			}
			return commandError(err)
		}
	}
}

// lowest is the nice value of a batch.
const lowest = 19

// atTerminal reports whether a terminal's keys speak to this process's group.
func atTerminal() bool {
	group, err := unix.IoctlGetInt(int(os.Stdin.Fd()), unix.TIOCGPGRP)
	return err == nil && group == syscall.Getpgrp()
}

// ownCost is what a control group has spent, in credits; 0 where there is none.
func ownCost(own *cgroup.Group) float64 {
	if own == nil {
		return 0
	}
	spent, _ := own.Spent()
	return spent.Minutes()
}

// setBrake holds the command back as the agent wants it, and says so.
func (j *jobClient) setBrake(ctx context.Context, braked *brake.Job, e gate.Entry) {
	if was, quota := braked.Held(); was == e.Slow && quota == e.Quota {
		return
	}
	err := braked.Hold(ctx, e.Slow, e.Quota)
	switch {
	case e.Slow == "":
		j.note("job %s goes on", j.job.Name)
	case err != nil:
		j.note("job %s is paused, because no CPU quota can be set: %v; %s", j.job.Name, err, e.Reason)
	default:
		j.note("job %s is held back: %s", j.job.Name, e.Reason)
	}
}

// reportRunning reports again and again until ctx ends, and delivers the job's entry whenever it is to be held back differently; the channel
// is closed then. A job whose agent does not answer is free: nothing would set it free otherwise.
func (j *jobClient) reportRunning(ctx context.Context, spent func() float64) <-chan gate.Entry {
	entries := make(chan gate.Entry)
	go func() {
		defer close(entries)
		var now gate.Entry
		for pause := retryPause; backoff.Sleep(ctx, pause); { // it has just reported
			begun := time.Now()
			e, err := j.client.Job(ctx, gate.Asked{Job: j.job, State: gate.Running, Spent: spent(), Slow: now.Slow, Quota: now.Quota}, reportEvery)
			pause = reportEvery - time.Since(begun)
			if err != nil {
				e, pause = gate.Entry{}, retryPause
			}
			if e.Slow != now.Slow || e.Quota != now.Quota {
				now, pause = e, 0
				select {
				case entries <- e:
				case <-ctx.Done():
				}
			}
		}
	}()
	return entries
}

// startError gives a command that could not be started the shell's exit codes.
func startError(err error) error {
	code := exitNotExec
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		code = exitNotFound
	}
	return &exitError{code: code, err: hinted(fmt.Errorf("the command cannot be started: %w", err), "correct the path behind --, or make the file executable")}
}

// commandError is the command's own end as an exit code.
func commandError(err error) error {
	ended, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return err
	}
	if status := ended.Sys().(syscall.WaitStatus); status.Signaled() {
		return &exitError{code: exitSignalled + int(status.Signal())}
	}
	return &exitError{code: ended.ExitCode()}
}
