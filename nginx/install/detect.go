package install

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
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
	return b, nil
}

// Bounds of what is read from the operator's snippet directory.
const (
	maxSnippets    = 2000
	maxSnippetSize = 1 << 20 // bytes
)

// Snippets lists the operator's own files below dir: http.d/*.conf and
// site.d/*.conf, sorted, each with the SHA-256 of its content. A missing
// directory has none.
func Snippets(dir string) ([]nginx.Snippet, error) {
	var out []nginx.Snippet
	for _, sub := range []string{"http.d", "site.d"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("listing snippets: %w", err)
		}
		for _, e := range entries {
			if e.IsDir() || !strings.HasSuffix(e.Name(), ".conf") || strings.HasPrefix(e.Name(), ".") {
				continue
			}
			if len(out) == maxSnippets {
				return nil, fmt.Errorf("%s holds more than %d snippets: remove what is not needed", dir, maxSnippets)
			}
			name := sub + "/" + e.Name()
			sum, err := fingerprint(filepath.Join(dir, name))
			if err != nil {
				return nil, fmt.Errorf("reading snippet %s: %w", name, err)
			}
			out = append(out, nginx.Snippet{Name: name, Fingerprint: sum})
		}
	}
	slices.SortFunc(out, func(a, b nginx.Snippet) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func fingerprint(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return "", err
	} else if !info.Mode().IsRegular() || info.Size() > maxSnippetSize {
		return "", fmt.Errorf("it is not a regular file of at most %d bytes", maxSnippetSize)
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, maxSnippetSize)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
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
