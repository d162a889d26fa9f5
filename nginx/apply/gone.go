package apply

import (
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// goneFor is how long workers that drain are told that the servers of an upstream are gone: longer
// than nginx keeps idle connections of theirs (keepalive_min_timeout).
const goneFor = time.Minute

// tellGone tells the workers that run, also those that drain, which upstreams have lost their last
// server with a tree, so that they answer at once what the tree's own workers do. What cannot be
// written is as if it were not there: the workers wait until a connection fails.
func (a *applier) tellGone(tree nginx.Tree) {
	pools := tree.Pools()
	a.forgetGone(pools)
	dir := nginx.GoneDir(a.o.Dirs.State)
	for _, pool := range a.live.Pools() {
		if slices.Contains(pools, pool) {
			continue
		}
		_ = os.Mkdir(dir, 0o755) // it may be there
		if err := os.WriteFile(filepath.Join(dir, pool), nil, 0o644); err != nil {
			a.log.Debug("workers are not told that an upstream is gone", "file", filepath.Join(dir, pool), "err", err)
		}
	}
}

// forgetGone forgets that the upstreams of these pools are gone, and what has been for goneFor.
func (a *applier) forgetGone(pools []string) {
	dir := nginx.GoneDir(a.o.Dirs.State)
	files, _ := os.ReadDir(dir) // most often there is none
	for _, f := range files {
		info, err := f.Info()
		if slices.Contains(pools, f.Name()) || err != nil || time.Since(info.ModTime()) > goneFor {
			_ = os.Remove(filepath.Join(dir, f.Name()))
		}
	}
}
