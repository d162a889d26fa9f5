package nginx

import (
	"fmt"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Space is what is left on the file system of a directory, in bytes, for users other than root,
// and its size.
type Space struct {
	Dir        string
	Left, Size uint64
	// Low is true while so little is left that nginx is to write no more there.
	Low bool
}

// kept is what is kept for configurations, certificates and state: a twentieth of the file
// system, 256 MiB at most. One that does not say its size keeps nothing.
func (s Space) kept() uint64 { return min(s.Size/20, 256<<20) }

// Seen is the space after another look. It becomes low where less is left than what is kept,
// and is low until there is twice as much, so that it does not alternate.
func (s Space) Seen(left, size uint64) Space {
	now := Space{Dir: s.Dir, Left: left, Size: size}
	limit := now.kept()
	if s.Low {
		limit *= 2
	}
	now.Low = left < limit
	return now
}

// Reserve is the size of a file that occupies a part of what is kept until something cannot be
// written without its space; 0 where there is no room for it.
func (s Space) Reserve() int64 {
	if s.Left < 2*s.kept() {
		return 0
	}
	return int64(s.kept() / 4)
}

// Spaces are those of nginx's logs and of its temporary files.
type Spaces struct{ Logs, Temp Space }

// warnOfSpace adds the problem of each that is low.
func (t *Tree) warnOfSpace() {
	for _, low := range []struct {
		Space
		off string
	}{
		{t.settings.Spaces.Logs, "no request is logged, and no error of one"},
		{t.settings.Spaces.Temp, "no body of a request or an answer is stored on the disk before it is passed on"},
	} {
		if low.Low {
			t.Problems = append(t.Problems, problem.Of(low.Dir, "disk-low",
				fmt.Sprintf("free some space ('df -h %s', 'docker image prune'); nginx writes there again when twice of what is kept is left", low.Dir),
				"%d MiB of %d were left in %s, and %d are kept for routes, certificates and state: %s", low.Left>>20, low.Size>>20, low.Dir, low.kept()>>20, low.off))
		}
	}
}
