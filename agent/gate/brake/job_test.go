package brake

import (
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/gate"
)

// tree makes the kernel's files below a directory of the test's: paths that begin with proc/ and fs/.
func tree(t *testing.T, files map[string]string) (proc, root string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "proc"), filepath.Join(dir, "fs")
}

func TestOwnCgroup(t *testing.T) {
	const stat = "usage_usec 60000000\nuser_usec 1\n"
	for name, tt := range map[string]struct {
		files map[string]string
		fails string
		unit  string
		quota string // its file, and what is in it with 0.25 vCPUs
		text  string
		later map[string]string // after which 1.5 credits were spent
	}{
		"version 2, a unit": {
			files: map[string]string{
				"proc/7/cgroup": "0::/system.slice/nagaya-batch@x.service\n", "fs/system.slice/nagaya-batch@x.service/cgroup.procs": "7\n",
				"fs/system.slice/nagaya-batch@x.service/cpu.stat": stat, "fs/system.slice/nagaya-batch@x.service/cpu.max": "max 100000\n",
			},
			unit: "nagaya-batch@x.service", quota: "fs/system.slice/nagaya-batch@x.service/cpu.max", text: "25000 100000",
			later: map[string]string{"fs/system.slice/nagaya-batch@x.service/cpu.stat": "usage_usec 150000000\n"},
		},
		"version 2, a container, with less already": {
			files: map[string]string{"proc/7/cgroup": "0::/\n", "fs/cgroup.procs": "7", "fs/cpu.stat": stat, "fs/cpu.max": "10000 50000"},
			quota: "fs/cpu.max", text: "10000 50000", later: map[string]string{"fs/cpu.stat": "usage_usec 150000000\n"},
		},
		"version 2, no CPU controller": {
			files: map[string]string{"proc/7/cgroup": "0::/job\n", "fs/job/cgroup.procs": "7", "fs/job/cpu.stat": stat},
			later: map[string]string{"fs/job/cpu.stat": "usage_usec 150000000\n"},
		},
		"version 1": {
			files: map[string]string{
				"proc/7/cgroup": "9:name=systemd:/x\n4:cpu,cpuacct:/job\n0::/other\n", "fs/cpu,cpuacct/job/cgroup.procs": "7",
				"fs/cpu,cpuacct/job/cpuacct.usage": "60000000000\n", "fs/cpu,cpuacct/job/cpu.cfs_quota_us": "-1\n", "fs/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
			},
			quota: "fs/cpu,cpuacct/job/cpu.cfs_quota_us", text: "25000",
			later: map[string]string{"fs/cpu,cpuacct/job/cpuacct.usage": "150000000000\n"},
		},
		"version 1, controllers apart": {
			files: map[string]string{
				"proc/7/cgroup": "2:cpuacct:/a\n1:cpu:/b\n", "fs/cpuacct/a/cgroup.procs": "7", "fs/cpuacct/a/cpuacct.usage": "60000000000\n",
				"fs/cpu/b/cgroup.procs": "7", "fs/cpu/b/cpu.cfs_quota_us": "50000", "fs/cpu/b/cpu.cfs_period_us": "100000",
			},
			quota: "fs/cpu/b/cpu.cfs_quota_us", text: "25000", later: map[string]string{"fs/cpuacct/a/cpuacct.usage": "150000000000\n"},
		},
		"version 2 beside version 1": {
			files: map[string]string{
				"proc/7/cgroup": "1:name=systemd:/x\n0::/job\n", "fs/unified/job/cgroup.procs": "7", "fs/unified/job/cpu.stat": stat,
			},
			later: map[string]string{"fs/unified/job/cpu.stat": "usage_usec 150000000\n"},
		},
		"shared with others": {
			files: map[string]string{"proc/7/cgroup": "0::/cron.service\n", "fs/cron.service/cgroup.procs": "7\n9\n", "fs/cron.service/cpu.stat": stat}, fails: "shared",
		},
		"shared with a group below": {
			files: map[string]string{"proc/7/cgroup": "0::/x\n", "fs/x/cgroup.procs": "7\n", "fs/x/cpu.stat": stat, "fs/x/below/cgroup.procs": "9"}, fails: "shared",
		},
		"a path that leads out": {files: map[string]string{"proc/7/cgroup": "0::/../../x\n", "x/cpu.stat": stat, "x/cgroup.procs": "7"}, fails: "no control group"},
		"not a count":           {files: map[string]string{"proc/7/cgroup": "0::/\n", "fs/cgroup.procs": "7", "fs/cpu.stat": "usage_usec many\n"}, fails: "not a count"},
		"no such process":       {files: map[string]string{"proc/8/cgroup": "0::/\n"}, fails: "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			proc, root := tree(t, tt.files)
			c, err := Own(proc, root, 7)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("%v, want %q", err, tt.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.Unit != tt.unit {
				t.Errorf("unit %q, want %q", c.Unit, tt.unit)
			}
			for name, text := range tt.later {
				if err := os.WriteFile(filepath.Join(filepath.Dir(proc), name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if spent, err := c.Spent(); err != nil || math.Abs(spent-1.5) > 1e-9 {
				t.Errorf("spent %v, %v", spent, err)
			}
			if tt.quota == "" {
				if err := c.limit(0.25); err == nil {
					t.Error("a quota was set without a file for it")
				}
				return
			}
			read := func() string {
				b, err := os.ReadFile(filepath.Join(filepath.Dir(proc), tt.quota))
				if err != nil {
					t.Fatal(err)
				}
				return strings.TrimSpace(string(b))
			}
			before := read()
			if err := c.limit(0.25); err != nil || read() != tt.text {
				t.Errorf("quota %q, %v; want %q", read(), err, tt.text)
			}
			if err := c.limit(0); err != nil || read() != before {
				t.Errorf("given back %q, %v; want %q", read(), err, before)
			}
		})
	}
}

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
	if err := j.Hold(t.Context(), gate.SlowQuota, 0.2); !errors.Is(err, ErrShared) {
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
	proc, root := tree(t, map[string]string{"proc/7/cgroup": "0::/job\n", "fs/job/cgroup.procs": "7", "fs/job/cpu.stat": "usage_usec 1\n", "fs/job/cpu.max": "max 100000\n"})
	own, err := Own(proc, root, 7)
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
