package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

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
	exitRefused   = 125 // the job was not started
	exitNotExec   = 126 // the command could not be executed
	exitNotFound  = 127 // there is no such command
	exitSignalled = 128 // plus the number of the signal that ended the command
)

const (
	// askPatience is how long one question to the agent is held open.
	askPatience = 30 * time.Second
	// askAgain is the pause after a question that the agent did not answer: it is
	// being restarted, or not there yet.
	askAgain = 2 * time.Second
	// sayRunning is how often a running job reports; the agent forgets a job that
	// is silent for gate.Silence.
	sayRunning = 30 * time.Second
)

// visit is one job's visit to the gate.
type visit struct {
	c      *cli
	client *socket.Client
	job    gate.Job
	lost   bool // the agent did not answer last time
}

func (c *cli) visit(job gate.Job) *visit {
	if job.ID == "" {
		job.ID = fmt.Sprintf("%s-%d-%d", job.Name, os.Getpid(), time.Now().Unix())
	}
	return &visit{c: c, client: c.client(), job: job}
}

// wait holds until the job may start. It outlives restarts of the agent: the
// same question is asked again.
func (v *visit) wait(ctx context.Context) error {
	last := ""
	for {
		e, err := v.tell(ctx, gate.Waiting, 0, askPatience)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, socket.ErrNoAgent):
			if !v.lost {
				say(v.c.errs, "%v; waiting for it", err)
			}
			v.lost = true
			backoff.Sleep(ctx, askAgain)
			continue
		case err != nil:
			return err
		}
		v.lost = false
		switch e.Phase {
		case gate.Admitted, gate.Running:
			say(v.c.errs, "job %s is admitted: %s", v.job.Name, e.Reason)
			return nil
		case gate.Refused:
			return fmt.Errorf("job %s is refused: %s", v.job.Name, e.Reason)
		}
		if e.Reason != last {
			last = e.Reason
			say(v.c.errs, "job %s waits: %s", v.job.Name, e.Reason)
		}
	}
}

func (v *visit) tell(ctx context.Context, state gate.Phase, spent float64, patience time.Duration) (gate.Entry, error) {
	return v.client.Job(ctx, gate.Asked{Job: v.job, State: state, Spent: spent}, patience)
}

// leave takes the job out of the agent's books.
func (v *visit) leave(spent float64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := v.tell(ctx, gate.Done, spent, 0)
	return err
}

func (c *cli) gateWaitVerb() *cobra.Command {
	var f jobFlags
	var patience time.Duration
	cmd := &cobra.Command{
		Use: "wait", Short: "Wait until a job of this name may start", Args: noArgs,
		Long: `Wait returns with 0 when the job may start, and with 1 when it is refused or the
patience is over. The credits that it was promised are set aside for two minutes;
'gate run' keeps them for as long as the job runs.`,
		Example: "  nagaya gate wait --name report --need 12 && /usr/local/bin/report",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.name == "" {
				return usage(errors.New("--name is missing: the agent learns by it what the job costs"))
			}
			job, err := f.job(time.Now())
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			if patience > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, patience)
				defer cancel()
			}
			v := c.visit(job)
			if err := v.wait(ctx); err != nil {
				_ = v.leave(0) // it is forgotten by itself in two minutes
				if errors.Is(err, context.DeadlineExceeded) {
					err = fmt.Errorf("the job may not start yet after %s", patience)
				}
				return err
			}
			return nil
		},
	}
	c.addRunDir(cmd)
	f.add(cmd)
	cmd.Flags().DurationVar(&patience, "patience", 0, "give up after so long; 0 waits for ever")
	return cmd
}

func (c *cli) gateRunVerb() *cobra.Command {
	var f jobFlags
	cmd := &cobra.Command{
		Use: "run [flags] -- COMMAND [ARG...]", Short: "Run a command once it may start, and account what it costs",
		Long: `Run waits at the gate, runs the command, passes signals on to it, and tells the
agent what it cost. The command's exit code is its own; 125 means that it was not
started, 126 and 127 that it could not be, 128 plus N that signal N ended it. The
command goes on if the agent is restarted meanwhile.`,
		Example: "  nagaya gate run --name report --need 12 --deadline 06:00 -- /usr/local/bin/report --yesterday",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(errors.New("the command to run is missing; give it after --"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.name == "" {
				f.name = filepath.Base(args[0])
			}
			job, err := f.job(time.Now())
			if err != nil {
				return err
			}
			v := c.visit(job)
			path, err := exec.LookPath(args[0])
			if err != nil {
				return startError(err)
			}
			if err := v.wait(cmd.Context()); err != nil {
				_ = v.leave(0) // it is forgotten by itself in two minutes
				return &exitError{code: exitRefused, err: err}
			}
			return v.run(path, args)
		},
	}
	cmd.Flags().SetInterspersed(false)
	c.addRunDir(cmd)
	f.add(cmd)
	return cmd
}

// run runs the command and reports on it.
func (v *visit) run(path string, args []string) error {
	// The command gets the signals that are for it; main's context is not asked
	// any more, because how a command ends is its own affair.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	own, err := cgroup.Own("/proc", v.c.cgroupDir(), os.Getpid())
	if err != nil {
		own = nil // its cost is then what the kernel says of the command, and its brake are signals
	}
	cmd := exec.Command(path)
	cmd.Args = args
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// A process group of its own, to be stopped with its children; not where a
	// terminal's keys speak to the group that is there.
	grouped := !atTerminal()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: grouped}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		_ = v.leave(0)
		return startError(err)
	}
	held := &brake.Job{PID: cmd.Process.Pid, Grouped: grouped, Own: own}
	// Below whatever else runs here: the services come first. It may be there already.
	which := syscall.PRIO_PROCESS
	if grouped {
		which = syscall.PRIO_PGRP
	}
	_ = syscall.Setpriority(which, cmd.Process.Pid, lowest)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ctx, forget := context.WithCancel(context.Background())
	defer forget()
	spent := func() float64 { return spentSoFar(own, cmd.Process.Pid) }
	v.report(spent())
	brakes := v.follow(ctx, spent)
	for {
		select {
		case s := <-signals:
			if s != syscall.SIGUSR1 && s != syscall.SIGUSR2 {
				_ = held.Free() // to take its leave; what is stopped cannot
			}
			_ = cmd.Process.Signal(s) // it may have ended this moment
		case e := <-brakes:
			v.hold(ctx, held, e)
		case err := <-ended:
			forget()
			for range brakes { // until nothing more is on its way to the agent
			}
			_ = held.Free()
			cost := (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Minutes()
			if own != nil {
				if all, err := own.Spent(); err == nil {
					cost = max(cost, all.Minutes())
				}
			}
			if lerr := v.leave(cost); lerr != nil {
				say(v.c.errs, "the cost of %.2f credits was not recorded: %v", cost, lerr)
			}
			say(v.c.errs, "job %s ended after %s and spent %.2f credits", v.job.Name, time.Since(begun).Round(time.Second), cost)
			return commandError(cmd.ProcessState, err)
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

// hold brings the command to how the agent wants it, and says so.
func (v *visit) hold(ctx context.Context, j *brake.Job, e gate.Entry) {
	if was, quota := j.Held(); was == e.Slow && quota == e.Quota {
		return
	}
	err := j.Hold(ctx, e.Slow, e.Quota)
	switch {
	case e.Slow == "":
		say(v.c.errs, "job %s goes on", v.job.Name)
	case err != nil:
		say(v.c.errs, "job %s is paused, because no CPU quota can be set: %v; %s", v.job.Name, err, e.Reason)
	default:
		say(v.c.errs, "job %s is held back: %s", v.job.Name, e.Reason)
	}
}

// report says that the job runs and what it has spent so far. An agent that is
// being restarted misses one report and gets the next.
func (v *visit) report(spent float64) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, _ = v.tell(ctx, gate.Running, spent, 0)
}

// follow reports again and again, and gives how the job is to be held back whenever that has changed, until ctx ends; the channel
// is closed then. A job whose agent does not answer is free: nobody would set it free otherwise.
func (v *visit) follow(ctx context.Context, spent func() float64) <-chan gate.Entry {
	brakes := make(chan gate.Entry)
	go func() {
		defer close(brakes)
		var now gate.Entry
		backoff.Sleep(ctx, askAgain) // it has just reported
		for ctx.Err() == nil {
			begun := time.Now()
			e, err := v.client.Job(ctx, gate.Asked{Job: v.job, State: gate.Running, Spent: spent(), Slow: now.Slow, Quota: now.Quota}, sayRunning)
			pause := sayRunning - time.Since(begun)
			if err != nil {
				e, pause = gate.Entry{}, askAgain
			}
			if e.Slow != now.Slow || e.Quota != now.Quota {
				now, pause = e, 0
				select {
				case brakes <- e:
				case <-ctx.Done():
					return
				}
			}
			backoff.Sleep(ctx, pause)
		}
	}()
	return brakes
}

// spentSoFar is what the command has cost until now.
func spentSoFar(own *cgroup.Group, pid int) float64 {
	if own != nil {
		if all, err := own.Spent(); err == nil {
			return all.Minutes()
		}
	}
	return proc.CPUTime(pid).Minutes()
}

// startError gives a command that could not be started the shell's exit codes.
func startError(err error) error {
	code := exitNotExec
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		code = exitNotFound
	}
	return &exitError{code: code, err: err}
}

// commandError is the command's own end as an exit code.
func commandError(state *os.ProcessState, err error) error {
	if err == nil {
		return nil
	}
	status, ok := state.Sys().(syscall.WaitStatus)
	switch {
	case !ok:
		return err
	case status.Signaled():
		return &exitError{code: exitSignalled + int(status.Signal())}
	}
	return &exitError{code: status.ExitStatus()}
}
