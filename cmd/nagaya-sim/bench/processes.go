package bench

import (
	"os"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
)

// withChildren lists a process and its children.
func withChildren(pid int) []int {
	pids := []int{pid}
	for _, f := range strings.Fields(procFile(pid, "task/"+strconv.Itoa(pid)+"/children")) {
		if child, err := strconv.Atoi(f); err == nil {
			pids = append(pids, child)
		}
	}
	return pids
}

// procFile reads a file of a process; it is empty for one that has ended.
func procFile(pid int, name string) string {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + name)
	return string(b)
}

// cpu is the CPU time of processes so far, in seconds, as finely as the scheduler
// knows it: /proc/PID/stat counts hundredths, too coarse for a minute.
func cpu(pids []int) (seconds float64) {
	for _, pid := range pids {
		threads, _ := procfs.AllThreads(pid) // none of a process that has ended
		for _, t := range threads {
			if s, err := t.Schedstat(); err == nil {
				seconds += float64(s.RunningNanoseconds) / 1e9
			}
		}
	}
	return seconds
}

// memory is the resident memory of processes in bytes, and the part of it that is
// their own and not of a file.
func memory(pids []int) (rss, anon uint64) {
	for _, pid := range pids {
		if p, err := procfs.NewProc(pid); err == nil {
			if s, err := p.NewStatus(); err == nil {
				rss, anon = rss+s.VmRSS, anon+s.RssAnon
			}
		}
	}
	return rss, anon
}

// cpuWithChildren is the CPU time of a process and of its children that were waited for, in
// seconds.
func cpuWithChildren(pid int) float64 {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return 0
	}
	s, err := p.Stat()
	if err != nil {
		return 0
	}
	return float64(int(s.UTime)+int(s.STime)+s.CUTime+s.CSTime) / userHZ
}

// userHZ is what proc(5) counts CPU time in, to every program on Linux.
const userHZ = 100

// hostCPU is the CPU time of everything on this host since it booted, in seconds.
func hostCPU() float64 {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return 0
	}
	s, err := fs.Stat()
	if err != nil {
		return 0
	}
	c := s.CPUTotal
	return c.User + c.Nice + c.System + c.IRQ + c.SoftIRQ
}
