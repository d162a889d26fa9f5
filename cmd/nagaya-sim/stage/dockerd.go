package stage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/client"
)

// Engine is a Docker Engine of the stage's own, to be restarted at will. Its
// containers live on meanwhile (live-restore) and share the host's network: it
// touches no bridge but its own, and no firewall.
type Engine struct {
	dir    string
	bridge string
	// guard starts the engine again whenever it ends, as systemd does.
	guard *process
}

// guardScript keeps its children in one mount namespace, in which a new engine
// finds the mounts of the old one's containers.
const guardScript = `while [ ! -e "$0/end" ]; do "$@"; done`

// StartEngine starts an engine. It takes root and dockerd.
func StartEngine(ctx context.Context) (*Engine, error) {
	dockerd, err := exec.LookPath("dockerd")
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("only root can start a Docker Engine")
	}
	// A socket's path must be short, and most temporary directories' are not.
	dir, err := os.MkdirTemp("", "dockerd-")
	if err != nil {
		return nil, err
	}
	// An engine without a bridge removes docker0, though it be another engine's.
	e := &Engine{dir: dir, bridge: "br-" + strings.TrimPrefix(filepath.Base(dir), "dockerd-")}
	config := e.path("daemon.json")
	if err := errors.Join(os.WriteFile(config, []byte("{}\n"), 0o644), e.addBridge()); err != nil {
		return nil, errors.Join(err, e.removeBridge(), os.RemoveAll(dir))
	}
	e.guard, err = begin(e.path("log"), os.Environ(), "unshare", "--mount", "--propagation", "slave",
		"/bin/sh", "-c", guardScript, dir,
		dockerd, "--config-file", config, "--pidfile", e.path("pid"), "--host", e.Host(),
		"--data-root", e.path("data"), "--exec-root", e.path("exec"), "--live-restore",
		"--bridge", e.bridge, "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
		"--cgroup-parent", "/"+filepath.Base(dir), "--exec-opt", "native.cgroupdriver=cgroupfs")
	if err != nil {
		return nil, errors.Join(err, e.removeBridge(), os.RemoveAll(dir))
	}
	if err := e.answers(ctx); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func (e *Engine) path(name string) string { return filepath.Join(e.dir, name) }

// Host is the engine's address.
func (e *Engine) Host() string { return "unix://" + e.path("sock") }

// pid is the engine's process id.
func (e *Engine) pid() (int, error) {
	b, err := os.ReadFile(e.path("pid"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// Restart ends the engine as 'systemctl restart docker' does and returns when the
// next one answers.
func (e *Engine) Restart(ctx context.Context) error {
	pid, err := e.pid()
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return err
	}
	if err := Until(ctx, 30*time.Second, "the engine has ended", func() error {
		if now, err := e.pid(); err == nil && now == pid {
			return errors.New("it lives")
		}
		return nil
	}); err != nil {
		return err
	}
	return e.answers(ctx)
}

func (e *Engine) answers(ctx context.Context) error {
	c, err := client.New(client.WithHost(e.Host()))
	if err != nil {
		return err
	}
	defer c.Close()
	err = Until(ctx, 30*time.Second, "the engine answers", func() error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err := c.Ping(ctx, client.PingOptions{})
		return err
	})
	if err != nil {
		log, _ := os.ReadFile(e.path("log"))
		return fmt.Errorf("%w; the end of its log: %s", err, log[max(0, len(log)-2000):])
	}
	return nil
}

// Close ends the engine and removes what it made. Its containers must be gone.
func (e *Engine) Close() error {
	if err := os.WriteFile(e.path("end"), nil, 0o644); err != nil {
		return err
	}
	if pid, err := e.pid(); err == nil {
		_ = syscall.Kill(pid, syscall.SIGTERM) // it may have ended already
	}
	select {
	case <-e.guard.done:
	case <-time.After(30 * time.Second):
		_ = syscall.Kill(-e.guard.cmd.Process.Pid, syscall.SIGKILL)
		<-e.guard.done
	}
	return errors.Join(e.removeBridge(), e.removeGroups(), os.RemoveAll(e.dir))
}

// addBridge makes the engine's bridge. No container is at it, so the network that
// is kept for benchmarks (RFC 2544) will do.
func (e *Engine) addBridge() error {
	return errors.Join(
		ip("link", "add", e.bridge, "type", "bridge"),
		ip("address", "add", "198.18.0.1/24", "dev", e.bridge),
	)
}

func (e *Engine) removeBridge() error { return ip("link", "delete", e.bridge) }

// ip changes the host's network.
func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// removeGroups removes the control groups that the engine leaves behind.
func (e *Engine) removeGroups() error {
	var groups []string
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(path, "/"+filepath.Base(e.dir)) {
			groups = append(groups, path)
		}
		return nil // groups of others come and go
	})
	for i := len(groups) - 1; i >= 0; i-- { // the innermost first
		if rerr := os.Remove(groups[i]); !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}
