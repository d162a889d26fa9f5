package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
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

// The unit of nginx has another beside it which runs nginx -t with nginx's user, directories
// and restrictions, once for each connection to its socket. A child of the agent would have
// the agent's rights, and nginx's directories are not the agent's.

// testSocketFile is the socket of that unit, beside nginx's run directory.
const testSocketFile = "nginx-test.sock"

// errNoTester is wrapped by the error of a test where that socket cannot be connected to.
var errNoTester = errors.New("nothing runs tests as nginx's user")

// testSocket is the name of the socket's unit.
func (u *unit) testSocket() string { return strings.TrimSuffix(u.o.Unit, ".service") + "-test.socket" }

// testedAsNginx returns the configuration of a test that nginx's user has to run; would is the
// one that the unit names. That is none where nginx runs as this process's user, as it does
// after an upgrade from nagaya 0.1 until it is restarted: its directories are still that user's.
// Nor is it one that is elsewhere than in the state directory, as that of `nagaya check`, which
// the unit of tests cannot see.
func (u *unit) testedAsNginx(args []string, would string) (config string, ok bool) {
	at := slices.Index(args, "-c") + 1
	if !slices.Contains(args, "-t") || at == 0 || at == len(args) || !strings.HasPrefix(args[at], u.o.Dirs.State+"/") {
		return "", false
	}
	if master := u.master(); master != 0 {
		a := account(master)
		return args[at], a == nil || a.UID != os.Geteuid()
	}
	found, err := user.Lookup(would)
	return args[at], err != nil || found.Uid != strconv.Itoa(os.Geteuid())
}

// test has the unit run nginx -t. Its answer is what nginx says, and a last line with the exit
// status. nginx's user may have forged it: it is bounded, and decides about nginx alone.
func (u *unit) test(ctx context.Context, binary, config string) (output string, exit int, err error) {
	socket := filepath.Join(filepath.Dir(u.o.Dirs.Run), testSocketFile)
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return "", 0, fmt.Errorf("%w: %w", errNoTester, err)
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer conn.Close()
	out := &tail{limit: maxOutput}
	_, err = fmt.Fprintf(conn, "%s\n%s\n%s\n", binary, config, u.o.Dirs.State)
	if err == nil {
		_, err = io.Copy(out, conn)
	}
	if ctx.Err() != nil {
		return "", 0, ctx.Err()
	}
	text := strings.TrimSuffix(out.String(), "\n")
	at := strings.LastIndexByte(text, '\n') + 1
	status, found := strings.CutPrefix(text[at:], "exit ")
	exit, wrong := strconv.Atoi(status)
	if err != nil || !found || wrong != nil {
		return "", 0, fmt.Errorf("%s@.service has ended without an answer (%q), and the journal may say why: %w", strings.TrimSuffix(u.testSocket(), ".socket"), nginx.Printable(text[at:]), cmp.Or(err, io.ErrUnexpectedEOF))
	}
	return text[:at], exit, nil
}
