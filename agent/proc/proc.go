// Package proc says what the kernel says about processes and sockets (proc(5)). What cannot
// be read, because it has ended or belongs to another user, is as if it were not there.
package proc

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
)

// userHZ is the unit of CPU times: the kernel scales to 100 a second for user space on
// every architecture that Go runs on.
const userHZ = 100

// process is the process of this number.
func process(pid int) (procfs.Proc, bool) {
	p, err := procfs.NewProc(pid)
	return p, err == nil
}

// All returns the numbers of all processes in ascending order.
func All() []int {
	procs, _ := procfs.AllProcs()
	pids := make([]int, 0, len(procs))
	for _, p := range procs {
		pids = append(pids, p.PID)
	}
	slices.Sort(pids)
	return pids
}

// Title returns the command line of a process, its words separated by spaces; empty for a
// zombie and where there is none.
func Title(pid int) string {
	p, ok := process(pid)
	if !ok {
		return ""
	}
	words, _ := p.CmdLine()
	return strings.TrimRight(strings.Join(words, " "), " ")
}

// Executable returns the path of a process's binary; empty where it cannot be seen.
func Executable(pid int) string {
	p, ok := process(pid)
	if !ok {
		return ""
	}
	path, _ := p.Executable()
	return path
}

// Parent returns the number of a process's parent, or 0.
func Parent(pid int) int {
	p, ok := process(pid)
	if !ok {
		return 0
	}
	stat, _ := p.Stat()
	return stat.PPID
}

// Children returns the numbers of a process's children, the oldest first.
func Children(pid int) []int {
	p := strconv.Itoa(pid)
	text, _ := os.ReadFile("/proc/" + p + "/task/" + p + "/children")
	var pids []int
	for word := range strings.FieldsSeq(string(text)) {
		if child, err := strconv.Atoi(word); err == nil {
			pids = append(pids, child)
		}
	}
	return pids
}

// Account is who a process acts as: its effective user and group.
type Account struct{ UID, GID int }

// AccountOf returns the account of a process; false where it cannot be seen.
func AccountOf(pid int) (Account, bool) {
	p, ok := process(pid)
	if !ok {
		return Account{}, false
	}
	s, err := p.NewStatus()
	return Account{int(s.UIDs[1]), int(s.GIDs[1])}, err == nil
}

// CPUTime returns what a process and its children that were waited for have used; 0 where
// it cannot be read.
func CPUTime(pid int) time.Duration {
	p, ok := process(pid)
	if !ok {
		return 0
	}
	s, _ := p.Stat()
	return time.Duration(int(s.UTime)+int(s.STime)+s.CUTime+s.CSTime) * (time.Second / userHZ)
}

// Zombies returns the children of a process that have ended and were not waited for, in
// ascending order.
func Zombies(parent int) []int {
	procs, _ := procfs.AllProcs()
	var pids []int
	for _, p := range procs {
		if s, err := p.Stat(); err == nil && s.State == "Z" && s.PPID == parent {
			pids = append(pids, p.PID)
		}
	}
	slices.Sort(pids)
	return pids
}
