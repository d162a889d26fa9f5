// Package cgroup reads the CPU time of control groups of version 1 and 2, and sets their CPU
// quotas (kernel documentation, cgroup-v1/cpuacct, sched-bwc and cgroup-v2).
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
)

// Group is a control group whose CPU time can be read.
type Group struct {
	// Unit is the systemd service or scope that the group is; empty if it is neither.
	Unit string
	// usage is the file with the CPU time; quota the one with the limit, empty where the group has no CPU controller.
	usage, quota string
	before       string        // what quota held
	begin        time.Duration // the CPU time when Own found it
}

// ErrShared is the error of a process that shares its control group with others.
var ErrShared = errors.New("the control group is shared with other processes")

// The files with CPU time and quota.
const (
	usage1, quota1, period1 = "cpuacct.usage", "cpu.cfs_quota_us", "cpu.cfs_period_us"
	usage2, quota2          = "cpu.stat", "cpu.max"
)

// Own finds the control group that a process has for itself, in the trees that are mounted at root,
// e.g. /sys/fs/cgroup. proc is where procfs is mounted. The error is ErrShared if there are other processes in it.
func Own(proc, root string, pid int) (*Group, error) {
	kernel, err := procfs.NewFS(proc)
	if err != nil {
		return nil, err
	}
	p, err := kernel.Proc(pid)
	if err != nil {
		return nil, err
	}
	hierarchies, err := p.Cgroups() // version 2 is the last one
	if err != nil {
		return nil, err
	}
	g := &Group{}
	for _, h := range hierarchies {
		if !path.IsAbs(h.Path) || path.Clean(h.Path) != h.Path {
			continue
		}
		mounts, usage, quota := append(h.Controllers, strings.Join(h.Controllers, ",")), usage1, quota1
		if h.HierarchyID == 0 {
			mounts, usage, quota = []string{"unified", "."}, usage2, quota2
		}
		for _, m := range mounts {
			dir := filepath.Join(root, m, h.Path)
			if file := filepath.Join(dir, usage); g.usage == "" && exists(file) {
				g.usage, g.Unit = file, unit(h.Path)
			}
			if file := filepath.Join(dir, quota); g.quota == "" && exists(file) {
				g.quota = file
			}
		}
	}
	if g.usage == "" {
		return nil, errors.New("no control group with CPU time was found")
	}
	if g.quota != "" && alone(g.quota, pid) != nil {
		g.quota = ""
	}
	if err := alone(g.usage, pid); err != nil {
		return nil, err
	}
	g.begin, err = g.CPUTime()
	return g, err
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func unit(group string) string {
	base := path.Base(group)
	if ext := path.Ext(base); ext == ".service" || ext == ".scope" {
		return base
	}
	return ""
}

// alone returns ErrShared if the group of a file has other processes than pid, or groups below it.
func alone(file string, pid int) error {
	dir := filepath.Dir(file)
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return err
	}
	below, err := filepath.Glob(filepath.Join(dir, "*", "cgroup.procs"))
	if len(below) > 0 || strings.TrimSpace(string(text)) != strconv.Itoa(pid) {
		return ErrShared
	}
	return err
}

// IsContainerID reports whether this is Docker's full id of a container.
func IsContainerID(id string) bool {
	return len(id) == 64 && strings.Trim(id, "0123456789abcdef") == ""
}

const (
	// mostVisited and deepest bound the search for a container's group.
	mostVisited = 5000
	deepest     = 7
)

// OfContainer finds the control group of a container in the trees below root, wherever Docker, the ECS agent or
// --cgroup-parent have put it: its name is the id, or a scope of systemd that ends with it. Nil means that there is none.
func OfContainer(root, id string) *Group {
	if !IsContainerID(id) {
		return nil
	}
	var found *Group
	visited := 0
	// A directory that cannot be read is passed over; groups come and go during the walk.
	_ = filepath.WalkDir(root, func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil
		}
		if visited++; visited > mostVisited {
			return fs.SkipAll
		}
		if name := d.Name(); name == id || strings.HasSuffix(name, "-"+id+".scope") {
			for _, usage := range []string{usage1, usage2} {
				g := &Group{usage: filepath.Join(dir, usage)}
				if _, err := g.CPUTime(); err == nil {
					found = g
					return fs.SkipAll
				}
			}
		}
		if rel, err := filepath.Rel(root, dir); err != nil || strings.Count(rel, "/") >= deepest {
			return fs.SkipDir
		}
		return nil
	})
	return found
}

// CPUTime returns what the group and all below it have used since it was made.
func (g *Group) CPUTime() (time.Duration, error) {
	data, err := os.ReadFile(g.usage)
	if err != nil {
		return 0, err
	}
	text, in := string(data), time.Nanosecond
	if filepath.Base(g.usage) == usage2 {
		in = time.Microsecond
		_, rest, ok := strings.Cut("\n"+text, "\nusage_usec ")
		if !ok {
			return 0, fmt.Errorf("%s: no usage_usec", g.usage)
		}
		text, _, _ = strings.Cut(rest, "\n")
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s: not a count: %.20q", g.usage, text)
	}
	return time.Duration(n) * in, nil
}

// Spent returns the CPU time that was used since Own.
func (g *Group) Spent() (time.Duration, error) {
	now, err := g.CPUTime()
	return max(now-g.begin, 0), err
}

// leastQuota is the smallest quota that the kernel takes, in microseconds.
const leastQuota = 1000

// Quota is the time in microseconds that so many vCPUs have in a period of that length; no more than there was, if that is above 0.
func Quota(vcpus float64, period, had int64) int64 {
	q := max(int64(vcpus*float64(period)), leastQuota)
	if had > 0 {
		return min(q, had)
	}
	return q
}

// Limit sets a quota of so many vCPUs, but no more than there was; 0 restores what there was.
func (g *Group) Limit(vcpus float64) error {
	if g.quota == "" {
		return errors.New("the control group has no CPU controller")
	}
	if g.before == "" {
		text, err := os.ReadFile(g.quota)
		if err != nil {
			return err
		}
		g.before = strings.TrimSpace(string(text))
	}
	text := g.before
	if vcpus > 0 {
		// Version 2 has "QUOTA PERIOD" in one file, version 1 the period in another.
		old, period, one := strings.Cut(g.before, " ")
		if !one {
			b, err := os.ReadFile(filepath.Join(filepath.Dir(g.quota), period1))
			if err != nil {
				return err
			}
			period = strings.TrimSpace(string(b))
		}
		span, err := strconv.ParseInt(period, 10, 64)
		if err != nil || span <= 0 {
			return fmt.Errorf("%s: not a period: %.20q", g.quota, period)
		}
		had, _ := strconv.ParseInt(old, 10, 64) // "max" is none
		if text = strconv.FormatInt(Quota(vcpus, span, had), 10); one {
			text += " " + period
		}
	}
	return os.WriteFile(g.quota, []byte(text), 0)
}
