package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/nginx"
)

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

// choose returns the id of the one running container with a label of ours. The
// labels are tried one after the other, so that an nginx-proxy may go on running
// beside until it is replaced.
func (c *container) choose(ctx context.Context) (string, error) {
	var stopped []apicontainer.Summary
	for _, label := range c.o.Labels {
		got, err := c.cli.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", label)})
		if err != nil {
			return "", engineFault(err)
		}
		var running []apicontainer.Summary
		for _, s := range got.Items {
			if s.State == apicontainer.StateRunning || s.State == apicontainer.StatePaused {
				running = append(running, s)
			} else {
				stopped = append(stopped, s)
			}
		}
		switch len(running) {
		case 0:
		case 1:
			return running[0].ID, nil
		default:
			var names []string
			for _, s := range running {
				names = append(names, strconv.Quote(nginx.Printable(nameOf(s))))
			}
			slices.Sort(names)
			return "", retryFault("nginx-container-ambiguous", "",
				fmt.Sprintf("the containers %s all have the label %s, and only one can be nagaya's nginx", strings.Join(names, " and "), label),
				"stop all but one of them, or take the label from the others; none was touched")
		}
	}
	if len(stopped) > 0 {
		return "", stoppedFault(nameOf(stopped[0]), stopped[0].Status)
	}
	return "", retryFault("nginx-container-missing", "",
		"no container has the label "+strings.Join(c.o.Labels, " or "),
		"start nginx's container as docs/nginx.md shows; it is looked for every second")
}

func nameOf(s apicontainer.Summary) string {
	if len(s.Names) == 0 {
		return s.ID
	}
	return strings.TrimPrefix(s.Names[0], "/")
}

// retryFault is a fault of nginx's container, which is looked for again every second.
func retryFault(code, container, text, hint string) *nginx.Fault {
	f := &nginx.Fault{Retry: time.Second, Problem: problem.Problem{Code: code, Text: text, Hint: hint}}
	if container != "" {
		f.Subject = "container " + nginx.Printable(strings.TrimPrefix(container, "/"))
	}
	return f
}

func stoppedFault(name, how string) error {
	// How long ago that was would make another problem of it every second.
	if i := strings.IndexByte(how, ')'); i >= 0 {
		how = how[:i+1]
	}
	return retryFault("nginx-container-stopped", name, fmt.Sprintf("nginx's container does not run (%s)", nginx.Printable(how)),
		"start it, with a restart policy, and with a command that waits for its configuration as docs/nginx.md shows; it is looked for every second")
}

func engineFault(err error) error {
	f := retryFault("docker-unreachable", "", "nginx is in a container, and the Docker Engine does not answer: "+nginx.Printable(err.Error()),
		"start Docker, or correct docker.host; nginx goes on with what it has")
	f.Err, f.Retry = err, 2*time.Second
	return f
}

// checkMounts checks that the container sees what nginx needs of this host. A wrong
// directory at the right path shows itself in the first test.
func (c *container) checkMounts(mounts []apicontainer.MountPoint) error {
	check := func(dir string, write bool) error {
		m := innermost(mounts, dir)
		switch {
		case m == nil && write:
			return c.mountFault(dir, fmt.Sprintf("nginx's container does not see %s of this host", dir), dir+":"+dir)
		case m == nil:
			return c.mountFault(dir, fmt.Sprintf("nginx's container does not see %s of this host", dir), dir+":"+dir+":ro")
		case write && !m.RW:
			return c.mountFault(dir, fmt.Sprintf("nginx's container sees %s read-only", dir), dir+":"+dir)
		}
		return nil
	}
	for _, dir := range c.writable() {
		if err := check(dir, true); err != nil {
			return err
		}
	}
	for _, dir := range c.o.Shared {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) == 0 {
			continue
		}
		if err := check(dir, false); err != nil {
			return err
		}
	}
	return nil
}

// writable are the directories that nginx writes to.
func (c *container) writable() []string {
	dirs := []string{c.o.Dirs.State, c.o.Dirs.Run}
	if c.o.Dirs.Log != "" {
		dirs = append(dirs, c.o.Dirs.Log)
	}
	return dirs
}

func (c *container) mountFault(dir, text, option string) error {
	return retryFault("nginx-container-mount", c.found.name, text,
		fmt.Sprintf("make the container anew with -v %s (in ECS: a host volume with sourcePath %s, mounted at that path); docs/nginx.md shows all of them", option, dir))
}

// innermost returns the innermost mount that a path of the container is in.
func innermost(mounts []apicontainer.MountPoint, dir string) *apicontainer.MountPoint {
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

// withoutMaster says why a running container has no nginx of ours.
func (c *container) withoutMaster() error {
	main := c.o.Dirs.MainFile()
	if strings.Contains(c.found.command, main) {
		return retryFault("nginx-container-command", c.found.name, fmt.Sprintf("the container runs, but no nginx with %s in it", main),
			"docker logs "+nginx.Printable(c.found.name)+" may say why; docs/nginx.md shows a command that waits for the configuration")
	}
	return retryFault("nginx-container-command", c.found.name, fmt.Sprintf("the container's command does not start nginx with -c %s", main),
		"make the container anew with the command that docs/nginx.md shows")
}

// commandFault says what is wrong with the container where a command in it failed for
// a reason that is not nginx's configuration; nil otherwise.
func (c *container) commandFault(ctx context.Context, args []string, output string, exit int) error {
	// What a shell says when it cannot run something; nginx itself exits with 1.
	if exit == 126 || exit == 127 {
		f := retryFault("nginx-missing", c.found.name,
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

// deniedPath is the file or socket that nginx says it may not use.
var deniedPath = regexp.MustCompile(`"?(?:unix:)?(/[^"\s]+)"? failed \(13: Permission denied\)`)

// deniedFault says what an nginx that is not root in its container lacks, nil if that is
// not what it complains of.
func (c *container) deniedFault(ctx context.Context, reason string) error {
	as := c.firstAccount(ctx)
	if as == nil || as.UID == 0 {
		return nil
	}
	text := fmt.Sprintf("nginx's container runs as user %d, who may not do what nginx needs: %s", as.UID, reason)
	if nginx.BindForbidden(reason) && !strings.Contains(reason, "unix:") {
		return retryFault("port-forbidden", c.found.name, text,
			"let it publish its ports from a network of its own (-p 80:80 -p 443:443 in the place of --network host), or set the sysctl net.ipv4.ip_unprivileged_port_start of the host to the lowest of them")
	}
	m := deniedPath.FindStringSubmatch(reason)
	writes := append(c.writable()[1:], nginx.TempDir(c.o.Dirs.State))
	if m == nil || !slices.ContainsFunc(writes, func(d string) bool { return strings.HasPrefix(m[1], d+"/") }) {
		return nil
	}
	hint := fmt.Sprintf("chown -R %d:%d %s", as.UID, as.GID, strings.Join(writes, " "))
	var owner unix.Stat_t
	if err := unix.Stat(c.o.Dirs.State, &owner); err == nil && owner.Uid != 0 && int(owner.Uid) != as.UID {
		hint = fmt.Sprintf("make the container anew with --user %d:%d, who owns nagaya's directories", owner.Uid, owner.Gid)
	}
	return retryFault("nginx-container-user", c.found.name, text, hint)
}

// firstAccount is who the container's first process acts as, nil where that cannot be seen.
func (c *container) firstAccount(ctx context.Context) *nginx.Account {
	if c.found.visible {
		return account(c.found.first)
	}
	for _, p := range c.processes(ctx) {
		if p.pid == c.found.first {
			return &p.account
		}
	}
	return nil
}
