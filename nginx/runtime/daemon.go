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

// daemon is an nginx that the agent starts. It goes on when the agent ends, and Stop ends it.
type daemon struct{ process }

// startArgs are the arguments of a start. -c comes first: a title that is truncated
// still names the configuration.
func (d *daemon) startArgs() []string {
	log := nginx.ErrorLog(d.o.Dirs.Log)
	if d.o.Stdout {
		log = "stderr"
	}
	return []string{"-c", d.o.Dirs.MainFile(), "-p", d.o.Dirs.State, "-e", log}
}

// startTimeout bounds a start; nginx itself retries a port in use for 2.5 s.
const startTimeout = 20 * time.Second

func (d *daemon) Start(ctx context.Context) (master int, err error) {
	// A start that has begun is finished, so that no half-started nginx is left.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	if pid := d.awaitStarting(ctx); pid != 0 {
		d.o.Log.Info("nginx that another agent was starting is adopted", event.Key, event.NginxAdopted, "pid", pid)
		return pid, nil
	}
	d.removeLeftovers(ctx)
	cmd := exec.CommandContext(ctx, d.o.Binary, d.startArgs()...)
	cmd.Env, cmd.Dir, cmd.WaitDelay = environment(), "/", time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out := &tail{limit: maxOutput}
	switch {
	case d.o.Stdout:
		cmd.Stderr, cmd.ExtraFiles = os.Stderr, []*os.File{os.Stdout}
	case d.o.Dirs.Log == "":
		cmd.Stderr = os.Stderr // nginx keeps it, so it must not be a pipe to us
	default:
		cmd.Stderr = out
	}
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return 0, startFault(err, out.String())
	}
	if !poll(ctx, 10*time.Millisecond, func() bool { master = d.master(); return master != 0 }) {
		return 0, startFault(ctx.Err(), out.String())
	}
	return master, nil
}

// removeLeftovers ends workers without a master, which hold the ports, and removes the sockets
// and the pid file of an nginx that was killed. The caller knows that no master runs.
func (d *daemon) removeLeftovers(ctx context.Context) {
	d.endOrphans(ctx, nginx.Socket(d.o.Dirs.Run))
	left, _ := filepath.Glob(filepath.Join(d.o.Dirs.Run, "*.sock")) // the pattern is a constant
	for _, file := range append(left, nginx.PIDFile(d.o.Dirs.Run)) {
		os.Remove(file)
	}
}

// endOrphans has workers without a master drain; they close the ports at once. Those that
// do not are ended.
func (d *daemon) endOrphans(ctx context.Context, socket string) {
	for _, sig := range []unix.Signal{unix.SIGQUIT, unix.SIGTERM, unix.SIGKILL} {
		signalled := map[int]bool{}
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		done := poll(ctx, 10*time.Millisecond, func() bool {
			none := true
			for _, pid := range proc.Holders(proc.UnixSockets(socket)) {
				if t := proc.Title(pid); !strings.HasPrefix(t, "nginx: ") || strings.HasPrefix(t, drainingTitle) || strings.HasPrefix(t, masterTitle) {
					continue
				}
				if none = false; !signalled[pid] {
					signalled[pid] = true
					d.o.Log.Info("nginx worker without a master is signalled to end", event.Key, event.WorkerOrphaned, "pid", pid, "signal", sig.String())
					unix.Kill(pid, sig)
				}
			}
			return none
		})
		cancel()
		if done {
			return
		}
	}
}

// stop ends nginx gracefully within StopTimeout, else at once.
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
	}{{unix.SIGQUIT, d.o.StopTimeout}, {unix.SIGTERM, 3 * time.Second}, {unix.SIGKILL, time.Second}} {
		if !d.isMaster(pid) {
			return nil
		}
		if !d.maySignal(pid) {
			return otherUserFault(unix.EPERM, pid)
		}
		d.o.Log.Info("stopping nginx", event.Key, event.NginxStopping, "pid", pid, "signal", step.sig.String())
		if err := unix.Kill(pid, step.sig); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("stopping nginx (%d): %w", pid, err)
		}
		waiting, cancel := context.WithTimeout(ctx, step.limit)
		select {
		case <-gone:
			cancel()
			return nil
		case <-waiting.Done():
			cancel()
		}
		ctx = context.WithoutCancel(ctx)
	}
	return fmt.Errorf("nginx (%d) did not end within a second of SIGKILL", pid)
}
