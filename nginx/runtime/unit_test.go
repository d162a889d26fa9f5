package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/systemd"
)

// Where systemd cannot be reached, the fault has a remedy.
func TestServiceWithoutSystemd(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	const unit = "nagaya-none.service"
	_, err := Detect(t.Context(), Options{Mode: Unit, Unit: unit})
	if err == nil {
		t.Fatal("no error")
	}
	code := "systemd-unreachable"
	if systemd.Booted() && os.Geteuid() == 0 { // root reaches a systemd that runs without a bus
		code = "nginx-unit-missing"
	}
	var f *nginx.Fault
	if !errors.As(err, &f) {
		t.Fatal(err)
	}
	if p := f.Problem; p.Code != code || p.Subject != unit || !strings.Contains(p.Hint, "nginx.mode") {
		t.Errorf("got %+v", p)
	}
	o := Options{Mode: "by hand"}
	if err := Stop(t.Context(), o); err == nil || !strings.Contains(err.Error(), "by hand") {
		t.Errorf("an unknown mode: %v", err)
	}
}
