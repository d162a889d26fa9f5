package install

import (
	"context"
	"errors"
	"fmt"
)

// way is how nginx is run. Run, Check and Stop are the same for all ways.
//
// A master is known by its process number, which is unique among those that may
// run on this host at one time.
type way interface {
	// find returns the process number of our running master, or 0.
	find(ctx context.Context) int
	// isMaster says whether that process is our master.
	isMaster(pid int) bool
	// start makes nginx run with the current generation and returns its master. It
	// does not wait until nginx answers.
	start(ctx context.Context) (pid int, err error)
	// reload tells the master to load the current generation, and waits for nothing.
	reload(ctx context.Context, pid int) error
	// watch returns a channel that is closed when the master has ended. stop ends
	// the watching and waits for that.
	watch(pid int) (gone <-chan struct{}, stop func())
	// stop ends nginx if it is this program's to end.
	stop(ctx context.Context) error

	// workers returns the master's workers: those that accept, and those that are
	// draining, the oldest first.
	workers(master int) (active, draining []int)
	// unborn returns the master's children that are on their way to become workers.
	unborn(master int) []int
	// account returns who a process of nginx is; ok is false when that cannot be seen.
	account(pid int) (as account, ok bool)
	// retire lets a worker finish what it has begun and take nothing new.
	retire(worker int) error
	// end ends a worker whatever it is doing.
	end(worker int) error

	// run runs the binary beside the running nginx and returns the end of what it
	// said. The error says why it could not be run or did not end.
	run(ctx context.Context, args ...string) (said string, exit int, err error)
	// sees reports whether the binary finds a regular file of that name.
	sees(file string) bool
	// net is the /proc/PID/net of nginx's network; empty where that cannot be seen.
	net() string
	// scratch is the directory below which the binary sees what is written here;
	// empty is the system's own.
	scratch() string
	// container is the id of the container that nginx is in, or "".
	container() string
	// close gives up what this way holds; nginx goes on.
	close()
}

func newWay(o Options) (way, error) {
	switch o.Mode {
	case Exec, "":
		return newChild(o), nil
	case Service:
		if o.Unit == "" {
			return nil, errors.New("the field Unit is missing")
		}
		return newService(o), nil
	case Container:
		if len(o.Labels) == 0 {
			return nil, errors.New("the field Labels is missing")
		}
		return newContainer(o)
	}
	return nil, fmt.Errorf("mode %q is none of exec, service and container", o.Mode)
}
