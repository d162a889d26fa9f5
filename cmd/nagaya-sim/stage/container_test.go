package stage

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

// containerMode is the configuration of an agent outside EC2 with nginx in a container.
const containerMode = "  mode: container\nimds: false\n"

// nginxContainer starts nginx's container as the documentation says, on the host's network.
func nginxContainer(t *testing.T, s *Stage, name string) string {
	t.Helper()
	return debian(t, s, name, container.Config{
		Cmd: []string{"sh", "-c", documented(t, s)}, Labels: map[string]string{"nagaya.nginx": ""},
	}, container.HostConfig{
		NetworkMode: "host", Binds: append(s.binds(), s.Path("snippets")+":"+s.Path("snippets")+":ro"), RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyAlways},
	})
}

// rolled replaces version 1 of alpha under load.
func rolled(t *testing.T, s *Stage, load *Load) {
	t.Helper()
	run(t, s, service("alpha", "2", "a.test"))
	until(t, "version 2 answers", func() error {
		if load.Seen("alpha 2") == 0 {
			return errNotYet
		}
		return nil
	})
	settled(t, s)
	must(t, s.Stop(t.Context(), "alpha-1", 10))
	must(t, s.Remove(t.Context(), "alpha-1"))
	settled(t, s)
}

// TestNginxInAContainer drives the whole way: the container comes before there is
// a configuration, serves, takes over another version without a loss, leaves out
// a broken site, and is found again after it was restarted and replaced.
func TestNginxInAContainer(t *testing.T) {
	s := newStage(t, Options{Hosts: []string{"a.test", "b.test"}})
	must(t, os.MkdirAll(s.Path("snippets", "site.d"), 0o755))
	must(t, s.WriteConfig("  snippet-dir: "+s.Path("snippets")+"\n"+containerMode))
	must(t, s.StartAgent())
	told(t, s, "nginx-container-missing", "nginx")
	run(t, s, service("alpha", "1", "a.test"))
	nginx := nginxContainer(t, s, s.id+"-nginx")
	began := time.Now()
	answers(t, s, "a.test", "alpha 1")
	t.Logf("served %s after nginx's container was started", time.Since(began).Round(time.Millisecond))
	st := settled(t, s)
	if st.Nginx.Container != nginx {
		t.Errorf("the status names container %q, want %q", st.Nginx.Container, nginx)
	}
	quiet(t, s, "nginx-container-missing")
	if ps := about(st, s, nginx); len(ps) > 0 {
		t.Errorf("problems: %+v", ps)
	}

	load, end := unbroken(t, s, "a.test", 100)
	rolled(t, s, load)
	end()

	must(t, os.WriteFile(s.Path("snippets", "site.d", "b.test.conf"), []byte("no_such_directive;\n"), 0o644))
	run(t, s, service("beta", "1", "b.test"))
	told(t, s, "site-quarantined", "site b.test")
	answers(t, s, "a.test", "alpha 2")

	out, code, err := s.CLI(t.Context(), "check")
	if err != nil || !strings.Contains(out, "nginx was asked") || !strings.Contains(out, "b.test") {
		t.Errorf("nagaya check: %v, exit code %d\n%s", err, code, out)
	}

	// An agent that dies leaves nginx serving, and the next one adopts it.
	_, end = unbroken(t, s, "a.test", 50)
	restarted(t, s)
	settled(t, s)
	end()
	if st, err := s.Board(t.Context()); err != nil || st.Nginx.PID != masterOf(t, s, nginx) {
		t.Errorf("%v; nginx %+v, want the master of before", err, st.Nginx)
	}

	_, err = s.Docker.ContainerRestart(t.Context(), nginx, client.ContainerRestartOptions{})
	must(t, err)
	back(t, s, "restarted", nginx)

	// What Docker's own signal leaves behind must not keep the next one from starting.
	_, err = s.Docker.ContainerKill(t.Context(), nginx, client.ContainerKillOptions{})
	must(t, err)
	if p := told(t, s, "nginx-container-stopped", s.id+"-nginx"); !strings.Contains(p.Text, "137") {
		t.Errorf("the problem does not say how it ended: %q", p.Text)
	}
	must(t, s.Remove(t.Context(), nginx))
	next := nginxContainer(t, s, s.id+"-nginx-2")
	back(t, s, "replaced", next)

	// A second one with the label and this host's directories.
	other := debian(t, s, s.id+"-other", container.Config{Cmd: []string{"sleep", "100"}, Labels: map[string]string{"nagaya.nginx": ""}}, container.HostConfig{Binds: s.binds()})
	restarted(t, s)
	if p := told(t, s, "nginx-container-ambiguous", "nginx"); !strings.Contains(p.Text, s.id+"-other") || !strings.Contains(p.Text, s.id+"-nginx-2") {
		t.Errorf("the problem does not name both: %q", p.Text)
	}
	answers(t, s, "a.test", "alpha 2")
	must(t, s.Remove(t.Context(), other))
	quiet(t, s, "nginx-container-ambiguous")
	settled(t, s)

	// An agent that is told to end leaves nginx alone too.
	must(t, s.StopAgent())
	answers(t, s, "a.test", "alpha 2")
}

// about returns the problems of nginx and its container. Others may have containers
// on the same engine.
func about(st report.Status, s *Stage, id string) (ps []problem.Problem) {
	for _, p := range st.Problems {
		if strings.Contains(p.Subject, "nginx") || strings.Contains(p.Subject, s.id) || strings.Contains(p.Subject, id) {
			ps = append(ps, p)
		}
	}
	return ps
}

// back waits until the container serves what is wanted, and the sites with it.
func back(t *testing.T, s *Stage, how, id string) {
	t.Helper()
	began := time.Now()
	shows(t, s, "nginx is back", func(st report.Status) bool {
		return st.Nginx.Container == id && st.Nginx.Settled && st.Nginx.PID == masterOf(t, s, id)
	})
	answers(t, s, "a.test", "alpha 2")
	t.Logf("served %s after nginx's container was %s", time.Since(began).Round(time.Millisecond), how)
}

// masterOf is the first process of a container; the documented command becomes nginx.
func masterOf(t *testing.T, s *Stage, id string) int {
	t.Helper()
	got, err := s.Docker.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
	must(t, err)
	return got.Container.State.Pid
}

// On a bridge nginx reaches its siblings by their own addresses, and its ports are
// those that it has in its own network.
func TestNginxInAContainerOnABridge(t *testing.T) {
	s := newStage(t, Options{Hosts: []string{"a.test"}, Config: containerMode})
	exposed, bound := s.ports(t)
	id := debian(t, s, s.id+"-nginx", container.Config{
		Cmd:    []string{"sh", "-c", documented(t, s)},
		Labels: map[string]string{"com.github.nginx-proxy.nginx-proxy.nginx": ""}, ExposedPorts: exposed,
	}, container.HostConfig{Binds: s.binds(), PortBindings: bound})
	must(t, s.StartAgent())
	run(t, s, service("alpha", "1", "a.test"))
	answers(t, s, "a.test", "alpha 1")
	st := settled(t, s)
	if ps := about(st, s, id); st.Nginx.Container != id || len(ps) > 0 {
		t.Errorf("container %q, problems %+v", st.Nginx.Container, ps)
	}
	got, err := s.Docker.ContainerInspect(t.Context(), "alpha-1", client.ContainerInspectOptions{})
	must(t, err)
	address := got.Container.NetworkSettings.Networks["bridge"].IPAddress.String()
	if text, err := siteFile(s, "a.test"); err != nil || !strings.Contains(text, address+":8080") {
		t.Errorf("%v; nginx does not reach the container at its own address %s:\n%s", err, address, text)
	}
	if out, code, err := s.CLI(t.Context(), "check"); err != nil || !strings.Contains(out, "nginx was asked") || strings.Contains(out, s.id) {
		t.Errorf("nagaya check: %v, exit code %d\n%s", err, code, out)
	}
}

// Directories that the container does not see are named, with the option to add.
func TestNginxContainerWithoutADirectory(t *testing.T) {
	for _, row := range []struct {
		name  string
		binds func(s *Stage) []string
		want  func(s *Stage) string
	}{
		{
			"the run directory is missing",
			func(s *Stage) []string { return append(s.binds()[:1:1], s.binds()[2:]...) },
			func(s *Stage) string { return "-v " + s.Path("run", "nginx") + ":" + s.Path("run", "nginx") },
		},
		{
			"the certificates are missing",
			func(s *Stage) []string { return s.binds()[:3] },
			func(s *Stage) string { return "-v " + s.Path("certs") + ":" + s.Path("certs") + ":ro" },
		},
		{
			"another directory in the state's place",
			func(s *Stage) []string {
				return append([]string{s.Path("log") + ":" + s.Path("state", "nginx")}, s.binds()[1:]...)
			},
			func(s *Stage) string { return "-v " + s.Path("state", "nginx") + ":" + s.Path("state", "nginx") },
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newStage(t, Options{Hosts: []string{"a.test"}, Config: containerMode})
			debian(t, s, s.id+"-nginx", container.Config{
				Cmd: []string{"sleep", "100"}, Labels: map[string]string{"nagaya.nginx": ""},
			}, container.HostConfig{NetworkMode: "host", Binds: row.binds(s)})
			must(t, s.StartAgent())
			if p := told(t, s, "nginx-container-mount", "container "+s.id+"-nginx"); !strings.Contains(p.Hint, row.want(s)) {
				t.Errorf("the remedy does not name %q: %q", row.want(s), p.Hint)
			}
		})
	}
}

// An nginx that is not root in its container serves once it may write where it must;
// until then that is named, with the command that mends it.
func TestNginxInAContainerAsAUser(t *testing.T) {
	s := newStage(t, Options{Hosts: []string{"a.test"}, Config: containerMode})
	must(t, os.Chown(s.Path("certs", "a.test.key"), 0, 4321))
	must(t, os.Chmod(s.Path("certs", "a.test.key"), 0o640))
	exposed, bound := s.ports(t)
	id := debian(t, s, s.id+"-nginx", container.Config{
		Cmd: []string{"sh", "-c", documented(t, s)}, User: "1234:4321",
		Labels: map[string]string{"nagaya.nginx": ""}, ExposedPorts: exposed,
	}, container.HostConfig{Binds: s.binds(), PortBindings: bound})
	must(t, s.StartAgent())
	run(t, s, service("alpha", "1", "a.test"))
	p := told(t, s, "nginx-container-user", s.id+"-nginx")
	remedy := strings.Fields(p.Hint)
	if len(remedy) != 6 || remedy[0] != "chown" || remedy[2] != "1234:4321" {
		t.Fatalf("the remedy is %q", p.Hint)
	}
	out, err := exec.Command(remedy[0], remedy[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	answers(t, s, "a.test", "alpha 1")
	st := settled(t, s)
	if ps := about(st, s, id); len(ps) > 0 {
		t.Errorf("problems: %+v", ps)
	}

	load, end := unbroken(t, s, "a.test", 50)
	run(t, s, service("alpha", "2", "a.test"))
	until(t, "version 2 answers", func() error {
		if load.Seen("alpha 2") == 0 {
			return errNotYet
		}
		return nil
	})
	end()
	settled(t, s)
	must(t, s.Stop(t.Context(), "alpha-1", 10))
	must(t, s.Remove(t.Context(), "alpha-1"))
	_, err = s.Docker.ContainerRestart(t.Context(), id, client.ContainerRestartOptions{})
	must(t, err)
	back(t, s, "restarted", id)
	rotated(t, s)
}

// rotated rotates the log of requests as the package's logrotate does, and waits for a
// line in the new one.
func rotated(t *testing.T, s *Stage) {
	t.Helper()
	text, err := os.ReadFile("../../../packaging/logrotate")
	must(t, err)
	_, rest, _ := strings.Cut(string(text), "postrotate\n")
	script, _, found := strings.Cut(rest, "endscript")
	if !found {
		t.Fatal("packaging/logrotate has no script")
	}
	file := s.Path("log", "access.log")
	must(t, os.Rename(file, file+".1"))
	do := exec.Command("sh", "-c", strings.ReplaceAll(script, "/run/nagaya/", s.Path("run")+"/"))
	do.Env = append(os.Environ(), "PATH="+s.Bin+":"+os.Getenv("PATH"), "NAGAYA_CONFIG="+s.ConfigFile())
	if out, err := do.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("the script says %v: %s", err, out)
	}
	answers(t, s, "a.test", "alpha 2")
	until(t, "the new log has a line", func() error {
		b, err := os.ReadFile(file)
		if err == nil && !strings.Contains(string(b), "a.test") {
			err = errNotYet
		}
		return err
	})
}

// The agent in a container of its own sees no process of nginx's: it asks Docker about
// them and tells nginx to reload through it, and nothing else is different.
func TestAgentAndNginxInContainers(t *testing.T) {
	s := newStage(t, Options{Hosts: []string{"a.test"}, Config: containerMode})
	nginx := nginxContainer(t, s, s.id+"-nginx")
	socket := strings.TrimPrefix(s.dockerH, "unix://")
	agent := debian(t, s, s.id+"-agent", container.Config{
		Cmd: []string{"/usr/local/bin/nagaya", "agent", "--config", s.ConfigFile()}, Env: s.agentEnv(),
	}, container.HostConfig{NetworkMode: "host", Binds: []string{
		s.Bin + "/nagaya:/usr/local/bin/nagaya:ro", s.Dir + ":" + s.Dir, socket + ":" + socket,
	}})
	run(t, s, service("alpha", "1", "a.test"))
	answers(t, s, "a.test", "alpha 1")
	st := settled(t, s)
	if ps := about(st, s, nginx); len(ps) > 0 {
		t.Errorf("problems: %+v", ps)
	}
	if st.Nginx.PID != masterOf(t, s, nginx) {
		t.Errorf("nginx is process %d, want that of the engine, %d", st.Nginx.PID, masterOf(t, s, nginx))
	}

	load, end := unbroken(t, s, "a.test", 100)
	rolled(t, s, load)
	_, err := s.Docker.ContainerKill(t.Context(), agent, client.ContainerKillOptions{})
	must(t, err)
	_, err = s.Docker.ContainerStart(t.Context(), agent, client.ContainerStartOptions{})
	must(t, err)
	shows(t, s, "nginx is adopted", func(st report.Status) bool { return st.Nginx.Settled && st.Nginx.PID == masterOf(t, s, nginx) })
	end()

	info, err := os.Stat(s.Path("run", "nginx"))
	must(t, err)
	if group := info.Sys().(*syscall.Stat_t).Gid; info.Mode().Perm() != 0o750 || group == 0 {
		t.Errorf("the directory of nginx's sockets has group %d and mode %o", group, info.Mode().Perm())
	}
	_, err = s.Docker.ContainerRestart(t.Context(), nginx, client.ContainerRestartOptions{})
	must(t, err)
	back(t, s, "restarted", nginx)
	must(t, s.Stop(t.Context(), agent, 10))
	answers(t, s, "a.test", "alpha 2")
}
