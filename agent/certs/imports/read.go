// Package imports brings certificates of other programs into the store: it reads their files, and
// writes what package certs finds usable in them.
package imports

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/readfile"
)

const (
	maxFile  = 8 << 20  // bytes of one file: Traefik's acme.json takes 10 kB for a certificate
	maxBytes = 64 << 20 // of all files that are kept
	maxFiles = 20000    // files and directories that are looked at
	maxDepth = 6        // directories below each other
)

var errTooMuch = fmt.Errorf("there is more than %d files or %d MiB; name fewer directories", maxFiles, maxBytes>>20)

// Read returns the files at and below the paths that may have to do with certificates, and what
// could not be read. Links to files are followed, those to directories only where they are named themselves. Beside
// certbot's live/ it reads renewal/.
func Read(paths ...string) (files []certs.File, wrong []error) {
	r := reader{seen: map[string]bool{}}
	for _, path := range paths {
		path, err := filepath.Abs(path)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		if err := r.walk(path, 0); err != nil {
			wrong = append(wrong, err)
		}
		above := path
		for range 3 {
			if filepath.Base(above) == "live" {
				_ = r.walk(filepath.Join(filepath.Dir(above), "renewal"), maxDepth-1) // only says where from
			}
			above = filepath.Dir(above)
		}
	}
	return r.files, append(wrong, r.wrong...)
}

type reader struct {
	files []certs.File
	wrong []error
	seen  map[string]bool // paths
	bytes int
}

// walk reads a file, or what is in a directory. Its error is about the path itself.
func (r *reader) walk(path string, depth int) error {
	if r.seen[path] {
		return nil
	}
	r.seen[path] = true
	if len(r.seen) > maxFiles || r.bytes > maxBytes {
		return errTooMuch
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return plain(err)
	case info.Mode().IsRegular():
		return r.read(path)
	case !info.IsDir():
		return fmt.Errorf("%s is neither a file nor a directory", quoted(path))
	}
	d, err := os.Open(path)
	if err != nil {
		return plain(err)
	}
	defer d.Close()
	entries, err := d.ReadDir(maxFiles)
	if err != nil && !errors.Is(err, io.EOF) {
		return plain(err)
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		at := filepath.Join(path, e.Name())
		switch info, err := os.Stat(at); {
		case err != nil && e.Type()&os.ModeSymlink != 0: // dangling: nobody else uses it either
		case err != nil:
			r.wrong = append(r.wrong, plain(err))
		case info.IsDir() && (!e.IsDir() || depth+1 >= maxDepth):
		case info.IsDir() || info.Mode().IsRegular():
			if err := r.walk(at, depth+1); errors.Is(err, errTooMuch) {
				return err
			} else if err != nil {
				r.wrong = append(r.wrong, err)
			}
		}
	}
	return nil
}

// read keeps a file that may have to do with certificates.
func (r *reader) read(path string) error {
	text, err := readfile.Regular(path, maxFile)
	if err != nil {
		return plain(err)
	}
	name := filepath.Base(path)
	if bytes.Contains(text, []byte("-----BEGIN ")) || bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) || filepath.Ext(name) == ".conf" || name == "account.url" {
		r.bytes += len(text)
		r.files = append(r.files, certs.File{Path: path, Body: text})
	}
	return nil
}

// plain is an error whose path, which may be anybody's, is quoted.
func plain(err error) error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		return fmt.Errorf("%s cannot be read: %w", quoted(p.Path), p.Err)
	}
	return errors.New(problem.Printable(err.Error(), 300))
}

func quoted(path string) string { return fmt.Sprintf("%.300q", path) }
