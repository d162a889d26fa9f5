package stage

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/client"
)

// kept is what a later process needs to take a stage away.
type kept struct {
	DockerHost string
	Cloud      int
	Agent      int
}

const keptFile = "kept.json"

// Keep leaves everything running for End to take away later.
func (s *Stage) Keep() error {
	k := kept{DockerHost: s.dockerH}
	if s.cloud != nil {
		k.Cloud = s.cloud.cmd.Process.Pid
	}
	if s.agent != nil {
		k.Agent = s.agent.cmd.Process.Pid
	}
	b, err := json.Marshal(k)
	if err != nil {
		return err
	}
	return os.WriteFile(s.Path(keptFile), b, 0o600)
}

// End takes away what an earlier process kept in dir.
func End(ctx context.Context, dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, keptFile))
	if err != nil {
		return fmt.Errorf("%s holds nothing that was kept: %w", dir, err)
	}
	var k kept
	if err := json.Unmarshal(b, &k); err != nil {
		return err
	}
	for _, pid := range []int{k.Agent, k.Cloud} {
		if err := endProcess(ctx, pid, dir); err != nil {
			return err
		}
	}
	s := &Stage{Dir: dir, id: filepath.Base(dir), own: true, dockerH: k.DockerHost}
	if s.Docker, err = client.New(client.WithHost(k.DockerHost)); err != nil {
		return err
	}
	return s.Close()
}

// endProcess ends a process of a stage. A number that belongs to another process
// by now is left alone: the stage's processes name its directory.
func endProcess(ctx context.Context, pid int, dir string) error {
	ours := func() bool {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return err == nil && strings.Contains(string(line), dir)
	}
	if pid == 0 || !ours() {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return err
	}
	return Until(ctx, 20*time.Second, fmt.Sprintf("process %d ends", pid), func() error {
		if ours() {
			return fmt.Errorf("it lives")
		}
		return nil
	})
}
