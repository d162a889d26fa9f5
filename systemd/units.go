package systemd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// ErrNoBus is wrapped by errors of calls for which systemd could not be reached,
// neither over D-Bus nor, as root, over its own socket.
var ErrNoBus = errors.New("systemd cannot be reached")

// ErrDenied is wrapped by the error of StartUnit where systemd, or polkit for it, does
// not let this user start the unit.
var ErrDenied = errors.New("systemd does not let this user start it")

// Unit is the state of a service in systemd. The words are those of
// org.freedesktop.systemd1(5).
type Unit struct {
	// Load is "loaded", "not-found", "masked", "bad-setting" or "error"; LoadError
	// is what is wrong with it, in systemd's words.
	Load, LoadError string
	// Active is "active", "activating", "inactive", "failed", …
	Active string
	// MainPID is the number of the main process, or 0. Restarts counts how often
	// systemd has started it again by itself.
	MainPID, Restarts int
	// User is what User= says; empty is root.
	User string
	// Command is the command line of ExecStart, the binary's path first; nil without one.
	Command []string
}

// LookUnit asks systemd for a service. One that does not exist is no error.
func LookUnit(ctx context.Context, name string) (Unit, error) {
	conn, err := connect(ctx)
	if err != nil {
		return Unit{}, err
	}
	defer conn.Close()
	p, err := conn.GetAllPropertiesContext(ctx, name)
	if err != nil {
		return Unit{}, fmt.Errorf("asking systemd for %s: %w", name, err)
	}
	u := Unit{MainPID: number(p["MainPID"]), Restarts: number(p["NRestarts"]), Command: command(p["ExecStart"])}
	for key, to := range map[string]*string{"LoadState": &u.Load, "ActiveState": &u.Active, "User": &u.User} {
		*to, _ = p[key].(string)
	}
	if e, ok := p["LoadError"].([]any); ok && len(e) == 2 { // its name and its text
		u.LoadError, _ = e[1].(string)
	}
	return u, nil
}

// StartUnit asks systemd to start a service, and does not wait until it runs. While it is
// being stopped that is an error: what an operator has asked for is not cancelled. A
// condition of the unit that is not met is no error.
func StartUnit(ctx context.Context, name string) error {
	conn, err := connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.StartUnitContext(ctx, name, "fail", nil); denied(err) {
		return fmt.Errorf("starting %s: %w: %w", name, ErrDenied, err)
	} else if err != nil {
		return fmt.Errorf("starting %s: %w", name, err)
	}
	return nil
}

// denied reports whether an error is a refusal: the second is that of a polkit that
// would let the user do it if he could be asked for a password.
func denied(err error) bool {
	var e godbus.Error
	return errors.As(err, &e) && (e.Name == "org.freedesktop.DBus.Error.AccessDenied" ||
		e.Name == "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired")
}

// cpuQuota is the property of CPUQuota= in systemd.resource-control(5): microseconds in a second; all
// ones are no limit.
const cpuQuota = "CPUQuotaPerSecUSec"

// CPUQuota returns how many processors a service or scope may use; 0 is all.
func CPUQuota(ctx context.Context, unit string) (float64, error) {
	conn, err := connect(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	kind := "Service"
	if strings.HasSuffix(unit, ".scope") {
		kind = "Scope"
	}
	p, err := conn.GetUnitTypePropertyContext(ctx, unit, kind, cpuQuota)
	if err != nil {
		return 0, fmt.Errorf("asking systemd for the CPU quota of %s: %w", unit, err)
	}
	if is, ok := p.Value.Value().(uint64); ok && is != math.MaxUint64 {
		return float64(is) / 1e6, nil
	}
	return 0, nil
}

// SetCPUQuota lets a service or scope use no more than so many processors until the next reboot, whether it
// runs or not; 0 is all.
func SetCPUQuota(ctx context.Context, unit string, cpus float64) error {
	conn, err := connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	quota := uint64(math.MaxUint64)
	if cpus > 0 {
		quota = uint64(cpus * 1e6)
	}
	if err := conn.SetUnitPropertiesContext(ctx, unit, true, dbus.Property{Name: cpuQuota, Value: godbus.MakeVariant(quota)}); err != nil {
		return fmt.Errorf("setting the CPU quota of %s: %w", unit, err)
	}
	return nil
}

func connect(ctx context.Context) (*dbus.Conn, error) {
	conn, err := dbus.NewWithContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoBus, err)
	}
	return conn, nil
}

func number(v any) int {
	n, _ := v.(uint32)
	return int(n)
}

// command reads the first of ExecStart's commands, whose second field is the
// command line.
func command(v any) []string {
	commands, ok := v.([][]any)
	if !ok || len(commands) == 0 || len(commands[0]) < 2 {
		return nil
	}
	path, _ := commands[0][0].(string)
	args, _ := commands[0][1].([]string)
	if path == "" || len(args) == 0 {
		return nil
	}
	return append([]string{path}, args[1:]...)
}

// Booted reports whether systemd is this system's service manager (sd_booted(3)).
func Booted() bool { return bootedAt("/") }

func bootedAt(root string) bool {
	info, err := os.Lstat(filepath.Join(root, "run/systemd/system"))
	return err == nil && info.IsDir()
}

// unitPath is where systemd looks for units of the system, the first match wins
// (systemd.unit(5), without the directories of generators).
var unitPath = []string{
	"etc/systemd/system.control", "run/systemd/system.control", "etc/systemd/system", "run/systemd/system",
	"usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system",
}

// InstalledUnit returns the text of an installed service with its drop-ins, from
// the files and without asking systemd; empty when there is none or it is masked.
func InstalledUnit(name string) string { return installedUnitAt("/", name) }

func installedUnitAt(root, name string) string {
	unit, err := []byte(nil), os.ErrNotExist
	for _, dir := range unitPath {
		if errors.Is(err, os.ErrNotExist) {
			unit, err = os.ReadFile(filepath.Join(root, dir, name))
		}
	}
	if len(unit) == 0 { // an empty file masks the unit, and so does a link to /dev/null
		return ""
	}
	for _, dir := range unitPath {
		dropIns, _ := filepath.Glob(filepath.Join(root, dir, name+".d", "*.conf")) // the pattern is well-formed
		for _, file := range dropIns {
			text, _ := os.ReadFile(file) // what cannot be read says nothing
			unit = append(append(unit, '\n'), text...)
		}
	}
	return string(unit)
}
