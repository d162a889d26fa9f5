package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/proc"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// Titles that nginx gives its processes (nginx source, ngx_process_cycle.c).
const (
	masterTitle   = "nginx: master process"
	workerTitle   = "nginx: worker process"
	drainingTitle = "nginx: worker process is shutting down"
)

// process is what the modes have in common whose nginx is a process that can be seen
// from here.
type process struct{ o Options }

// isMaster says whether a process is the master of our nginx: by its title,
// which holds the path of our configuration, and by its binary where we may
// see it.
func (p *process) isMaster(pid int) bool {
	if !p.isMasterTitle(proc.Title(pid)) {
		return false
	}
	exe := proc.Executable(pid)
	return exe == "" || strings.Contains(filepath.Base(exe), "nginx") || filepath.Base(exe) == filepath.Base(p.o.Binary)
}

func (p *process) isMasterTitle(t string) bool {
	return strings.HasPrefix(t, masterTitle) && strings.Contains(t+" ", " -c "+p.o.Dirs.MainFile()+" ")
}

func (p *process) Find(context.Context) nginx.Instance {
	return seen(nginx.Instance{Master: p.master(), Net: proc.Own})
}

// seen adds the accounts of the instance's processes.
func seen(i nginx.Instance) nginx.Instance {
	if i.Master == 0 {
		return i
	}
	i.MasterAccount = account(i.Master)
	for _, pid := range proc.Children(i.Master) {
		if strings.HasPrefix(proc.Title(pid), workerTitle) {
			i.WorkerAccount = account(pid)
			break
		}
	}
	return i
}

// account returns who a process acts as, nil where that cannot be seen.
func account(pid int) *nginx.Account {
	a, ok := proc.AccountOf(pid)
	if !ok {
		return nil
	}
	return &nginx.Account{UID: a.UID, GID: a.GID}
}

// master believes the pid file only if that process is our master; without the file
// it asks who holds the private socket.
func (p *process) master() int {
	if b, err := os.ReadFile(nginx.PIDFile(p.o.Dirs.Run)); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && pid > 1 && p.isMaster(pid) {
			return pid
		}
	}
	for _, pid := range proc.Holders(proc.UnixSockets(nginx.Socket(p.o.Dirs.Run))) {
		if p.isMaster(pid) {
			return pid
		}
	}
	return 0
}

// starting looks through all processes for our nginx: its master, and whether one
// is still on its way to become that. It costs more than master and needs neither
// pid file nor socket, which an nginx that starts does not have yet.
func (p *process) starting() (master int, starting bool) {
	masters := map[int]bool{}
	for _, pid := range proc.All() {
		if p.isMaster(pid) {
			masters[pid] = true
		} else if t := proc.Title(pid); !strings.HasPrefix(t, "nginx: ") && strings.Contains(t+" ", p.startLine()) {
			starting = true
		}
	}
	for pid := range masters {
		// A worker just forked carries its master's title for a moment.
		if !masters[proc.Parent(pid)] {
			master = pid
		}
	}
	return master, starting
}

// startLine is the part of the command line by which a start is known; a test of
// a configuration (-t) never has it, because it names a directory beside.
func (p *process) startLine() string { return " -c " + p.o.Dirs.MainFile() + " -p " }

// awaitStarting returns the master of an nginx that a former agent had begun to start
// when it was killed. It waits for one that is on its way; 0 means there is none.
func (p *process) awaitStarting(ctx context.Context) int {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	// A daemon changes its process id on its way, and one look may fall between
	// the two; twice in a row it cannot.
	for none := 0; ; {
		master, starting := p.starting()
		if none++; starting {
			none = 0
		}
		if master != 0 || none == 2 {
			return master
		}
		select {
		case <-ctx.Done():
			return 0
		case <-tick.C:
		}
	}
}

func (p *process) Workers(master int) nginx.Workers {
	w := nginx.Workers{Alive: p.isMaster(master)}
	for _, pid := range proc.Children(master) {
		p.sort(&w, pid, proc.Title(pid))
	}
	return w
}

// sort adds a child of the master to those of its kind. Until it is a worker, it has
// the title of its master.
func (p *process) sort(w *nginx.Workers, pid int, title string) {
	switch {
	case strings.HasPrefix(title, drainingTitle):
		w.Draining = append(w.Draining, pid)
	case strings.HasPrefix(title, workerTitle):
		w.Active = append(w.Active, pid)
	case p.isMasterTitle(title):
		w.Starting = append(w.Starting, pid)
	}
}

// signals are nginx's own (nginx.org, "Controlling nginx").
var signals = map[nginx.Signal]unix.Signal{nginx.Reload: unix.SIGHUP, nginx.Retire: unix.SIGQUIT, nginx.End: unix.SIGTERM}

// Signal checks the number of a master again right before, as it may have gone to
// another process.
func (p *process) Signal(_ context.Context, pid int, s nginx.Signal) error {
	if s == nginx.Reload && !p.isMaster(pid) {
		return fmt.Errorf("process %d is not nagaya's nginx any more", pid)
	}
	err := unix.Kill(pid, signals[s])
	switch {
	case err == nil, errors.Is(err, unix.ESRCH) && s != nginx.Reload:
		return nil
	case errors.Is(err, unix.EPERM):
		return &nginx.Fault{Err: err, Problem: problem.Problem{
			Code: "nginx-of-another-user", Text: fmt.Sprintf("nginx (process %d) runs as another user, so the agent cannot tell it to reload", pid),
			Hint: "run both as the same user: systemctl restart nagaya-nginx, or see User= in the drop-ins of nagaya.service and nagaya-nginx.service",
		}}
	}
	return fmt.Errorf("sending %v to nginx (%d): %w", signals[s], pid, err)
}

func (*process) Watch(master int) (ended <-chan struct{}, stop func()) { return proc.Watch(master) }

// maxOutput bounds what is kept of the binary's output, in bytes.
const maxOutput = 64 << 10

func (p *process) Command(ctx context.Context, args ...string) (output string, exit int, err error) {
	out := &tail{limit: maxOutput}
	cmd := exec.CommandContext(ctx, p.o.Binary, args...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay, cmd.Env = out, out, time.Second, environment()
	if p.o.Stdout {
		cmd.ExtraFiles = []*os.File{os.Stdout} // at StdoutPath, as for an nginx that stays
	}
	err = cmd.Run()
	var failed *exec.ExitError
	if ctx.Err() == nil && errors.As(err, &failed) {
		return out.String(), failed.ExitCode(), nil
	}
	return out.String(), 0, err
}

// startFault says that nginx did not start.
func startFault(err error, output string) error {
	text := nginx.LastEmerg(output)
	if text == "" {
		text = nginx.Printable(err.Error())
	}
	return &nginx.Fault{Err: err, Problem: problem.Problem{
		Code: "nginx-start-failed", Text: "nginx did not start: " + text,
		Hint: "read nginx's error log; it is tried again",
	}}
}

// tail keeps the last bytes of what is written to it.
type tail struct {
	limit int
	b     []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - t.limit; over > 0 {
		t.b = slices.Delete(t.b, 0, over)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.b) }
