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

	"github.com/nagaya-ecs/nagaya/nginx"
)

// Detect runs nginx -V and returns what that nginx can do. The Options need to
// name an nginx and no more. The error is a Fault, except for wrong Options.
func Detect(ctx context.Context, o Options) (b nginx.Build, err error) {
	r, done, err := New(o)
	if err != nil {
		return b, err
	}
	defer done()
	o = o.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	output, exit, err := r.Command(ctx, "-V")
	if _, ok := errors.AsType[*nginx.Fault](err); ok {
		return b, err
	}
	switch {
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("nginx is not installed as %q: install it, e.g. apt install nginx or dnf install nginx: %w", o.Binary, err)
	case err != nil:
		err = fmt.Errorf("running %s -V: %w", o.Binary, err)
	case exit != 0:
		err = fmt.Errorf("running %s -V: exit status %d", o.Binary, exit)
	default:
		if b, err = nginx.ParseBuild(output); err != nil {
			err = fmt.Errorf("%s: %w", o.Binary, err)
		}
	}
	if err != nil {
		return b, nginx.NewFault(err, "nginx-missing", nginx.Printable(err.Error()),
			fmt.Sprintf("install nginx %s or newer, or set nginx.binary; it is looked for again by itself", nginx.MinVersion))
	}
	if b.Stream == "dynamic" {
		has := hasFile
		if c, ok := r.(*container); ok {
			has = c.hasFile
		}
		if b.StreamModule = streamModule(output, has); b.StreamModule == "" {
			// Distributions have the module in a package of its own, which is not installed.
			b.Stream, b.StreamRealIP, b.StreamPreread, b.StreamTLS = "", false, false, false
		}
	}
	return b, nil
}

// modulesDir is the directory of modules in a build's configure arguments.
var modulesDir = regexp.MustCompile(`--modules-path=(/\S+)`)

// streamModule returns the file of a dynamic stream module; empty when it is not
// installed. version is the output of nginx -V.
func streamModule(version string, has func(file string) bool) string {
	dirs := []string{"/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/etc/nginx/modules"}
	if m := modulesDir.FindStringSubmatch(version); m != nil {
		dirs = append([]string{m[1]}, dirs...)
	}
	for _, dir := range dirs {
		if file := filepath.Join(dir, "ngx_stream_module.so"); has(file) {
			return file
		}
	}
	return ""
}

// hasFile reports whether there is a regular file of that name.
func hasFile(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular()
}
