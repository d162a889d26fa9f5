package brake

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/cgroup"
	"github.com/nagaya-ecs/nagaya/agent/gate"
)

// state is the kernel's letter for a process: T is stopped.
func state(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return rest[:1]
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not %s", what)
		}
	}
}

// A job without a control group is stopped with its children, also where a quota was wanted, and goes on when it is free.
func TestAJobIsStoppedWithItsChildren(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 60 & echo $!; wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	}()
	var buf [32]byte
	n, err := out.Read(buf[:])
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	if err != nil {
		t.Fatal(err)
	}
	j := Job{PID: cmd.Process.Pid, Grouped: true}
	both := func(letter string) func() bool {
		return func() bool {
			return (state(t, j.PID) == "T") == (letter == "T") && (state(t, child) == "T") == (letter == "T")
		}
	}
	if err := j.Hold(t.Context(), gate.SlowPause, 0); err != nil {
		t.Fatal(err)
	}
	until(t, "stopped", both("T"))
	if err := j.Free(); err != nil {
		t.Fatal(err)
	}
	until(t, "continued", both("S"))
	if err := j.Hold(t.Context(), gate.SlowQuota, 0.2); !errors.Is(err, cgroup.ErrShared) {
		t.Errorf("a quota: %v", err)
	}
	until(t, "stopped in the quota's place", both("T"))
	if slow, quota := j.Held(); slow != gate.SlowQuota || quota != 0.2 {
		t.Errorf("held is %v, %v", slow, quota)
	}
	if err := j.Hold(t.Context(), "", 0); err != nil {
		t.Fatal(err)
	}
	until(t, "continued again", both("S"))
}

// A job with a control group is given a quota there, and then stopped, and then all that it had.
func TestAJobHasAQuota(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"proc/7/cgroup": "0::/job\n", "fs/job/cgroup.procs": "7", "fs/job/cpu.stat": "usage_usec 1\n", "fs/job/cpu.max": "max 100000\n"} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	root := filepath.Join(dir, "fs")
	own, err := cgroup.Own(filepath.Join(dir, "proc"), root, 7)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	j := Job{PID: cmd.Process.Pid, Own: own}
	for _, step := range []struct {
		slow    gate.Slow
		vcpus   float64
		max     string
		stopped bool
	}{{gate.SlowQuota, 0.5, "50000 100000", false}, {gate.SlowQuota, 0.1, "10000 100000", false}, {gate.SlowPause, 0, "max 100000", true}, {gate.SlowQuota, 0.3, "30000 100000", false}, {"", 0, "max 100000", false}} {
		if err := j.Hold(t.Context(), step.slow, step.vcpus); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(root, "job/cpu.max")); err != nil || string(b) != step.max {
			t.Errorf("%v: cpu.max is %q, %v; want %q", step.slow, b, err, step.max)
		}
		until(t, "as wanted", func() bool { return (state(t, j.PID) == "T") == step.stopped })
	}
}

// quotas are the CPU quotas of units, as systemd keeps them until the next reboot.
type quotas map[string]float64

func (q quotas) CPUQuota(_ context.Context, unit string) (float64, error) { return q[unit], nil }

func (q quotas) SetCPUQuota(_ context.Context, unit string, cpus float64) error {
	q[unit] = cpus
	return nil
}

// What a unit had is restored by whoever finds it, if the process that held it back is killed, and
// what is left behind is not taken for the unit's own.
func TestAKilledJobLeavesNoQuota(t *testing.T) {
	const unit = "nagaya-batch@report.service"
	for _, had := range []float64{0, 0.5} {
		dir, q := t.TempDir(), quotas{unit: had}
		held := func(vcpus float64) *Job {
			j := &Job{Own: &cgroup.Group{Unit: unit}, Dir: dir, units: q}
			if err := j.Hold(t.Context(), gate.SlowQuota, vcpus); err != nil {
				t.Fatal(err)
			}
			return j
		}
		free := func() {
			if err := freeUnit(t.Context(), q, noteOf(dir, unit), unit); err != nil {
				t.Fatal(err)
			}
		}
		if held(0.02); q[unit] != 0.02 { // and is killed
			t.Errorf("held back: %v", q)
		}
		if free(); q[unit] != had {
			t.Errorf("after it was killed it has %v, want %v", q[unit], had)
		}
		q[unit] = 0.7 // by the operator
		if free(); q[unit] != 0.7 {
			t.Errorf("what was not left behind was changed: %v", q[unit])
		}
		q[unit] = had
		j := held(0.02)
		if err := j.Hold(t.Context(), gate.SlowQuota, 0.04); err != nil || q[unit] != 0.04 {
			t.Errorf("held back less: %v, %v", q[unit], err)
		}
		if err := j.Free(); err != nil || q[unit] != had {
			t.Errorf("free it has %v, want %v; %v", q[unit], had, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

// A quota that cannot be noted is not set: the job is stopped in its place.
func TestAQuotaIsNotedBeforeItIsSet(t *testing.T) {
	const unit = "job.service"
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	q := quotas{}
	j := Job{PID: cmd.Process.Pid, Own: &cgroup.Group{Unit: unit}, Dir: filepath.Join(t.TempDir(), "none"), units: q}
	if err := j.Hold(t.Context(), gate.SlowQuota, 0.1); err == nil || q[unit] != 0 {
		t.Errorf("%v; the quota is %v", err, q[unit])
	}
	until(t, "stopped", func() bool { return state(t, j.PID) == "T" })
}
