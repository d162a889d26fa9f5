package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
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

// process is the nginx of one Options: how to find it, start it and talk to it.
type process struct {
	o    Options
	http *http.Client
}

func newProcess(o Options) *process {
	socket := nginx.Socket(o.RunDir)
	return &process{o: o, http: &http.Client{
		Timeout: time.Second,
		Transport: &http.Transport{
			// A kept connection would belong to an old worker after a reload.
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", socket)
			},
		},
	}}
}

// environment is what nginx gets of ours: it faces the Internet, so no
// credentials and no inherited sockets.
func environment() []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, name := range []string{"TZ", "LANG", "LD_LIBRARY_PATH", "OPENSSL_CONF"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

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
	t := title(pid)
	if !strings.HasPrefix(t, masterTitle) || !strings.Contains(t+" ", " -c "+p.o.confPath()+" ") {
		return false
	}
	exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	return err != nil || strings.Contains(filepath.Base(exe), "nginx") || filepath.Base(exe) == filepath.Base(p.o.Binary)
}

// find returns the master's process number, or 0. It believes the pid file only
// if that process is our master; without the file it asks who holds the private
// socket.
func (p *process) find() int {
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

// workers returns the master's workers: those that accept, and those that are
// draining, the oldest first.
func workers(master int) (active, draining []int) {
	m := strconv.Itoa(master)
	b, err := os.ReadFile("/proc/" + m + "/task/" + m + "/children")
	if err != nil {
		return nil, nil
	}
	for word := range strings.FieldsSeq(string(b)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			continue
		}
		switch t := title(pid); {
		case strings.HasPrefix(t, drainingTitle):
			draining = append(draining, pid)
		case strings.HasPrefix(t, workerTitle):
			active = append(active, pid)
		}
	}
	return active, draining
}

// generation asks the running nginx what it serves; "" when it does not answer.
func (p *process) generation(ctx context.Context) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://nginx/generation", nil)
	if err != nil {
		return ""
	}
	res, err := p.http.Do(req)
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 64))
	if gen := string(b); err == nil && res.StatusCode == http.StatusOK && generationName.MatchString(gen) {
		return gen
	}
	return ""
}

// startArgs is how nginx is started. -c comes first: a title that is cut short
// still names the configuration.
func (p *process) startArgs() []string {
	return []string{"-c", p.o.confPath(), "-p", p.o.StateDir, "-e", nginx.ErrorLog(p.o.LogDir)}
}

// startLine is the part of the command line by which a start is known; a test of
// a configuration (-t) never has it, because it names a directory beside.
func (p *process) startLine() string { return " -c " + p.o.confPath() + " -p " }

// startTimeout bounds a start; nginx itself tries a busy port for 2.5 s.
const startTimeout = 20 * time.Second

// start starts nginx with the current generation and returns its number. It
// does not wait until nginx answers.
func (p *process) start(ctx context.Context) (int, error) {
	// A start that was begun is ended, so that no half-born nginx is left.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	if pid := p.newborn(ctx); pid != 0 {
		p.o.Log.Info("nginx that a former agent was starting is adopted", "pid", pid)
		return pid, nil
	}
	p.clear()
	cmd := exec.CommandContext(ctx, p.o.Binary, p.startArgs()...)
	cmd.Env, cmd.Dir, cmd.WaitDelay = environment(), "/", time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out := &tail{limit: 64 << 10}
	if p.o.LogDir == "" {
		cmd.Stderr = os.Stderr // nginx keeps it, so it cannot be a pipe to us
	} else {
		cmd.Stderr = out
	}
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return 0, p.startTrouble(out.String(), err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if pid := p.find(); pid != 0 {
			return pid, nil
		}
		select {
		case <-ctx.Done():
			return 0, p.startTrouble(out.String(), ctx.Err())
		case <-tick.C:
		}
	}
}

func (p *process) startTrouble(text string, err error) error {
	if reason := lastEmerg(text); reason != "" {
		if t := portTrouble(text); t != nil {
			return t
		}
		return refusalTrouble(reason, p.o.StateDir)
	}
	return &trouble{
		code: "nginx-start-failed", err: err, text: "nginx did not start: " + bounded(err.Error()),
		hint: "read nginx's error log (" + nginx.ErrorLog(p.o.LogDir) + "); it is tried again",
	}
}

// clear removes what a killed nginx left: workers without a master, which hold
// the ports, its sockets and its pid file. The caller knows that no master runs.
func (p *process) clear() {
	p.retireOrphans(nginx.Socket(p.o.RunDir))
	left, _ := filepath.Glob(filepath.Join(p.o.RunDir, "*.sock")) // the pattern is a constant
	for _, socket := range left {
		os.Remove(socket)
	}
	os.Remove(nginx.PIDFile(p.o.RunDir))
}

// retireOrphans lets workers without a master finish what they began; they give
// up the ports at once. Whoever does not listen to that is ended.
func (p *process) retireOrphans(socket string) {
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
					p.o.Log.Info("nginx worker without a master is told to finish", "pid", pid, "signal", sig.String())
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

// hup tells the master to reload. The number is checked again right before, as
// it may have gone to another process.
func (p *process) hup(pid int) error {
	if !p.isMaster(pid) {
		return fmt.Errorf("process %d is not nagaya's nginx any more", pid)
	}
	if err := unix.Kill(pid, unix.SIGHUP); err != nil {
		return fmt.Errorf("sending SIGHUP to nginx (%d): %w", pid, err)
	}
	return nil
}

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
