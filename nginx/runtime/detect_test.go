package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDetect(t *testing.T) {
	dir := t.TempDir()
	script := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, row := range []struct{ name, binary, want string }{
		{"missing", filepath.Join(dir, "none"), "install it"},
		{"not in PATH", "nagaya-test-no-such-nginx", "install it"},
		{"fails", script("fails", "exit 3\n"), "exit status 3"},
		{"old", script("old", "echo 'nginx version: nginx/1.14.1' >&2\n"), "too old"},
		{"endless", script("endless", "yes | head -c 1000000\n"), "has no line"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if _, err := Detect(t.Context(), Options{Binary: row.binary}); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want an error with %q", err, row.want)
			}
		})
	}
}
