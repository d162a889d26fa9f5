// Package proc says what the kernel says about processes and sockets (proc(5)). What cannot
// be read, because it has ended or belongs to another user, is as if it were not there.
package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// userHZ is the unit of CPU times: the kernel scales to 100 a second for user space on
// every architecture that Go runs on.
const userHZ = 100

// read reads one thing about a process; the zero value where it cannot be read.
func read[T any](pid int, what func(procfs.Proc) (T, error)) (v T) {
	if p, err := procfs.NewProc(pid); err == nil {
		v, _ = what(p)
	}
	return v
}

// numbers are the numbers of those processes that are wanted, in ascending order.
func numbers(wanted func(procfs.Proc) bool) []int {
	procs, _ := procfs.AllProcs()
	var pids []int
	for _, p := range procs {
		if wanted(p) {
			pids = append(pids, p.PID)
		}
	}
	slices.Sort(pids)
	return pids
}

// All returns the numbers of all processes in ascending order.
func All() []int { return numbers(func(procfs.Proc) bool { return true }) }

// Title returns the command line of a process, its words separated by spaces; empty for a
// zombie and where there is none.
func Title(pid int) string {
	return strings.TrimRight(strings.Join(read(pid, procfs.Proc.CmdLine), " "), " ")
}

// Executable returns the path of a process's binary; empty where it cannot be seen.
func Executable(pid int) string { return read(pid, procfs.Proc.Executable) }

// Parent returns the number of a process's parent, or 0.
func Parent(pid int) int { return read(pid, procfs.Proc.Stat).PPID }

// Children returns the numbers of a process's children, the oldest first.
func Children(pid int) []int {
	threads, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	var pids []int
	for _, thread := range threads { // each lists those that it started itself
		text, _ := os.ReadFile(thread)
		for word := range strings.FieldsSeq(string(text)) {
			if child, err := strconv.Atoi(word); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// Account returns who a process acts as, its effective user and group; ok is false where that
// cannot be seen.
func Account(pid int) (uid, gid int, ok bool) {
	s := read(pid, procfs.Proc.NewStatus)
	return int(s.UIDs[1]), int(s.GIDs[1]), s.PID == pid
}

// CPUTime returns what a process and its children that were waited for have used; 0 where
// it cannot be read.
func CPUTime(pid int) time.Duration {
	s := read(pid, procfs.Proc.Stat)
	return time.Duration(int(s.UTime)+int(s.STime)+s.CUTime+s.CSTime) * (time.Second / userHZ)
}

// zombies returns the children of a process that have ended and were not waited for, in
// ascending order.
func zombies(parent int) []int {
	return numbers(func(p procfs.Proc) bool {
		s, err := p.Stat()
		return err == nil && s.State == "Z" && s.PPID == parent
	})
}

// Protect closes this process's memory, environment and files to other processes of its
// user (PR_SET_DUMPABLE(2const)), such as an nginx that is its child and faces the Internet,
// while the agent may use Docker. Children are not protected; they do not get the right to
// signal other users' processes (PR_CAP_AMBIENT(2const)). Root needs no permission.
func Protect() error {
	if os.Geteuid() == 0 {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("closing the process to others of its user: %w", err)
	}
	// Each thread has capabilities of its own. With cgo, as tests may be built, this is not
	// possible; the binary is built without.
	_, _, err := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_LOWER, unix.CAP_KILL, 0, 0, 0)
	if err != 0 && err != syscall.ENOTSUP {
		return fmt.Errorf("keeping CAP_KILL from children: %w", err)
	}
	return nil
}
