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

// account is who a process acts as: its effective user and group.
type account struct{ uid, gid int }

// enclose lets nobody but its owner and nginx get to the sockets in RunDir. nginx makes
// them for everybody, and believes whoever comes through them about the address of a
// client. Which group nginx's workers have, they themselves say: it may be one that
// only nginx knows, or its container. A master that is neither root nor the owner, as
// in a container with a user of its own, makes the sockets by the right of that group.
// Where the directory is somebody else's, or no worker can be seen, it stays as it is.
func (r *runner) enclose() {
	active, _ := r.way.workers(r.pid)
	if len(active) == 0 {
		return
	}
	worker, known := r.way.account(active[0])
	master, alsoKnown := r.way.account(r.pid)
	info, err := os.Lstat(r.o.RunDir)
	if !known || !alsoKnown || err != nil || !info.IsDir() {
		return
	}
	mode := os.FileMode(enclosed)
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		if master.uid != 0 && master.uid != int(st.Uid) {
			mode |= 0o020
		}
		if int(st.Gid) == worker.gid && info.Mode().Perm() == mode {
			return
		}
	}
	if err = os.Lchown(r.o.RunDir, -1, worker.gid); err == nil {
		err = os.Chmod(r.o.RunDir, mode)
	}
	if err != nil {
		r.log.Debug("nginx's sockets stay open to everybody on this host", "dir", r.o.RunDir, "err", err)
	}
}

func (*process) account(pid int) (account, bool) {
	b, err := readFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return account{}, false
	}
	// Each line has the real, effective and saved one, and that of the file system (proc(5)).
	effective := func(name string) (int, error) {
		_, rest, _ := strings.Cut(b, "\n"+name+":")
		fields := strings.Fields(rest)
		if len(fields) < 2 {
			return 0, strconv.ErrSyntax
		}
		return strconv.Atoi(fields[1])
	}
	uid, err := effective("Uid")
	if err != nil {
		return account{}, false
	}
	gid, err := effective("Gid")
	return account{uid, gid}, err == nil
}
