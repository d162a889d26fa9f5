package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	godbus "github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
)

func TestInstalledUnit(t *testing.T) {
	for _, row := range []struct {
		name string
		// files are texts by path; one that begins with -> is a symbolic link.
		files map[string]string
		want  string
	}{
		{name: "there is none"},
		{name: "the package's", files: map[string]string{"usr/lib/systemd/system/x.service": "vendor"}, want: "vendor"},
		{
			name:  "the operator's goes before the package's",
			files: map[string]string{"usr/lib/systemd/system/x.service": "vendor", "etc/systemd/system/x.service": "mine"}, want: "mine",
		},
		{
			name:  "with a drop-in",
			files: map[string]string{"usr/lib/systemd/system/x.service": "vendor", "etc/systemd/system/x.service.d/a.conf": "more"}, want: "vendor\nmore",
		},
		{name: "masked", files: map[string]string{"usr/lib/systemd/system/x.service": "vendor", "etc/systemd/system/x.service": "->/dev/null"}},
		{name: "masked until the next boot", files: map[string]string{"usr/lib/systemd/system/x.service": "vendor", "run/systemd/system/x.service": "->/dev/null"}},
		{name: "masked by an empty file", files: map[string]string{"usr/lib/systemd/system/x.service": "vendor", "etc/systemd/system/x.service": ""}},
		{name: "a drop-in alone", files: map[string]string{"etc/systemd/system/x.service.d/a.conf": "more"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			root := t.TempDir()
			for path, text := range row.files {
				file := filepath.Join(root, path)
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				var err error
				if len(text) > 2 && text[:2] == "->" {
					err = os.Symlink(text[2:], file)
				} else {
					err = os.WriteFile(file, []byte(text), 0o644)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(row.want, installedUnitAt(root, "x.service")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBooted(t *testing.T) {
	root := t.TempDir()
	if bootedAt(root) {
		t.Error("systemd was found in an empty directory")
	}
	if err := os.MkdirAll(filepath.Join(root, "run/systemd/system"), 0o755); err != nil {
		t.Fatal(err)
	}
	if !bootedAt(root) {
		t.Error("systemd was not found")
	}
}

func TestNoBusIsNamed(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	unreachable := !Booted() || os.Geteuid() != 0 // root reaches a systemd that runs without a bus
	if _, err := LookUnit(context.Background(), "x.service"); errors.Is(err, ErrNoBus) != unreachable {
		t.Errorf("got %v, want ErrNoBus: %v", err, unreachable)
	}
	if err := StartUnit(context.Background(), "x.service"); err == nil || errors.Is(err, ErrNoBus) != unreachable {
		t.Errorf("got %v, want ErrNoBus: %v", err, unreachable)
	}
}

func TestDenied(t *testing.T) {
	for name, want := range map[string]bool{
		"org.freedesktop.DBus.Error.AccessDenied":                     true, // no polkit
		"org.freedesktop.DBus.Error.InteractiveAuthorizationRequired": true, // no rule of polkit
		"org.freedesktop.systemd1.NoSuchUnit":                         false,
		"org.freedesktop.systemd1.UnitMasked":                         false,
	} {
		err := fmt.Errorf("call: %w", *godbus.NewError(name, nil))
		if denied(err) != want {
			t.Errorf("%s: denied is %v", name, !want)
		}
	}
	if denied(nil) {
		t.Error("no error is no refusal")
	}
}
