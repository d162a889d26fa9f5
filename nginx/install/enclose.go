package install

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// enclosed is the mode of RunDir: its owner may do everything, the group of nginx's
// workers may get to the sockets in it, and nobody else may do anything.
const enclosed = 0o710

// enclose lets nobody but its owner and nginx get to the sockets in RunDir. nginx makes
// them for everybody, and believes whoever comes through them about the address of a
// client. Which group nginx's workers have, they themselves say: it may be one that
// only nginx knows, or its container. Where the directory is somebody else's, or
// no worker can be seen, it stays as it is.
func (r *runner) enclose() {
	active, _ := r.way.workers(r.pid)
	if len(active) == 0 {
		return
	}
	group, ok := groupOf(active[0])
	info, err := os.Lstat(r.o.RunDir)
	if !ok || err != nil || !info.IsDir() {
		return
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Gid) == group && info.Mode().Perm() == enclosed {
		return
	}
	if err = os.Lchown(r.o.RunDir, -1, group); err == nil {
		err = os.Chmod(r.o.RunDir, enclosed)
	}
	if err != nil {
		r.log.Debug("nginx's sockets stay open to everybody on this host", "dir", r.o.RunDir, "err", err)
	}
}

// groupOf returns the effective group of a process.
func groupOf(pid int) (group int, ok bool) {
	b, err := readFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, false
	}
	_, rest, _ := strings.Cut(b, "\nGid:")
	fields := strings.Fields(rest) // real, effective, saved, of the file system (proc(5))
	if len(fields) < 2 {
		return 0, false
	}
	group, err = strconv.Atoi(fields[1])
	return group, err == nil
}
