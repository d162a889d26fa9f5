package brake

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/atomicfile"
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
	// Dir is where the quota that a unit had is noted before it is changed, for whoever finds it
	// if this process is killed; see Free.
	Dir string

	units   units // nil is systemd
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

// units are what a job needs of systemd.
type units interface {
	CPUQuota(ctx context.Context, unit string) (float64, error)
	SetCPUQuota(ctx context.Context, unit string, cpus float64) error
}

type ofSystemd struct{}

func (ofSystemd) CPUQuota(ctx context.Context, unit string) (float64, error) {
	return systemd.CPUQuota(ctx, unit)
}

func (ofSystemd) SetCPUQuota(ctx context.Context, unit string, cpus float64) error {
	return systemd.SetCPUQuota(ctx, unit, cpus)
}

// limit sets a quota, or takes it away with 0: by systemd where the control group is a unit's, because systemd writes the files
// of its units again whenever it likes.
func (j *Job) limit(ctx context.Context, vcpus float64) error {
	switch {
	case j.Own == nil:
		return cgroup.ErrShared
	case j.units == nil && systemd.Booted():
		j.units = ofSystemd{}
	}
	if j.Own.Unit == "" || j.units == nil {
		return j.Own.Limit(vcpus)
	}
	if !j.limited {
		before, err := j.units.CPUQuota(ctx, j.Own.Unit)
		if errors.Is(err, systemd.ErrNoBus) {
			j.Own.Unit = "" // it is as one that is no unit's from now on
			return j.Own.Limit(vcpus)
		}
		if err == nil {
			err = atomicfile.WriteJSON(noteOf(j.Dir, j.Own.Unit), note{CPUs: before})
		}
		if err != nil {
			return err
		}
		j.before = before
	}
	free := vcpus == 0
	if j.before > 0 && (free || vcpus > j.before) {
		vcpus = j.before // it had less
	}
	err := j.units.SetCPUQuota(ctx, j.Own.Unit, vcpus)
	if err == nil && free {
		err = forget(noteOf(j.Dir, j.Own.Unit))
	}
	return err
}

// note is what a unit had before a job of it was held back.
type note struct {
	// CPUs is its CPU quota in processors; 0 is none.
	CPUs float64 `json:"cpus"`
}

func noteOf(dir, unit string) string { return filepath.Join(dir, "quota-"+filepath.Base(unit)+".json") }

// FreeUnit gives a unit the CPU quota back that it had before a job of it was held back whose process was
// killed. Dir is that of the Job. It does nothing where nothing was left behind.
func FreeUnit(ctx context.Context, dir, unit string) error {
	return freeUnit(ctx, ofSystemd{}, noteOf(dir, unit), unit)
}

func freeUnit(ctx context.Context, of units, file, unit string) error {
	had := note{CPUs: -1}
	if err := atomicfile.ReadJSON(file, &had); err != nil || had.CPUs < 0 || had.CPUs > mostCPUs {
		return err
	}
	if err := of.SetCPUQuota(ctx, unit, had.CPUs); err != nil {
		return err
	}
	return forget(file)
}

// mostCPUs is more processors than a machine has.
const mostCPUs = 10_000

func forget(file string) error {
	if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
