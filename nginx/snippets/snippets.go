// Package snippets is the source of the operator's own files: nginx directives and
// password files.
package snippets

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/readfile"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// Bounds of what is read from the operator's snippet directory.
const (
	maxSnippets    = 2000
	maxSnippetSize = 1 << 20 // bytes
)

// Options say where the operator's own files are; an empty directory is none.
type Options struct {
	// Own has http.d, stream.d, site.d and location.d in it.
	Own string
	// Vhost is a directory as nginx-proxy's vhost.d, Conf one as its conf.d.
	Vhost string
	Conf  string
	// Passwords is the directory of password files.
	Passwords string
	// Every is how often the files are listed; default 10 s.
	Every time.Duration
	Log   *slog.Logger
}

// Watch lists the files until ctx ends, and puts them when they have changed. While
// a directory cannot be read, the files from before stay: that must not change how sites
// behave.
func Watch(ctx context.Context, o Options, put func(nginx.OperatorFiles)) error {
	if o.Every <= 0 {
		o.Every = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	var last nginx.OperatorFiles
	heard, failed := false, ""
	for {
		files, err := List(o)
		switch {
		case err != nil && err.Error() != failed:
			failed = err.Error()
			o.Log.Warn("operator's nginx files could not be read", event.Key, event.SnippetsUnreadable, "err", err)
		case err != nil:
		default:
			failed = ""
		}
		if err == nil && !(heard && slices.Equal(files.Snippets, last.Snippets) && slices.Equal(files.Passwords, last.Passwords)) {
			last, heard = files, true
			put(files)
		}
		if !backoff.Sleep(ctx, o.Every) {
			return nil
		}
	}
}

// List lists the files once.
func List(o Options) (nginx.OperatorFiles, error) {
	snippets, err := listSnippets(o)
	if err != nil {
		return nginx.OperatorFiles{}, err
	}
	passwords, err := listPasswords(o.Passwords)
	return nginx.OperatorFiles{Snippets: snippets, Passwords: passwords}, err
}

// listSnippets lists the operator's own files, sorted by name, each with the SHA-256 of
// its content. A missing directory has none.
func listSnippets(d Options) ([]nginx.Snippet, error) {
	var out []nginx.Snippet
	for _, from := range []struct{ dir, as, suffix string }{
		{below(d.Own, "http.d"), "http.d", ".conf"},
		{below(d.Own, "stream.d"), "stream.d", ".conf"},
		{below(d.Own, "site.d"), "site.d", ".conf"},
		{below(d.Own, "location.d"), "location.d", ".conf"},
		{d.Conf, "http.d", ".conf"},
		{d.Vhost, "vhost.d", ""},
	} {
		found, err := snippetsIn(from.dir, from.as, from.suffix)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
		if len(out) > maxSnippets {
			return nil, fmt.Errorf("there are more than %d snippets: remove what is not needed", maxSnippets)
		}
	}
	slices.SortFunc(out, func(a, b nginx.Snippet) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Path, b.Path))
	})
	return out, nil
}

func below(dir, sub string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, sub)
}

func snippetsIn(dir, as, suffix string) ([]nginx.Snippet, error) {
	if dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing snippets: %w", err)
	}
	var out []nginx.Snippet
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), suffix) || strings.HasPrefix(e.Name(), ".") || e.Name() == "default.conf" {
			continue // packages and images of nginx bring a default.conf with a welcome page
		}
		file := filepath.Join(dir, e.Name())
		sum, err := fingerprint(file)
		if err != nil {
			return nil, fmt.Errorf("reading snippet %s: %w", file, err)
		}
		out = append(out, nginx.Snippet{Name: as + "/" + e.Name(), Path: file, Fingerprint: sum})
	}
	return out, nil
}

// listPasswords lists the files in a directory of password files, sorted. A missing
// directory has none.
func listPasswords(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing password files: %w", err)
	}
	names := []string{}
	for _, e := range entries {
		if !e.IsDir() && len(names) < maxSnippets {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func fingerprint(path string) (string, error) {
	text, err := readfile.Regular(path, maxSnippetSize)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), err
}
