package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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

func TestOwn(t *testing.T) {
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
			if spent, err := c.Spent(); err != nil || spent != 90*time.Second {
				t.Errorf("spent %v, %v", spent, err)
			}
			if tt.quota == "" {
				if err := c.Limit(0.25); err == nil {
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
			if err := c.Limit(0.25); err != nil || read() != tt.text {
				t.Errorf("quota %q, %v; want %q", read(), err, tt.text)
			}
			if err := c.Limit(0); err != nil || read() != before {
				t.Errorf("given back %q, %v; want %q", read(), err, before)
			}
		})
	}
}

func TestOfContainer(t *testing.T) {
	id := strings.Repeat("a", 64)
	for name, tt := range map[string]struct {
		path, text string
	}{
		"v1 docker":               {"cpuacct/docker/" + id + "/cpuacct.usage", "90000000000\n"},
		"v1 ecs task":             {"cpu,cpuacct/ecs/0123456789/" + id + "/cpuacct.usage", "90000000000\n"},
		"v1 systemd":              {"cpuacct/system.slice/docker-" + id + ".scope/cpuacct.usage", "90000000000\n"},
		"v2 systemd":              {"system.slice/docker-" + id + ".scope/cpu.stat", "nr_periods 7\nusage_usec 90000000\nuser_usec 5\n"},
		"v2 cgroupfs":             {"docker/" + id + "/cpu.stat", "usage_usec 90000000\n"},
		"v2 ecs task slice":       {"ecstasks.slice/ecstasks-0123.slice/docker-" + id + ".scope/cpu.stat", "usage_usec 90000000\n"},
		"v2 docker within docker": {"a.slice/b.slice/c.slice/d.slice/e.slice/docker-" + id + ".scope/cpu.stat", "usage_usec 90000000\n"},
	} {
		t.Run(name, func(t *testing.T) {
			_, root := tree(t, map[string]string{
				"fs/" + tt.path: tt.text,
				// The CPU controller of version 1 has a file of the same name, without the CPU time.
				"fs/cpu/docker/" + id + "/cpu.stat": "nr_periods 0\nnr_throttled 0\n",
				"fs/blkio/docker/" + id + "/tasks":  "",
			})
			g := OfContainer(root, id)
			if g == nil {
				t.Fatal("not found")
			}
			if used, err := g.CPUTime(); err != nil || used != 90*time.Second {
				t.Errorf("used %v, %v", used, err)
			}
			if other := OfContainer(root, strings.Repeat("b", 64)); other != nil {
				t.Errorf("another container has %+v", other)
			}
		})
	}
}

// An id cannot lead out of the tree.
func TestOfContainerTakesIDsOnly(t *testing.T) {
	_, root := tree(t, map[string]string{"fs/cpu.stat": "usage_usec 60000000\n", "fs/sub/x": ""})
	for _, id := range []string{"", "..", "../..", strings.Repeat(".", 64), strings.Repeat("A", 64), "abc"} {
		if g := OfContainer(root+"/sub", id); g != nil || IsContainerID(id) {
			t.Errorf("%q: %+v", id, g)
		}
	}
}
