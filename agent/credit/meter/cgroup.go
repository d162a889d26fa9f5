package meter

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
)

const (
	// mostBatches bounds how many batch containers are counted.
	mostBatches = 200
	// mostVisited and deepest bound the search for a container's cgroup.
	mostVisited = 5000
	deepest     = 6
	// searchAgain is how long a container whose cgroup was not found is left alone.
	searchAgain = time.Minute
)

// batches counts the CPU time of batch containers as one counter that never goes backwards.
type batches struct {
	root string
	sum  float64 // credits
	at   time.Time
	by   map[string]*batch
}

type batch struct {
	file    string    // the file that holds the CPU time; empty when not found
	last    float64   // credits, as of the last reading
	retry   time.Time // when to search again
	present bool
}

func newBatches(root string) *batches { return &batches{root: root, by: map[string]*batch{}} }

// read returns the CPU time in credits that batch containers used since the first call. A container that
// appears later counts from its start, yet no more than the online processors can give between two calls.
func (b *batches) read(ids []string, now time.Time, online float64) float64 {
	first := b.at.IsZero()
	limit := online * now.Sub(b.at).Minutes()
	b.at = now
	for _, x := range b.by {
		x.present = false
	}
	var sum float64
	for _, id := range ids[:min(len(ids), mostBatches)] {
		if !validID(id) {
			continue
		}
		sum += b.one(id, now, first)
	}
	for id, x := range b.by {
		if !x.present {
			delete(b.by, id)
		}
	}
	if !first {
		b.sum += min(sum, max(limit, 0))
	}
	return b.sum
}

// one returns what a container used since the last call.
func (b *batches) one(id string, now time.Time, first bool) float64 {
	x := b.by[id]
	if x == nil {
		x = &batch{}
		b.by[id] = x
	}
	x.present = true
	if x.file == "" {
		if now.Before(x.retry) {
			return 0
		}
		x.retry = now.Add(searchAgain)
		if x.file = b.find(id); x.file == "" {
			return 0
		}
	}
	used, err := readUsage(x.file)
	if err != nil {
		// The container has ended, or its cgroup has moved; the search starts afresh.
		x.file = ""
		return 0
	}
	delta := used - x.last
	x.last = used
	if first || delta < 0 {
		return 0
	}
	return delta
}

// validID accepts Docker's full container ids, so that none can lead out of the tree.
func validID(id string) bool {
	return len(id) == 64 && strings.Trim(id, "0123456789abcdef") == ""
}

// find looks for a container's cgroup: first where Docker puts it by default, then, because ECS and
// --cgroup-parent put it elsewhere, everywhere within bounds.
func (b *batches) find(id string) string {
	for _, dir := range []string{
		"system.slice/docker-" + id + ".scope",         // version 2, systemd driver
		"docker/" + id,                                 // version 2, cgroupfs driver
		"cpuacct/docker/" + id,                         // version 1, cgroupfs driver
		"cpu,cpuacct/docker/" + id,                     // version 1
		"cpuacct/system.slice/docker-" + id + ".scope", // version 1, systemd driver
	} {
		if f := usageFile(filepath.Join(b.root, dir)); f != "" {
			return f
		}
	}
	for _, tree := range []string{"cpuacct", "cpu,cpuacct", "."} {
		if f := search(filepath.Join(b.root, tree), id); f != "" {
			return f
		}
	}
	return ""
}

// search walks a tree of cgroups for a directory that is named after the container.
func search(root, id string) string {
	found, visited := "", 0
	// An unreadable directory is passed over; cgroups come and go during the walk.
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil
		}
		if visited++; visited > mostVisited {
			return fs.SkipAll
		}
		if name := d.Name(); name == id || strings.HasSuffix(name, "-"+id+".scope") {
			if found = usageFile(path); found != "" {
				return fs.SkipAll
			}
		}
		if rel, err := filepath.Rel(root, path); err != nil || strings.Count(rel, "/") >= deepest {
			return fs.SkipDir
		}
		return nil
	})
	return found
}

// usageFile returns the file of a cgroup that holds its CPU time, or "".
func usageFile(dir string) string {
	for _, name := range []string{"cpuacct.usage", "cpu.stat"} {
		f := filepath.Join(dir, name)
		if _, err := os.Stat(f); err == nil {
			return f
		}
	}
	return ""
}

// readUsage returns the CPU time of a cgroup and all below it, in credits.
func readUsage(file string) (float64, error) {
	var buf [1024]byte
	text, err := readInto(file, buf[:])
	if err != nil {
		return 0, err
	}
	return credit.UsageOf(file, text)
}
