package install

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
	"github.com/nagaya-ecs/nagaya/nginx"
)

// child is an nginx that the agent starts as a daemon. It outlives the agent, and
// Stop ends it.
type child struct{ process }

func newChild(o Options) *child { return &child{process{o}} }

// startArgs is how nginx is started. -c comes first: a title that is cut short
// still names the configuration.
func (c *child) startArgs() []string {
	return []string{"-c", c.o.confPath(), "-p", c.o.StateDir, "-e", nginx.ErrorLog(c.o.LogDir)}
}

// startTimeout bounds a start; nginx itself tries a busy port for 2.5 s.
const startTimeout = 20 * time.Second

// start starts nginx with the current generation and returns its number. It
// does not wait until nginx answers.
func (c *child) start(ctx context.Context) (int, error) {
	// A start that was begun is ended, so that no half-born nginx is left.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	if pid := c.newborn(ctx); pid != 0 {
		c.o.Log.Info("nginx that a former agent was starting is adopted", event.Key, event.NginxAdopted, "pid", pid)
		return pid, nil
	}
	c.clear()
	cmd := exec.CommandContext(ctx, c.o.Binary, c.startArgs()...)
	cmd.Env, cmd.Dir, cmd.WaitDelay = environment(), "/", time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, mark := &tail{limit: maxSaid}, logEnd(c.o.LogDir)
	switch {
	case c.o.Stdout:
		cmd.Stderr, cmd.ExtraFiles = os.Stderr, []*os.File{os.Stdout}
	case c.o.LogDir == "":
		cmd.Stderr = os.Stderr // nginx keeps it, so it cannot be a pipe to us
	default:
		cmd.Stderr = out
	}
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return 0, c.startTrouble(out.String()+emergSince(c.o.LogDir, mark), err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if pid := c.find(ctx); pid != 0 {
			return pid, nil
		}
		select {
		case <-ctx.Done():
			return 0, c.startTrouble(out.String(), ctx.Err())
		case <-tick.C:
		}
	}
}

// clear removes what a killed nginx left: workers without a master, which hold
// the ports, its sockets and its pid file. The caller knows that no master runs.
func (c *child) clear() {
	c.retireOrphans(nginx.Socket(c.o.RunDir))
	left, _ := filepath.Glob(filepath.Join(c.o.RunDir, "*.sock")) // the pattern is a constant
	for _, socket := range left {
		os.Remove(socket)
	}
	os.Remove(nginx.PIDFile(c.o.RunDir))
}

// retireOrphans lets workers without a master finish what they began; they give
// up the ports at once. Whoever does not listen to that is ended.
func (c *child) retireOrphans(socket string) {
	for _, sig := range []unix.Signal{unix.SIGQUIT, unix.SIGTERM, unix.SIGKILL} {
		deadline := time.Now().Add(time.Second)
		signalled := map[int]bool{}
		for {
			left := 0
			for _, pid := range socketHolders(socket) {
				if t := title(pid); !strings.HasPrefix(t, "nginx: ") || strings.HasPrefix(t, drainingTitle) || strings.HasPrefix(t, masterTitle) {
					continue
				}
				left++
				if !signalled[pid] {
					signalled[pid] = true
					c.o.Log.Info("nginx worker without a master is told to finish", event.Key, event.WorkerOrphaned, "pid", pid, "signal", sig.String())
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
func (c *child) stop(ctx context.Context) error {
	pid := c.find(ctx)
	if pid == 0 {
		return nil
	}
	gone, unwatch := watch(pid)
	defer unwatch()
	for _, step := range []struct {
		sig   unix.Signal
		limit time.Duration
		ctx   context.Context
	}{
		{unix.SIGQUIT, c.o.StopTimeout, ctx},
		{unix.SIGTERM, 3 * time.Second, context.WithoutCancel(ctx)},
		{unix.SIGKILL, time.Second, context.WithoutCancel(ctx)},
	} {
		if !c.isMaster(pid) {
			return nil
		}
		c.o.Log.Info("stopping nginx", event.Key, event.NginxStopping, "pid", pid, "signal", step.sig.String())
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
