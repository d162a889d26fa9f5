package install

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/systemd"
)

// Where systemd cannot be reached the operator is told so, and what to do.
func TestServiceWithoutSystemd(t *testing.T) {
	if systemd.Booted() {
		t.Skip("systemd runs here")
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	_, err := Detect(t.Context(), Options{Mode: Service, Unit: "nagaya-nginx.service"})
	if err == nil {
		t.Fatal("no error")
	}
	if p := Explain(err); p.Code != "systemd-unreachable" || p.Subject != "nagaya-nginx.service" || !strings.Contains(p.Hint, "nginx.mode") {
		t.Errorf("got %+v", p)
	}
	o := Options{Mode: "by hand", StateDir: "/x", RunDir: "/y"}
	if err := Stop(t.Context(), o); err == nil || !strings.Contains(err.Error(), "by hand") {
		t.Errorf("an unknown mode: %v", err)
	}
}
