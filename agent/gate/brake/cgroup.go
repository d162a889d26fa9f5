package brake

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/credit"
)

// Cgroup is the control group that a process has for itself and its children, so that it tells what they cost
// and can be given a quota.
type Cgroup struct {
	// Unit is the systemd unit that it belongs to, empty without one.
	Unit string
	// usage holds the CPU time, quota the limit.
	usage, quota string
	begin        float64
	before       string // what quota held
}

// ErrShared is the error of a process that shares its control group with others.
var ErrShared = errors.New("the control group is shared with other processes")

// Own finds the control group of a process in the trees mounted at root, e.g. /sys/fs/cgroup, of version 1, 2, or both. An error
// means that it has none for itself, or cannot be read.
func Own(proc, root string, pid int) (*Cgroup, error) {
	text, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return nil, err
	}
	c := &Cgroup{}
	for line := range strings.Lines(string(text)) {
		number, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		names, own, ok := strings.Cut(rest, ":")
		if !ok || !strings.HasPrefix(own, "/") || path.Clean(own) != own {
			continue
		}
		for _, base := range trees(number, names) {
			dir := filepath.Join(root, base, own)
			if u := firstOf(dir, "cpuacct.usage", "cpu.stat"); u != "" && (c.usage == "" || number != "0") && holds(names, number, "cpuacct") {
				c.usage = u
				c.Unit = unitOf(own)
			}
			if q := firstOf(dir, "cpu.max", "cpu.cfs_quota_us"); q != "" && holds(names, number, "cpu") {
				c.quota = q
			}
		}
	}
	if c.usage == "" {
		return nil, errors.New("no control group with CPU time was found")
	}
	if err := alone(filepath.Dir(c.usage), pid); err != nil {
		return nil, err
	}
	if c.quota != "" && alone(filepath.Dir(c.quota), pid) != nil {
		c.quota = ""
	}
	c.begin, err = usage(c.usage)
	return c, err
}

// trees are where a hierarchy may be mounted: version 2 at the root or beside those of version 1.
func trees(number, names string) []string {
	if number == "0" && names == "" {
		return []string{"unified", "."}
	}
	all := []string{names}
	return append(all, strings.Split(names, ",")...)
}

func holds(names, number, controller string) bool {
	if number == "0" {
		return true
	}
	for n := range strings.SplitSeq(names, ",") {
		if n == controller {
			return true
		}
	}
	return false
}

func firstOf(dir string, names ...string) string {
	for _, n := range names {
		if f := filepath.Join(dir, n); exists(f) {
			return f
		}
	}
	return ""
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// unitOf is the service or scope of systemd that a control group is.
func unitOf(own string) string {
	if base := path.Base(own); strings.HasSuffix(base, ".service") || strings.HasSuffix(base, ".scope") {
		return base
	}
	return ""
}

// alone says whether nobody else is in a control group or below it.
func alone(dir string, pid int) error {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(text)) != strconv.Itoa(pid) {
		return ErrShared
	}
	below, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range below {
		if e.IsDir() {
			return ErrShared
		}
	}
	return nil
}

// Spent is the credits (minutes of one vCPU) that were spent since Own.
func (c *Cgroup) Spent() (float64, error) {
	now, err := usage(c.usage)
	return max(now-c.begin, 0), err
}

// usage reads the CPU time of a cgroup, in credits.
func usage(file string) (float64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return credit.UsageOf(file, text)
}

// limit sets a quota of so many vCPUs, no more than there was; 0 gives back what there was.
func (c *Cgroup) limit(vcpus float64) error {
	if c.quota == "" {
		return errors.New("the control group has no CPU controller")
	}
	if c.before == "" {
		text, err := os.ReadFile(c.quota)
		if err != nil {
			return err
		}
		c.before = strings.TrimSpace(string(text))
	}
	text := c.before
	if vcpus > 0 {
		var err error
		if text, err = c.limited(vcpus); err != nil {
			return err
		}
	}
	return os.WriteFile(c.quota, []byte(text), 0)
}

// limited is the text of a quota: "QUOTA PERIOD" in cpu.max of version 2, QUOTA of a period in another file in version 1.
func (c *Cgroup) limited(vcpus float64) (string, error) {
	had, span, two := strings.Cut(c.before, " ")
	if !two {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(c.quota), "cpu.cfs_period_us"))
		if err != nil {
			return "", err
		}
		span = strings.TrimSpace(string(text))
	}
	p, err := strconv.ParseInt(span, 10, 64)
	if err != nil || p <= 0 {
		return "", fmt.Errorf("%s: not a period: %.20q", c.quota, span)
	}
	q := max(int64(vcpus*float64(p)), 1000)
	if old, err := strconv.ParseInt(had, 10, 64); err == nil && old > 0 {
		q = min(q, old)
	}
	if two {
		return fmt.Sprintf("%d %d", q, p), nil
	}
	return strconv.FormatInt(q, 10), nil
}
