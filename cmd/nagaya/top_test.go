package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

// counting is an agent whose version tells how often it was asked.
type counting struct {
	pretended
	asked atomic.Int64
}

func (c *counting) Status() report.Status {
	now := time.Now()
	return report.Status{
		Version: fmt.Sprintf("look-%d", c.asked.Add(1)), StartedAt: now.Add(-time.Hour), At: now,
		Credit: credit.Report{Known: true, Type: "t3.micro", Burstable: true, Balance: 72, Max: 288},
	}
}

// pty is a terminal without a screen, and what was written to it.
type pty struct {
	t             *testing.T
	master, slave *os.File
	more          chan []byte
	text          []byte
}

func newPTY(t *testing.T) *pty {
	t.Helper()
	open := func(name string) *os.File {
		f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	p := &pty{t: t, master: open("/dev/ptmx"), more: make(chan []byte)}
	if err := unix.IoctlSetPointerInt(int(p.master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(p.master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	p.slave = open(fmt.Sprintf("/dev/pts/%d", n))
	go func() {
		defer close(p.more)
		for {
			b := make([]byte, 4096)
			n, err := p.master.Read(b)
			if err != nil {
				return
			}
			select {
			case p.more <- b[:n]:
			case <-t.Context().Done():
				return
			}
		}
	}()
	return p
}

func (p *pty) resize(columns, rows uint16) {
	p.t.Helper()
	if err := unix.IoctlSetWinsize(int(p.slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
		p.t.Fatal(err)
	}
}

// shows waits for a text, after what was waited for before.
func (p *pty) shows(want string) {
	p.t.Helper()
	late := time.After(2 * time.Minute)
	for {
		if _, after, found := bytes.Cut(p.text, []byte(want)); found {
			p.text = after
			return
		}
		select {
		case b, open := <-p.more:
			if !open {
				p.t.Fatalf("the terminal was closed before it showed %q", want)
			}
			p.text = append(p.text, b...)
		case <-late:
			p.t.Fatalf("the terminal does not show %q:\n%q", want, p.text[max(0, len(p.text)-2000):])
		}
	}
}

// start runs the program at the terminal.
func (p *pty) start(env []string, args ...string) *exec.Cmd {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), os.Args[0], args...)
	cmd.Env = append(append(os.Environ(), asCommand+"=1s", "TERM=screen"), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.slave, p.slave, p.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	return cmd
}

func (p *pty) settings() unix.Termios {
	p.t.Helper()
	was, err := unix.IoctlGetTermios(int(p.slave.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	return *was
}

func TestTopAtATerminal(t *testing.T) {
	a := &counting{}
	dir := answers(t, a)
	for _, row := range []struct {
		name string
		end  func(*pty, *exec.Cmd) error
	}{
		{"q", func(p *pty, _ *exec.Cmd) error { _, err := p.master.WriteString("xq"); return err }},
		{"Ctrl-C", func(p *pty, _ *exec.Cmd) error { _, err := p.master.WriteString("\x03"); return err }},
		{"SIGTERM", func(_ *pty, cmd *exec.Cmd) error { return cmd.Process.Signal(syscall.SIGTERM) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			a.asked.Store(0)
			p := newPTY(t)
			p.resize(80, 24)
			before := p.settings()
			cmd := p.start(nil, "top", "--every", "1s", "--run-dir", dir)
			p.shows(enterScreen)
			p.shows("\x1b[1mnagaya look-1 on")
			if p.settings().Lflag&(unix.ICANON|unix.ECHO) != 0 {
				t.Error("keys wait for the end of a line")
			}
			p.shows("every 1s; q ends")
			p.shows("nagaya look-2 on") // it refreshes
			p.resize(120, 50)
			p.shows("[#") // the balance is drawn on a higher screen alone
			if err := row.end(p, cmd); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("it ended with %v", err)
			}
			p.shows(strings.TrimPrefix(leaveScreen, "\n"))
			if p.settings() != before {
				t.Errorf("the terminal is left as %+v, it was %+v", p.settings(), before)
			}
		})
	}
}

// An agent that comes and goes does not end it.
func TestTopOutlivesTheAgent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	p := newPTY(t)
	p.resize(100, 24)
	cmd := p.start([]string{"NO_COLOR=1"}, "top", "--every", "1s", "--run-dir", dir)
	p.shows("the agent does not answer on " + dir)
	p.shows("systemctl status nagaya")
	p.shows("trying again; q ends")
	t.Run("an agent for a while", func(t *testing.T) {
		if err := os.Symlink(answers(t, &counting{}), dir); err != nil {
			t.Fatal(err)
		}
		p.shows("nagaya look-1 on")
	})
	p.shows("\x1b[2Kno answer since ") // without colours
	p.shows("nagaya look-")            // and what was seen is shown still
	if _, err := p.master.WriteString("q"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	p.shows(strings.TrimPrefix(leaveScreen, "\n"))
}

// A terminal that goes away ends it, so that nothing goes on asking the agent.
func TestTopEndsWithItsTerminal(t *testing.T) {
	p := newPTY(t)
	cmd := p.start(nil, "top", "--every", "1s", "--run-dir", answers(t, &counting{}))
	p.shows("nagaya look-1 on")
	p.slave.Close()
	p.master.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(2 * time.Minute):
		t.Error("it goes on")
	}
}

func TestTopOnce(t *testing.T) {
	dir := answers(t, &counting{})
	for _, args := range [][]string{{"top"}, {"top", "--once"}} {
		got := nagaya(t, append(args, "--run-dir", dir)...)
		if got.code != exitOK || got.errs != "" || !strings.HasPrefix(got.out, "nagaya look-") || !strings.HasSuffix(got.out, "\n\nno hosts\n") || strings.Contains(got.out, "\x1b") {
			t.Errorf("%v: exit %d, %s%q", args, got.code, got.errs, got.out)
		}
	}
	if got := nagaya(t, "top", "--run-dir", t.TempDir()); got.code != exitNoAgent || !strings.Contains(got.errs, "hint: is it running?") {
		t.Errorf("without an agent: exit %d, %s", got.code, got.errs)
	}
	p := newPTY(t) // of a kind that can do nothing but lines
	p.resize(60, 24)
	cmd := p.start([]string{"TERM=dumb"}, "top", "--run-dir", dir)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	p.shows("no hosts\r\n")
	if bytes.Contains(p.text, []byte("\x1b")) {
		t.Errorf("%q", p.text)
	}
	if got := nagaya(t, "top", "--every", "10ms"); got.code != exitUsage || !strings.Contains(got.errs, "--every 10ms: at least 1s") {
		t.Errorf("too often: exit %d, %s", got.code, got.errs)
	}
}

// What the agent says steers no terminal, but for the frame's own sequences.
func TestTopFrames(t *testing.T) {
	s := (&counting{}).Status()
	s.Version = "1\x1b[2J\x07"
	v := &top{every: 5 * time.Second, now: s, explain: func(err error) error { return err }}
	if f := v.frame(40, 10); strings.Contains(f, "\x07") || strings.Contains(f, "\x1b[2J") || strings.Count(f, "\n") != 9 {
		t.Errorf("%q", f)
	}
	v = &top{every: 5 * time.Second, err: errors.New("no\x1b[2J agent"), explain: func(err error) error { return err }}
	for height := 1; height < 5; height++ {
		if f := v.frame(40, height); strings.Contains(f, "\x1b[2J") || strings.Count(f, "\n") != height-1 {
			t.Errorf("%q", f)
		}
	}
}
