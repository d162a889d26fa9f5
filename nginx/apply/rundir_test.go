package apply

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// accounts is a Runtime of which only the instance is known.
type accounts struct{ i nginx.Instance }

func (a accounts) Find(context.Context) nginx.Instance           { return a.i }
func (accounts) Start(context.Context) (int, error)              { panic("it runs") }
func (accounts) Signal(context.Context, int, nginx.Signal) error { panic("it is not told anything") }

func (accounts) Workers(int) nginx.Workers { panic("they are not asked for") }

func (accounts) Watch(int) (<-chan struct{}, func())                     { panic("it is not watched") }
func (accounts) Command(context.Context, ...string) (string, int, error) { panic("nothing is run") }

// nginx may write to the directory of the sockets, with any user in its container.
func TestRestrictRunDirForNginxInAContainer(t *testing.T) {
	testenv.NeedRoot(t)
	for _, row := range []struct {
		name           string
		owner          int
		master, worker int
		mode           os.FileMode
		group          uint32
	}{
		{name: "root's, with workers of a user", master: 0, worker: 101, mode: 0o750, group: 4321},
		{name: "a user's, whose directory it is", owner: 101, master: 101, worker: 101, mode: 0o750, group: 4321},
		{name: "a user's, whose group may write", master: 101, worker: 101, mode: 0o770, group: 4321},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := Options{Dirs: nginx.Dirs{State: "/state", Run: t.TempDir()}}
			if err := os.Chown(o.Dirs.Run, row.owner, -1); err != nil {
				t.Fatal(err)
			}
			o.Runtime = accounts{nginx.Instance{
				Master:        1,
				MasterAccount: &nginx.Account{UID: row.master, GID: 4321}, WorkerAccount: &nginx.Account{UID: row.worker, GID: 4321},
			}}
			newApplier(o, nil).restrictRunDir(t.Context())
			info, err := os.Stat(o.Dirs.Run)
			if err != nil {
				t.Fatal(err)
			}
			if gid := info.Sys().(*syscall.Stat_t).Gid; gid != row.group || info.Mode().Perm() != row.mode {
				t.Errorf("group %d and mode %o, want %d and %o", gid, info.Mode().Perm(), row.group, row.mode)
			}
		})
	}
}

// From the beginning nobody else can connect to the sockets, not only once nginx runs.
func TestRunDirIsClosedWhenItIsMade(t *testing.T) {
	dir := t.TempDir()
	s := &store{dir: filepath.Join(dir, "state")}
	run := filepath.Join(dir, "run", "nginx")
	if err := s.prepare(run, filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{run: 0o750, filepath.Dir(run): 0o755} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v; want %o", path, info.Mode(), err, want)
		}
	}
}
