package stage

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moby/moby/api/types/container"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// made is what makePackages has made: a directory with nagaya.deb, nagaya.rpm, and
// older.deb, which is the same with an older version.
var made string

// makePackages makes the packages, once; main removes them.
var makePackages = sync.OnceValue(func() error {
	var err error
	if made, err = os.MkdirTemp("", "nagaya-packages-"); err != nil {
		return err
	}
	if err := makePackage(made); err != nil {
		return err
	}
	older := filepath.Join(made, "older")
	for _, args := range [][]string{
		{"dpkg-deb", "-R", filepath.Join(made, "nagaya.deb"), older},
		{"sed", "-i", "s/^Version: .*/Version: 1.2.2/", filepath.Join(older, "DEBIAN", "control")},
		{"dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "-b", older, older + ".deb"},
		{"chmod", "-R", "a+rX", made},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", args, err, out)
		}
	}
	return os.RemoveAll(older)
})

// makePackage runs make and gives the packages names without a version.
func makePackage(dir string) error {
	cmd := exec.Command("make", "-C", "../../..", "package", "DIST="+dir, "ARCHES="+runtime.GOARCH, "VERSION=1.2.3")
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS") })
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make package: %w\n%s", err, out)
	}
	for _, kind := range []string{"deb", "rpm"} {
		files, err := filepath.Glob(filepath.Join(dir, "nagaya*1.2.3*."+kind))
		if err != nil || len(files) != 1 {
			return fmt.Errorf("%s: %v, %w", kind, files, err)
		}
		if err := os.Rename(files[0], filepath.Join(dir, "nagaya."+kind)); err != nil {
			return err
		}
	}
	return nil
}

// packages returns the directory with the packages.
func packages(t *testing.T) string {
	t.Helper()
	must(t, makePackages())
	return made
}

func TestPackagesAreReproducible(t *testing.T) {
	t.Parallel() // with what waits: it uses no engine
	first, again := packages(t), t.TempDir()
	must(t, makePackage(again))
	for _, name := range []string{"nagaya.deb", "nagaya.rpm"} {
		a, err := os.ReadFile(filepath.Join(first, name))
		must(t, err)
		b, err := os.ReadFile(filepath.Join(again, name))
		must(t, err)
		if !bytes.Equal(a, b) {
			t.Errorf("%s made twice differs: %d and %d bytes", name, len(a), len(b))
		}
	}
}

func TestRPM(t *testing.T) {
	rpm := filepath.Join(packages(t), "nagaya.rpm")
	testenv.NeedCommand(t, "rpm")
	ask := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("rpm", append(args, rpm)...).CombinedOutput()
		if err != nil {
			t.Errorf("rpm %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if out := ask("-K"); !strings.Contains(out, "digests OK") {
		t.Error(out)
	}
	// Amazon Linux 2023 has these; nothing keeps the package from being installed.
	recommended := strings.Fields(ask("-qp", "--recommends"))
	for _, want := range []string{"nginx", "nginx-mod-stream", "1:1.26", "docker"} {
		if !slices.Contains(recommended, want) {
			t.Errorf("recommends %v, want %s", recommended, want)
		}
	}
	for _, need := range strings.Fields(ask("-qp", "--requires")) {
		if strings.HasPrefix(need, "nginx") || strings.HasPrefix(need, "docker") {
			t.Errorf("requires %s", need)
		}
	}
	if got := ask("-qpc"); got != "/etc/logrotate.d/nagaya\n/etc/nagaya/nagaya.yaml\n" {
		t.Errorf("configuration files:\n%s", got)
	}
	listed := strings.Split(ask("-qpl"), "\n")
	for _, want := range []string{
		"/usr/bin/nagaya", "/usr/share/man/man1/nagaya-doctor.1.gz", "/usr/share/bash-completion/completions/nagaya", "/usr/share/zsh/site-functions/_nagaya",
		"/usr/lib/sysusers.d/nagaya.conf", "/usr/lib/tmpfiles.d/nagaya.conf", "/usr/share/polkit-1/rules.d/50-nagaya.rules",
	} {
		if !slices.Contains(listed, want) {
			t.Errorf("there is no %s", want)
		}
	}
	units, err := filepath.Glob("../../../systemd/nagaya*.*")
	must(t, err)
	for _, unit := range units {
		dir := "system"
		if filepath.Ext(unit) == ".catalog" {
			dir = "catalog"
		}
		if want := "/usr/lib/systemd/" + dir + "/" + filepath.Base(unit); !slices.Contains(listed, want) {
			t.Errorf("there is no %s", want)
		}
	}
	scripts := ask("-qp", "--scripts")
	for _, want := range []string{"postinstall scriptlet", "preuninstall scriptlet", "postuninstall scriptlet"} {
		if !strings.Contains(scripts, want) {
			t.Errorf("there is no %s", want)
		}
	}
}

// TestPackageAlone installs the package where there is no nginx, no Docker and no EC2, and
// systemd does not run, as in the making of an image; and removes it again.
func TestPackageAlone(t *testing.T) {
	s := newStage(t, Options{})
	i := &instance{t, s, debian(t, s, s.id+"-alone", container.Config{Cmd: []string{"sleep", "infinity"}}, container.HostConfig{
		Binds: []string{packages(t) + ":/mnt/packages:ro"},
	})}
	i.do("sh", "-c", "dpkg --purge $(dpkg-query -W -f='${Package}\\n' '*nginx*')")
	out := i.do("dpkg", "-i", "/mnt/packages/older.deb")
	if !strings.Contains(out, "nagaya: enabled") {
		t.Errorf("it is not said what follows:\n%s", out)
	}
	want := func(when string, rows map[string]string) {
		t.Helper()
		for command, text := range rows {
			if out, _ := i.try("sh", "-c", command); out != text {
				t.Errorf("%s: %s: %q, want %q", when, command, out, text)
			}
		}
	}
	files := map[string]string{
		"stat -c '%U %G %a' /etc/nagaya/certs":                                     "root nagaya 2750",
		"stat -c '%U %G %a' /var/lib/nagaya /var/log/nagaya":                       "nagaya nagaya 755\nnagaya nagaya 770",
		"getent group docker | cut -d: -f1":                                        "docker",
		"getent group nagaya-admin | cut -d: -f1,4":                                "nagaya-admin:",
		"systemctl is-enabled nagaya nagaya.socket nagaya-nginx nagaya-nginx.path": "enabled\nenabled\nenabled\nenabled",
		"dpkg-query -W -f='${Conffiles}' nagaya | awk '{print $1}' | sort":         "/etc/logrotate.d/nagaya\n/etc/nagaya/nagaya.yaml",
		"nagaya version": "nagaya 1.2.3",
		"grep -c nagaya-batch@ /var/lib/dpkg/info/nagaya.list":                                    "2",
		"bash -n /usr/share/bash-completion/completions/nagaya && echo whole":                     "whole",
		"systemd-tmpfiles --create nagaya.conf && systemd-sysusers nagaya.conf && echo can again": "can again",
	}
	want("installed", files)

	// Who puts a key there need not mind its owner; what the agent's start does is done here.
	i.do("sh", "-c", "echo '# mine' >>/etc/nagaya/nagaya.yaml; cd /etc/nagaya/certs; umask 077; echo x >a.key; mkdir b; echo x >b/key.pem")
	i.do("dpkg", "-i", "/mnt/packages/nagaya.deb")
	files["tail -n 1 /etc/nagaya/nagaya.yaml"] = "# mine"
	files["cd /etc/nagaya/certs && stat -c '%U %G %a' a.key b b/key.pem"] = "root nagaya 640\nroot nagaya 2750\nroot nagaya 640"
	want("upgraded", files)

	i.do("dpkg", "--remove", "nagaya")
	want("removed", map[string]string{
		"tail -n 1 /etc/nagaya/nagaya.yaml": "# mine", "id -un nagaya": "nagaya", "test ! -e /usr/bin/nagaya && echo gone": "gone",
	})
	i.do("dpkg", "--purge", "nagaya")
	want("purged", map[string]string{
		"ls -d /var/lib/nagaya /var/log/nagaya /run/nagaya 2>/dev/null":                    "",
		"getent passwd nagaya nagaya-nginx; getent group nagaya nagaya-nginx nagaya-admin": "",
		"find /etc/systemd/system -name 'nagaya*' ! -name '*.d'":                           "",
		"find /etc/nagaya -type f | sort":                                                  "/etc/nagaya/certs/a.key\n/etc/nagaya/certs/b/key.pem", // the operator's
	})
}

// replaced upgrades the package of a machine that serves, and removes it.
func replaced(t *testing.T, i *instance) {
	agent, nginx := i.mainPID("nagaya"), i.mainPID("nagaya-nginx")
	i.do("sh", "-c", "echo '# mine' >>/etc/nagaya/nagaya.yaml")
	i.do("dpkg", "-i", "/mnt/packages/nagaya.deb")
	must(t, i.get("a.test"))
	i.is("nagaya", "active")
	if now := i.mainPID("nagaya"); now == agent {
		t.Error("the old agent runs after the upgrade")
	}
	if now := i.mainPID("nagaya-nginx"); now != nginx {
		t.Errorf("the upgrade has replaced nginx: %d, was %d", now, nginx)
	}
	if out := i.do("tail", "-n", "1", "/etc/nagaya/nagaya.yaml"); out != "# mine" {
		t.Errorf("the configuration ends with %q after the upgrade", out)
	}
	i.do("dpkg", "--remove", "nagaya")
	for _, unit := range []string{"nagaya", "nagaya.socket", "nagaya-nginx", "nagaya-nginx.path"} {
		i.is(unit, "inactive")
	}
	if err := i.get("a.test"); err == nil {
		t.Error("nginx serves without the package")
	}
	i.do("dpkg", "--purge", "nagaya")
	if out, _ := i.try("sh", "-c", "id nagaya; ls -d /var/lib/nagaya /etc/nagaya /run/nagaya"); strings.Contains(out, "uid=") || strings.Contains(out, "\n/") {
		t.Errorf("after the purge:\n%s", out)
	}
}
