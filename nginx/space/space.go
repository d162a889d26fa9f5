// Package space looks at how much is left on the file systems that nginx writes to without a
// bound, and keeps a reserve for what must be written when one is full.
package space

import (
	"cmp"
	"context"
	"syscall"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/atomicfile"
	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// Options are the options of Watch.
type Options struct {
	// Logs and Temp are the directories of nginx's logs and temporary files; one that is
	// empty is not looked at.
	Logs, Temp string
	// State is the directory in which the reserve is kept; empty for none.
	State string
}

// every is how often it looks. After a change it looks again six times as late, so that nginx is reloaded at
// most once a minute because of it.
const every = 10 * time.Second

// Watch puts what is low, whenever that has changed, until ctx ends, and then returns nil. What
// cannot be looked at stays what it was.
func Watch(ctx context.Context, o Options, put func(nginx.Spaces)) error {
	last := nginx.Spaces{Logs: nginx.Space{Dir: o.Logs}, Temp: nginx.Space{Dir: o.Temp}}
	for {
		now := nginx.Spaces{Logs: look(last.Logs), Temp: look(last.Temp)}
		pause := every
		if now.Logs.Low != last.Logs.Low || now.Temp.Low != last.Temp.Low {
			put(now)
			pause *= 6
		}
		last = now
		if size := look(nginx.Space{Dir: o.State}).Reserve(); size > 0 {
			_ = atomicfile.KeepReserve(o.State, size) // not every file system can, and the next look tries again
		}
		if !backoff.Sleep(ctx, pause) {
			return nil
		}
	}
}

func look(s nginx.Space) nginx.Space {
	var fs syscall.Statfs_t
	if s.Dir == "" || syscall.Statfs(s.Dir, &fs) != nil {
		return s
	}
	block := uint64(cmp.Or(fs.Frsize, fs.Bsize)) // as statvfs(3) does
	return s.Seen(fs.Bavail*block, fs.Blocks*block)
}
