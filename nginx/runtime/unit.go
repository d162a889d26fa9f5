package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/systemd"
)

// unit is an nginx that systemd runs. systemd starts it at boot with the last good
// generation, restarts it when it dies, and the agent never stops it.
//
// A reload is a signal to the master, as for a daemon: a reload job of systemd would
// wait for the jobs before it, fail where a drop-in has replaced ExecReload=, and
// report no more than that the signal was sent.
type unit struct{ process }

// Command runs the binary that the unit runs: another one could have other modules. A test
// is run by a unit as well.
func (u *unit) Command(ctx context.Context, args ...string) (output string, exit int, err error) {
	found, err := u.query(ctx)
	if err != nil {
		return "", 0, err
	}
	p := u.process
	if len(found.Command) > 0 && strings.Contains(filepath.Base(found.Command[0]), "nginx") {
		p.o.Binary = found.Command[0]
	}
	if config, ok := u.testedAsNginx(args, found.User); ok {
		output, exit, err = u.test(ctx, p.o.Binary, config)
		if err == nil || !errors.Is(err, errNoTester) {
			return output, exit, err
		}
		if u.master() != 0 && os.Geteuid() != 0 {
			return "", 0, nginx.NewFault(err, "nginx-of-another-user", "nginx runs as another user, so the agent cannot test a configuration itself, and "+nginx.Printable(err.Error()),
				"systemctl restart "+u.testSocket()+", which comes with nagaya's package; or see User= in the drop-ins of nagaya.service and "+u.o.Unit)
		}
	}
	return p.Command(ctx, args...)
}

// query asks systemd for the unit; one that cannot run our nginx is an error.
func (u *unit) query(ctx context.Context) (systemd.Unit, error) {
	found, err := systemd.LookUnit(ctx, u.o.Unit)
	main, name := u.o.Dirs.MainFile(), u.o.Unit
	runsOurs := slices.ContainsFunc(found.Command, func(arg string) bool { return arg == main || strings.Contains(arg, " "+main+" ") })
	switch {
	case errors.Is(err, systemd.ErrNoBus):
		err = u.fault(err, "systemd-unreachable", "nginx is a unit of systemd, and "+nginx.Printable(err.Error()),
			"let the agent reach /run/dbus/system_bus_socket or, as root, /run/systemd/private; where there is no systemd, set nginx.mode to exec")
	case err != nil:
		err = u.fault(err, "systemd-unreachable", nginx.Printable(err.Error()), "look at systemctl status "+name+"; it is tried again")
	case found.Load == "not-found":
		err = u.fault(nil, "nginx-unit-missing", "there is no unit "+name,
			"install nagaya's package, which brings it, then: systemctl daemon-reload; or set nginx.unit, or nginx.mode to exec")
	case found.Load == "masked":
		err = u.fault(nil, "nginx-unit-masked", "the unit "+name+" is masked, so nothing can start it",
			"systemctl unmask "+name+", or set nginx.mode to exec")
	case found.Load != "loaded":
		err = u.fault(nil, "nginx-unit-wrong", fmt.Sprintf("systemd cannot use the unit %s (%s): %s", name, nginx.Printable(found.Load), nginx.Printable(found.LoadError)),
			"systemd-analyze verify "+name+" says more; then: systemctl daemon-reload")
	case !runsOurs:
		err = u.fault(nil, "nginx-unit-wrong", fmt.Sprintf("the unit %s does not run nginx with -c %s", name, main),
			"set ExecStart= in a drop-in (systemctl edit "+name+") to the paths of state-dir, run-dir and log-dir, or set these back")
	}
	return found, err
}

// fault is a fault of the unit.
func (u *unit) fault(cause error, code, text, hint string) error {
	f := nginx.NewFault(cause, code, text, hint)
	f.Subject = u.o.Unit
	return f
}

// Start has systemd start the unit and waits for its master. systemd may have started it
// by itself: at boot, or because the one before died.
func (u *unit) Start(ctx context.Context) (master int, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	if pid := u.awaitStarting(ctx); pid != 0 {
		return pid, nil
	}
	before, err := u.query(ctx)
	if err == nil {
		err = u.startUnit(ctx)
	}
	if err != nil {
		return 0, err
	}
	first, n := 0, 0
	if !poll(ctx, 20*time.Millisecond, func() bool {
		if master = u.master(); master != 0 {
			return true
		}
		if n++; n%5 != 0 { // systemd itself is asked less often
			return false
		}
		now, queryErr := u.query(ctx)
		first = cmp.Or(first, now.MainPID)
		// A unit that waits for its restart does not start sooner for a start job,
		// so one restart may be the one that was due.
		ended := first != 0 && now.MainPID != first || now.Restarts >= before.Restarts+2 || now.Active == "failed"
		if queryErr == nil && ended {
			err = startFault(fmt.Errorf("the unit %s ended at once", u.o.Unit), "")
		}
		return err != nil
	}) {
		err = startFault(fmt.Errorf("the unit %s did not become nginx: %w", u.o.Unit, ctx.Err()), "")
	}
	return master, err
}

// startFile is the file beside nginx's run directory for which nagaya-nginx.path starts nginx.
const startFile = "start-nginx"

// startUnit starts the unit over D-Bus or, where the agent may not do
// that, by the path unit beside the service, which root has enabled.
func (u *unit) startUnit(ctx context.Context) error {
	err := systemd.StartUnit(ctx, u.o.Unit)
	if err == nil {
		return nil
	}
	if !errors.Is(err, systemd.ErrDenied) {
		return u.fault(err, "nginx-start-failed", nginx.Printable(err.Error()), "see systemctl status "+u.o.Unit+"; it is tried again")
	}
	path := strings.TrimSuffix(u.o.Unit, ".service") + ".path"
	if found, pathErr := systemd.LookUnit(ctx, path); pathErr != nil || found.Active != "active" {
		return u.fault(err, "nginx-start-denied", nginx.Printable(err.Error()),
			"systemctl enable --now "+path+", which starts it for the agent; or install polkit, for which nagaya's package has a rule")
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(u.o.Dirs.Run), startFile), nil, 0o644); err != nil {
		return u.fault(err, "nginx-start-denied", "asking for "+u.o.Unit+" failed: "+nginx.Printable(err.Error()), "make run-dir writable for nagaya; it is tried again")
	}
	return nil
}
