package proc

import (
	"context"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// Watch returns a channel that is closed when the process has ended; where it is a child of
// this one it is waited for. stop ends the watching and waits for that.
func Watch(pid int) (gone <-chan struct{}, stop func()) {
	ended, quit, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var f *os.File
	if fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK); err == nil {
		f = os.NewFile(uintptr(fd), "pidfd")
	}
	go func() {
		defer close(done)
		raw, err := f.SyscallConn()
		if err != nil { // kernels before 5.10
			pollExit(pid, ended, quit)
			return
		}
		over := false
		raw.Read(func(fd uintptr) bool {
			n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			over = n > 0
			return over
		})
		if over {
			unix.Wait4(pid, nil, unix.WNOHANG, nil)
			close(ended)
		}
	}()
	return ended, func() { close(quit); f.Close(); <-done } // Close of a nil file does nothing
}

// pollExit checks every second whether the process lives.
func pollExit(pid int, ended chan<- struct{}, quit <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-quit:
			return
		case <-tick.C:
			unix.Wait4(pid, nil, unix.WNOHANG, nil)
			if Title(pid) == "" {
				close(ended)
				return
			}
		}
	}
}

// ReapAge is how long a child must have been a zombie before process 1 reaps it. A child
// that this program started is waited for at once; what nobody waits for is an orphan,
// which the kernel gave to process 1 of the container.
const ReapAge = 5 * time.Second

// ReapZombies reaps orphans until ctx ends, as process 1 has to: without it every process
// that outlives its parent would stay in the process table once it has ended.
func ReapZombies(ctx context.Context, age time.Duration) error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	defer signal.Stop(ended)
	var due <-chan time.Time
	before := map[int]bool{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ended:
			if due == nil {
				due = time.After(age)
			}
			continue
		case <-due:
			due = nil
		}
		now := map[int]bool{}
		for _, pid := range zombies(os.Getpid()) {
			if before[pid] {
				_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) // another goroutine may have been quicker
			} else {
				now[pid] = true
			}
		}
		if before = now; len(now) > 0 {
			due = time.After(age)
		}
	}
}
