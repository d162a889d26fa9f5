package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// Detect asks an nginx binary (default "nginx" from PATH) what it is. The error
// says what to install when there is none or when it is too old.
func Detect(ctx context.Context, binary string) (nginx.Build, error) {
	binary = cmp.Or(binary, "nginx")
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out := &tail{limit: 64 << 10}
	cmd := exec.CommandContext(ctx, binary, "-V")
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, out, time.Second
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			return nginx.Build{}, fmt.Errorf("nginx is not installed as %q: install it, e.g. apt install nginx or dnf install nginx: %w", binary, err)
		}
		return nginx.Build{}, fmt.Errorf("running %s -V: %w", binary, err)
	}
	b, err := nginx.ParseBuild(out.String())
	if err != nil {
		return b, fmt.Errorf("%s: %w", binary, err)
	}
	if b.Stream == "dynamic" {
		b.StreamModule = streamModule(out.String())
		if b.StreamModule == "" {
			// Distributions package the module apart; without it this nginx has none.
			b.Stream, b.StreamRealIP, b.StreamPreread, b.StreamTLS = "", false, false, false
		}
	}
	return b, nil
}

// modulesDir is where a build says that its modules are.
var modulesDir = regexp.MustCompile(`--modules-path=(/\S+)`)

// streamModule finds the file of a dynamic stream module; empty when it is not
// installed.
func streamModule(version string) string {
	dirs := []string{"/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/etc/nginx/modules"}
	if m := modulesDir.FindStringSubmatch(version); m != nil {
		dirs = append([]string{m[1]}, dirs...)
	}
	for _, dir := range dirs {
		file := filepath.Join(dir, "ngx_stream_module.so")
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			return file
		}
	}
	return ""
}

// tail keeps the last bytes of what is written to it.
type tail struct {
	limit int
	b     []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - t.limit; over > 0 {
		t.b = slices.Delete(t.b, 0, over)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.b) }
