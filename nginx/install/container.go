package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// container is an nginx in a container that Docker or ECS runs: both start it
// again, and the agent neither starts nor stops it. It shares the directories of
// the Options with this host, at the same paths, so that files and the private
// socket are as for any other nginx. What is tested is tested in the container.
//
// A reload is a signal from here where the container's processes can be seen: one
// through Docker's API lets Docker 20.10 forget the restart policy of a container
// whose image has no STOPSIGNAL.
type container struct {
	process
	cli *client.Client
	// now is the container that was found last.
	now place
	// seen is what the engine's ps last showed of it, and seenAt when.
	seen   []shown
	seenAt time.Time
}

// place is a running container of nginx.
type place struct {
	id, name string
	first    int  // its first process, as the host counts
	visible  bool // whether its processes are in our /proc
	command  string
}

// engineTimeout bounds one answer of the Docker Engine.
const engineTimeout = 10 * time.Second

func newContainer(o Options) (*container, error) {
	cli, err := client.New(client.WithHost(o.Docker))
	if err != nil {
		return nil, fmt.Errorf("docker host %q: %w", o.Docker, err)
	}
	return &container{process: process{o}, cli: cli}, nil
}

// Place returns the id of the container that nginx is in, and "" for an nginx
// that is in none. The error says why there is no such container.
func Place(ctx context.Context, o Options) (string, error) {
	w, err := newWay(o)
	if err != nil {
		return "", err
	}
	defer w.close()
	c, ok := w.(*container)
	if !ok {
		return "", nil
	}
	err = c.look(ctx)
	return c.now.id, err
}

func (c *container) close() { c.cli.Close() }

func (c *container) container() string { return c.now.id }

// look finds the container. Its errors are for the operator.
func (c *container) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	id, err := c.choose(ctx)
	if err != nil {
		return err
	}
	got, err := c.cli.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return unreachable(err)
	}
	in := got.Container
	if in.State == nil || in.Config == nil {
		return unreachable(errors.New("the engine's answer has no state in it"))
	}
	if !in.State.Running || in.State.Pid == 0 {
		return c.stopped(in.Name, string(in.State.Status))
	}
	p := place{id: in.ID, name: strings.TrimPrefix(in.Name, "/"), first: in.State.Pid, command: strings.Join(append([]string{in.Path}, in.Args...), " ")}
	p.visible = inContainer(p.first, p.id)
	c.now, c.seenAt = p, time.Time{}
	return c.shares(in.Mounts)
}

// choose returns the id of the one running container with a label of ours. The
// labels are tried one after the other, so that an nginx-proxy may go on running
// beside until it is replaced.
func (c *container) choose(ctx context.Context) (string, error) {
	var resting []apicontainer.Summary
	for _, label := range c.o.Labels {
		got, err := c.cli.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", label)})
		if err != nil {
			return "", unreachable(err)
		}
		var running []apicontainer.Summary
		for _, s := range got.Items {
			if s.State == apicontainer.StateRunning || s.State == apicontainer.StatePaused {
				running = append(running, s)
			} else {
				resting = append(resting, s)
			}
		}
		switch len(running) {
		case 0:
		case 1:
			return running[0].ID, nil
		default:
			var names []string
			for _, s := range running {
				names = append(names, strconv.Quote(bounded(nameOf(s))))
			}
			slices.Sort(names)
			return "", &trouble{
				code: "nginx-container-ambiguous", again: time.Second,
				text: fmt.Sprintf("the containers %s all have the label %s, and only one can be nagaya's nginx", strings.Join(names, " and "), label),
				hint: "stop all but one of them, or take the label from the others; none was touched",
			}
		}
	}
	if len(resting) > 0 {
		return "", c.stopped(nameOf(resting[0]), resting[0].Status)
	}
	return "", &trouble{
		code: "nginx-container-missing", again: time.Second,
		text: "no container has the label " + strings.Join(c.o.Labels, " or "),
		hint: "start nginx's container as docs/nginx.md shows; it is looked for every second",
	}
}

func nameOf(s apicontainer.Summary) string {
	if len(s.Names) == 0 {
		return s.ID
	}
	return strings.TrimPrefix(s.Names[0], "/")
}

func (c *container) stopped(name, how string) error {
	// How long ago that was would make another problem of it every second.
	if i := strings.IndexByte(how, ')'); i >= 0 {
		how = how[:i+1]
	}
	return &trouble{
		code: "nginx-container-stopped", subject: "container " + bounded(strings.TrimPrefix(name, "/")), container: bounded(strings.TrimPrefix(name, "/")), again: time.Second,
		text: fmt.Sprintf("nginx's container does not run (%s)", bounded(how)),
		hint: "start it, with a restart policy, and with a command that waits for its configuration as docs/nginx.md shows; it is looked for every second",
	}
}

func unreachable(err error) error {
	return &trouble{
		code: "docker-unreachable", err: err, again: 2 * time.Second,
		text: "nginx is in a container, and the Docker Engine does not answer: " + bounded(err.Error()),
		hint: "start Docker, or correct docker.host; nginx goes on with what it has",
	}
}

// shares checks that the container sees what nginx needs of this host. A wrong
// directory at the right path shows itself in the first test.
func (c *container) shares(mounts []apicontainer.MountPoint) error {
	type need struct {
		dir   string
		write bool
	}
	needs := []need{{c.o.StateDir, true}, {c.o.RunDir, true}}
	if c.o.LogDir != "" {
		needs = append(needs, need{c.o.LogDir, true})
	}
	for _, dir := range c.o.Shared {
		if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
			needs = append(needs, need{dir, false})
		}
	}
	for _, n := range needs {
		m := covering(mounts, n.dir)
		option := "-v " + n.dir + ":" + n.dir
		if !n.write {
			option += ":ro"
		}
		switch {
		case m == nil:
			return c.unshared(n.dir, fmt.Sprintf("nginx's container does not see %s of this host", n.dir), option)
		case n.write && !m.RW:
			return c.unshared(n.dir, fmt.Sprintf("nginx's container sees %s read-only", n.dir), option)
		}
	}
	return nil
}

func (c *container) unshared(dir, text, option string) error {
	return &trouble{
		code: "nginx-container-mount", subject: "container " + bounded(c.now.name), container: bounded(c.now.name), again: time.Second, text: text,
		hint: fmt.Sprintf("make the container anew with %s (in ECS: a host volume with sourcePath %s, mounted at that path); docs/nginx.md shows all of them", option, dir),
	}
}

// covering returns the innermost mount that a path of the container is in.
func covering(mounts []apicontainer.MountPoint, dir string) *apicontainer.MountPoint {
	var best *apicontainer.MountPoint
	for i, m := range mounts {
		at := path.Clean(m.Destination)
		if dir != at && !strings.HasPrefix(dir, strings.TrimSuffix(at, "/")+"/") {
			continue
		}
		if best == nil || len(at) > len(path.Clean(best.Destination)) {
			best = &mounts[i]
		}
	}
	return best
}

// inContainer reports whether that process is in our /proc, and in the container.
func inContainer(pid int, id string) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	return err == nil && pid > 0 && bytes.Contains(b, []byte(id))
}

// find looks for the container and for the master in it.
func (c *container) find(ctx context.Context) int {
	if c.look(ctx) != nil {
		return 0
	}
	return c.master(ctx)
}

// master returns the number of nginx's master in the container, or 0.
func (c *container) master(ctx context.Context) int {
	for _, p := range c.top(ctx) {
		if c.titled(p.title) {
			return p.pid
		}
	}
	return 0
}

// isMaster asks Docker where the process cannot be seen. An engine that does not
// answer says nothing about nginx.
func (c *container) isMaster(pid int) bool {
	if c.now.visible {
		return c.process.isMaster(pid) && inContainer(pid, c.now.id)
	}
	ctx, cancel := context.WithTimeout(context.Background(), engineTimeout)
	defer cancel()
	got, err := c.cli.ContainerInspect(ctx, c.now.id, client.ContainerInspectOptions{})
	switch {
	case errdefs.IsNotFound(err):
		return false
	case err != nil:
		return true
	}
	return got.Container.State != nil && got.Container.State.Running && got.Container.State.Pid == c.now.first && c.master(ctx) == pid
}

// shown is a process with its title and, where the engine told of it, its account.
type shown struct {
	pid   int
	title string
	as    account
}

// seenFor is how long the engine's answer is believed: nginx is looked at every few
// milliseconds while it reloads, and each answer takes the host some ten of CPU time.
const seenFor = 50 * time.Millisecond

// top returns the container's processes: its first and what that started, where
// they can be seen, else what the engine's ps shows. The master is the first, or
// the child of a tiny init.
func (c *container) top(ctx context.Context) []shown {
	if c.now.visible {
		all := []shown{{pid: c.now.first, title: title(c.now.first)}}
		for _, pid := range children(c.now.first) {
			all = append(all, shown{pid: pid, title: title(pid)})
		}
		return all
	}
	if time.Since(c.seenAt) < seenFor {
		return c.seen
	}
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	got, err := c.cli.ContainerTop(ctx, c.now.id, client.ContainerTopOptions{Arguments: []string{"-eo", "pid,euid,egid,args"}})
	if err != nil {
		return nil
	}
	var all []shown
	for _, row := range got.Processes {
		if len(row) < 4 {
			continue
		}
		pid, err := strconv.Atoi(row[0])
		uid, uidErr := strconv.Atoi(row[1])
		gid, gidErr := strconv.Atoi(row[2])
		if errors.Join(err, uidErr, gidErr) == nil {
			all = append(all, shown{pid: pid, title: strings.Join(row[3:], " "), as: account{uid, gid}})
		}
	}
	c.seen, c.seenAt = all, time.Now()
	return all
}

func (c *container) workers(master int) (active, draining []int) {
	if c.now.visible {
		return c.process.workers(master)
	}
	for _, p := range c.top(context.Background()) {
		switch {
		case strings.HasPrefix(p.title, drainingTitle):
			draining = append(draining, p.pid)
		case strings.HasPrefix(p.title, workerTitle):
			active = append(active, p.pid)
		}
	}
	return active, draining
}

func (c *container) unborn(master int) (all []int) {
	if c.now.visible {
		return c.process.unborn(master)
	}
	for _, p := range c.top(context.Background()) {
		if p.pid != master && c.titled(p.title) {
			all = append(all, p.pid)
		}
	}
	return all
}

// errUnseen is for signals to processes whose numbers are the engine's: here they
// belong to nobody, or to somebody else.
var errUnseen = errors.New("nginx's processes cannot be seen from here: let the agent share the host's process numbers (--pid=host), or wait for nginx.shutdown-timeout")

// retire leaves it to the master where the worker cannot be seen.
func (c *container) retire(worker int) error {
	if !c.now.visible {
		return errUnseen
	}
	return c.process.retire(worker)
}

func (c *container) end(worker int) error {
	if !c.now.visible {
		return errUnseen
	}
	return c.process.end(worker)
}

func (c *container) account(pid int) (account, bool) {
	if c.now.visible {
		return c.process.account(pid)
	}
	for _, p := range c.top(context.Background()) {
		if p.pid == pid {
			return p.as, true
		}
	}
	return account{}, false
}

func (c *container) net() string {
	if !c.now.visible {
		return ""
	}
	return "/proc/" + strconv.Itoa(c.now.first) + "/net"
}

// startPatience is how long the container's own command may take to start nginx
// once there is a configuration; it looks every second.
const startPatience = 4 * time.Second

// start waits until the container has started nginx.
func (c *container) start(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startPatience)
	defer cancel()
	mark := logEnd(c.o.LogDir)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := c.look(ctx); err != nil && ctx.Err() == nil {
			return 0, err
		}
		if pid := c.master(ctx); pid != 0 {
			return pid, nil
		}
		select {
		case <-ctx.Done():
			return 0, c.noMaster(emergSince(c.o.LogDir, mark))
		case <-tick.C:
		}
	}
}

// noMaster says why a running container has no nginx of ours.
func (c *container) noMaster(said string) error {
	if lastEmerg(said) != "" {
		return c.startTrouble(said, nil)
	}
	t := &trouble{code: "nginx-container-command", subject: "container " + bounded(c.now.name), container: bounded(c.now.name), again: time.Second}
	if strings.Contains(c.now.command, c.o.confPath()) {
		t.text = fmt.Sprintf("the container runs, but no nginx with %s in it", c.o.confPath())
		t.hint = "docker logs " + bounded(c.now.name) + " may say why; docs/nginx.md shows a command that waits for the configuration"
		return t
	}
	t.text = fmt.Sprintf("the container's command does not start nginx with -c %s", c.o.confPath())
	t.hint = "make the container anew with the command that docs/nginx.md shows"
	return t
}

// reload signals the master, or lets an nginx in the container do it.
func (c *container) reload(ctx context.Context, pid int) error {
	defer func() { c.seenAt = time.Time{} }()
	if c.now.visible {
		if err := c.process.reload(ctx, pid); !errors.Is(err, unix.EPERM) {
			return err
		}
		// It is another user's, such as the container's root.
	}
	said, exit, err := c.run(ctx, "-c", c.o.confPath(), "-e", "stderr", "-s", "reload")
	if err == nil && exit != 0 {
		err = errors.New(bounded(strings.TrimSpace(said)))
	}
	if err != nil {
		return fmt.Errorf("telling nginx in container %s to reload: %w", c.now.name, err)
	}
	return nil
}

// watch watches the master, or the container where that cannot be seen.
func (c *container) watch(pid int) (gone <-chan struct{}, stop func()) {
	if c.now.visible {
		return watch(pid)
	}
	ended, done := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	in := c.now
	go func() {
		defer close(done)
		if c.await(ctx, in) {
			close(ended)
		}
	}()
	return ended, func() { cancel(); <-done }
}

// await returns true when that life of the container has ended, false with ctx.
func (c *container) await(ctx context.Context, in place) bool {
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
		// The engine went away; the container need not have.
		select {
		case <-ctx.Done():
			return false
		case <-time.After(time.Second):
		}
		got, err := c.cli.ContainerInspect(ctx, in.id, client.ContainerInspectOptions{})
		if err == nil && (got.Container.State == nil || got.Container.State.Pid != in.first) {
			return true
		}
	}
}

// stop leaves it to Docker or ECS.
func (c *container) stop(context.Context) error {
	c.o.Log.Info("nginx goes on in its container", event.Key, event.NginxLeftRunning)
	return nil
}

// run runs the binary in the running container.
func (c *container) run(ctx context.Context, args ...string) (said string, exit int, err error) {
	if err := c.look(ctx); err != nil {
		return "", 0, err
	}
	made, err := c.cli.ExecCreate(ctx, c.now.id, client.ExecCreateOptions{AttachStdout: true, AttachStderr: true, Cmd: append([]string{c.o.Binary}, args...)})
	if err != nil {
		return "", 0, unreachable(err)
	}
	stream, err := c.cli.ExecAttach(ctx, made.ID, client.ExecAttachOptions{})
	if err != nil {
		return "", 0, unreachable(err)
	}
	defer stream.Close()
	defer context.AfterFunc(ctx, stream.Close)()
	out := &tail{limit: maxSaid}
	if _, err := stdcopy.StdCopy(out, out, stream.Reader); err != nil {
		return out.String(), 0, unreachable(err)
	}
	if ctx.Err() != nil {
		return out.String(), 0, ctx.Err()
	}
	got, err := c.cli.ExecInspect(ctx, made.ID, client.ExecInspectOptions{})
	if err != nil {
		return out.String(), 0, unreachable(err)
	}
	said = out.String()
	// What a shell says when it cannot run something; nginx itself exits with 1.
	if got.ExitCode == 126 || got.ExitCode == 127 {
		return said, got.ExitCode, &trouble{
			code: "nginx-missing", subject: "container " + bounded(c.now.name), container: bounded(c.now.name),
			text: fmt.Sprintf("the container has no nginx that can be run as %q: %s", c.o.Binary, bounded(strings.TrimSpace(said))),
			hint: "use an image with nginx " + nginx.MinVersion.String() + " or newer, or set nginx.binary to its path in the container",
		}
	}
	testing := slices.Contains(args, "-t")
	if t := c.forbidden(said); t != nil && testing && got.ExitCode != 0 {
		return said, got.ExitCode, t
	}
	if testing && strings.Contains(said, `/`+nginx.MainFile+`" failed (2: `) {
		return said, got.ExitCode, c.unshared(c.o.StateDir, fmt.Sprintf("what nginx's container has at %s is not this host's directory", c.o.StateDir), "-v "+c.o.StateDir+":"+c.o.StateDir)
	}
	return said, got.ExitCode, nil
}

// deniedPath is the file or socket that nginx may not use.
var deniedPath = regexp.MustCompile(`"?(?:unix:)?(/[^"\s]+)"? failed \(13: Permission denied\)`)

// forbidden says what an nginx that is not root in its container lacks, nil if that is
// not what it complains of.
func (c *container) forbidden(said string) *trouble {
	as, known := c.account(c.now.first)
	if !known || as.uid == 0 {
		return nil
	}
	reason := lastEmerg(said)
	t := &trouble{subject: "container " + bounded(c.now.name), container: bounded(c.now.name), again: 2 * time.Second, text: fmt.Sprintf("nginx's container runs as user %d, who may not do what nginx needs: %s", as.uid, reason)}
	if bindForbidden(reason) && !strings.Contains(reason, "unix:") {
		t.code = "port-forbidden"
		t.hint = "let it publish its ports from a network of its own (-p 80:80 -p 443:443 in the place of --network host), or set the sysctl net.ipv4.ip_unprivileged_port_start of the host to the lowest of them"
		return t
	}
	m := deniedPath.FindStringSubmatch(reason)
	writes := slices.DeleteFunc([]string{c.o.RunDir, c.o.LogDir, nginx.TempDir(c.o.StateDir)}, func(d string) bool { return d == "" })
	if m == nil || !slices.ContainsFunc(writes, func(d string) bool { return strings.HasPrefix(m[1], d+"/") }) {
		return nil
	}
	t.code = "nginx-container-user"
	t.hint = fmt.Sprintf("chown -R %d:%d %s", as.uid, as.gid, strings.Join(writes, " "))
	if owner, ok := ownerOf(c.o.StateDir); ok && owner.uid != 0 && owner.uid != as.uid {
		t.hint = fmt.Sprintf("make the container anew with --user %d:%d, who owns nagaya's directories", owner.uid, owner.gid)
	}
	return t
}

func ownerOf(dir string) (account, bool) {
	var st unix.Stat_t
	err := unix.Stat(dir, &st)
	return account{int(st.Uid), int(st.Gid)}, err == nil
}

func (c *container) sees(file string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), engineTimeout)
	defer cancel()
	got, err := c.cli.ContainerStatPath(ctx, c.now.id, client.ContainerStatPathOptions{Path: file})
	return err == nil && (got.Stat.Mode.IsRegular() || got.Stat.LinkTarget != "")
}

// scratch is where the container sees what is written.
func (c *container) scratch() string { return filepath.Clean(c.o.StateDir) }
