package systemd

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/unit"
	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// units are what the package installs, and how much each service may be exposed in
// tenths, of 100: what is left to the agent is the network, the Docker socket, signals and
// the ports below 1024, and to nginx the network and these ports.
var units = map[string]string{
	"nagaya.service": "20", "nagaya-nginx.service": "20", "nagaya-nginx-test@.service": "20",
	"nagaya.socket": "", "nagaya-nginx.path": "", "nagaya-nginx-test.socket": "",
}

// analyze runs systemd-analyze on copies of the units whose commands exist here.
func analyze(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	tool := testenv.NeedCommand(t, "systemd-analyze")
	dir := t.TempDir()
	for unit := range units {
		content, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		content = regexp.MustCompile(`/usr/s?bin/(nagaya|nginx|systemd-tmpfiles)`).ReplaceAll(content, []byte("/bin/true"))
		if err := os.WriteFile(filepath.Join(dir, unit), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(tool, append(args, filepath.Join(dir, name))...).CombinedOutput()
	return string(out), err
}

func TestUnitsAreValid(t *testing.T) {
	for name := range units {
		// --man=no: the manual pages come with the package.
		if out, err := analyze(t, name, "verify", "--man=no"); err != nil || out != "" {
			t.Errorf("systemd-analyze verify %s: %v\n%s", name, err, out)
		}
	}
}

func TestUnitsAreHardened(t *testing.T) {
	for name, most := range units {
		if most == "" {
			continue
		}
		if out, err := analyze(t, name, "security", "--offline=true", "--no-pager", "--threshold="+most); err != nil {
			t.Errorf("%s is exposed more than it was: %v\n%s", name, err, out)
		}
	}
}

// options returns what a unit says, by the name of the option.
func options(t *testing.T, name string) map[string][]string {
	t.Helper()
	content, err := os.ReadFile(name)
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
	return words
}

// waits are the options by which a unit waits for another.
var waits = []string{"After", "Wants", "Requires", "Requisite", "BindsTo", "PartOf"}

// TestUnitOrder keeps two traps shut: user data that starts the unit waits for
// itself if the unit waits for cloud-init's last stage, and an address claimed
// after the ECS agent has started tasks is claimed too late.
func TestUnitOrder(t *testing.T) {
	words := options(t, "nagaya.service")
	if !slices.Contains(words["Before"], "ecs.service") {
		t.Errorf("Before=%v, want ecs.service in it", words["Before"])
	}
	for _, name := range waits {
		if slices.ContainsFunc(words[name], func(w string) bool { return strings.HasPrefix(w, "cloud-") || strings.HasPrefix(w, "docker") }) {
			t.Errorf("%s=%v waits for cloud-init or Docker", name, words[name])
		}
	}
	// The ECS agent waits until the address is here, but not forever, and not for
	// an agent that cannot start.
	if !slices.Equal(words["Type"], []string{"notify"}) {
		t.Errorf("Type=%v: ecs.service would not wait for the address", words["Type"])
	}
	limit, err := time.ParseDuration(strings.Join(words["TimeoutStartSec"], "") + "s")
	if err != nil || limit < 20*time.Second || limit > time.Minute {
		t.Errorf("TimeoutStartSec=%v; want 20 to 60 seconds", words["TimeoutStartSec"])
	}
	for _, name := range []string{"RequiredBy", "PropagatesStopTo"} {
		if len(words[name]) > 0 {
			t.Errorf("%s=%v: without this unit nothing would start", name, words[name])
		}
	}
}

// nginx serves from the disk whatever else is down, and an agent that starts it
// while it starts itself must not be waited for.
func TestNginxUnitWaitsForNobody(t *testing.T) {
	words := options(t, "nagaya-nginx.service")
	for _, name := range waits {
		for _, w := range words[name] {
			if w != "network.target" {
				t.Errorf("%s=%s", name, w)
			}
		}
	}
	if have := words["WantedBy"]; !slices.Contains(have, "multi-user.target") {
		t.Errorf("WantedBy=%v: it does not start at boot", have)
	}
}

// No unit is root or could become so, nginx has a user of its own, and only the agent may use
// Docker and signal others: nginx faces the Internet.
func TestUnitsAreNotRoot(t *testing.T) {
	nginx := map[string][]string{
		"User": {"nagaya-nginx"}, "Group": {"nagaya"}, "SupplementaryGroups": nil, "NoNewPrivileges": {"yes"},
		"AmbientCapabilities": {"CAP_NET_BIND_SERVICE"}, "CapabilityBoundingSet": {"CAP_NET_BIND_SERVICE"},
	}
	for name, want := range map[string]map[string][]string{
		"nagaya-nginx.service": nginx, "nagaya-nginx-test@.service": nginx,
		"nagaya.service": {
			"User": {"nagaya"}, "Group": {"nagaya"}, "SupplementaryGroups": {"docker"}, "NoNewPrivileges": {"yes"},
			"AmbientCapabilities": {"CAP_KILL", "CAP_NET_BIND_SERVICE"}, "CapabilityBoundingSet": {"CAP_KILL", "CAP_NET_BIND_SERVICE"},
		},
	} {
		words := options(t, name)
		for option, want := range want {
			if !slices.Equal(words[option], want) {
				t.Errorf("%s: %s=%v, want %v", name, option, words[option], want)
			}
		}
	}
}

// A configuration is tested with nginx's user, directories and restrictions: otherwise the
// test finds what nginx would not, or leaves files that nginx cannot open.
func TestTestsRunAsNginxDoes(t *testing.T) {
	nginx, test := options(t, "nagaya-nginx.service"), options(t, "nagaya-nginx-test@.service")
	// What begins, ends and feeds a service.
	own := map[string]bool{
		"Description": true, "Documentation": true, "After": true, "WantedBy": true, "ConditionPathExists": true, "StartLimitIntervalSec": true,
		"Environment": true, "ExecStart": true, "ExecStartPre": true, "ExecReload": true, "ExecStop": true, "TimeoutStopSec": true,
		"Restart": true, "RestartSec": true, "OOMPolicy": true, "OOMScoreAdjust": true,
		"CollectMode": true, "RuntimeMaxSec": true, "LogLevelMax": true, "StandardInput": true, "StandardOutput": true, "StandardError": true,
	}
	for option := range own {
		delete(nginx, option)
		delete(test, option)
	}
	if diff := cmp.Diff(nginx, test); diff != "" {
		t.Errorf("of nginx (-) and of its tests (+):\n%s", diff)
	}
	socket := options(t, "nagaya-nginx-test.socket")
	if !slices.Equal(socket["SocketUser"], []string{"nagaya"}) || !slices.Equal(socket["SocketMode"], []string{"0600"}) {
		t.Errorf("others than the agent may have configurations tested: %v", socket)
	}
}
