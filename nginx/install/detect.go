package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// Detect asks the nginx of these Options what it is; only what says which nginx
// it is needs to be set. The error says what to install when there is none or
// when it is too old.
func Detect(ctx context.Context, o Options) (nginx.Build, error) {
	o.Binary = cmp.Or(o.Binary, "nginx")
	w, err := newWay(o)
	if err != nil {
		return nginx.Build{}, err
	}
	defer w.close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	said, exit, err := w.run(ctx, "-V")
	if t := (*trouble)(nil); errors.As(err, &t) {
		return nginx.Build{}, err
	}
	switch {
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("nginx is not installed as %q: install it, e.g. apt install nginx or dnf install nginx: %w", o.Binary, err)
	case err != nil:
		err = fmt.Errorf("running %s -V: %w", o.Binary, err)
	case exit != 0:
		err = fmt.Errorf("running %s -V: exit status %d", o.Binary, exit)
	}
	var b nginx.Build
	if err == nil {
		if b, err = nginx.ParseBuild(said); err != nil {
			err = fmt.Errorf("%s: %w", o.Binary, err)
		}
	}
	if err != nil {
		return b, &trouble{
			code: "nginx-missing", err: err, text: bounded(err.Error()),
			hint: fmt.Sprintf("install nginx %s or newer, or set nginx.binary; it is looked for again by itself", nginx.MinVersion),
		}
	}
	if b.Stream == "dynamic" {
		b.StreamModule = streamModule(said, w.sees)
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
func streamModule(version string, there func(file string) bool) string {
	dirs := []string{"/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/etc/nginx/modules"}
	if m := modulesDir.FindStringSubmatch(version); m != nil {
		dirs = append([]string{m[1]}, dirs...)
	}
	for _, dir := range dirs {
		file := filepath.Join(dir, "ngx_stream_module.so")
		if there(file) {
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
