package stage

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/moby/moby/client"
)

// bin is where the programs under test are.
var bin string

// TestMain builds the programs and makes sure that there is a Docker Engine and
// an nginx. Without them the tests are skipped, except where CI is set.
func TestMain(m *testing.M) {
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "end-to-end tests need Docker and nginx:", err)
		if os.Getenv("CI") != "" {
			os.Exit(1)
		}
		fmt.Fprintln(os.Stderr, "skipped; run them with 'make test'")
		os.Exit(0)
	}
	code := m.Run()
	os.RemoveAll(bin)
	os.Exit(code)
}

func prepare() (err error) {
	if _, err := exec.LookPath("nginx"); err != nil {
		return err
	}
	c, err := client.New(client.FromEnv)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := c.Ping(ctx, client.PingOptions{}); err != nil {
		return err
	}
	if bin, err = os.MkdirTemp("", "nagaya-bin-"); err != nil {
		return err
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin+"/", "./cmd/nagaya", "./cmd/nagaya-sim", "./cmd/nagaya-sim/household")
	build.Dir = "../../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	return build.Run()
}
