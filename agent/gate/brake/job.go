package brake

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/cgroup"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/systemd"
)

// Job holds back one command and its children. It is for one goroutine at a time.
type Job struct {
	// PID is the command, which is stopped and continued, with its whole process group if it leads one (Grouped).
	PID     int
	Grouped bool
	// Own is the control group for a quota; nil where the command shares it with others.
	Own *cgroup.Group

	slow    gate.Slow
	quota   float64
	stopped bool
	limited bool
	before  float64 // the unit's own quota; 0 is none
}

// Held is how the job is held back: "" or SlowOff, SlowQuota with its vCPUs, or SlowPause.
func (j *Job) Held() (gate.Slow, float64) { return j.slow, j.quota }

// Hold brings the job to what is wanted. Where no quota can be set the job is stopped instead, until it is set free, and
// the error says why.
func (j *Job) Hold(ctx context.Context, slow gate.Slow, vcpus float64) error {
	if slow == j.slow && vcpus == j.quota {
		return nil
	}
	j.slow, j.quota = slow, vcpus
	var err error
	stop := slow == gate.SlowPause
	if slow == gate.SlowQuota {
		if err = j.limit(ctx, vcpus); err != nil {
			stop = true
		}
		j.limited = j.limited || err == nil
	} else if j.limited {
		if err = j.limit(ctx, 0); err == nil {
			j.limited = false
		}
	}
	if stop != j.stopped {
		j.stopped = stop
		s := syscall.SIGCONT
		if stop {
			s = syscall.SIGSTOP
		}
		j.Signal(s)
	}
	return err
}

// Free sets the job free, e.g. so that it can take a signal.
func (j *Job) Free() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return j.Hold(ctx, "", 0)
}

// Signal sends a signal to the command, with its whole process group if it leads one.
func (j *Job) Signal(s syscall.Signal) {
	pid := j.PID
	if j.Grouped {
		pid = -pid
	}
	_ = syscall.Kill(pid, s) // it may have ended this moment
}

// limit sets a quota, or takes it away with 0: by systemd where the control group is a unit's, because systemd writes the files
// of its units anew whenever it likes.
func (j *Job) limit(ctx context.Context, vcpus float64) error {
	if j.Own == nil {
		return cgroup.ErrShared
	}
	if j.Own.Unit == "" || !systemd.Booted() {
		return j.Own.Limit(vcpus)
	}
	if j.limited && j.before > 0 && (vcpus == 0 || vcpus > j.before) {
		vcpus = j.before
	}
	before, err := systemd.SetCPUQuota(ctx, j.Own.Unit, vcpus)
	switch {
	case errors.Is(err, systemd.ErrNoBus):
		return j.Own.Limit(vcpus)
	case err != nil || j.limited:
		return err
	case before > 0 && before < vcpus:
		_, err = systemd.SetCPUQuota(ctx, j.Own.Unit, before) // it had less
	}
	j.before = before
	return err
}
