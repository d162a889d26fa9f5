package install

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
	"github.com/nagaya-ecs/nagaya/systemd"
)

// service is an nginx that systemd runs. It starts at boot from the last good
// generation, is started again when it dies, and outlives the agent, which never
// stops it.
//
// A reload is a signal to the master, as for a child: a job of systemd's would
// wait for the jobs before it, fails where somebody has replaced ExecReload=, and
// says no more than that the signal was sent. What happened after it is confirmed
// in the same way for all.
type service struct{ process }

func newService(o Options) *service { return &service{process{o}} }

// run runs the binary that the unit runs: another one could have other modules.
func (s *service) run(ctx context.Context, args ...string) (said string, exit int, err error) {
	u, err := s.look(ctx)
	if err != nil {
		return "", 0, err
	}
	p := s.process
	if len(u.Command) > 0 && strings.Contains(filepath.Base(u.Command[0]), "nginx") {
		p.o.Binary = u.Command[0]
	}
	return p.run(ctx, args...)
}

// look asks systemd for the unit; one that cannot run our nginx is an error.
func (s *service) look(ctx context.Context) (systemd.Unit, error) {
	u, err := systemd.LookUnit(ctx, s.o.Unit)
	t := &trouble{subject: s.o.Unit, err: err}
	switch {
	case errors.Is(err, systemd.ErrNoBus):
		t.code, t.text = "systemd-unreachable", "nginx is a unit of systemd, and "+bounded(err.Error())
		t.hint = "let the agent reach /run/dbus/system_bus_socket or, as root, /run/systemd/private; where there is no systemd, set nginx.mode to exec"
	case err != nil:
		t.code, t.text = "systemd-unreachable", bounded(err.Error())
		t.hint = "look at systemctl status " + s.o.Unit + "; it is tried again"
	case u.Load == "not-found":
		t.code, t.text = "nginx-unit-missing", "there is no unit "+s.o.Unit
		t.hint = "install nagaya's package, which brings it, then: systemctl daemon-reload; or set nginx.unit, or nginx.mode to exec"
	case u.Load == "masked":
		t.code, t.text = "nginx-unit-masked", "the unit "+s.o.Unit+" is masked, so nothing can start it"
		t.hint = "systemctl unmask " + s.o.Unit + ", or set nginx.mode to exec"
	case u.Load != "loaded":
		t.code, t.text = "nginx-unit-wrong", fmt.Sprintf("systemd cannot use the unit %s (%s): %s", s.o.Unit, bounded(u.Load), bounded(u.LoadError))
		t.hint = "systemd-analyze verify " + s.o.Unit + " says more; then: systemctl daemon-reload"
	case !slices.Contains(u.Command, s.o.confPath()) && !slices.ContainsFunc(u.Command, func(arg string) bool { return strings.Contains(arg, " "+s.o.confPath()+" ") }):
		t.code, t.text = "nginx-unit-wrong", fmt.Sprintf("the unit %s does not run nginx with -c %s", s.o.Unit, s.o.confPath())
		t.hint = "set ExecStart= in a drop-in (systemctl edit " + s.o.Unit + ") to the paths of state-dir, run-dir and log-dir, or set these back"
	default:
		return u, nil
	}
	return u, t
}

// start asks systemd for the unit and waits for its master. systemd may have begun
// by itself: at boot, or because the one before died.
func (s *service) start(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	if pid := s.newborn(ctx); pid != 0 {
		return pid, nil
	}
	before, err := s.look(ctx)
	if err != nil {
		return 0, err
	}
	mark := logEnd(s.o.LogDir)
	err = systemd.StartUnit(ctx, s.o.Unit)
	if errors.Is(err, systemd.ErrDenied) {
		err = s.bid(ctx, err)
	}
	if t := (*trouble)(nil); errors.As(err, &t) {
		return 0, err
	}
	if err != nil {
		return 0, &trouble{
			code: "nginx-start-failed", subject: s.o.Unit, err: err, text: bounded(err.Error()),
			hint: "see systemctl status " + s.o.Unit + "; it is tried again",
		}
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	first := 0
	for n := 1; ; n++ {
		if pid := s.find(ctx); pid != 0 {
			return pid, nil
		}
		if n%5 == 0 { // systemd itself is asked less often
			u, err := s.look(ctx)
			if first == 0 {
				first = u.MainPID
			}
			// A unit that waits for its restart does not start sooner for being asked,
			// so one restart may be the one that was under way.
			ended := first != 0 && u.MainPID != first || u.Restarts >= before.Restarts+2 || u.Active == "failed"
			if err == nil && ended {
				return 0, s.startTrouble(emergSince(s.o.LogDir, mark), fmt.Errorf("the unit %s ended at once", s.o.Unit))
			}
		}
		select {
		case <-ctx.Done():
			return 0, s.startTrouble(emergSince(s.o.LogDir, mark), fmt.Errorf("the unit %s did not become nginx: %w", s.o.Unit, ctx.Err()))
		case <-tick.C:
		}
	}
}

// startFile is the file in the run directory that has nginx started when it is written.
const startFile = "start"

// bid has the path unit beside the service start it, which root has set up for an agent
// that may not start units. refused is systemd's no.
func (s *service) bid(ctx context.Context, refused error) error {
	path := strings.TrimSuffix(s.o.Unit, ".service") + ".path"
	if u, err := systemd.LookUnit(ctx, path); err != nil || u.Active != "active" {
		return &trouble{
			code: "nginx-start-denied", subject: s.o.Unit, err: refused, text: bounded(refused.Error()),
			hint: "systemctl enable --now " + path + ", which starts it for the agent; or install polkit, for which nagaya's package has a rule",
		}
	}
	file := filepath.Join(s.o.RunDir, startFile)
	return diskTrouble("asking for "+s.o.Unit, s.o.RunDir, os.WriteFile(file, nil, 0o644))
}

// stop leaves it to systemd.
func (s *service) stop(context.Context) error {
	s.o.Log.Info("nginx goes on", event.Key, event.NginxLeftRunning, "unit", s.o.Unit)
	return nil
}
