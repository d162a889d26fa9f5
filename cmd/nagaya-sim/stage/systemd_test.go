package stage

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// bootScript installs the package in a Debian, as the making of an image does, once,
// and then becomes systemd.
const bootScript = `set -e
if [ ! -e /prepared ]; then
	systemctl mask getty.target console-getty.service systemd-logind.service systemd-udevd.service systemd-udev-trigger.service
	mkdir -p /etc/systemd/system/nagaya.service.d
	engine=$(stat -c %g /mnt/docker.sock)
	getent group "$engine" >/dev/null || groupadd -g "$engine" engine
	printf '[Service]\nSupplementaryGroups=%s\nEnvironment=NAGAYA_CONFIG=%s\n' "$engine" "$NAGAYA_CONFIG" >/etc/systemd/system/nagaya.service.d/test.conf
	dpkg -i /mnt/packages/older.deb
	touch /prepared
fi
exec /lib/systemd/systemd
`

// instance is a machine with systemd, in a container.
type instance struct {
	t  *testing.T
	s  *Stage
	id string
}

// boot starts a machine with systemd as process 1, the package installed, and the
// stage's Docker Engine as its own. It reaches that engine's containers, of which
// alpha-1 runs, where this host does.
func boot(t *testing.T, s *Stage) *instance {
	t.Helper()
	socket, unix := strings.CutPrefix(s.dockerH, "unix://")
	if !unix {
		testenv.Need(t, fmt.Errorf("a Docker Engine at a socket, and it is at %s", s.dockerH))
	}
	neighbour, err := s.Docker.ContainerInspect(t.Context(), "alpha-1", client.ContainerInspectOptions{})
	must(t, err)
	must(t, os.WriteFile(s.Path("nagaya.yaml"), fmt.Appendf(nil,
		"imds: false\necs: {agent-url: '', trust-labels: true}\nlocal-address: %s\ndocker: {host: 'unix:///mnt/docker.sock'}\n",
		neighbour.Container.NetworkSettings.Networks["bridge"].Gateway), 0o644))
	h := container.HostConfig{
		// SYS_PTRACE is for who looks into another's mounts.
		CapAdd: []string{"SYS_ADMIN", "SYS_PTRACE"}, SecurityOpt: []string{"seccomp=unconfined"},
		Tmpfs: map[string]string{"/run": "", "/run/lock": "", "/tmp": ""},
		Binds: []string{
			"/sys/fs/cgroup:/sys/fs/cgroup:ro", socket + ":/mnt/docker.sock", packages(t) + ":/mnt/packages:ro", s.Path("nagaya.yaml") + ":/mnt/nagaya.yaml:ro",
		},
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil { // version 2
		h.Binds[0], h.CgroupnsMode = "/sys/fs/cgroup:/sys/fs/cgroup:rw", "host"
	}
	id := debian(t, s, s.id+"-instance", container.Config{
		Cmd: []string{"/bin/sh", "-c", bootScript}, Env: []string{"container=docker", "NAGAYA_CONFIG=/mnt/nagaya.yaml"}, StopSignal: "SIGRTMIN+3",
	}, h)
	i := &instance{t, s, id}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := i.try("journalctl", "--no-pager", "-n", "80", "-u", "nagaya*")
			t.Logf("the journal:\n%s", out)
		}
	})
	return i
}

// try runs a command on the machine and returns what it said.
func (i *instance) try(args ...string) (said string, code int) {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second) // the test's own has ended when it is cleaned up
	defer cancel()
	out, code, err := Exec(ctx, i.s.Docker, i.id, args...)
	if err != nil {
		return err.Error(), -1
	}
	return strings.TrimSpace(out), code
}

// do is try for what must succeed.
func (i *instance) do(args ...string) string {
	i.t.Helper()
	out, code := i.try(args...)
	if code != 0 {
		i.t.Fatalf("%v: exit code %d\n%s", args, code, out)
	}
	return out
}

// mainPID is the main process of a unit.
func (i *instance) mainPID(unit string) int {
	i.t.Helper()
	pid, err := strconv.Atoi(i.do("systemctl", "show", "--value", "-p", "MainPID", unit))
	must(i.t, err)
	return pid
}

// is waits until systemd says so of a unit.
func (i *instance) is(unit, state string) {
	i.t.Helper()
	until(i.t, unit+" is "+state, func() error {
		if out, _ := i.try("systemctl", "is-active", unit); out != state {
			return fmt.Errorf("it is %q", out)
		}
		return nil
	})
}

// kill ends a process as the kernel does when memory runs out.
func (i *instance) kill(pid int) {
	i.t.Helper()
	i.do("sh", "-c", fmt.Sprintf("kill -9 %d", pid))
}

// get asks the machine's nginx for the host.
func (i *instance) get(host string) error {
	got, err := i.s.Docker.ContainerInspect(i.t.Context(), i.id, client.ContainerInspectOptions{})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(i.t.Context(), http.MethodGet, "http://"+got.Container.NetworkSettings.Networks["bridge"].IPAddress.String()+"/", nil)
	if err != nil {
		return err
	}
	req.Host = host
	c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if by := resp.Header.Get("X-Household"); resp.StatusCode != 200 || by != "alpha 1" && by != "alpha 2" {
		return fmt.Errorf("%s from %q", resp.Status, by)
	}
	return nil
}

// served waits until the host is served.
func (i *instance) served(when string) {
	i.t.Helper()
	began := time.Now()
	until(i.t, "a.test is served "+when, func() error { return i.get("a.test") })
	i.t.Logf("served %s after %s", when, time.Since(began).Round(time.Millisecond))
}

// TestNginxAsAUnit drives the default way on a machine with systemd.
func TestNginxAsAUnit(t *testing.T) {
	s := newStage(t, Options{Hosts: []string{"a.test"}})
	alpha := service("alpha", "1", "a.test")
	alpha.Labels["nagaya.tls"] = "off"
	run(t, s, alpha)
	i := boot(t, s)
	i.served("by a machine that has just booted")
	i.is("nagaya-nginx", "active")
	nginx := i.mainPID("nagaya-nginx")

	// A reload leaves the unit as it is.
	generation := i.do("readlink", "/var/lib/nagaya/nginx/current")
	next := service("alpha", "2", "a.test")
	next.Labels["nagaya.tls"] = "off"
	run(t, s, next)
	until(t, "another generation is served", func() error {
		out, _ := i.try("nagaya", "status", "--json")
		if now := i.do("readlink", "/var/lib/nagaya/nginx/current"); now == generation || !strings.Contains(out, filepath.Base(now)) {
			return errNotYet
		}
		return nil
	})
	if out, _ := i.try("nagaya", "check"); !strings.Contains(out, "nginx was asked") || strings.Contains(out, "port-in-use") {
		t.Errorf("nagaya check:\n%s", out)
	}

	restricted(t, i)

	// A killed agent comes back, and no request is lost meanwhile.
	agent := i.mainPID("nagaya")
	i.kill(agent)
	until(t, "the agent is back", func() error {
		if err := i.get("a.test"); err != nil {
			t.Errorf("without the agent: %v", err)
		}
		if pid := i.mainPID("nagaya"); pid == 0 || pid == agent {
			return errNotYet
		}
		return nil
	})
	i.is("nagaya", "active")
	if now := i.mainPID("nagaya-nginx"); now != nginx {
		t.Errorf("nginx is process %d, want %d untouched", now, nginx)
	}

	// A killed nginx comes back with the agent, and without it.
	i.kill(nginx)
	until(t, "systemd has seen it", func() error {
		if pid := i.mainPID("nagaya-nginx"); pid == nginx {
			return errNotYet
		}
		return nil
	})
	i.served("since nginx was killed")
	i.do("systemctl", "stop", "nagaya")
	must(t, i.get("a.test"))
	if out, code := i.try("nagaya", "status"); code != 3 {
		t.Errorf("an agent that was stopped answers with exit code %d:\n%s", code, out)
	}
	i.is("nagaya", "inactive")
	nginx = i.mainPID("nagaya-nginx")
	i.kill(nginx)
	until(t, "another nginx runs", func() error {
		if pid := i.mainPID("nagaya-nginx"); pid == 0 || pid == nginx {
			return errNotYet
		}
		return nil
	})
	i.served("since nginx was killed without an agent")
	i.closed("after nginx was killed")

	// After a reboot the routes are served before the agent runs.
	i.do("systemctl", "disable", "nagaya")
	patience := 20
	_, err := s.Docker.ContainerRestart(t.Context(), i.id, client.ContainerRestartOptions{Timeout: &patience})
	must(t, err)
	i.served("since the reboot")
	i.closed("after a reboot")
	if out, _ := i.try("systemctl", "is-active", "nagaya"); out != "inactive" {
		t.Errorf("the agent is %q", out)
	}

	// A unit that cannot run is named, with a remedy; where it is asked for. Without it
	// its path unit does not run either.
	said := func(words ...string) {
		t.Helper()
		until(t, words[0]+" is a problem", func() error {
			out, _ := i.try("nagaya", "status")
			if slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(out, w) }) {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
	}
	i.do("systemctl", "mask", "--now", "nagaya-nginx")
	i.do("sh", "-c", "echo NAGAYA_NGINX_MODE=service >/etc/nagaya/nagaya.env")
	i.do("systemctl", "start", "--no-block", "nagaya")
	said("nginx-unit-masked", "systemctl unmask nagaya-nginx.service")
	i.do("systemctl", "unmask", "nagaya-nginx")
	said("nginx-start-denied", "systemctl enable --now nagaya-nginx.path")
	i.do("systemctl", "enable", "--now", "nagaya-nginx.path")
	i.served("since the unit may run again")
	if units := strings.Fields(i.do("systemctl", "list-units", "--failed", "--plain", "--no-legend")); slices.ContainsFunc(units, func(u string) bool { return strings.HasPrefix(u, "nagaya") }) {
		t.Errorf("failed units: %v", units)
	}

	replaced(t, i)
}
