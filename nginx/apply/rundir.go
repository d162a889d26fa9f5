package apply

import (
	"context"
	"os"
	"syscall"
)

// restrictRunDir gives Dirs.Run the group of nginx's workers and mode 0750, so that only its
// owner and nginx can connect to the sockets in it. nginx makes them for everybody, and
// trusts the address of a client that a peer there names. The group is read from a running
// worker: it may be one that only nginx knows, or its container. A master that is neither
// root nor the owner, as in a container with a user of its own, makes the sockets by the
// right of that group, for which the mode is 0770. Where the directory is another user's, or
// no worker can be seen, it stays as it is.
func (a *applier) restrictRunDir(ctx context.Context) {
	dir := a.o.Dirs.Run
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() {
		return
	}
	i := a.master.find(ctx)
	if i.WorkerAccount == nil || i.MasterAccount == nil {
		return
	}
	mode := os.FileMode(0o750)
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
