package runtime

import (
	"cmp"
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

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/proc"
	"github.com/nagaya-ecs/nagaya/agent/readfile"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// Titles that nginx gives its processes (nginx source, ngx_process_cycle.c).
const (
	masterTitle   = "nginx: master process"
	workerTitle   = "nginx: worker process"
	drainingTitle = "nginx: worker process is shutting down"
)

// process is what the modes have in common in which nginx's processes are in our /proc.
type process struct{ o Options }

// isMaster reports whether a process is the master of our nginx: by its title,
// which has the path of our configuration in it, and by its binary where that can be read.
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
	return withAccounts(nginx.Instance{Master: p.master(), Net: proc.Own})
}

// withAccounts adds the accounts of the instance's processes.
func withAccounts(i nginx.Instance) nginx.Instance {
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

// account returns the account of a process, nil where that cannot be read.
func account(pid int) *nginx.Account {
	uid, gid, ok := proc.Account(pid)
	if !ok {
		return nil
	}
	return &nginx.Account{UID: uid, GID: gid}
}

// master returns our master, or 0: the process in the pid file, if it is our master, else the
// one that holds the private socket.
func (p *process) master() int {
	if b, err := readfile.Regular(nginx.PIDFile(p.o.Dirs.Run), 32); err == nil {
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

// starting searches all processes for our nginx: its master, and whether one
// is starting. It costs more than master and needs neither
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
		// A worker that was just forked has its master's title for a moment.
		if !masters[proc.Parent(pid)] {
			master = pid
		}
	}
	return master, starting
}

// startLine is the part of the command line by which a start is recognized; a test of
// a configuration (-t) never has it, because it names another directory.
func (p *process) startLine() string { return " -c " + p.o.Dirs.MainFile() + " -p " }

// awaitStarting returns the master of an nginx that another agent had begun to start
// when it was killed. It waits for one that is starting; 0 means there is none.
func (p *process) awaitStarting(ctx context.Context) (master int) {
	// A daemon changes its process id while it starts, and one search may fall between
	// the two; twice in a row it cannot.
	none := 0
	poll(ctx, 10*time.Millisecond, func() bool {
		var starting bool
		master, starting = p.starting()
		if none++; starting {
			none = 0
		}
		return master != 0 || none == 2
	})
	return master
}

// poll calls done, now and at that interval, until it returns true; it returns false when ctx
// ended before.
func poll(ctx context.Context, every time.Duration, done func() bool) bool {
	for !done() {
		if !backoff.Sleep(ctx, every) {
			return false
		}
	}
	return true
}

func (p *process) Workers(master int) nginx.Workers {
	w := nginx.Workers{Alive: p.isMaster(master)}
	for _, pid := range proc.Children(master) {
		p.addChild(&w, pid, proc.Title(pid))
	}
	return w
}

// addChild adds a child of the master to those of its kind. Until it is a worker, it has
// the title of its master.
func (p *process) addChild(w *nginx.Workers, pid int, title string) {
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
var signals = map[nginx.Signal]unix.Signal{nginx.Reload: unix.SIGHUP, nginx.Retire: unix.SIGQUIT, nginx.End: unix.SIGTERM, nginx.Reopen: unix.SIGUSR1}

// toMaster reports whether a signal is for the master, which nginx -s can send too.
func toMaster(s nginx.Signal) bool { return s == nginx.Reload || s == nginx.Reopen }

// Signal holds the process, checks it and signals it, as its number may be another process's
// by now.
func (p *process) Signal(_ context.Context, pid int, s nginx.Signal) error {
	held, err := os.FindProcess(pid) // by a pidfd, where the kernel has it
	if err != nil {
		return fmt.Errorf("nginx (%d): %w", pid, err)
	}
	defer held.Release()
	switch {
	case toMaster(s) && !p.isMaster(pid):
		return fmt.Errorf("process %d is not nagaya's nginx any more", pid)
	case !toMaster(s) && !strings.HasPrefix(proc.Title(pid), workerTitle):
		return nil // it has ended
	case !p.maySignal(pid):
		return otherUserFault(unix.EPERM, pid)
	}
	err = held.Signal(signals[s])
	switch {
	case err == nil, errors.Is(err, os.ErrProcessDone) && !toMaster(s):
		return nil
	case errors.Is(err, unix.EPERM):
		return otherUserFault(err, pid)
	}
	return fmt.Errorf("sending %v to nginx (%d): %w", signals[s], pid, err)
}

// maySignal reports whether a process may be signalled: one of this user, any by root, and
// in mode Unit one that systemd has started for the unit, by the kernel's word. The
// capability of the agent's unit (CAP_KILL) would reach all others.
func (p *process) maySignal(pid int) bool {
	own := os.Geteuid()
	if a := account(pid); own == 0 || a != nil && a.UID == own {
		return true
	}
	groups, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	return err == nil && p.o.Mode == Unit && inUnit(string(groups), p.o.Unit)
}

// inUnit reports whether a process with this /proc/PID/cgroup belongs to a unit (cgroups(7)).
func inUnit(groups, unit string) bool {
	return strings.Contains(strings.ReplaceAll(groups+"\n", "\n", "/"), "/"+unit+"/")
}

// otherUserFault is the fault of an nginx that the agent may not signal, or cannot test for.
func otherUserFault(err error, pid int) error {
	return nginx.NewFault(err, "nginx-of-another-user", fmt.Sprintf("nginx (process %d) runs as another user, so the agent cannot signal it", pid),
		"systemctl restart nagaya nagaya-nginx; if that does not help, see User= and AmbientCapabilities= in the drop-ins of nagaya.service and nagaya-nginx.service")
}

func (*process) Watch(master int) (ended <-chan struct{}, stop func()) { return proc.Watch(master) }

// maxOutput bounds what is kept of the binary's output, in bytes.
const maxOutput = 64 << 10

func (p *process) Command(ctx context.Context, args ...string) (output string, exit int, err error) {
	out := &tail{limit: maxOutput}
	cmd := exec.CommandContext(ctx, p.o.Binary, args...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay, cmd.Env = out, out, time.Second, environment()
	if p.o.Stdout {
		cmd.ExtraFiles = []*os.File{os.Stdout} // at StdoutPath, as in Start
	}
	err = cmd.Run()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok && ctx.Err() == nil {
		return out.String(), failed.ExitCode(), nil
	}
	return out.String(), 0, err
}

// startFault is the fault of an nginx that did not start.
func startFault(err error, output string) error {
	return nginx.NewFault(err, "nginx-start-failed", "nginx did not start: "+cmp.Or(nginx.LastEmerg(output), nginx.Printable(err.Error())),
		"read nginx's error log; it is tried again")
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

// malloc are settings of glibc's memory allocator, for nginx in mode Exec; the unit
// file has the same. They rely on glibc 2.26 or newer and do nothing elsewhere.
// Their effect is in the rows "start" and "CPU per change" of `make bench-routes`.
//
// For each map nginx zeroes 1.2 MB while it reads its configuration, and frees them
// again (ngx_http_map_module.c, NGX_HASH_LARGE). glibc gives such memory back to the
// kernel each time, and fetching it again page by page is most of what a test or
// a reload costs. With these thresholds (mallopt(3), in bytes) it keeps up to 4 MiB.
//
// At the end of a reload the master frees the configuration of before, thousands of pieces,
// and forks. glibc leaves small pieces as they are in case they are wanted again, and
// sorts and joins them when a large one is: then each new worker does that, and has to
// copy every page of it. Without those caches they are joined when they are freed, which
// costs a TLS handshake a twentieth more, and a new worker half as much.
var malloc = []string{
	"MALLOC_MMAP_THRESHOLD_=4194304", "MALLOC_TRIM_THRESHOLD_=4194304",
	"GLIBC_TUNABLES=glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0",
}

// environment is the environment of nginx: it serves the Internet, so it inherits no
// credentials and no sockets.
func environment() []string {
	env := append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, malloc...)
	for _, name := range []string{"TZ", "LANG", "LD_LIBRARY_PATH", "OPENSSL_CONF"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}
