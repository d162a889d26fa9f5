package runtime

import (
	"cmp"
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

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// locate finds the running container and checks it. The errors are Faults.
func (c *container) locate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	id, err := c.runningID(ctx)
	if err != nil {
		return err
	}
	got, err := c.cli.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return engineFault(err)
	}
	in := got.Container
	if in.State == nil || in.Config == nil {
		return engineFault(errors.New("the engine's answer has no state in it"))
	}
	if !in.State.Running || in.State.Pid == 0 {
		return stoppedFault(in.Name, string(in.State.Status))
	}
	f := found{id: in.ID, name: strings.TrimPrefix(in.Name, "/"), first: in.State.Pid, command: strings.Join(append([]string{in.Path}, in.Args...), " ")}
	f.visible = inContainer(f.first, f.id)
	if f != c.found {
		c.found, c.listedAt = f, time.Time{}
	}
	return c.checkMounts(in.Mounts)
}

// runningID returns the id of the only running container with one of the labels that has this
// host's directory of generations: whoever starts a container chooses its labels. The
// labels are tried one after the other, so that an nginx-proxy may run
// beside until it is replaced. Where none has the directory it is one that lacks it.
func (c *container) runningID(ctx context.Context) (string, error) {
	var stopped []apicontainer.Summary
	var lacking string
	for _, label := range c.o.Labels {
		got, err := c.cli.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", label)})
		if err != nil {
			return "", engineFault(err)
		}
		var ids, names []string
		for _, s := range got.Items {
			if s.State != apicontainer.StateRunning && s.State != apicontainer.StatePaused {
				stopped = append(stopped, s)
			} else if !isHostDir(innermost(s.Mounts, c.o.Dirs.State), c.o.Dirs.State) {
				lacking = cmp.Or(lacking, s.ID)
			} else {
				ids, names = append(ids, s.ID), append(names, strconv.Quote(nginx.Printable(nameOf(s))))
			}
		}
		switch {
		case len(ids) == 1:
			return ids[0], nil
		case len(ids) > 1:
			slices.Sort(names)
			return "", containerFault("nginx-container-ambiguous", "",
				fmt.Sprintf("the containers %s all have the label %s, and only one can be nagaya's nginx", strings.Join(names, " and "), label),
				"stop all but one of them, or take the label from the others; none was touched")
		}
	}
	if lacking != "" {
		return lacking, nil
	}
	if len(stopped) > 0 {
		return "", stoppedFault(nameOf(stopped[0]), stopped[0].Status)
	}
	return "", containerFault("nginx-container-missing", "",
		"no container has the label "+strings.Join(c.o.Labels, " or "),
		"start nginx's container as docs/nginx.md shows; it is looked for every second")
}

func nameOf(s apicontainer.Summary) string {
	if len(s.Names) == 0 {
		return s.ID
	}
	return strings.TrimPrefix(s.Names[0], "/")
}

// containerFault is a fault of nginx's container, which is looked for again every second.
func containerFault(code, container, text, hint string) *nginx.Fault {
	f := nginx.NewFault(nil, code, text, hint)
	f.Retry = time.Second
	if container != "" {
		f.Subject = "container " + nginx.Printable(strings.TrimPrefix(container, "/"))
	}
	return f
}

func stoppedFault(name, status string) error {
	// "Exited (1) 2 minutes ago": the time would make another problem of it every second.
	if i := strings.IndexByte(status, ')'); i >= 0 {
		status = status[:i+1]
	}
	return containerFault("nginx-container-stopped", name, fmt.Sprintf("nginx's container does not run (%s)", nginx.Printable(status)),
		"start it, with a restart policy, and with a command that waits for its configuration as docs/nginx.md shows; it is looked for every second")
}

func engineFault(err error) error {
	f := nginx.NewFault(err, "docker-unreachable", "nginx is in a container, and the Docker Engine does not answer: "+nginx.Printable(err.Error()),
		"start Docker, or correct docker.host; nginx goes on with what it has")
	f.Retry = 2 * time.Second
	return f
}

// checkMounts checks that the container sees the directories of this host that nginx needs.
// A wrong directory but that of the generations is found by the first test of a configuration.
func (c *container) checkMounts(mounts []apicontainer.MountPoint) error {
	written := c.writable()
	for i, dir := range slices.Concat(written, c.o.Shared) {
		write, option := i < len(written), dir+":"+dir
		if !write {
			if entries, err := os.ReadDir(dir); err != nil || len(entries) == 0 {
				continue
			}
			option += ":ro"
		}
		switch m := innermost(mounts, dir); {
		case m == nil:
			return c.mountFault(dir, fmt.Sprintf("nginx's container does not see %s of this host", dir), option)
		case dir == c.o.Dirs.State && !isHostDir(m, dir):
			return c.mountFault(dir, fmt.Sprintf("what nginx's container has at %s is not this host's directory", dir), option)
		case write && !m.RW:
			return c.mountFault(dir, fmt.Sprintf("nginx's container sees %s read-only", dir), option)
		}
	}
	return nil
}

// writable are the directories that nginx writes to.
func (c *container) writable() []string {
	return slices.DeleteFunc([]string{c.o.Dirs.State, c.o.Dirs.Run, c.o.Dirs.Log}, func(dir string) bool { return dir == "" })
}

func (c *container) mountFault(dir, text, option string) error {
	return containerFault("nginx-container-mount", c.found.name, text,
		fmt.Sprintf("make the container anew with -v %s (in ECS: a host volume with sourcePath %s, mounted at that path); docs/nginx.md shows all of them", option, dir))
}

// innermost returns the innermost mount that a path of the container is in, nil for none.
func innermost(mounts []apicontainer.MountPoint, dir string) (best *apicontainer.MountPoint) {
	longest := -1
	for i, m := range mounts {
		at := strings.TrimSuffix(path.Clean(m.Destination), "/")
		if strings.HasPrefix(dir+"/", at+"/") && len(at) > longest {
			best, longest = &mounts[i], len(at)
		}
	}
	return best
}

// isHostDir reports whether a mount shows the directory of this host at the same path.
func isHostDir(m *apicontainer.MountPoint, dir string) bool {
	if m == nil {
		return false
	}
	shown := filepath.Join(m.Source, strings.TrimPrefix(dir, path.Clean(m.Destination)))
	a, err := os.Stat(shown)
	b, err2 := os.Stat(dir)
	return shown == dir || err == nil && err2 == nil && os.SameFile(a, b)
}

// withoutMaster is the fault of a running container in which nagaya's nginx does not run.
func (c *container) withoutMaster() error {
	main := c.o.Dirs.MainFile()
	text, hint := "the container's command does not start nginx with -c "+main, "make the container anew with the command that docs/nginx.md shows"
	if strings.Contains(c.found.command, main) {
		text = fmt.Sprintf("the container runs, but no nginx with %s in it", main)
		hint = "docker logs " + nginx.Printable(c.found.name) + " may say why; docs/nginx.md shows a command that waits for the configuration"
	}
	return containerFault("nginx-container-command", c.found.name, text, hint)
}

// commandFault is the fault of a container in which a command failed for
// a reason that is not nginx's configuration; nil otherwise.
func (c *container) commandFault(ctx context.Context, args []string, output string, exit int) error {
	// The exit status of a shell that cannot run a command; nginx itself exits with 1.
	if exit == 126 || exit == 127 {
		f := containerFault("nginx-missing", c.found.name,
			fmt.Sprintf("the container has no nginx that can be run as %q: %s", c.o.Binary, nginx.Printable(strings.TrimSpace(output))),
			"use an image with nginx "+nginx.MinVersion.String()+" or newer, or set nginx.binary to its path in the container")
		f.Retry = 0
		return f
	}
	if exit == 0 || !slices.Contains(args, "-t") {
		return nil
	}
	if f := c.deniedFault(ctx, nginx.LastEmerg(output)); f != nil {
		return f
	}
	if strings.Contains(output, `/`+nginx.MainFile+`" failed (2: `) {
		state := c.o.Dirs.State
		return c.mountFault(state, fmt.Sprintf("what nginx's container has at %s is not this host's directory", state), state+":"+state)
	}
	return nil
}

// deniedPath is the file or socket to which nginx has no access, in its message.
var deniedPath = regexp.MustCompile(`"?(?:unix:)?(/[^"\s]+)"? failed \(13: Permission denied\)`)

// deniedFault is the fault of an nginx that is not root in its container and has no access to
// a file or port; nil if its message is about something else.
func (c *container) deniedFault(ctx context.Context, reason string) error {
	account := c.firstAccount(ctx)
	if account == nil || account.UID == 0 {
		return nil
	}
	text := fmt.Sprintf("nginx's container runs as user %d, who may not do what nginx needs: %s", account.UID, reason)
	if nginx.BindForbidden(reason) && !strings.Contains(reason, "unix:") {
		return containerFault("port-forbidden", c.found.name, text,
			"let it publish its ports from a network of its own (-p 80:80 -p 443:443 in the place of --network host), or set the sysctl net.ipv4.ip_unprivileged_port_start of the host to the lowest of them")
	}
	m := deniedPath.FindStringSubmatch(reason)
	written := append(c.writable()[1:], nginx.TempDir(c.o.Dirs.State))
	if m == nil || !slices.ContainsFunc(written, func(d string) bool { return strings.HasPrefix(m[1], d+"/") }) {
		return nil
	}
	hint := fmt.Sprintf("chown -R %d:%d %s", account.UID, account.GID, strings.Join(written, " "))
	var owner unix.Stat_t
	if err := unix.Stat(c.o.Dirs.State, &owner); err == nil && owner.Uid != 0 && int(owner.Uid) != account.UID {
		hint = fmt.Sprintf("make the container anew with --user %d:%d, who owns nagaya's directories", owner.Uid, owner.Gid)
	}
	return containerFault("nginx-container-user", c.found.name, text, hint)
}

// firstAccount is the account of the container's first process, nil where that cannot be seen.
func (c *container) firstAccount(ctx context.Context) *nginx.Account {
	if c.found.visible {
		return account(c.found.first)
	}
	processes := c.processes(ctx)
	if i := slices.IndexFunc(processes, func(p listedProcess) bool { return p.pid == c.found.first }); i >= 0 {
		return &processes[i].account
	}
	return nil
}
