package examine

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/doctor"
	"github.com/nagaya-ecs/nagaya/systemd"
)

func TestOtherNginx(t *testing.T) {
	for name, row := range map[string]struct {
		unit    systemd.Unit
		enabled bool
		level   doctor.Level
		text    string
	}{
		"none":                 {systemd.Unit{Load: "not-found", Active: "inactive"}, false, doctor.OK, "not in the way"},
		"off":                  {systemd.Unit{Load: "loaded", Active: "inactive"}, false, doctor.OK, "not in the way"},
		"running":              {systemd.Unit{Load: "loaded", Active: "active"}, true, doctor.Warn, "runs beside"},
		"running, not enabled": {systemd.Unit{Load: "loaded", Active: "activating"}, false, doctor.Warn, "runs beside"},
		"at the next boot":     {systemd.Unit{Load: "loaded", Active: "failed"}, true, doctor.Warn, "next boot"},
		"enabled and masked":   {systemd.Unit{Load: "masked", Active: "inactive"}, true, doctor.OK, "not in the way"},
	} {
		remedy := ""
		if row.level != doctor.OK {
			remedy = "systemctl disable --now nginx"
		}
		want(t, name, []doctor.Finding{nginxFinding("nginx-service", row.unit, row.enabled, "systemctl disable --now nginx")}, row.level, row.text, remedy)
	}
}

func TestCgroup(t *testing.T) {
	dir := t.TempDir()
	want(t, "nothing that counts", []doctor.Finding{Cgroup(dir)}, doctor.Warn, "does not count CPU time", "credit.cgroup-dir")
	want(t, "nothing", []doctor.Finding{Cgroup(dir + "/none")}, doctor.Warn, "no cgroups", "credit.cgroup-dir")
	if err := os.Mkdir(filepath.Join(dir, "cpuacct"), 0o755); err != nil {
		t.Fatal(err)
	}
	want(t, "version 1", []doctor.Finding{Cgroup(dir)}, doctor.OK, "version 1", "")
}

func TestJournal(t *testing.T) {
	const event = "0123456789abcdef0123456789abcdef"
	root := t.TempDir()
	put := func(file, text string) {
		t.Helper()
		file = filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want(t, "no journald", Journal(root, event), doctor.Warn, "no journal", "systemd")
	put("run/systemd/journal/socket", "")
	got := Journal(root, event)
	if len(got) != 2 {
		t.Fatalf("in memory, without a catalog: %+v", got)
	}
	want(t, "in memory", got[:1], doctor.Warn, "gone after a reboot", "/var/log/journal")
	want(t, "without a catalog", got[1:], doctor.Warn, "does not explain", "--update-catalog")
	put("var/log/journal/x", "")
	id, _ := hex.DecodeString(event)
	put("var/lib/systemd/catalog/database", "RHHHKSLP"+string(id))
	want(t, "all is well", Journal(root, event), doctor.OK, "on the disk", "")
}
