package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/dockerapi"
	"github.com/nagaya-ecs/nagaya/agent/proc"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// container is an nginx in a container that Docker or ECS runs: both start it
// again, and the agent neither starts nor stops it. It shares the directories of
// the Options with this host, at the same paths, so that files and the private
// socket are as for any other nginx. Configurations are tested in the container.
//
// A reload is a signal from here where the container's processes can be seen: after one
// through Docker's API, Docker 20.10 has lost the restart policy of a container
// whose image has no STOPSIGNAL.
type container struct {
	process
	cli   *client.Client
	found found
	// listed are the processes that the engine's ps listed at listedAt.
	listed   []listedProcess
	listedAt time.Time
}

// found is the running container of nginx that locate found last.
type found struct {
	id, name string
	first    int  // its first process, by its number on the host
	visible  bool // its processes are in our /proc
	command  string
}

// engineTimeout bounds one answer of the Docker Engine.
const engineTimeout = 10 * time.Second

func newContainer(o Options) (*container, error) {
	cli, err := dockerapi.New(o.Docker, "exec", "wait")
	if err != nil {
		return nil, fmt.Errorf("docker host %q: %w", o.Docker, err)
	}
	return &container{process: process{o}, cli: cli}, nil
}

// ContainerOf returns the id of the container that nginx is in, and "" for an nginx
// that is in none. The error says why it was not found.
func ContainerOf(ctx context.Context, o Options) (string, error) {
	r, done, err := New(o)
	if err != nil {
		return "", err
	}
	defer done()
	c, ok := r.(*container)
	if !ok {
		return "", nil
	}
	err = c.locate(ctx)
	return c.found.id, err
}

// inContainer reports whether that process is in our /proc and belongs to the container.
func inContainer(pid int, id string) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	return err == nil && pid > 0 && bytes.Contains(b, []byte(id))
}

// Find finds the container and the master in it.
func (c *container) Find(ctx context.Context) nginx.Instance {
	err := c.locate(ctx)
	i := nginx.Instance{Container: c.found.id, Scratch: filepath.Clean(c.o.Dirs.State)}
	if err != nil {
		return i
	}
	i.Master = c.masterIn(ctx)
	if c.found.visible {
		i.Net = "/proc/" + strconv.Itoa(c.found.first) + "/net"
		return withAccounts(i)
	}
	for _, p := range c.processes(ctx) {
		switch {
		case p.pid == i.Master:
			i.MasterAccount = &p.account
		case strings.HasPrefix(p.title, workerTitle):
			i.WorkerAccount = &p.account
		}
	}
	return i
}

// masterIn returns the number of nginx's master in the container, or 0.
func (c *container) masterIn(ctx context.Context) int {
	for _, p := range c.processes(ctx) {
		if c.isMasterTitle(p.title) {
			return p.pid
		}
	}
	return 0
}

// listedProcess is a process with its title and, where the engine lists it, its account.
type listedProcess struct {
	pid     int
	title   string
	account nginx.Account
}

// listedFor is how long the engine's answer is used: processes are listed every few
// milliseconds during a reload, and each answer costs some ten milliseconds of CPU time.
const listedFor = 50 * time.Millisecond

// processes returns the container's processes: its first one and the children of that, where
// they can be seen, else those that the engine's ps lists. The master is the first, or
// the child of a tiny init.
func (c *container) processes(ctx context.Context) []listedProcess {
	if c.found.visible {
		all := []listedProcess{{pid: c.found.first, title: proc.Title(c.found.first)}}
		for _, pid := range proc.Children(c.found.first) {
			all = append(all, listedProcess{pid: pid, title: proc.Title(pid)})
		}
		return all
	}
	if time.Since(c.listedAt) < listedFor {
		return c.listed
	}
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	got, err := c.cli.ContainerTop(ctx, c.found.id, client.ContainerTopOptions{Arguments: []string{"-eo", "pid,euid,egid,args"}})
	if err != nil {
		return nil
	}
	var all []listedProcess
	for _, row := range got.Processes {
		if len(row) < 4 {
			continue
		}
		pid, err := strconv.Atoi(row[0])
		uid, uidErr := strconv.Atoi(row[1])
		gid, gidErr := strconv.Atoi(row[2])
		if errors.Join(err, uidErr, gidErr) == nil {
			all = append(all, listedProcess{pid, strings.Join(row[3:], " "), nginx.Account{UID: uid, GID: gid}})
		}
	}
	c.listed, c.listedAt = all, time.Now()
	return all
}

func (c *container) Workers(master int) nginx.Workers {
	if c.found.visible {
		w := c.process.Workers(master)
		w.Alive = w.Alive && inContainer(master, c.found.id)
		return w
	}
	w := nginx.Workers{Alive: true} // Watch notices the end
	for _, p := range c.processes(context.Background()) {
		if p.pid != master {
			c.addChild(&w, p.pid, p.title)
		}
	}
	return w
}

// errNotVisible is for signals to processes whose numbers are the engine's: here they
// may be other processes'.
var errNotVisible = errors.New("nginx's processes cannot be seen from here: let the agent share the host's process numbers (--pid=host), or wait for nginx.shutdown-timeout")

// Signal signals visible processes. Where the agent may not, or the master is not visible,
// it runs nginx -s in the container; workers that are not visible get no signal.
func (c *container) Signal(ctx context.Context, pid int, s nginx.Signal) error {
	if c.found.visible {
		if err := c.process.Signal(ctx, pid, s); !toMaster(s) || !errors.Is(err, unix.EPERM) {
			return err
		}
	} else if !toMaster(s) {
		return errNotVisible
	}
	word := "reload"
	if s == nginx.Reopen {
		word = "reopen"
	}
	c.listedAt = time.Time{}
	output, exit, err := c.Command(ctx, "-c", c.o.Dirs.MainFile(), "-e", "stderr", "-s", word)
	if err == nil && exit != 0 {
		err = errors.New(nginx.Printable(strings.TrimSpace(output)))
	}
	if err != nil {
		return fmt.Errorf("nginx -s %s in container %s: %w", word, c.found.name, err)
	}
	return nil
}

// containerStartTimeout bounds how long the container's own command may take to start nginx
// once there is a configuration; it tries every second.
const containerStartTimeout = 4 * time.Second

// Start waits until the container has started nginx.
func (c *container) Start(ctx context.Context) (master int, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), containerStartTimeout)
	defer cancel()
	if !poll(ctx, 50*time.Millisecond, func() bool {
		if err = c.locate(ctx); err == nil {
			master = c.masterIn(ctx)
		}
		return master != 0 || err != nil && ctx.Err() == nil
	}) {
		return 0, c.withoutMaster()
	}
	return master, err
}

// Watch watches the master, or the container where that cannot be seen.
func (c *container) Watch(master int) (ended <-chan struct{}, stop func()) {
	if c.found.visible {
		return proc.Watch(master)
	}
	over, done := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	in := c.found
	go func() {
		defer close(done)
		if c.awaitEnd(ctx, in) {
			close(over)
		}
	}()
	return over, func() { cancel(); <-done }
}

// awaitEnd returns true when the container has ended or was restarted, false when ctx has.
func (c *container) awaitEnd(ctx context.Context, in found) bool {
	for {
		wait := c.cli.ContainerWait(ctx, in.id, client.ContainerWaitOptions{Condition: apicontainer.WaitConditionNotRunning})
		select {
		case <-ctx.Done():
			return false
		case <-wait.Result:
			return true
		case err := <-wait.Error:
			if errdefs.IsNotFound(err) {
				return true
			}
		}
		// The engine has ended, and the container may still run.
		if !backoff.Sleep(ctx, time.Second) {
			return false
		}
		got, err := c.cli.ContainerInspect(ctx, in.id, client.ContainerInspectOptions{})
		if err == nil && (got.Container.State == nil || got.Container.State.Pid != in.first) {
			return true
		}
	}
}

// Command runs the binary in the running container. It finds that for itself: another method may
// run at the same time.
func (c *container) Command(ctx context.Context, args ...string) (output string, exit int, err error) {
	in := &container{process: c.process, cli: c.cli}
	if err := in.locate(ctx); err != nil {
		return "", 0, err
	}
	made, err := c.cli.ExecCreate(ctx, in.found.id, client.ExecCreateOptions{AttachStdout: true, AttachStderr: true, Cmd: append([]string{c.o.Binary}, args...)})
	if err != nil {
		return "", 0, engineFault(err)
	}
	stream, err := c.cli.ExecAttach(ctx, made.ID, client.ExecAttachOptions{})
	if err != nil {
		return "", 0, engineFault(err)
	}
	defer stream.Close()
	defer context.AfterFunc(ctx, stream.Close)()
	out := &tail{limit: maxOutput}
	if _, err := stdcopy.StdCopy(out, out, stream.Reader); err != nil {
		return out.String(), 0, engineFault(err)
	}
	if ctx.Err() != nil {
		return out.String(), 0, ctx.Err()
	}
	got, err := c.cli.ExecInspect(ctx, made.ID, client.ExecInspectOptions{})
	if err != nil {
		return out.String(), 0, engineFault(err)
	}
	output = out.String()
	return output, got.ExitCode, in.commandFault(ctx, args, output, got.ExitCode)
}

// hasFile reports whether there is such a file in the container.
func (c *container) hasFile(file string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), engineTimeout)
	defer cancel()
	got, err := c.cli.ContainerStatPath(ctx, c.found.id, client.ContainerStatPathOptions{Path: file})
	return err == nil && (got.Stat.Mode.IsRegular() || got.Stat.LinkTarget != "")
}
