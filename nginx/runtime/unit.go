package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/systemd"
)

// unit is an nginx that systemd runs. It starts at boot from the last good
// generation, is started again when it dies, and outlives the agent, which never
// stops it.
//
// A reload is a signal to the master, as for a daemon: a job of systemd's would
// wait for the jobs before it, fails where somebody has replaced ExecReload=, and
// says no more than that the signal was sent.
type unit struct{ process }

// Command runs the binary that the unit runs: another one could have other modules.
func (u *unit) Command(ctx context.Context, args ...string) (output string, exit int, err error) {
	found, err := u.look(ctx)
	if err != nil {
		return "", 0, err
	}
	p := u.process
	if len(found.Command) > 0 && strings.Contains(filepath.Base(found.Command[0]), "nginx") {
		p.o.Binary = found.Command[0]
	}
	return p.Command(ctx, args...)
}

// look asks systemd for the unit; one that cannot run our nginx is an error.
func (u *unit) look(ctx context.Context) (systemd.Unit, error) {
	found, err := systemd.LookUnit(ctx, u.o.Unit)
	main := u.o.Dirs.MainFile()
	name := u.o.Unit
	runsOurs := slices.ContainsFunc(found.Command, func(arg string) bool { return arg == main || strings.Contains(arg, " "+main+" ") })
	var p problem.Problem
	switch {
	case errors.Is(err, systemd.ErrNoBus):
		p.Code, p.Text = "systemd-unreachable", "nginx is a unit of systemd, and "+nginx.Printable(err.Error())
		p.Hint = "let the agent reach /run/dbus/system_bus_socket or, as root, /run/systemd/private; where there is no systemd, set nginx.mode to exec"
	case err != nil:
		p.Code, p.Text = "systemd-unreachable", nginx.Printable(err.Error())
		p.Hint = "look at systemctl status " + name + "; it is tried again"
	case found.Load == "not-found":
		p.Code, p.Text = "nginx-unit-missing", "there is no unit "+name
		p.Hint = "install nagaya's package, which brings it, then: systemctl daemon-reload; or set nginx.unit, or nginx.mode to exec"
	case found.Load == "masked":
		p.Code, p.Text = "nginx-unit-masked", "the unit "+name+" is masked, so nothing can start it"
		p.Hint = "systemctl unmask " + name + ", or set nginx.mode to exec"
	case found.Load != "loaded":
		p.Code, p.Text = "nginx-unit-wrong", fmt.Sprintf("systemd cannot use the unit %s (%s): %s", name, nginx.Printable(found.Load), nginx.Printable(found.LoadError))
		p.Hint = "systemd-analyze verify " + name + " says more; then: systemctl daemon-reload"
	case !runsOurs:
		p.Code, p.Text = "nginx-unit-wrong", fmt.Sprintf("the unit %s does not run nginx with -c %s", name, main)
		p.Hint = "set ExecStart= in a drop-in (systemctl edit " + name + ") to the paths of state-dir, run-dir and log-dir, or set these back"
	default:
		return found, nil
	}
	p.Subject = name
	return found, &nginx.Fault{Problem: p, Err: err}
}

// Start asks systemd for the unit and waits for its master. systemd may have begun
// by itself: at boot, or because the one before died.
func (u *unit) Start(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	if pid := u.awaitStarting(ctx); pid != 0 {
		return pid, nil
	}
	before, err := u.look(ctx)
	if err != nil {
		return 0, err
	}
	if err := u.ask(ctx); err != nil {
		return 0, err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	first := 0
	for n := 1; ; n++ {
		if pid := u.master(); pid != 0 {
			return pid, nil
		}
		if n%5 == 0 { // systemd itself is asked less often
			now, err := u.look(ctx)
			if first == 0 {
				first = now.MainPID
			}
			// A unit that waits for its restart does not start sooner for being asked,
			// so one restart may be the one that was under way.
			ended := first != 0 && now.MainPID != first || now.Restarts >= before.Restarts+2 || now.Active == "failed"
			if err == nil && ended {
				return 0, startFault(fmt.Errorf("the unit %s ended at once", u.o.Unit), "")
			}
		}
		select {
		case <-ctx.Done():
			return 0, startFault(fmt.Errorf("the unit %s did not become nginx: %w", u.o.Unit, ctx.Err()), "")
		case <-tick.C:
		}
	}
}

// startFile is the file in the run directory that has nginx started when it is written.
const startFile = "start"

// ask has systemd start the unit: by its own interface or, where the agent may not do
// that, by the path unit beside the service, which root has set up.
func (u *unit) ask(ctx context.Context) error {
	f := &nginx.Fault{Problem: problem.Problem{Subject: u.o.Unit}}
	f.Err = systemd.StartUnit(ctx, u.o.Unit)
	switch {
	case f.Err == nil:
		return nil
	case !errors.Is(f.Err, systemd.ErrDenied):
		f.Code, f.Text = "nginx-start-failed", nginx.Printable(f.Err.Error())
		f.Hint = "see systemctl status " + u.o.Unit + "; it is tried again"
		return f
	}
	path := strings.TrimSuffix(u.o.Unit, ".service") + ".path"
	if found, err := systemd.LookUnit(ctx, path); err != nil || found.Active != "active" {
		f.Code, f.Text = "nginx-start-denied", nginx.Printable(f.Err.Error())
		f.Hint = "systemctl enable --now " + path + ", which starts it for the agent; or install polkit, for which nagaya's package has a rule"
		return f
	}
	if f.Err = os.WriteFile(filepath.Join(u.o.Dirs.Run, startFile), nil, 0o644); f.Err != nil {
		f.Code, f.Text = "nginx-start-denied", "asking for "+u.o.Unit+" failed: "+nginx.Printable(f.Err.Error())
		f.Hint = "make run-dir writable for nagaya; it is tried again"
		return f
	}
	return nil
}

// stop leaves it to systemd.
func (u *unit) stop(context.Context) error {
	u.o.Log.Info("nginx goes on", event.Key, event.NginxLeftRunning, "unit", u.o.Unit)
	return nil
}
