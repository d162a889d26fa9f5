package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// Detect asks the nginx of these Options what it is; only what says which nginx
// it is needs to be set. The error says what to install when there is none or
// when it is too old.
func Detect(ctx context.Context, o Options) (nginx.Build, error) {
	r, done, err := New(o)
	if err != nil {
		return nginx.Build{}, err
	}
	defer done()
	o = o.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	output, exit, err := r.Command(ctx, "-V")
	if f := (*nginx.Fault)(nil); errors.As(err, &f) {
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
		if b, err = nginx.ParseBuild(output); err != nil {
			err = fmt.Errorf("%s: %w", o.Binary, err)
		}
	}
	if err != nil {
		return b, &nginx.Fault{Err: err, Problem: problem.Problem{
			Code: "nginx-missing", Text: nginx.Printable(err.Error()),
			Hint: fmt.Sprintf("install nginx %s or newer, or set nginx.binary; it is looked for again by itself", nginx.MinVersion),
		}}
	}
	if b.Stream == "dynamic" {
		sees := seesFile
		if c, ok := r.(*container); ok {
			sees = c.seesFile
		}
		b.StreamModule = streamModule(output, sees)
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

// seesFile reports whether there is a regular file of that name.
func seesFile(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular()
}
