package runtime

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// What the unit answers is nginx's output and its exit status, or an error that says where to look.
func TestUnitOfTests(t *testing.T) {
	for _, row := range []struct {
		name, answer, output string
		exit                 int
		wrong                string
	}{
		{name: "accepted", answer: "syntax is ok\nexit 0\n", output: "syntax is ok\n"},
		{name: "refused", answer: "nginx: [emerg] no\nexit 1\n", output: "nginx: [emerg] no\n", exit: 1},
		{name: "silent", answer: "exit 0\n"},
		{name: "a status in its output", answer: "exit 0\nexit 1\n", output: "exit 0\n", exit: 1},
		{name: "killed", answer: "nginx: [emerg] wh", wrong: "nagaya-nginx-test@.service has ended without an answer"},
		{name: "never started", wrong: "without an answer"},
		{name: "more than is kept", answer: strings.Repeat("x", 2*maxOutput) + "\nexit 1\n", output: strings.Repeat("x", maxOutput-len("\nexit 1\n")) + "\n", exit: 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			l, err := net.Listen("unix", filepath.Join(dir, testSocketFile))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			asked := make(chan string, 1)
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				var lines string
				for r := bufio.NewReader(conn); strings.Count(lines, "\n") < 3; {
					line, err := r.ReadString('\n')
					if lines += line; err != nil {
						break
					}
				}
				asked <- lines
				io.WriteString(conn, row.answer)
			}()
			u := &unit{process{Options{Unit: "nagaya-nginx.service", Dirs: nginx.Dirs{State: "/state", Run: filepath.Join(dir, "nginx")}}}}
			output, exit, err := u.test(t.Context(), "/sbin/nginx", "/state/x/nginx.conf")
			if output != row.output || exit != row.exit || (err != nil) != (row.wrong != "") || err != nil && !strings.Contains(err.Error(), row.wrong) {
				t.Errorf("%d bytes %.60q, exit %d, %v", len(output), output, exit, err)
			}
			if got := <-asked; got != "/sbin/nginx\n/state/x/nginx.conf\n/state\n" {
				t.Errorf("asked for %q", got)
			}
		})
	}
}

// Where nginx's user is the agent's, and where the unit does not see the configuration, the
// agent tests it itself.
func TestTestedAsNginx(t *testing.T) {
	dir := t.TempDir()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	u := &unit{process{Options{Dirs: nginx.Dirs{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")}}}}
	own := filepath.Join(dir, "state", "generations", "staging.tmp", "nginx.conf")
	for _, row := range []struct {
		args, user string
		want       bool
	}{
		{"-V", "", false},
		{"-t -c " + own + " -p " + dir, "nagaya-none", true},
		{"-t -c " + own + " -p " + dir, me.Username, false},
		{"-t -c /tmp/check/nginx.conf -p /tmp/check", "", false},
		{"-t -c", "", false},
		{"-t", "", false},
		{"-c " + own, "", false},
	} {
		if config, ok := u.testedAsNginx(strings.Fields(row.args), row.user); ok != row.want || ok && config != own {
			t.Errorf("%s: %q, %v", row.args, config, ok)
		}
	}
	if _, _, err := u.test(context.Background(), "nginx", own); err == nil || !strings.Contains(err.Error(), errNoTester.Error()) {
		t.Errorf("without a socket: %v", err)
	}
}

func TestInUnit(t *testing.T) {
	for groups, want := range map[string]bool{
		"0::/system.slice/nagaya-nginx.service\n":                            true,
		"0::/docker/0123/system.slice/nagaya-nginx.service\n":                true,
		"5:cpu:/\n1:name=systemd:/system.slice/nagaya-nginx.service\n":       true,
		"0::/system.slice/nagaya-nginx.service/sub\n":                        true,
		"0::/system.slice/nagaya-nginx.service.d\n":                          false,
		"0::/system.slice/my-nagaya-nginx.service\n":                         false,
		"0::/system.slice/system-nagaya.slice/nagaya-nginx-test@1.service\n": false,
		"0::/user.slice/user-1000.slice/user@1000.service/nagaya.service\n":  false,
		"0::/\n": false,
		"":       false,
	} {
		if inUnit(groups, "nagaya-nginx.service") != want {
			t.Errorf("%q: %v", groups, !want)
		}
	}
}

// An agent that is not root signals no other user's process that systemd has not started for
// the unit, whatever the kernel would allow it.
func TestMaySignal(t *testing.T) {
	p := &process{Options{Mode: Unit, Unit: "nagaya-none.service"}}
	if !p.maySignal(os.Getpid()) {
		t.Error("its own user's process")
	}
	if os.Geteuid() != 0 && p.maySignal(1) {
		t.Error("root's first process")
	}
}
