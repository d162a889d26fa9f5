package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/proc"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// daemon is an nginx that the agent starts. It outlives the agent, and Stop ends it.
type daemon struct{ process }

// startArgs is how nginx is started. -c comes first: a title that is cut short
// still names the configuration.
func (d *daemon) startArgs() []string {
	log := nginx.ErrorLog(d.o.Dirs.Log)
	if d.o.Stdout {
		log = "stderr"
	}
	return []string{"-c", d.o.Dirs.MainFile(), "-p", d.o.Dirs.State, "-e", log}
}

// startTimeout bounds a start; nginx itself tries a busy port for 2.5 s.
const startTimeout = 20 * time.Second

func (d *daemon) Start(ctx context.Context) (int, error) {
	// A start that was begun is ended, so that no half-started nginx is left.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	if pid := d.awaitStarting(ctx); pid != 0 {
		d.o.Log.Info("nginx that a former agent was starting is adopted", event.Key, event.NginxAdopted, "pid", pid)
		return pid, nil
	}
	d.removeLeftovers()
	cmd := exec.CommandContext(ctx, d.o.Binary, d.startArgs()...)
	cmd.Env, cmd.Dir, cmd.WaitDelay = environment(), "/", time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out := &tail{limit: maxOutput}
	switch {
	case d.o.Stdout:
		cmd.Stderr, cmd.ExtraFiles = os.Stderr, []*os.File{os.Stdout}
	case d.o.Dirs.Log == "":
		cmd.Stderr = os.Stderr // nginx keeps it, so it cannot be a pipe to us
	default:
		cmd.Stderr = out
	}
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return 0, startFault(err, out.String())
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if pid := d.master(); pid != 0 {
			return pid, nil
		}
		select {
		case <-ctx.Done():
			return 0, startFault(ctx.Err(), out.String())
		case <-tick.C:
		}
	}
}

// removeLeftovers removes what a killed nginx left: workers without a master, which
// hold the ports, its sockets and its pid file. The caller knows that no master runs.
func (d *daemon) removeLeftovers() {
	d.endOrphans(nginx.Socket(d.o.Dirs.Run))
	left, _ := filepath.Glob(filepath.Join(d.o.Dirs.Run, "*.sock")) // the pattern is a constant
	for _, file := range append(left, nginx.PIDFile(d.o.Dirs.Run)) {
		os.Remove(file)
	}
}

// endOrphans lets workers without a master finish what they began; they give
// up the ports at once. Those that do not obey are ended.
func (d *daemon) endOrphans(socket string) {
	for _, sig := range []unix.Signal{unix.SIGQUIT, unix.SIGTERM, unix.SIGKILL} {
		deadline := time.Now().Add(time.Second)
		signalled := map[int]bool{}
		for {
			left := 0
			for _, pid := range proc.Holders(proc.UnixSockets(socket)) {
				if t := proc.Title(pid); !strings.HasPrefix(t, "nginx: ") || strings.HasPrefix(t, drainingTitle) || strings.HasPrefix(t, masterTitle) {
					continue
				}
				left++
				if !signalled[pid] {
					signalled[pid] = true
					d.o.Log.Info("nginx worker without a master is told to finish", event.Key, event.WorkerOrphaned, "pid", pid, "signal", sig.String())
					unix.Kill(pid, sig)
				}
			}
			if left == 0 {
				return
			}
			if time.Now().After(deadline) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// stop asks nginx to end, then tells it to, then ends it.
func (d *daemon) stop(ctx context.Context) error {
	pid := d.master()
	if pid == 0 {
		return nil
	}
	gone, unwatch := proc.Watch(pid)
	defer unwatch()
	for _, step := range []struct {
		sig   unix.Signal
		limit time.Duration
		ctx   context.Context
	}{
		{unix.SIGQUIT, d.o.StopTimeout, ctx},
		{unix.SIGTERM, 3 * time.Second, context.WithoutCancel(ctx)},
		{unix.SIGKILL, time.Second, context.WithoutCancel(ctx)},
	} {
		if !d.isMaster(pid) {
			return nil
		}
		d.o.Log.Info("stopping nginx", event.Key, event.NginxStopping, "pid", pid, "signal", step.sig.String())
		if err := unix.Kill(pid, step.sig); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("stopping nginx (%d): %w", pid, err)
		}
		limit := time.NewTimer(step.limit)
		select {
		case <-gone:
			limit.Stop()
			return nil
		case <-step.ctx.Done():
			limit.Stop()
		case <-limit.C:
		}
	}
	return fmt.Errorf("nginx (%d) did not end within a second of SIGKILL", pid)
}
