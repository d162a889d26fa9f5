// Package bench measures what nagaya costs, on a stage, beside a baseline that
// is measured in the same run.
package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

// IdleOptions say how the idle agent is measured.
type IdleOptions struct {
	// Bin is the directory of the programs.
	Bin string
	// Containers is the number of routed containers.
	Containers int
	// Settle is how long the agent is left alone before, Span how long it is measured.
	Settle, Span time.Duration
	Out          io.Writer
}

// What an idle agent may cost.
const (
	maxRSS   = 25 << 20 // bytes
	maxShare = 0.001    // of one core
)

// Idle measures the memory and CPU time of an agent with nothing to do, with the
// default intervals and every part switched on, and nginx's beside it. It
// returns an error if the agent costs more than it may.
func Idle(ctx context.Context, o IdleOptions) (err error) {
	var hosts []string
	for i := range o.Containers {
		hosts = append(hosts, fmt.Sprintf("h%02d.test", i))
	}
	s, err := stage.New(ctx, stage.Options{Bin: o.Bin, Hosts: hosts, Config: "address: {claim: 'tag:Name=nagaya'}\n"})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := s.Close(); err == nil {
			err = cerr
		}
	}()
	if err := s.StartCloud(ctx); err != nil {
		return err
	}
	for i, host := range hosts {
		if _, err := s.Run(ctx, stage.Container{
			Name: fmt.Sprintf("%s-%02d", filepath.Base(s.Dir), i), Args: []string{"-name", host},
			Labels: map[string]string{"nagaya.host": host}, Ports: map[string]string{"8080/tcp": "0"},
		}); err != nil {
			return err
		}
	}
	if err := s.StartAgent(); err != nil {
		return err
	}
	for _, host := range hosts {
		if err := stage.Until(ctx, 30*time.Second, host+" is served", func() error {
			code, body, err := s.Get(ctx, host)
			if err == nil && code != 200 {
				err = fmt.Errorf("status %d: %s", code, body)
			}
			return err
		}); err != nil {
			return err
		}
	}
	fmt.Fprintf(o.Out, "%d containers are served over HTTPS; settling for %s, measuring for %s\n", o.Containers, o.Settle, o.Span)
	return measure(ctx, s, o)
}

func measure(ctx context.Context, s *stage.Stage, o IdleOptions) error {
	if err := pause(ctx, o.Settle); err != nil {
		return err
	}
	agent, nginx := []int{s.AgentPID()}, family(s.NginxPID())
	before, nginxBefore, begun := cpu(agent), cpu(nginx), time.Now()
	if err := pause(ctx, o.Span); err != nil {
		return err
	}
	span := time.Since(begun).Seconds()
	share, nginxShare := (cpu(agent)-before)/span, (cpu(nginx)-nginxBefore)/span
	rss, anon := memory(agent)
	nginxRSS, nginxAnon := memory(nginx)
	const mib = 1 << 20
	fmt.Fprintf(o.Out, "%-8s %10s %14s %12s\n", "", "RSS (MiB)", "private (MiB)", "% of a core")
	fmt.Fprintf(o.Out, "%-8s %10.1f %14.1f %12.3f\n", "agent", rss/mib, anon/mib, 100*share)
	fmt.Fprintf(o.Out, "%-8s %10.1f %14.1f %12.3f\n", "nginx", nginxRSS/mib, nginxAnon/mib, 100*nginxShare)
	fmt.Fprintf(o.Out, "agent : nginx, RSS %.2f; the agent's CPU is %.2f credits a day\n", rss/nginxRSS, share*24*60)
	if rss > maxRSS || share > maxShare {
		return fmt.Errorf("the idle agent may take %d MiB and %.2f %% of a core", maxRSS/mib, 100*maxShare)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// family lists a process and its children.
func family(pid int) []int {
	pids := []int{pid}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return pids
	}
	for _, f := range strings.Fields(string(b)) {
		if child, err := strconv.Atoi(f); err == nil {
			pids = append(pids, child)
		}
	}
	return pids
}

// cpu is the CPU time of processes so far, in seconds, as finely as the
// scheduler knows it: /proc/PID/stat counts hundredths, too coarse for a minute.
func cpu(pids []int) float64 {
	total := 0.0
	for _, pid := range pids {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, t := range tasks {
			b, err := os.ReadFile(t)
			if err != nil {
				continue
			}
			if f := strings.Fields(string(b)); len(f) > 0 {
				ns, _ := strconv.ParseFloat(f[0], 64)
				total += ns / 1e9
			}
		}
	}
	return total
}

// memory is the resident memory of processes in bytes, and the part of it that is
// their own and not of a file.
func memory(pids []int) (rss, anon float64) {
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			name, rest, _ := strings.Cut(line, ":")
			f := strings.Fields(rest)
			if len(f) < 1 {
				continue
			}
			kib, _ := strconv.ParseFloat(f[0], 64)
			switch name {
			case "VmRSS":
				rss += kib * 1024
			case "RssAnon":
				anon += kib * 1024
			}
		}
	}
	return rss, anon
}
