package install

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/systemd"
)

// Where systemd cannot be reached the operator is told so, and what to do.
func TestServiceWithoutSystemd(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	const unit = "nagaya-none.service"
	_, err := Detect(t.Context(), Options{Mode: Service, Unit: unit})
	if err == nil {
		t.Fatal("no error")
	}
	code := "systemd-unreachable"
	if systemd.Booted() && os.Geteuid() == 0 { // root reaches a systemd that runs without a bus
		code = "nginx-unit-missing"
	}
	if p := Explain(err); p.Code != code || p.Subject != unit || !strings.Contains(p.Hint, "nginx.mode") {
		t.Errorf("got %+v", p)
	}
	o := Options{Mode: "by hand", StateDir: "/x", RunDir: "/y"}
	if err := Stop(t.Context(), o); err == nil || !strings.Contains(err.Error(), "by hand") {
		t.Errorf("an unknown mode: %v", err)
	}
}
