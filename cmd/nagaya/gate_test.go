package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/report/socket"
)

func TestGateCheck(t *testing.T) {
	now := time.Now()
	for name, row := range map[string]struct {
		decision gate.Decision
		code     int
		say      string
	}{
		"open":      {gate.Decision{At: now, Open: true, Reason: "there is plenty"}, exitOK, "open: there is plenty\n"},
		"closed":    {gate.Decision{At: now, Reason: "nothing is left"}, exitNo, "closed: nothing is left\n"},
		"undecided": {gate.Decision{}, exitNo, "closed: nothing has been decided yet\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := answers(t, &pretended{status: report.Status{Gate: gate.Report{Decision: row.decision}}})
			got := nagaya(t, "gate", "check", "--run-dir", dir)
			if got.code != row.code || got.out != row.say || got.errs != "" {
				t.Errorf("exit %d, %q, %q; want %d, %q", got.code, got.out, got.errs, row.code, row.say)
			}
			if quiet := nagaya(t, "gate", "check", "--quiet", "--run-dir", dir); quiet.code != row.code || quiet.out+quiet.errs != "" {
				t.Errorf("quiet: exit %d, %q, %q", quiet.code, quiet.out, quiet.errs)
			}
		})
	}
}

func TestGateWhy(t *testing.T) {
	now := time.Date(2026, 3, 2, 22, 0, 0, 0, time.UTC)
	e := gate.Entry{Job: gate.Job{ID: "report-1", Name: "report"}, Phase: gate.Waiting, Reason: "is better started later", Choices: []gate.Choice{
		{Start: now, Cost: 17, Services: 5.6, InTime: 0.9}, {Start: now.Add(8 * time.Hour), Charged: true}, {Cost: 51.7},
	}}
	dir := answers(t, &pretended{status: report.Status{Gate: gate.Report{Decision: gate.Decision{At: now, Jobs: []gate.Entry{e}}}}})
	got := nagaya(t, "gate", "--why", "report", "--run-dir", dir)
	for _, want := range []string{"job report-1 is waiting: is better started later\n", "now", "17.0", "90 %", "2026-03-03 06:00 UTC", "a charge", "never", "51.7"} {
		if got.code != exitOK || !strings.Contains(got.out, want) {
			t.Errorf("exit %d, without %q: %s", got.code, want, got.out)
		}
	}
	if got = nagaya(t, "gate", "--why", "report-1", "--json", "--run-dir", dir); got.code != exitOK || !strings.Contains(got.out, `"cost": 51.7`) {
		t.Errorf("exit %d, %s", got.code, got.out)
	}
	if got = nagaya(t, "gate", "--why", "backup", "--run-dir", dir); got.code != exitNo || !strings.Contains(got.errs, `knows no job "backup"`) {
		t.Errorf("exit %d, %s", got.code, got.errs)
	}
}

func refuse(a gate.Asked) (gate.Entry, error) {
	return gate.Entry{Job: a.Job, Phase: gate.Refused, Reason: "it is too late"}, nil
}

func keepWaiting(a gate.Asked) (gate.Entry, error) {
	return gate.Entry{Job: a.Job, Phase: gate.Waiting, Reason: "nothing is left"}, nil
}

// The signal of timeout(1) comes twice, and the job leaves the queue all the same; a second ^C
// ends what does not end of the first.
func TestTwoSignalsWhileAJobWaits(t *testing.T) {
	for moment, want := range map[string]string{"1m": "exit status 143", "0s": "signal: terminated"} {
		t.Run(moment, func(t *testing.T) {
			var cmd *exec.Cmd
			started := make(chan struct{})
			term := func() error {
				<-started
				return cmd.Process.Signal(syscall.SIGTERM)
			}
			p := &pretended{job: func(a gate.Asked) (gate.Entry, error) {
				if a.State == gate.Waiting {
					return gate.Entry{Job: a.Job, Phase: gate.Waiting, Reason: "nothing is left"}, term()
				}
				for err := term(); err == nil && moment == "0s"; err = term() {
					<-time.After(10 * time.Millisecond) // until it has ended
				}
				return gate.Entry{Job: a.Job, Phase: gate.Done}, nil
			}}
			cmd = exec.Command(os.Args[0], "gate", "run", "--name", "report", "--run-dir", answers(t, p), "--", "true")
			cmd.Env = append(os.Environ(), asCommand+"="+moment)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			close(started)
			err := cmd.Wait()
			if err == nil || err.Error() != want || p.said() != "waiting done" {
				t.Errorf("%v, want %s; said %s", err, want, p.said())
			}
		})
	}
}

func TestGateWait(t *testing.T) {
	p := &pretended{}
	got := nagaya(t, "gate", "wait", "--name", "report", "--need", "12.5", "--cores", "2", "--within", "1h", "--refuse", "--run-dir", answers(t, p))
	if got.code != exitOK || !strings.Contains(got.errs, "job report is admitted: there is room") {
		t.Errorf("admitted: exit %d, %s", got.code, got.errs)
	}
	a := p.heard[0]
	if a.Name != "report" || a.Need != 12.5 || a.Cores != 2 || a.Late != gate.LateRefuse || a.State != gate.Waiting || a.Validate() != nil {
		t.Errorf("the agent heard %+v", a)
	}
	if left := time.Until(a.Deadline); left > time.Hour || left < 50*time.Minute {
		t.Errorf("deadline in %s", left)
	}
	if p.said() != "waiting" {
		t.Errorf("the promise was given back: %s", p.said())
	}

	p = &pretended{job: refuse}
	got = nagaya(t, "gate", "wait", "--name", "report", "--run-dir", answers(t, p))
	if got.code != exitNo || !strings.Contains(got.errs, "refused: it is too late") || p.said() != "waiting done" {
		t.Errorf("refused: exit %d, %s; said %s", got.code, got.errs, p.said())
	}

	p = &pretended{job: keepWaiting}
	got = nagaya(t, "gate", "wait", "--name", "report", "--patience", "50ms", "--run-dir", answers(t, p))
	if got.code != exitNo || !strings.Contains(got.errs, "may not start yet after 50ms") || p.said() != "waiting done" {
		t.Errorf("impatient: exit %d, %s; said %s", got.code, got.errs, p.said())
	}

	p = &pretended{job: func(gate.Asked) (gate.Entry, error) { return gate.Entry{}, errors.New("need must be less") }}
	got = nagaya(t, "gate", "wait", "--name", "report", "--run-dir", answers(t, p))
	if got.code != exitNo || !strings.Contains(got.errs, "need must be less") {
		t.Errorf("wrong: exit %d, %s", got.code, got.errs)
	}
}

func TestGateRunExitCodes(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("not a program"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(dir, "broken")
	if err := os.WriteFile(broken, []byte("#!/no/such/interpreter\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		job     func(gate.Asked) (gate.Entry, error)
		command []string
		code    int
		said    string
	}{
		"done":                 {nil, []string{"true"}, 0, "waiting running done"},
		"its own exit code":    {nil, []string{"sh", "-c", "exit 7"}, 7, "waiting running done"},
		"ended by a signal":    {nil, []string{"sh", "-c", "kill -TERM $$"}, 128 + 15, "waiting running done"},
		"killed":               {nil, []string{"sh", "-c", "kill -KILL $$"}, 128 + 9, "waiting running done"},
		"refused":              {refuse, []string{"true"}, exitRefused, "waiting done"},
		"no such command":      {nil, []string{"no-such-command"}, exitNotFound, ""},
		"no such file":         {nil, []string{filepath.Join(dir, "absent")}, exitNotFound, ""},
		"not a program":        {nil, []string{plain}, exitNotExec, ""},
		"no such interpreter":  {nil, []string{broken}, exitNotFound, "waiting done"},
		"flags of the command": {nil, []string{"sh", "-c", `test "$1" = --json && exit 3`, "sh", "--json"}, 3, "waiting running done"},
		"its own name is kept": {nil, []string{"sh", "-c", `test "$0" = me`, "me"}, 0, "waiting running done"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &pretended{job: row.job}
			args := append([]string{"gate", "run", "--run-dir", answers(t, p), "--"}, row.command...)
			got := nagaya(t, args...)
			if got.code != row.code || p.said() != row.said || got.out != "" {
				t.Errorf("exit %d, said %q; want %d, %q\n%s", got.code, p.said(), row.code, row.said, got.errs)
			}
			if len(p.heard) > 0 && p.heard[0].Name != filepath.Base(row.command[0]) {
				t.Errorf("the job is called %q", p.heard[0].Name)
			}
		})
	}
}

// Signals reach the command, and how it takes them is its own affair.
func TestGateRunPassesSignals(t *testing.T) {
	for name, row := range map[string]struct {
		script string
		signal syscall.Signal
		code   int
	}{
		"it has a way to end": {`trap 'exit 9' USR1; echo > "$0"; while :; do sleep 0.05; done`, syscall.SIGUSR1, 9},
		"it ends of it":       {`echo > "$0"; while :; do sleep 0.05; done`, syscall.SIGTERM, 128 + 15},
	} {
		t.Run(name, func(t *testing.T) {
			started := filepath.Join(t.TempDir(), "started")
			if err := syscall.Mkfifo(started, 0o600); err != nil {
				t.Fatal(err)
			}
			dir := answers(t, &pretended{})
			ended := make(chan ran, 1)
			go func() { ended <- nagaya(t, "gate", "run", "--run-dir", dir, "--", "sh", "-c", row.script, started) }()
			f, err := os.Open(started) // until the script writes
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.ReadAll(f)
			f.Close()
			// By now 'gate run' takes the signals of this process.
			if err := syscall.Kill(os.Getpid(), row.signal); err != nil {
				t.Fatal(err)
			}
			select {
			case got := <-ended:
				if got.code != row.code {
					t.Errorf("exit %d, want %d\n%s", got.code, row.code, got.errs)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("the command did not get the signal")
			}
		})
	}
}

// What the command cost is what the agent learns.
func TestGateRunAccounts(t *testing.T) {
	p := &pretended{}
	got := nagaya(t, "gate", "run", "--name", "busy", "--run-dir", answers(t, p), "--", "sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")
	if got.code != exitOK {
		t.Fatalf("exit %d, %s", got.code, got.errs)
	}
	last := p.heard[len(p.heard)-1]
	if last.State != gate.Done || last.Spent <= 0 || last.Spent > 1 || last.Name != "busy" {
		t.Errorf("the agent heard last %+v", last)
	}
	if id := p.heard[0].ID; !strings.HasPrefix(id, "busy-") || last.ID != id {
		t.Errorf("the run is called %q and %q", id, last.ID)
	}
}

// A command that takes too much gets SIGTERM, with its children, and the agent hears that it was ended.
func TestGateRunEndsWhatTakesTooMuch(t *testing.T) {
	for name, row := range map[string]struct{ after, script, say string }{
		"for too long":       {"1s", "sleep 600 & sleep 600; exit 0", "it has run for"},
		"with its own code":  {"1s", "trap 'exit 3' TERM; sleep 600 & wait", "it has run for"},
		"too many credits":   {"2x", "while :; do :; done", "it has spent"},
		"although it paused": {"1s", "kill -STOP $$; sleep 600", "it has run for"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &pretended{job: func(a gate.Asked) (gate.Entry, error) {
				return gate.Entry{Job: a.Job, Phase: gate.Admitted, Expected: 0.001}, nil
			}}
			got := nagaya(t, "gate", "run", "--kill-after", row.after, "--name", "endless", "--run-dir", answers(t, p), "--", "sh", "-c", row.script)
			if got.code != exitKilled || !strings.Contains(got.errs, "job endless is ended by --kill-after: "+row.say) {
				t.Errorf("exit %d\n%s", got.code, got.errs)
			}
			if last := p.heard[len(p.heard)-1]; last.State != gate.Done || !last.Killed {
				t.Errorf("the agent heard last %+v", last)
			}
		})
	}
	if got := nagaya(t, "gate", "run", "--kill-after", "1h", "--run-dir", answers(t, &pretended{}), "--", "true"); got.code != exitOK {
		t.Errorf("it ended in time: exit %d\n%s", got.code, got.errs)
	}
	for _, wrong := range []string{"x", "1x", "-2x", "-5m", "soon", "3", "NaNx"} {
		if got := nagaya(t, "gate", "run", "--kill-after", wrong, "--", "true"); got.code != exitUsage || !strings.Contains(got.errs, "such as") {
			t.Errorf("%s: exit %d, %s", wrong, got.code, got.errs)
		}
	}
}

func TestParseDeadline(t *testing.T) {
	tokyo := time.FixedZone("JST", 9*3600)
	now := time.Date(2026, 11, 22, 23, 30, 0, 0, tokyo)
	for text, want := range map[string]time.Time{
		"2026-11-23T06:00:00Z":      time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC),
		"2026-11-23T06:00:00+09:00": time.Date(2026, 11, 23, 6, 0, 0, 0, tokyo),
		"06:00":                     time.Date(2026, 11, 23, 6, 0, 0, 0, tokyo),
		"23:31":                     time.Date(2026, 11, 22, 23, 31, 0, 0, tokyo),
		"23:30":                     time.Date(2026, 11, 23, 23, 30, 0, 0, tokyo),
	} {
		if got, err := parseDeadline(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q is %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "6", "24:00", "06:60", "06:00:00", "tomorrow", "2026-11-23", "-06:00"} {
		if got, err := parseDeadline(text, now); err == nil {
			t.Errorf("%q is read as %s", text, got)
		}
	}
}

// A job is stopped while the agent wants it held back, goes on when it does not any more, or does not answer, and takes a signal
// that ends it although it is stopped.
func TestGateRunIsHeldBack(t *testing.T) {
	var want atomic.Value // gate.Slow; "deaf" does not answer
	want.Store(gate.SlowPause)
	p := &pretended{job: func(a gate.Asked) (gate.Entry, error) {
		e := gate.Entry{Job: a.Job, Phase: gate.Admitted, Reason: "as it is"}
		if a.State != gate.Running {
			return e, nil
		}
		for want.Load() == a.Slow { // as the agent does, until something changes
			time.Sleep(5 * time.Millisecond)
		}
		if want.Load() == gate.Slow("deaf") {
			return e, errors.New("the gate does not answer")
		}
		e.Phase, e.Slow, e.Reason = gate.Running, want.Load().(gate.Slow), "the forecast turned"
		return e, nil
	}}
	defer want.Store(gate.Slow("deaf"))
	pidFile := filepath.Join(t.TempDir(), "pid")
	dir := answers(t, p)
	ended := make(chan ran, 1)
	go func() {
		ended <- nagaya(t, "gate", "run", "--name", "held", "--run-dir", dir, "--", "sh", "-c", `echo $$ > "$0.new"; mv "$0.new" "$0"; exec sleep 60`, pidFile)
	}()
	stopped := func(want bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			text, _ := os.ReadFile(pidFile)
			stat, _ := os.ReadFile("/proc/" + strings.TrimSpace(string(text)) + "/stat")
			if len(text) > 0 && len(stat) > 0 && strings.Contains(string(stat), ") T ") == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("stopped is not %v: %s", want, stat)
			}
		}
	}
	stopped(true)
	want.Store(gate.Slow(""))
	stopped(false)
	want.Store(gate.SlowPause)
	stopped(true)
	want.Store(gate.Slow("deaf"))
	stopped(false)
	want.Store(gate.SlowPause)
	stopped(true)
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-ended:
		if got.code != 128+15 || strings.Count(got.errs, "job held is held back: the forecast turned") != 3 || strings.Count(got.errs, "job held goes on") != 2 {
			t.Errorf("exit %d\n%s", got.code, got.errs)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it did not end")
	}
}

// closedTo is a socket that this user may not open.
type closedTo struct{ asked int }

func (c *closedTo) Job(context.Context, gate.Asked, time.Duration) (gate.Entry, error) {
	c.asked++
	return gate.Entry{}, fmt.Errorf("%w on x: %w", socket.ErrNoAgent, syscall.EACCES)
}

// Who may not open the socket is told who may, and does not wait: that does not change by itself.
func TestGateOfAUserWhoMayNotAsk(t *testing.T) {
	c := &cli{errs: io.Discard, runDir: t.TempDir()}
	if err := os.WriteFile(c.socket(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(c.socket(), -1, os.Getgid()); err != nil {
		t.Fatal(err)
	}
	want, err := user.LookupGroupId(strconv.Itoa(os.Getgid()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	closed := &closedTo{}
	j := c.jobClient(gate.Job{Name: "report"})
	j.client = closed
	err = j.wait(ctx)
	if exitCode(err) != exitNoAgent || !strings.Contains(err.Error(), "a member of the group "+want.Name+",") {
		t.Errorf("exit %d, %v", exitCode(err), err)
	}
	if closed.asked != 2 { // the second takes it out of the queue, as after any error
		t.Errorf("it asked %d times", closed.asked)
	}
}

// asked is a gate that notes how long it may hold each question.
type asked struct {
	held    []time.Duration
	answers []gate.Entry
}

func (a *asked) Job(ctx context.Context, _ gate.Asked, held time.Duration) (gate.Entry, error) {
	a.held = append(a.held, held)
	if len(a.answers) == 0 {
		<-ctx.Done()
		return gate.Entry{}, ctx.Err()
	}
	e := a.answers[0]
	a.answers = a.answers[1:]
	return e, nil
}

// A job that waits says so after a second, and says no more while only numbers change.
func TestWhyAJobWaitsIsSaidSoonAndOnce(t *testing.T) {
	waits := func(why string) gate.Entry { return gate.Entry{Phase: gate.Waiting, Reason: why} }
	g := &asked{answers: []gate.Entry{
		waits("needs 59.2 credits: is better started at 2026-03-03 06:00 UTC (expected cost: now 17.0, at 06:00 3.3)"),
		waits("needs 59.2 credits: is better started at 2026-03-03 06:01 UTC (expected cost: now 16.1, never 3.3)"),
		waits("more surplus would be charged than is allowed"),
		{Phase: gate.Admitted, Reason: "admitted: there is room"},
	}}
	var errs strings.Builder
	j := &jobClient{cli: &cli{errs: &errs}, client: g, job: gate.Job{Name: "index"}}
	if err := j.wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := "nagaya: job index waits: needs 59.2 credits: is better started at 2026-03-03 06:00 UTC (expected cost: now 17.0, at 06:00 3.3)\n" +
		"nagaya: job index waits: more surplus would be charged than is allowed\n" +
		"nagaya: job index is admitted: there is room\n"
	if errs.String() != want || len(g.held) != 4 || g.held[0] > 2*time.Second || g.held[1] < 20*time.Second {
		t.Errorf("held %v, said\n%s", g.held, errs.String())
	}
}

func TestAnInterruptedWaitSaysSo(t *testing.T) {
	for cause, code := range map[string]int{"terminated signal received": 143, "interrupt signal received": 130} { // as of signal.NotifyContext
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New(cause))
		j := &jobClient{client: &asked{answers: []gate.Entry{{}}}, job: gate.Job{Name: "index"}, cli: &cli{errs: io.Discard}}
		if err := j.wait(ctx); err == nil || err.Error() != "job index was interrupted while it waited" || exitCode(err) != code {
			t.Errorf("%s: %v, exit %d", cause, err, exitCode(err))
		}
	}
}

// What the gate would refuse is wrong usage, and the message names the flag's value, not what is made of it.
func TestGateRunChecksItsFlags(t *testing.T) {
	for _, tt := range []struct{ flag, value, want string }{
		{"--need", "NaN", "need must be 0 to"},
		{"--need", "-1", "need must be 0 to"},
		{"--cores", "-1", "cores must be 0 to"},
		{"--name", "two words", "name must be 1 to 128 printable"},
		{"--name", strings.Repeat("x", 129), "name must be 1 to 128 printable"},
	} {
		p := &pretended{}
		got := nagaya(t, "gate", "run", tt.flag, tt.value, "--run-dir", answers(t, p), "--", "true")
		if got.code != exitUsage || !strings.Contains(got.errs, tt.want) || p.said() != "" {
			t.Errorf("%s %.20s: exit %d, %s; said %q", tt.flag, tt.value, got.code, got.errs, p.said())
		}
	}
	p := &pretended{}
	if got := nagaya(t, "gate", "run", "--name", strings.Repeat("x", 128), "--run-dir", answers(t, p), "--", "false"); got.code != exitNo || p.heard[0].Validate() != nil {
		t.Errorf("a long name: exit %d, %s; said %+v", got.code, got.errs, p.heard)
	} else if last := p.heard[len(p.heard)-1]; !last.Failed || last.State != gate.Done {
		t.Errorf("that it failed was not said: %+v", last)
	}
}
