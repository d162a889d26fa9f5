package box

import (
	"fmt"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/report"
)

// slowTest makes the agent test a configuration, and that test wait until release is called:
// a snippet of the operator's includes a pipe.
func slowTest(m *machine) (release func()) {
	m.t.Helper()
	before := m.shows("nginx is in sync", func(st report.Status) bool { return st.Nginx.Settled }).Nginx.Generation
	m.sh(`mkdir -p /etc/nagaya/nginx/http.d; mkfifo -m 644 /etc/nagaya/pipe
echo 'include /etc/nagaya/pipe;' >/etc/nagaya/nginx/http.d/slow.conf`)
	until(m.t, "nginx -t runs", func() error {
		if out, code := m.try("pgrep", "-f", "^[^ ]*nginx -t -c "); code != 0 {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	return func() {
		m.t.Helper()
		m.do("systemd-run", "--quiet", "--unit=feeder", "sh", "-c", "while :; do echo >/etc/nagaya/pipe; done")
		loaded := func(what string, before string) string {
			m.t.Helper()
			return m.shows(what, func(st report.Status) bool { return st.Nginx.Settled && st.Nginx.Generation != before }).Nginx.Generation
		}
		with := loaded("nginx has loaded the snippet", before)
		m.do("rm", "/etc/nagaya/nginx/http.d/slow.conf")
		loaded("nginx has loaded the configuration without it", with)
		m.sh("systemctl stop feeder; rm /etc/nagaya/pipe")
	}
}

// takenOver tries what a process could do that has taken nginx over, while nginx -t runs.
func takenOver(m *machine) {
	release := slowTest(m)
	agent, nginx := m.pid("nagaya"), m.pid("nagaya-nginx")
	id := strings.Fields(m.sh(fmt.Sprintf("awk '/^[UG]id:/ {print $2}' /proc/%d/status", nginx)))
	as := func(script string) (string, int) {
		m.t.Helper()
		return m.try("setpriv", "--reuid="+id[0], "--regid="+id[1], "--clear-groups", "--inh-caps=+net_bind_service", "--ambient-caps=+net_bind_service", "sh", "-ec", script)
	}
	if out, code := as("cat /var/lib/nagaya/nginx/current/nginx.conf /etc/nagaya/certs/*.crt"); code != 0 {
		m.t.Errorf("what nginx needs it cannot read:\n%s", out)
	}
	family := strings.Fields(m.sh(fmt.Sprintf("echo %d; pgrep -P %d || true", agent, agent)))
	m.t.Logf("the agent and its children: %v", family)
	for _, pid := range family {
		for _, file := range []string{"cat /proc/%s/environ", ": <>/proc/%s/mem", "ls /proc/%s/fd/", "kill -CONT %s"} {
			command := fmt.Sprintf(file, pid)
			if out, code := as(command); code == 0 {
				m.t.Errorf("nginx may do this to a process of the agent (%s): %s\n%s", m.sh("tr '\\0' ' ' </proc/"+pid+"/cmdline"), command, out)
			}
		}
	}
	for what, command := range map[string]string{
		"the agent's state":        "touch /var/lib/nagaya/mine",
		"its configuration":        "touch /var/lib/nagaya/nginx/current/nginx.conf",
		"its generations":          "touch /var/lib/nagaya/nginx/mine",
		"the gate file":            "echo >>/run/nagaya/gate.json",
		"the agent's directory":    "touch /run/nagaya/mine",
		"the start of nginx":       "touch /run/nagaya/start-nginx",
		"settings":                 "touch /etc/nagaya/mine",
		"certificates":             "touch /etc/nagaya/certs/mine",
		"the agent's socket":       "nagaya status",
		"tests":                    "curl -sS --unix-socket /run/nagaya/nginx-test.sock http://x/",
		"Docker":                   "curl -sS --unix-socket /run/docker.sock http://docker/version",
		"a start of nginx's unit":  "busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager StartUnit ss nagaya-nginx.service replace",
		"a signal by systemd":      "busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager KillUnit ssi nagaya.service all 15",
		"a unit of its own making": "systemd-run --no-ask-password true",
	} {
		if out, code := as(command); code == 0 {
			m.t.Errorf("%s: open to nginx:\n%s", what, out)
		}
	}
	release()
	owners(m)
}

// owners checks whose the directories and files are that nginx writes, and that nobody else on
// the machine may read them.
func owners(m *machine) {
	m.t.Helper()
	for dir, want := range map[string]string{
		"/run/nagaya/nginx": "nagaya-nginx nagaya 750", "/var/log/nagaya": "nagaya-nginx nagaya 770",
		"/var/lib/nagaya/nginx/temp": "nagaya-nginx nagaya 750", "/var/lib/nagaya": "nagaya nagaya 755",
	} {
		if out := m.do("stat", "-c", "%U %G %a", dir); out != want {
			m.t.Errorf("%s: %s, want %s", dir, out, want)
		}
	}
	if out := m.do("find", "/run/nagaya/nginx", "/var/log/nagaya", "/var/lib/nagaya/nginx/temp", "!", "-user", "nagaya-nginx"); out != "" {
		m.t.Errorf("these are not nginx's:\n%s", out)
	}
	if out := m.do("find", "/var/log/nagaya", "-type", "f", "-newer", "/run/nagaya/nginx/nginx.pid", "-perm", "/7"); out != "" {
		m.t.Errorf("logs that everybody may read:\n%s", out)
	}
}

// beforeUsers makes the machine what one with nagaya 0.1 is, whose nginx ran as the agent's
// user; it returns how to take that away again.
func beforeUsers(m *machine) (after func()) {
	m.t.Helper()
	m.dropIn("nagaya-nginx.service", "Service", "User=nagaya", "RuntimeDirectoryMode=0710", "LogsDirectoryMode=0755", "UMask=0022")
	m.do("systemctl", "restart", "nagaya-nginx", "nagaya")
	m.problem("nginx-shares-user")
	if out := m.sh("stat -c %U /run/nagaya/nginx /var/log/nagaya/error.log /var/lib/nagaya/nginx/temp | uniq"); out != "nagaya" {
		m.t.Errorf("the files before are %s's", out)
	}
	return func() {
		m.t.Helper()
		m.sh("rm -r /etc/systemd/system/nagaya-nginx.service.d; systemctl daemon-reload")
	}
}

// rotated has logrotate rotate the logs and checks that nginx, whose user it is said to be,
// writes new ones.
func rotated(m *machine, user string) {
	m.t.Helper()
	m.do("logrotate", "--force", "/etc/logrotate.d/nagaya")
	until(m.t, "nginx has opened its logs again", func() error {
		if out, code := m.try("stat", "-c", "%U", "/var/log/nagaya/error.log"); code != 0 || out != user {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}

// newUsers restarts an nginx from before an upgrade, which is all that there is to do.
func newUsers(m *machine) {
	m.t.Helper()
	m.problem("nginx-shares-user")
	release := slowTest(m) // by a child of the agent
	release()
	rotated(m, "nagaya")
	m.do("systemctl", "restart", "nagaya-nginx")
	m.shows("nginx has a user of its own", func(st report.Status) bool {
		return st.Nginx.Settled && !has(st, "nginx-shares-user") && !has(st, "nginx-of-another-user")
	})
	owners(m)
	for range 3 { // the second time compresses what the first has moved
		rotated(m, "nagaya-nginx")
	}
	owners(m)
	m.do("systemctl", "restart", "nagaya")
	m.is("nagaya", "active")
	owners(m)
}
