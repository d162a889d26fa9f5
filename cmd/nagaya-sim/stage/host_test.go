package stage

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// swapFile replaces a file in one step, as who renews certificates should.
func swapFile(t *testing.T, path string, text []byte) {
	t.Helper()
	must(t, os.WriteFile(path+".new", text, 0o600))
	must(t, os.Rename(path+".new", path))
}

func TestBadCertificates(t *testing.T) {
	s, nginx := household(t, Options{})
	run(t, s, service("beta", "1", "b.test"))
	answers(t, s, "b.test", "beta 1")
	settled(t, s)
	_, end := unbroken(t, s, "a.test", 50)
	crt, key := s.Path("certs", "b.test.crt"), s.Path("certs", "b.test.key")
	goodCrt, err := os.ReadFile(crt)
	must(t, err)
	goodKey, err := os.ReadFile(key)
	must(t, err)
	otherKey, err := os.ReadFile(s.Path("certs", "a.test.key"))
	must(t, err)

	for _, row := range []struct {
		name, code string
		spoil      func()
	}{
		{"another key", "cert-key-mismatch", func() { swapFile(t, key, otherKey) }},
		{"no certificate in it", "cert-unreadable", func() { swapFile(t, crt, []byte("-----BEGIN CERTIFICATE-----\ninjected;}\n")) }},
		{"a link that leads nowhere", "cert-unreadable", func() {
			must(t, os.Remove(crt))
			must(t, os.Symlink("/nowhere/at/all", crt))
		}},
		{"a directory", "cert-unreadable", func() {
			must(t, os.Remove(crt))
			must(t, os.Mkdir(crt, 0o755))
		}},
		{"an empty key", "cert-unreadable", func() { must(t, os.WriteFile(key, nil, 0o600)) }},
		{"no files at all", "cert-gone", func() {
			must(t, os.Remove(crt))
			must(t, os.Remove(key))
		}},
	} {
		row.spoil()
		told(t, s, row.code, "b.test")
		settled(t, s)
		answers(t, s, "a.test", "alpha 1")
		answers(t, s, "b.test", "beta 1")
		must(t, os.RemoveAll(crt))
		swapFile(t, crt, goodCrt)
		swapFile(t, key, goodKey)
		quiet(t, s, row.code)
		answers(t, s, "b.test", "beta 1")
	}
	end()
	sameNginx(t, s, nginx)

	// After the end of agent and nginx too, b.test is served over HTTPS, and over nothing else.
	must(t, os.WriteFile(key, nil, 0o600))
	told(t, s, "cert-unreadable", "b.test")
	must(t, s.StopAgent())
	must(t, s.StartAgent())
	answers(t, s, "a.test", "alpha 1")
	answers(t, s, "b.test", "beta 1")
	if code, _, err := s.GetPlain(t.Context(), "b.test"); err != nil || code != 301 {
		t.Errorf("plain HTTP gets %d, %v, want 301", code, err)
	}
	// Without the copy it is not opened either.
	must(t, os.RemoveAll(s.Path("state", "nginx", "certs", "b.test")))
	told(t, s, "no-certificate", "b.test")
	settled(t, s)
	code, _, err := s.GetPlain(t.Context(), "b.test")
	must(t, err)
	if code != 403 {
		t.Errorf("plain HTTP gets %d, want 403", code)
	}
}

func TestGarbageInLabels(t *testing.T) {
	s, nginx := household(t, Options{Hosts: []string{"c.test"}})
	_, end := unbroken(t, s, "a.test", 25)
	long := strings.Repeat("injected.", 8000) + "test"
	rows := []struct {
		code   string
		labels map[string]string
		env    []string
	}{
		{"label-invalid", map[string]string{"nagaya.host": "a.test; return 200 injected; }"}, nil},
		{"label-invalid", map[string]string{"nagaya.host": "b.test\n}\nserver { listen 80; server_name injected.test; }"}, nil},
		{"label-invalid", map[string]string{"nagaya.host": "b.test,$injected.test"}, nil},
		{"label-dropped", map[string]string{"nagaya.host": long}, nil},
		{"label-invalid", map[string]string{"nagaya.host": "b.test", "nagaya.port": "99999"}, nil},
		{"label-invalid", map[string]string{"nagaya.host": "b.test", "nagaya.port": "8080; injected"}, nil},
		{"label-invalid", map[string]string{"nagaya.host": "b.test", "nagaya.path": "/x { return 200 injected; }"}, nil},
		{"label-invalid", map[string]string{"nagaya.host": "b.test", "nagaya.health": "/x\r\nInjected: yes"}, nil},
		{"label-invalid", map[string]string{"nagaya.host": "b.test", "nagaya.auth": "../../injected"}, nil},
		{"label-invalid", map[string]string{"nagaya.host": "b.test", "nagaya.allow": "all; injected"}, nil},
		{"label-invalid", map[string]string{"nagaya.host": "b.test", "nagaya.body-size": "1m; injected"}, nil},
		{"label-unknown", map[string]string{"nagaya.host": "b.test", "nagaya.alow\ninjected": "10.0.0.0/8"}, nil},
		{"label-invalid", nil, []string{"VIRTUAL_HOST=~^(?<injected>a)$"}},
		{"label-invalid", nil, []string{"VIRTUAL_HOST=b.test", "VIRTUAL_PATH=/;injected"}},
		{"host-taken", map[string]string{"nagaya.host": "a.test"}, nil},
	}
	name := func(i int) string { return fmt.Sprintf("bad%d-%s", i, filepath.Base(s.Dir)) }
	var starts sync.WaitGroup
	for i, row := range rows {
		starts.Go(func() {
			_, err := s.Run(t.Context(), Container{Name: name(i), Labels: row.labels, Env: row.env, Ports: map[string]string{"8080/tcp": "0"}})
			if err != nil {
				t.Error(err)
			}
		})
	}
	starts.Wait()
	for i, row := range rows {
		p := told(t, s, row.code, name(i))
		if len(p.Text) > 2000 || strings.ContainsAny(p.Text+p.Subject, "\n\r") {
			t.Errorf("labels %.300q env %q: the problem shows too much: %+v", row.labels, row.env, p)
		}
	}
	// The family of a task is a stranger's text too, and nothing that is needed.
	odd := service("odd", "1", "c.test")
	odd.Labels["com.amazonaws.ecs.task-definition-family"] = "x\n}\ninjected {"
	run(t, s, odd)
	answers(t, s, "c.test", "odd 1")
	settled(t, s)
	end()
	sameNginx(t, s, nginx)
	must(t, filepath.WalkDir(s.Path("state", "nginx"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(bytes.ToLower(append(b, path...)), []byte("injected")) {
			t.Errorf("%s has the injected text:\n%s", path, b)
		}
		return err
	}))
}

func TestPublicPortIsTaken(t *testing.T) {
	s := newStage(t, Options{Hosts: []string{"a.test"}})
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", s.HTTPSPort))
	must(t, err)
	defer l.Close()
	must(t, s.StartCloud(t.Context()))
	run(t, s, service("alpha", "1", "a.test"))
	must(t, s.StartAgent())
	p := told(t, s, "port-in-use", fmt.Sprintf("port %d", s.HTTPSPort))
	if want := fmt.Sprintf("process %d", os.Getpid()); !strings.Contains(p.Text, want) {
		t.Errorf("%q does not name %s", p.Text, want)
	}
	must(t, l.Close())
	freed := time.Now()
	answers(t, s, "a.test", "alpha 1")
	t.Logf("served %s after the port was free", time.Since(freed).Round(time.Millisecond))
	quiet(t, s, "port-in-use")
	if got := masters(t, s); len(got) != 1 {
		t.Errorf("nginx masters %v, want one", got)
	}
}

// ownDisk mounts a small file system for the stage's state.
func ownDisk(t *testing.T, s *Stage) {
	t.Helper()
	dir := s.Path("state")
	testenv.Need(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=755"))
	t.Cleanup(func() {
		if err := errors.Join(s.StopAgent(), syscall.Unmount(dir, syscall.MNT_DETACH)); err != nil {
			t.Error(err)
		}
	})
}

// fillUp writes a file until nothing more fits.
func fillUp(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	must(t, err)
	defer f.Close()
	for block := make([]byte, 512); ; {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestStateDiskIsFull(t *testing.T) {
	s := newStage(t, Options{Hosts: []string{"a.test", "b.test"}})
	ownDisk(t, s)
	must(t, s.StartCloud(t.Context()))
	must(t, s.StartAgent())
	run(t, s, service("alpha", "1", "a.test"))
	answers(t, s, "a.test", "alpha 1")
	nginx := settled(t, s).Nginx.PID
	_, end := unbroken(t, s, "a.test", 50)
	ballast := s.Path("state", "ballast")
	fillUp(t, ballast)
	run(t, s, service("beta", "1", "b.test"))
	told(t, s, "disk-full", s.Dir)
	// A new agent meets the same disk.
	restarted(t, s)
	told(t, s, "disk-full", s.Dir)
	answers(t, s, "a.test", "alpha 1")
	must(t, os.Remove(ballast))
	freed := time.Now()
	answers(t, s, "b.test", "beta 1")
	t.Logf("served %s after there was space", time.Since(freed).Round(time.Millisecond))
	quiet(t, s, "disk-full")
	end()
	sameNginx(t, s, nginx)
}

func TestStateIsReadOnly(t *testing.T) {
	s := newStage(t, Options{Hosts: []string{"a.test", "b.test"}})
	ownDisk(t, s)
	must(t, s.StartCloud(t.Context()))
	must(t, s.StartAgent())
	run(t, s, service("alpha", "1", "a.test"))
	answers(t, s, "a.test", "alpha 1")
	nginx := settled(t, s).Nginx.PID
	_, end := unbroken(t, s, "a.test", 50)
	// The kernel refuses that as long as an agent has files open there.
	s.KillAgent()
	must(t, syscall.Mount("", s.Path("state"), "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	must(t, s.StartAgent())
	run(t, s, service("beta", "1", "b.test"))
	told(t, s, "state-dir-unwritable", s.Dir)
	answers(t, s, "a.test", "alpha 1")
	must(t, syscall.Mount("", s.Path("state"), "", syscall.MS_REMOUNT, ""))
	mended := time.Now()
	answers(t, s, "b.test", "beta 1")
	t.Logf("served %s after the disk could be written to", time.Since(mended).Round(time.Millisecond))
	quiet(t, s, "state-dir-unwritable")
	end()
	sameNginx(t, s, nginx)
}

func TestFaultNginxIsKilled(t *testing.T) {
	for _, row := range []struct {
		name    string
		workers bool
	}{{"the master", false}, {"all of it", true}} {
		t.Run(row.name, func(t *testing.T) {
			s, nginx := household(t, Options{})
			l, err := s.StartLoad(t.Context(), "a.test", 50)
			must(t, err)
			pids := []int{nginx}
			if row.workers {
				pids = append(pids, children(t, nginx)...)
			}
			for _, pid := range pids {
				must(t, syscall.Kill(pid, syscall.SIGKILL))
			}
			killed := time.Now()
			until(t, "another nginx serves a.test", func() error {
				if got := masters(t, s); len(got) != 1 || got[0] == nginx {
					return fmt.Errorf("masters %v", got)
				}
				code, _, err := s.Get(t.Context(), "a.test")
				if err == nil && code != 200 {
					err = fmt.Errorf("status %d", code)
				}
				return err
			})
			took := time.Since(killed)
			r := l.Stop()
			t.Logf("served again %s after it was killed; %d of %d requests failed meanwhile", took.Round(time.Millisecond), r.Failed, r.Requests)
			if took > 20*time.Second { // 2 s on a machine that is not crowded
				t.Errorf("it took %s", took)
			}
			quiet(t, s, "nginx-died")
			shows(t, s, "nginx is as wanted", func(st report.Status) bool { return st.Nginx.Settled && st.Nginx.Running })
			if got := masters(t, s); len(got) != 1 {
				t.Errorf("masters %v, want one", got)
			}
		})
	}
}

// children are the direct children of a process.
func children(t *testing.T, pid int) (pids []int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	must(t, err)
	for _, word := range strings.Fields(string(b)) {
		var child int
		_, err := fmt.Sscan(word, &child)
		must(t, err)
		pids = append(pids, child)
	}
	return pids
}
