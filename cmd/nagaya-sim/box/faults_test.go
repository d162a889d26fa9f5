package box

import (
	"fmt"
	"strings"

	"github.com/moby/moby/client"

	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/simaws"
	"github.com/nagaya-ecs/nagaya/systemd"
)

// diskFull fills the disk of the agent's state: what runs goes on, what cannot be written
// is named, and all is well when there is room again.
func diskFull(m *machine, back func(m *machine, hosts ...string)) {
	m.do("systemctl", "stop", "nagaya", "nagaya-nginx")
	m.sh(`cp -a /var/lib/nagaya /root/state; rm -f /root/state/nagaya-reserve; mount -t tmpfs -o size=12m,mode=755 tmpfs /var/lib/nagaya
chown --reference=/root/state /var/lib/nagaya; cp -a /root/state/. /var/lib/nagaya/`)
	m.do("systemctl", "start", "nagaya-nginx", "nagaya")
	back(m, "a.test")
	for range 2 { // until there is no room, nor a reserve
		m.try("dd", "if=/dev/zero", "of=/var/lib/nagaya/filler", "bs=4k", "oflag=append", "conv=notrunc")
		m.do("rm", "-f", "/var/lib/nagaya/nagaya-reserve")
	}
	m.try("dd", "if=/dev/zero", "of=/var/lib/nagaya/filler", "bs=4k", "oflag=append", "conv=notrunc")
	m.sh("docker run -d --name gamma " + quoted(Task("gamma", "c.test")))
	st := m.shows("a problem that names the cause", func(st report.Status) bool { return noRoom(st) != "" })
	m.t.Log(noRoom(st))
	back(m, "a.test", "b.test")
	m.do("systemctl", "restart", "nagaya") // an agent starts as well
	back(m, "a.test", "b.test")
	m.do("rm", "/var/lib/nagaya/filler")
	back(m, "a.test", "b.test", "c.test")
	m.shows("no problem is left", func(st report.Status) bool { return noRoom(st) == "" })
	m.do("systemctl", "stop", "nagaya", "nagaya-nginx")
	m.sh("rm -rf /root/state; rm -f /var/lib/nagaya/nagaya-reserve; cp -a /var/lib/nagaya /root/state; umount /var/lib/nagaya; cp -a /root/state/. /var/lib/nagaya/")
	m.do("systemctl", "start", "nagaya-nginx", "nagaya")
	m.do("docker", "rm", "-f", "gamma")
	back(m, "a.test")
}

// noRoom is the problem of a full disk, or empty.
func noRoom(st report.Status) string {
	for _, p := range st.Problems {
		if strings.Contains(p.Text, "no space left") {
			return p.Code + ": " + p.Text + " → " + p.Hint
		}
	}
	return ""
}

func quoted(args []string) string { return "'" + strings.Join(args, "' '") + "'" }

// dockerRestarts restarts an engine that keeps its containers meanwhile. What fails is
// the engine's: it takes its port mappings away and makes them again. The routes stay.
func dockerRestarts(m *machine) {
	m.sh(`echo '{"live-restore": true}' >/etc/docker/daemon.json; systemctl reload docker`)
	until(m.t, "the engine keeps containers", func() error {
		if out, _ := m.try("docker", "info", "-f", "{{.LiveRestoreEnabled}}"); out != "true" {
			return errNotYet
		}
		return nil
	})
	l := visits(m.t, m.set, "a.test")
	m.do("systemctl", "restart", "docker")
	m.shows("the engine is heard again", func(st report.Status) bool {
		return !has(st, "docker-unreachable") && len(st.Routes.LiveHosts()) == 2
	})
	met := l.Stop()
	m.t.Logf("%d requests, %d failed while the engine made its port mappings again: %s", met.Requests, met.Failed, met.First)
	if out, _ := m.try("journalctl", "-u", "nagaya", "-b", "--no-pager", "-o", "cat", "NAGAYA_EVENT=route-removed", "--since", "-30s"); out != "" {
		m.t.Errorf("routes were taken away:\n%s", out)
	}
	m.sh(`echo '{}' >/etc/docker/daemon.json; systemctl reload docker`)
}

// slowed lets a unit have half a processor for a while, as the gate does with a job that
// systemd has started.
func slowed(m *machine) {
	is, err := m.set.docker.ContainerInspect(m.t.Context(), m.id, client.ContainerInspectOptions{})
	must(m.t, err)
	m.t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", fmt.Sprintf("unix:path=/proc/%d/root/run/dbus/system_bus_socket", is.Container.State.Pid))
	m.do("systemd-run", "--unit=job", "sleep", "infinity")
	for _, step := range []struct {
		quota, before float64
		says          string
	}{{0.5, 0, "500ms"}, {0.25, 0.5, "250ms"}, {0, 0.25, "infinity"}} {
		before, err := systemd.CPUQuota(m.t.Context(), "job.service")
		must(m.t, err)
		if err := systemd.SetCPUQuota(m.t.Context(), "job.service", step.quota); err != nil || before != step.before {
			m.t.Errorf("quota %v: before it was %v, want %v; %v", step.quota, before, step.before, err)
		}
		if says := m.show("job", "CPUQuotaPerSecUSec"); says != step.says {
			m.t.Errorf("quota %v: systemd says %s, want %s", step.quota, says, step.says)
		}
	}
	// A run that was killed has left its quota, and what the unit had before.
	m.do("systemctl", "set-property", "--runtime", "job", "CPUQuota=2%")
	m.sh(`echo '{"cpus":0.5}' >/run/nagaya/quota-job.service.json`)
	m.do("nagaya", "gate", "free", "job.service")
	if says := m.show("job", "CPUQuotaPerSecUSec"); says != "500ms" {
		m.t.Errorf("after a killed run systemd says %s, want 500ms", says)
	}
	m.do("systemctl", "stop", "job")
}

// members lets a user of the socket's group see the status, and change nothing.
func members(m *machine) {
	if is := m.sh("stat -c '%U %G %a' /run/nagaya/nagaya.sock"); is != "root nagaya-admin 660" {
		m.t.Errorf("the socket is %s", is)
	}
	as := func(group string, args ...string) (string, int) {
		return m.try(append([]string{"setpriv", "--reuid=nobody", "--regid=" + group, "--clear-groups"}, args...)...)
	}
	if out, code := as("nagaya-admin", "nagaya", "status"); code != 0 {
		m.t.Errorf("status of a member: exit %d\n%s", code, out)
	}
	if out, code := as("nagaya-admin", "nagaya", "leave"); code != 1 || !strings.Contains(out, "only root") {
		m.t.Errorf("leave of a member: exit %d\n%s", code, out)
	}
	if out, code := as("nogroup", "nagaya", "gate", "run", "--", "true"); code != 3 || !strings.Contains(out, "nagaya-admin") {
		m.t.Errorf("gate run of a stranger: exit %d\n%s", code, out)
	}
}

// removal takes the package away, and then its configuration.
func removal(m *machine) {
	m.do("dpkg", "--remove", "nagaya")
	if out, _ := m.try("pgrep", "-a", "nagaya|nginx"); out != "" {
		m.t.Errorf("left running: %s", out)
	}
	m.do("test", "-s", "/etc/nagaya/nagaya.yaml")
	m.do("dpkg", "--purge", "nagaya")
	for _, path := range []string{"/etc/nagaya/nagaya.yaml", "/var/lib/nagaya", "/var/log/nagaya", "/run/nagaya"} {
		if _, code := m.try("test", "!", "-e", path); code != 0 {
			m.t.Errorf("%s is left", path)
		}
	}
	if out, _ := m.try("systemctl", "list-units", "--plain", "--no-legend", "nagaya*"); out != "" {
		m.t.Errorf("units are left:\n%s", out)
	}
}

// nightly lets the timer start a job through the gate.
func nightly(m *machine) {
	must(m.t, m.set.Cloud.SetCredits(m.InstanceID, simaws.Credits{Balance: 4000}, true))
	must(m.t, m.Put(m.t.Context(), map[string]File{
		"/etc/nagaya/batches/report":     {Content: []byte("#!/bin/sh\necho the report is written\n"), Mode: 0o755},
		"/etc/nagaya/batches/report.env": Text("NEED=1\n"),
	}))
	m.dropIn("nagaya-batch@report.timer", "Timer", "OnCalendar=", "OnCalendar=*:*:*", "AccuracySec=1ms")
	m.do("systemctl", "enable", "--now", "nagaya-batch@report.timer")
	until(m.t, "the job has run", func() error {
		out, _ := m.try("journalctl", "-u", "nagaya-batch@report", "--no-pager", "-o", "cat")
		if !strings.Contains(out, "the report is written") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	m.do("systemctl", "disable", "--now", "nagaya-batch@report.timer")
	m.is("nagaya-batch@report", "inactive")
	if m.show("nagaya-batch@report", "Result") != "success" {
		m.t.Error("the job did not end well")
	}
}
