package apply

import (
	"context"
	"os"
	"syscall"
)

// enclosed is the mode of Dirs.Run: its owner may do everything, the group of nginx's
// workers may get to the sockets in it, and nobody else may do anything.
const enclosed = 0o710

// enclose lets nobody but its owner and nginx get to the sockets in Dirs.Run. nginx makes
// them for everybody, and believes whoever comes through them about the address of a
// client. Which group nginx's workers have, they themselves say: it may be one that
// only nginx knows, or its container. A master that is neither root nor the owner, as
// in a container with a user of its own, makes the sockets by the right of that group.
// Where the directory is another user's, or no worker can be seen, it stays as it is.
func (a *applier) enclose(ctx context.Context) {
	dir := a.o.Dirs.Run
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() {
		return
	}
	i := a.master.find(ctx)
	if i.WorkerAccount == nil || i.MasterAccount == nil {
		return
	}
	mode := os.FileMode(enclosed)
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		if i.MasterAccount.UID != 0 && i.MasterAccount.UID != int(st.Uid) {
			mode |= 0o020
		}
		if int(st.Gid) == i.WorkerAccount.GID && info.Mode().Perm() == mode {
			return
		}
	}
	if err = os.Lchown(dir, -1, i.WorkerAccount.GID); err == nil {
		err = os.Chmod(dir, mode)
	}
	if err != nil {
		a.log.Debug("nginx's sockets stay open to everybody on this host", "dir", dir, "err", err)
	}
}
