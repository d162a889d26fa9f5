package stage

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// restricted tries what the units forbid and what works all the same, on a machine
// whose agent and nginx serve.
func restricted(t *testing.T, i *instance) {
	for unit, tenths := range map[string]string{"nagaya.service": "20", "nagaya-nginx.service": "20"} {
		i.do("systemd-analyze", "security", "--no-pager", "--threshold="+tenths, unit)
	}
	agent, nginx := strconv.Itoa(i.mainPID("nagaya")), strconv.Itoa(i.mainPID("nagaya-nginx"))
	nginxUser := i.do("id", "-u", "nagaya-nginx")
	// CAP_KILL is the bit 5, CAP_NET_BIND_SERVICE the bit 10.
	for pid, want := range map[string][2]string{agent: {i.do("id", "-u", "nagaya"), "0000000000000420"}, nginx: {nginxUser, "0000000000000400"}} {
		status := i.do("cat", "/proc/"+pid+"/status")
		if !strings.Contains(status, "\nUid:\t"+want[0]+"\t"+want[0]+"\t") || !strings.Contains(status, "\nCapEff:\t"+want[1]+"\n") {
			t.Errorf("process %s is not user %s with the capabilities %s:\n%s", pid, want[0], want[1], status)
		}
	}
	// What the agent starts does not get the right to signal others.
	if status := i.do("cat", "/proc/"+agent+"/status"); !strings.Contains(status, "\nCapAmb:\t0000000000000400\n") {
		t.Errorf("the agent's children get more than the ports below 1024:\n%s", status)
	}

	// What both need, they have.
	if out := i.do("nagaya", "doctor"); !strings.Contains(out, " 0 failed") {
		t.Errorf("nagaya doctor:\n%s", out)
	}
	until(t, "the gate is published", func() error {
		if out, code := i.try("cat", "/run/nagaya/gate.json"); code != 0 || !strings.Contains(out, `"open"`) {
			return fmt.Errorf("gate file: %s", out)
		}
		return nil
	})

	// Whoever takes nginx over has nothing of the agent's.
	for what, command := range map[string]string{
		"the agent's environment": "cat /proc/" + agent + "/environ",
		"the agent's files":       "ls /proc/" + agent + "/fd",
		"the status socket":       "nagaya status",
		"the Docker socket":       "curl -sS --unix-socket /mnt/docker.sock http://docker/version",
		"a start of its own unit": "systemctl start nagaya.service",
	} {
		if out, code := i.try("setpriv", "--reuid=nagaya-nginx", "--regid=nagaya", "--clear-groups", "sh", "-c", command); code == 0 {
			t.Errorf("%s is open to nginx:\n%s", what, out)
		}
	}
	for _, dir := range []string{"/var/lib/nagaya", "/var/lib/nagaya/nginx", "/etc/nagaya", "/run/nagaya"} {
		if out, code := i.try("nsenter", "-t", nginx, "-m", "touch", dir+"/mine"); code == 0 {
			t.Errorf("nginx may write to %s:\n%s", dir, out)
		}
	}
	i.do("nsenter", "-t", nginx, "-m", "sh", "-c", "cd /var/lib/nagaya/nginx/temp && touch mine && rm mine")

	// A reload ends when the configuration is in force, and fails when it is wrong.
	file := i.s.Path("nagaya.yaml")
	right, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, append(right, "log-level: loud\n"...), 0o644))
	if out, code := i.try("systemctl", "reload", "nagaya"); code == 0 {
		t.Errorf("a wrong configuration: %s", out)
	}
	i.is("nagaya", "active")
	must(t, os.WriteFile(file, append(right, "log-level: debug\n"...), 0o644))
	i.do("sh", "-c", "umask 077; echo mine >/etc/nagaya/certs/late")
	i.do("systemctl", "reload", "nagaya")
	if out := i.do("stat", "-c", "%U %G %a", "/etc/nagaya/certs/late"); out != "root nagaya 640" {
		t.Errorf("a file that came later is %s", out)
	}
	i.do("rm", "/etc/nagaya/certs/late")
	i.closed("after a reload")
	if out := i.do("nagaya", "status"); strings.Contains(out, "config-invalid") {
		t.Errorf("after the reload:\n%s", out)
	}
	must(t, os.WriteFile(file, right, 0o644))
	i.do("systemctl", "reload", "nagaya")

	// Whoever asks while the agent is restarted waits, and is answered.
	i.do("systemctl", "restart", "--no-block", "nagaya")
	i.do("nagaya", "status")
	i.is("nagaya", "active")
	i.closed("after a restart of the agent")
}

// closed checks that nobody but the agent and nginx can connect to nginx's sockets.
func (i *instance) closed(when string) {
	i.t.Helper()
	if out := i.do("stat", "-c", "%U %G %a", "/run/nagaya/nginx"); out != "nagaya-nginx nagaya 750" {
		i.t.Errorf("%s the directory of the sockets is %s", when, out)
	}
}
