package install

import (
	"bytes"
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

	"github.com/nagaya-ecs/nagaya/nginx"
)

// Titles that nginx gives its processes (nginx source, ngx_process_cycle.c).
const (
	masterTitle   = "nginx: master process"
	workerTitle   = "nginx: worker process"
	drainingTitle = "nginx: worker process is shutting down"
)

// process is an nginx of this host: how to find it, to look at it and to signal it.
type process struct{ o Options }

// title returns the command line of a process; a zombie has none.
func title(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(bytes.ReplaceAll(b, []byte{0}, []byte{' '})), " ")
}

// isMaster says whether a process is the master of our nginx: by its title,
// which holds the path of our configuration, and by its binary where we may
// see it.
func (p *process) isMaster(pid int) bool {
	if !p.titled(title(pid)) {
		return false
	}
	exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	return err != nil || strings.Contains(filepath.Base(exe), "nginx") || filepath.Base(exe) == filepath.Base(p.o.Binary)
}

// titled says whether a title is that of our master.
func (p *process) titled(t string) bool {
	return strings.HasPrefix(t, masterTitle) && strings.Contains(t+" ", " -c "+p.o.confPath()+" ")
}

// find believes the pid file only if that process is our master; without the file
// it asks who holds the private socket.
func (p *process) find(context.Context) int {
	if b, err := readFile(nginx.PIDFile(p.o.RunDir)); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(b)); err == nil && pid > 1 && p.isMaster(pid) {
			return pid
		}
	}
	for _, pid := range socketHolders(nginx.Socket(p.o.RunDir)) {
		if p.isMaster(pid) {
			return pid
		}
	}
	return 0
}

// search looks through all processes for our nginx: its master, and whether one
// is still on its way to become that. It costs more than find and needs neither
// pid file nor socket, which a newborn nginx does not have yet.
func (p *process) search() (master int, starting bool) {
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, false
	}
	masters := map[int]bool{}
	for _, dir := range names {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if p.isMaster(pid) {
			masters[pid] = true
		} else if t := title(pid); !strings.HasPrefix(t, "nginx: ") && strings.Contains(t+" ", p.startLine()) {
			starting = true
		}
	}
	for pid := range masters {
		// A worker just forked carries its master's title for a moment.
		if !masters[parent(pid)] {
			master = pid
		}
	}
	return master, starting
}

// parent returns the number of a process's parent, or 0.
func parent(pid int) int {
	b, err := readFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// The name in parentheses may hold anything; state and parent come after it.
	fields := strings.Fields(b[strings.LastIndexByte(b, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(fields[1])
	return n
}

// newborn returns the master of an nginx that a former agent had begun to start
// when it was killed. It waits for one that is on its way; 0 means there is none.
func (p *process) newborn(ctx context.Context) int {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	// A daemon changes its process id on its way, and one look may fall between
	// the two; twice in a row it cannot.
	for none := 0; ; {
		master, starting := p.search()
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

func (*process) workers(master int) (active, draining []int) {
	for _, pid := range children(master) {
		switch t := title(pid); {
		case strings.HasPrefix(t, drainingTitle):
			draining = append(draining, pid)
		case strings.HasPrefix(t, workerTitle):
			active = append(active, pid)
		}
	}
	return active, draining
}

// unborn knows them by the title of their master, which they have until they are ready.
func (p *process) unborn(master int) []int {
	return slices.DeleteFunc(children(master), func(pid int) bool { return !p.titled(title(pid)) })
}

// startLine is the part of the command line by which a start is known; a test of
// a configuration (-t) never has it, because it names a directory beside.
func (p *process) startLine() string { return " -c " + p.o.confPath() + " -p " }

// reload sends SIGHUP. The number is checked again right before, as it may have
// gone to another process.
func (p *process) reload(_ context.Context, pid int) error {
	if !p.isMaster(pid) {
		return fmt.Errorf("process %d is not nagaya's nginx any more", pid)
	}
	if err := unix.Kill(pid, unix.SIGHUP); errors.Is(err, unix.EPERM) {
		return &trouble{
			code: "nginx-of-another-user", err: err, text: fmt.Sprintf("nginx (process %d) runs as another user, so the agent cannot tell it to reload", pid),
			hint: "run both as the same user: systemctl restart nagaya-nginx, or see User= in the drop-ins of nagaya.service and nagaya-nginx.service",
		}
	} else if err != nil {
		return fmt.Errorf("sending SIGHUP to nginx (%d): %w", pid, err)
	}
	return nil
}

func (*process) watch(pid int) (gone <-chan struct{}, stop func()) { return watch(pid) }

// children returns the numbers of a process's children, the oldest first.
func children(parent int) []int {
	p := strconv.Itoa(parent)
	b, err := os.ReadFile("/proc/" + p + "/task/" + p + "/children")
	if err != nil {
		return nil
	}
	var pids []int
	for word := range strings.FieldsSeq(string(b)) {
		if pid, err := strconv.Atoi(word); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// startTrouble says why nginx did not start: text is what it said.
func (p *process) startTrouble(text string, err error) error {
	if reason := lastEmerg(text); reason != "" {
		if t := portTrouble(p.net(), text); t != nil {
			return t
		}
		return refusalTrouble(reason, p.o.StateDir)
	}
	return &trouble{
		code: "nginx-start-failed", err: err, text: "nginx did not start: " + bounded(err.Error()),
		hint: "read nginx's error log (" + nginx.ErrorLog(p.o.LogDir) + "); it is tried again",
	}
}

// retire sends SIGQUIT (nginx.org, "Controlling nginx").
func (*process) retire(worker int) error { return signal(worker, unix.SIGQUIT) }

// end sends SIGTERM, which does not wait for clients.
func (*process) end(worker int) error { return signal(worker, unix.SIGTERM) }

// signal sends a signal to a process that may have ended.
func signal(pid int, s unix.Signal) error {
	if err := unix.Kill(pid, s); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

func (*process) net() string { return "/proc/self/net" }

func (*process) container() string { return "" }

func (*process) scratch() string { return "" }

func (*process) close() {}

func (*process) sees(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular()
}

// maxSaid bounds what is kept of the binary's words, in bytes.
const maxSaid = 64 << 10

func (p *process) run(ctx context.Context, args ...string) (said string, exit int, err error) {
	out := &tail{limit: maxSaid}
	cmd := exec.CommandContext(ctx, p.o.Binary, args...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay, cmd.Env = out, out, time.Second, append(environment(), briefly...)
	err = cmd.Run()
	var failed *exec.ExitError
	if ctx.Err() == nil && errors.As(err, &failed) {
		return out.String(), failed.ExitCode(), nil
	}
	return out.String(), 0, err
}

// environment is what nginx gets of ours: it faces the Internet, so no
// credentials and no inherited sockets.
//
// For each map nginx zeroes 1.2 MB while it reads its configuration, and frees them
// again (ngx_http_map_module.c, NGX_HASH_LARGE). glibc gives such memory back to the
// kernel each time, and fetching it again page by page is most of what a test or
// a reload costs. With these thresholds (mallopt(3), in bytes) it keeps up to 4 MiB.
//
// At the end of a reload the master frees the configuration of before, thousands of pieces,
// and forks. glibc leaves small pieces as they are in case they are wanted again, and
// sorts and joins them when a large one is: then each new worker does that, and has to
// copy every page of it. Without those caches they are joined when they are freed, which costs a TLS
// handshake a twentieth more, and a new worker half as much.
func environment() []string {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"MALLOC_MMAP_THRESHOLD_=4194304", "MALLOC_TRIM_THRESHOLD_=4194304",
		"GLIBC_TUNABLES=glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0",
	}
	for _, name := range []string{"TZ", "LANG", "LD_LIBRARY_PATH", "OPENSSL_CONF"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// briefly is for an nginx that only reads its configuration and ends. It fetches
// memory in large steps and, where the kernel may, in huge pages: that is two thirds
// fewer page faults. One that stays would hold more memory for it and gain nothing.
// glibc before 2.35 does not know the tunable.
var briefly = []string{"GLIBC_TUNABLES=glibc.malloc.hugetlb=1", "MALLOC_TOP_PAD_=4194304"}

// watch returns a channel that is closed when the process has ended. stop ends
// the watching and waits for that.
func watch(pid int) (gone <-chan struct{}, stop func()) {
	ended, quit, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil { // kernels before 5.10
		go func() {
			defer close(done)
			pollExit(pid, ended, quit)
		}()
		return ended, func() { close(quit); <-done }
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	raw, err := f.SyscallConn()
	go func() {
		defer close(done)
		if err != nil {
			pollExit(pid, ended, quit)
			return
		}
		over := false
		raw.Read(func(fd uintptr) bool {
			n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			over = n > 0
			return over
		})
		if over {
			unix.Wait4(pid, nil, unix.WNOHANG, nil) // ours to bury when we are process 1
			close(ended)
		}
	}()
	return ended, func() { close(quit); f.Close(); <-done }
}

// pollExit looks every second whether the process lives.
func pollExit(pid int, ended chan<- struct{}, quit <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-quit:
			return
		case <-tick.C:
			unix.Wait4(pid, nil, unix.WNOHANG, nil)
			if title(pid) == "" {
				close(ended)
				return
			}
		}
	}
}
