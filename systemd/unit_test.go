package systemd

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/unit"
)

// analyze runs systemd-analyze on a copy of the unit whose command exists here.
func analyze(t *testing.T, args ...string) (string, error) {
	t.Helper()
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	content, err := os.ReadFile("nagaya.service")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "nagaya.service")
	if err := os.WriteFile(path, bytes.ReplaceAll(content, []byte("/usr/bin/nagaya"), []byte("/bin/true")), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tool, append(args, path)...).CombinedOutput()
	return string(out), err
}

func TestUnitIsValid(t *testing.T) {
	// --man=no: the manual pages come with the package.
	if out, err := analyze(t, "verify", "--man=no"); err != nil || out != "" {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

func TestUnitIsHardened(t *testing.T) {
	// 3.0 of 10: what is left is root, the network and what nginx needs of both.
	if out, err := analyze(t, "security", "--offline=true", "--no-pager", "--threshold=30"); err != nil {
		t.Errorf("exposed more than it was: %v\n%s", err, out)
	}
}

// TestUnitOrder keeps two traps shut: user data that starts the unit waits for
// itself if the unit waits for cloud-init's last stage, and an address claimed
// after the ECS agent has started tasks is claimed too late.
func TestUnitOrder(t *testing.T) {
	content, err := os.ReadFile("nagaya.service")
	if err != nil {
		t.Fatal(err)
	}
	options, err := unit.DeserializeOptions(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	words := map[string][]string{}
	for _, o := range options {
		words[o.Name] = append(words[o.Name], strings.Fields(o.Value)...)
	}
	if !slices.Contains(words["Before"], "ecs.service") {
		t.Errorf("Before=%v, want ecs.service in it", words["Before"])
	}
	for _, name := range []string{"After", "Wants", "Requires", "BindsTo", "PartOf"} {
		if slices.ContainsFunc(words[name], func(w string) bool { return strings.HasPrefix(w, "cloud-") || strings.HasPrefix(w, "docker") }) {
			t.Errorf("%s=%v waits for cloud-init or Docker", name, words[name])
		}
	}
}
