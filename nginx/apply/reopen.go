package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// lostSockets returns the sockets of a tree whose files are gone.
func lostSockets(t nginx.Tree) []string {
	return slices.DeleteFunc(t.Sockets(), func(s string) bool {
		_, err := os.Lstat(s)
		return !missing(err)
	})
}

// reopenSockets makes nginx open its unix sockets again where their files have been
// removed: nginx would keep the nameless ones until it is started again, and neither the
// agent nor the sites behind them could connect. nginx loads
// the current generation with other names for them, and then the generation itself:
// only names differ from what it has accepted already. Sites that need none of
// these sockets lose no request; those that do were unreachable, and
// may lose one in the second reload.
func (a *applier) reopenSockets(ctx context.Context) error {
	gen := a.store.current()
	if a.master.pid == 0 || gen == "" {
		return nil
	}
	tree, err := a.treeOf(gen)
	if err != nil {
		return nil // the guard restores it
	}
	lost := lostSockets(tree)
	if len(lost) == 0 {
		return nil
	}
	a.log.Warn("sockets of nginx were removed; it opens them again", event.Key, event.FilesRestored, "first", lost[0], "files", len(lost))
	renamed := tree.RenameSockets(lost...)
	if err := a.store.install(renamed); err != nil {
		return err
	}
	client := a.client
	if s := nginx.Socket(a.o.Dirs.Run); slices.Contains(lost, s) {
		a.client = statusClient(nginx.RenamedSocket(s))
	}
	err = a.reload(ctx, renamed)
	a.client = client
	if err = errors.Join(err, a.store.swap(gen)); err != nil {
		return err
	}
	if err := a.reload(ctx, tree); err != nil {
		return err
	}
	a.store.sweep(gen)
	return nil
}

// reopenLogs has nginx open its logs again, after they were moved.
func (a *applier) reopenLogs(ctx context.Context) {
	if a.master.pid == 0 {
		return // it opens them when it starts
	}
	err := unreadPipe(a.o.Dirs.Log)
	if err == nil {
		err = a.o.Runtime.Signal(ctx, a.master.pid, nginx.Reopen)
	}
	if err != nil {
		a.log.Warn("nginx goes on with its old logs", event.Key, event.NginxLogsKept, "err", err)
	}
}

// unreadPipe is the fault of a pipe in place of a log: where nobody reads it, nginx waits for that without end, whatever it
// is told, and so does nginx -t.
func unreadPipe(logDir string) error {
	if logDir == "" {
		return nil
	}
	for _, name := range []string{"error.log", "access.log", "stream.log"} {
		file := filepath.Join(logDir, name)
		if info, err := os.Stat(file); err != nil || info.Mode().Type() != fs.ModeNamedPipe {
			continue
		}
		f, err := os.OpenFile(file, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err == nil {
			f.Close() // somebody reads it
			continue
		}
		return nginx.NewFault(err, "nginx-install-failed", fmt.Sprintf("%q is a pipe that nobody reads, at which nginx would wait without end", file),
			"move it away (rm "+file+"); nginx goes on with what it has")
	}
	return nil
}
