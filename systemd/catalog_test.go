package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// systemd itself compiles the catalog, and finds every entry again.
func TestSystemdTakesTheCatalog(t *testing.T) {
	testenv.NeedCommand(t, "journalctl")
	text, err := os.ReadFile("nagaya.catalog")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, dir := range []string{"usr/lib/systemd/catalog", "var/lib/systemd/catalog"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "usr/lib/systemd/catalog/nagaya.catalog"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	journalctl := func(arg string) string {
		t.Helper()
		out, err := exec.Command("journalctl", "--root="+root, "--no-pager", arg).CombinedOutput()
		if err != nil {
			t.Fatalf("journalctl %s: %v\n%s", arg, err, out)
		}
		return string(out)
	}
	if said := journalctl("--update-catalog"); strings.TrimSpace(said) != "" {
		t.Errorf("systemd remarks on the catalog: %s", said)
	}
	list := journalctl("--list-catalog")
	entries := regexp.MustCompile(`(?m)^-- ([0-9a-f]{32})\nSubject: (.+)$`).FindAllStringSubmatch(string(text), -1)
	if len(entries) < 150 || strings.Count(list, "\n") != len(entries) {
		t.Errorf("%d entries in the file, %d in systemd's list", len(entries), strings.Count(list, "\n"))
	}
	for _, e := range entries {
		if !strings.Contains(list, e[1]+" nagaya: "+e[2]+"\n") {
			t.Errorf("systemd does not list %s: %s", e[1], e[2])
		}
	}
}

func TestMessageID(t *testing.T) {
	if got := MessageID("agent-started"); got != "76e77a7107a64cf1ae3f02d457ee2fa2" {
		t.Errorf("agent-started has %q", got)
	}
	if got := MessageID("no-such-event"); got != "" {
		t.Errorf("what is no event has %q", got)
	}
	seen := map[string]string{}
	for name, id := range messageIDs() {
		if !regexp.MustCompile(`^[a-z0-9-]+$`).MatchString(name) || !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(id) {
			t.Errorf("%q has %q", name, id)
		}
		if seen[id] != "" {
			t.Errorf("%s and %s have one id", name, seen[id])
		}
		seen[id] = name
	}
}
