package box

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
	"github.com/nagaya-ecs/nagaya/cmd/nagaya-sim/stage"
)

var made = flag.String("packages", "", "use the packages that an earlier run with -keep left in this `directory`")

var keep = flag.Bool("keep", false, "keep the packages, and say where")

// packages is a directory with the .deb of this tree by two versions, and with the
// programs of the sample services in bin.
var packages string

func older() string { return filepath.Join(packages, "older.deb") }
func newer() string { return filepath.Join(packages, "newer.deb") }

// TestMain builds the packages. Without root and Docker the tests are skipped, except
// where CI is set.
func TestMain(m *testing.M) {
	ctx := context.Background()
	why := stage.Needs(ctx)
	if why == nil && os.Geteuid() != 0 {
		why = errors.New("only root can connect network namespaces")
	}
	testenv.ExitWithout(why)
	flag.Parse()
	var err error
	if packages = *made; packages == "" {
		err = makePackages()
	}
	code := 1
	if err == nil {
		code = m.Run()
		if s, serr := theSet(); serr == nil {
			err = s.Close()
		}
	}
	switch {
	case *keep:
		fmt.Fprintln(os.Stderr, "-packages", packages)
	case *made == "":
		err = errors.Join(err, os.RemoveAll(packages))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// makePackages makes them and the programs by the Makefile, in a copy of the tree: other tests are at
// work in the tree itself.
func makePackages() (err error) {
	if packages, err = os.MkdirTemp("", "nagaya-packages-"); err != nil {
		return err
	}
	tree := filepath.Join(packages, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	const copyTree = `git ls-files -z --cached --others --exclude-standard | xargs -0 ls -d 2>/dev/null | xargs cp --parents -t "$0"
mkdir -p .cache && ln -s "$PWD/.cache" "$0/.cache" && git rev-parse --absolute-git-dir`
	git, err := tell("../../..", nil, "bash", "-c", copyTree, tree)
	if err != nil {
		return err
	}
	for version, file := range map[string]string{"0.9.0": older(), "1.0.0": newer()} {
		if _, err := tell(tree, []string{"GIT_DIR=" + git, "MAKEFLAGS="}, "make", "build", "package", "KINDS=deb", "ARCHES="+runtime.GOARCH, "VERSION="+version); err != nil {
			return err
		}
		made, err := filepath.Glob(filepath.Join(tree, "dist", "*.deb"))
		if err != nil || len(made) != 1 {
			return fmt.Errorf("%v; packages %v", err, made)
		}
		if err := os.Rename(made[0], file); err != nil {
			return err
		}
	}
	return os.Rename(filepath.Join(tree, "bin"), filepath.Join(packages, "bin"))
}

// tell runs a program to its end and returns what it said.
func tell(dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
