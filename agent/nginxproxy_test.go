package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/config"
)

func TestMountedFilesWithoutEffect(t *testing.T) {
	root := t.TempDir()
	c := config.Default()
	c.NginxProxy = true
	if got := withoutEffect(c, root); got != nil {
		t.Errorf("nothing is mounted: %+v", got)
	}
	for _, name := range []string{"etc/nginx/dhparam/dhparam.pem", "etc/nginx/toplevel.conf.d/stream.conf"} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var subjects []string
	for _, p := range withoutEffect(c, root) {
		subjects = append(subjects, p.Subject)
	}
	if got, want := strings.Join(subjects, ", "), "file /etc/nginx/toplevel.conf.d/*.conf, file /etc/nginx/dhparam/dhparam.pem"; got != want {
		t.Errorf("named are %s, want %s", got, want)
	}
	c.NginxProxy = false
	if got := withoutEffect(c, root); got != nil {
		t.Errorf("nginx-proxy's files do not count here: %+v", got)
	}
}
