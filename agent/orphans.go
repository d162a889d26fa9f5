package agent

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// orphanAge is how long a child must have been a zombie before it is buried. A child
// that this program started is waited for at once; what nobody waits for is an
// orphan, which the kernel gave to process 1 of the container.
const orphanAge = 5 * time.Second

// buryOrphans does what process 1 owes the others: without it every process that
// outlives its parent would stay in the process table, once it has ended.
func buryOrphans(ctx context.Context, age time.Duration) error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
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
		for _, pid := range zombies() {
			if before[pid] {
				_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil) // or somebody was quicker
			} else {
				now[pid] = true
			}
		}
		if before = now; len(now) > 0 {
			due = time.After(age)
		}
	}
}

// zombies lists the children of this process that have ended and not been waited
// for (proc_pid_stat(5)).
func zombies() []int {
	var all []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is a constant
	for _, file := range stats {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		text := string(b)
		pid, err := strconv.Atoi(text[:max(strings.IndexByte(text, ' '), 0)])
		// The name in parentheses may hold anything; state and parent come after it.
		f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		if err == nil && len(f) > 1 && f[0] == "Z" && f[1] == strconv.Itoa(os.Getpid()) {
			all = append(all, pid)
		}
	}
	return all
}
