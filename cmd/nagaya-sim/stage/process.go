package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/report/socket"
	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/vpc"
)

// process is a program that runs beside the stage, with its output in a file.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
	err  error         // valid after done
}

// begin starts a program. It is not tied to a context: who kills it, and how, is
// part of the play.
func begin(logFile string, env []string, name string, args ...string) (*process, error) {
	return beginOn(nil, logFile, env, name, args...)
}

// beginOn starts a program on a host; nil is this one.
func beginOn(host *vpc.Host, logFile string, env []string, name string, args ...string) (*process, error) {
	f, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := &process{cmd: exec.Command(name, args...), log: logFile, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.Env = env
	// A group of its own: ^C at the terminal is for the stage, which then ends
	// its processes in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	start := p.cmd.Start
	if filepath.Base(name) == "nagaya" {
		start = func() error { return withTimerSlack(p.cmd.Start) }
	}
	if host != nil {
		err = host.Do(start)
	} else {
		err = start()
	}
	if err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// timerSlack is TimerSlackNSec= of nagaya.service, which agents of a stage have too.
const timerSlack = time.Millisecond

// withTimerSlack starts a process that has the timer slack: it inherits that of the thread.
func withTimerSlack(start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0); err != nil {
		return fmt.Errorf("setting the timer slack: %w", err)
	}
	defer unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) // what the thread had
	return start()
}

// stop asks the process to end and kills it if it does not in time.
func (p *process) stop(patience time.Duration) error {
	if p == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-p.done:
		return nil
	case <-time.After(patience):
	}
	p.kill()
	return fmt.Errorf("%s did not end within %s of SIGTERM; its log is %s", filepath.Base(p.cmd.Path), patience, p.log)
}

// kill ends the process at once.
func (p *process) kill() {
	if p != nil {
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// StartCloud starts the simulated cloud and waits until it says where it is.
func (s *Stage) StartCloud(ctx context.Context) error {
	envFile := s.Path("cloud.env")
	_ = os.Remove(envFile)
	args := []string{"cloud", "--env-file", envFile}
	p, err := begin(s.Path("log", "cloud.log"), os.Environ(), filepath.Join(s.Bin, "nagaya-sim"), args...)
	if err != nil {
		return err
	}
	s.cloud = p
	var text []byte
	err = Until(ctx, 10*time.Second, "the simulated cloud starts", func() error {
		if p.ended() {
			return fmt.Errorf("it ended: %v; its log is %s", p.err, p.log)
		}
		text, err = os.ReadFile(envFile)
		return err
	})
	if err != nil {
		return err
	}
	s.Env = nil
	for line := range strings.Lines(string(text)) {
		k, v, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		if !ok {
			continue
		}
		v = strings.Trim(v, "'")
		switch k {
		case "SIM_CONTROL":
			s.ControlURL = v
		case "SIM_INSTANCE":
			s.InstanceID = v
		default:
			s.Env = append(s.Env, k+"="+v)
		}
	}
	if s.ControlURL == "" {
		return errors.New("the simulated cloud named no control endpoint in " + envFile)
	}
	return nil
}

// StartAgent starts the agent as a process of its own. It does not wait for it.
func (s *Stage) StartAgent() error {
	p, err := beginOn(s.host, s.Path("log", "agent.log"), s.agentEnv(), filepath.Join(s.Bin, "nagaya"), "agent", "--config", s.ConfigFile())
	if err != nil {
		return err
	}
	s.agent = p
	return nil
}

func (s *Stage) agentEnv() []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.Dir}
	if s.Env == nil {
		// No cloud: without the first the agent would ask the real metadata address, and
		// there is no ECS agent that could confirm whose task a container is.
		return append(env, "AWS_EC2_METADATA_DISABLED=true", "NAGAYA_ECS_TRUST_LABELS=true")
	}
	return append(env, s.Env...)
}

// StopAgent ends the agent as systemd does.
func (s *Stage) StopAgent() error {
	p := s.agent
	s.agent = nil
	return p.stop(20 * time.Second)
}

// KillAgent ends the agent as the kernel does when memory runs out.
func (s *Stage) KillAgent() {
	s.agent.kill()
	s.agent = nil
}

// AgentPID is the agent's process id.
func (s *Stage) AgentPID() int { return s.agent.cmd.Process.Pid }

// AgentLog is what the agent has logged so far.
func (s *Stage) AgentLog() string {
	b, _ := os.ReadFile(s.Path("log", "agent.log"))
	return string(b)
}

// Board is the agent's status by its socket: cheaper than a process for each look.
func (s *Stage) Board(ctx context.Context) (report.Status, error) {
	return socket.Dial(s.Path("run", "nagaya.sock")).Status(ctx)
}

// CLI runs the program nagaya with the given arguments and returns its output
// and exit code.
func (s *Stage) CLI(ctx context.Context, args ...string) (string, int, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.Bin, "nagaya"), args...)
	cmd.Env = append(s.agentEnv(), "NAGAYA_CONFIG="+s.ConfigFile())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := s.inside(cmd.Run)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out.String(), exit.ExitCode(), nil
	}
	return out.String(), 0, err
}

// inside does something in the network of the host.
func (s *Stage) inside(do func() error) error {
	if s.host == nil {
		return do()
	}
	return s.host.Do(do)
}

// NginxPID is the process id of the agent's nginx, or 0.
func (s *Stage) NginxPID() int {
	b, err := os.ReadFile(s.Path("run", "nginx", "nginx.pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return pid
}

// endNginx ends an nginx that a killed agent left behind.
func (s *Stage) endNginx() error {
	pid := s.NginxPID()
	if pid == 0 {
		return nil
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.Contains(string(line), s.Dir) {
		return nil // gone, or the number belongs to somebody else now
	}
	return syscall.Kill(pid, syscall.SIGTERM)
}

// Until calls try until it returns nil, and gives up after the patience.
func Until(ctx context.Context, patience time.Duration, what string, try func() error) error {
	end := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("waited %s until %s: %w", patience, what, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
