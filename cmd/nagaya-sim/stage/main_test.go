package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// bin is where the programs under test are.
var bin string

// Programs is where they are, for the tests that see this package from outside.
func Programs() string { return bin }

// TestMain builds the programs and makes sure that there is a Docker Engine and
// an nginx. Without them the tests are skipped, except where CI is set.
func TestMain(m *testing.M) {
	ctx := context.Background()
	endWithUs = testenv.EndWithTest
	testenv.ExitWithout(Needs(ctx))
	var err error
	if bin, err = os.MkdirTemp("", "nagaya-bin-"); err == nil {
		err = Build(ctx, "../../..", bin)
	}
	code := 1
	if err == nil {
		code = m.Run()
	}
	if err = errors.Join(err, removeImages(ctx, proxyImage, debianImage), os.RemoveAll(bin), os.RemoveAll(made)); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}
