package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// The templates of a nightly job must be valid together: the timer names the service.
func TestBatchTemplatesAreValid(t *testing.T) {
	tool := testenv.NeedCommand(t, "systemd-analyze")
	dir := t.TempDir()
	for _, kind := range []string{".service", ".timer"} {
		content, err := os.ReadFile("nagaya-batch@" + kind)
		if err != nil {
			t.Fatal(err)
		}
		content = regexp.MustCompile(`/usr/bin/nagaya`).ReplaceAll(content, []byte("/bin/true"))
		if err := os.WriteFile(filepath.Join(dir, "nagaya-batch@report"+kind), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []string{".service", ".timer"} {
		if out, err := exec.Command(tool, "verify", "--man=no", filepath.Join(dir, "nagaya-batch@report"+kind)).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("systemd-analyze verify %s: %v\n%s", kind, err, out)
		}
	}
}

// A job never competes with a service, and its command runs only through the gate.
func TestBatchesRunBelowTheServices(t *testing.T) {
	o := options(t, "nagaya-batch@.service")
	if !slices.Equal(o["CPUWeight"], []string{"idle"}) || !slices.Equal(o["Nice"], []string{"19"}) {
		t.Errorf("CPUWeight=%v Nice=%v", o["CPUWeight"], o["Nice"])
	}
	if e := o["ExecStart"]; len(e) < 4 || !slices.Equal(e[:3], []string{"/usr/bin/nagaya", "gate", "run"}) {
		t.Errorf("ExecStart=%v", e)
	}
	if e := o["ExecStopPost"]; !slices.Equal(e, []string{"-/usr/bin/nagaya", "gate", "free", "%n"}) { // also after SIGKILL
		t.Errorf("ExecStopPost=%v", e)
	}
	if e := o["SuccessExitStatus"]; !slices.Equal(e, []string{"143"}) { // 'systemctl stop' is no failure
		t.Errorf("SuccessExitStatus=%v", e)
	}
}
