package stage

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/moby/moby/client"
)

// Needs says what of the machine a stage lacks: nginx, or a Docker Engine that answers.
func Needs(ctx context.Context) error {
	if _, err := exec.LookPath("nginx"); err != nil {
		return err
	}
	c, err := client.New(client.FromEnv)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err = c.Ping(ctx, client.PingOptions{})
	return err
}

// Build builds the programs that a stage needs from the module at root into dir,
// static and stripped as they are shipped.
func Build(ctx context.Context, root, dir string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", dir+"/", "./cmd/nagaya", "./cmd/nagaya-sim", "./cmd/nagaya-sim/household")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the programs: %w\n%s", err, out)
	}
	return nil
}
