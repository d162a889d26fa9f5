package userdata

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// box is a Debian without a network, in which stubs stand for what belongs to AWS and
// to systemd, and tell what they were asked for.
type box struct {
	t        *testing.T
	id, shed string
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// The shed is the bucket and whatever else the container needs.
func newBox(t *testing.T) box {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.Need(t, exec.Command("docker", "version").Run())
	b := box{t: t, shed: t.TempDir()}
	command(t, "go", "build", "-trimpath", "-o", b.shed+"/deb/usr/bin/nagaya", "../../cmd/nagaya")
	for name, text := range map[string]string{
		"deb/DEBIAN/control": "Package: nagaya\nVersion: 1\nArchitecture: " + command(t, "dpkg", "--print-architecture") +
			"\nRecommends: nginx\nMaintainer: nobody\nDescription: for a test\n",
		"deb/DEBIAN/conffiles":           "/etc/nagaya/nagaya.yaml\n",
		"deb/etc/nagaya/nagaya.yaml":     "# nothing is set\n",
		"etc/certs/shop.example.com.crt": "certificate\n",
		"etc/certs/shop.example.com.key": "key\n",
		"etc/routes.d/mail box.yaml":     "routes: []\n",
		// `aws s3 cp` of one object, and of a prefix.
		"bin/aws": `#!/bin/sh
echo "aws $*" >>/shed/log
[ "$1 $2" = "s3 cp" ] || exit 2
while [ "$#" -gt 2 ]; do [ "$1" != --recursive ] || exec cp -r "/shed/${2#s3://bucket/}." "$3"; shift; done
cp "/shed/${1#s3://bucket/}" "$2"
`,
		"bin/systemctl": `#!/bin/sh
echo "systemctl $*" >>/shed/log
[ "$*" != "--quiet is-active ecs.service" ] || [ -e /shed/ecs-is-active ]
`,
	} {
		file := filepath.Join(b.shed, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(b.shed+"/ecs.sh", []byte(read(t, "ecs.sh")), 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, "dpkg-deb", "-Znone", "--root-owner-group", "--build", b.shed+"/deb", b.shed+"/nagaya_1.deb")
	image := fmt.Sprintf("nagaya/user-data:%d", os.Getpid())
	command(t, "docker", "import", command(t, "../../.ci/debian-tar"), image)
	t.Cleanup(func() { command(t, "docker", "image", "rm", image) })
	b.id = command(t, "docker", "run", "-d", "--network", "none", "-v", b.shed+":/shed", image, "sleep", "300")
	t.Cleanup(func() { command(t, "docker", "rm", "-f", b.id) })
	b.run("rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* && touch /etc/apt/sources.list && mkdir -p /run/systemd/system && cp /shed/bin/* /usr/local/bin/")
	return b
}

// run returns what the shell command printed and whether it succeeded.
func (b box) try(script string) (string, bool) {
	out, err := exec.Command("docker", "exec", b.id, "bash", "-c", script).CombinedOutput()
	return strings.TrimSpace(string(out)), err == nil
}

func (b box) run(script string) string {
	b.t.Helper()
	out, ok := b.try(script)
	if !ok {
		b.t.Fatalf("%s\n%s", script, out)
	}
	return out
}

// boot runs the user data and returns what it asked the outside for.
func (b box) boot(settings string) string {
	b.t.Helper()
	b.run("rm -f /shed/log")
	b.run(settings + " /shed/ecs.sh")
	return strings.ReplaceAll(b.run("cat /shed/log"), "\n", "; ")
}

func (b box) want(script, want string) {
	b.t.Helper()
	if got := b.run(script); got != want {
		b.t.Errorf("%s:\n%s\nbut wanted:\n%s", script, got, want)
	}
}

const sha = "SHA256=$(sha256sum </shed/nagaya_1.deb | cut -d' ' -f1) "

func TestFirstBoot(t *testing.T) {
	b := newBox(t)

	for settings, says := range map[string]string{
		"":                                 "PACKAGE is empty, and this image has no nagaya",
		"PACKAGE=s3://bucket/x.tgz":        "is neither a .deb nor a .rpm",
		"PACKAGE=http://x/x.deb " + sha:    "is neither an s3:// or https:// URL nor",
		"PACKAGE=s3://bucket/nagaya_1.deb": "set SHA256 too",
		"SHA256=" + strings.Repeat("0", 64) + " PACKAGE=s3://bucket/nagaya_1.deb": "it is not installed",
		"SHA256=nonsense PACKAGE=/shed/nagaya_1.deb":                              "it is not installed",
	} {
		if out, ok := b.try(settings + " /shed/ecs.sh"); ok || !strings.Contains(out, says) {
			t.Errorf("%s: %v, said %q, not %q", settings, ok, out, says)
		}
	}
	if out, ok := b.try("nagaya version || ls /etc/ecs"); ok {
		t.Fatalf("something was done nevertheless: %s", out)
	}

	first := sha + "PACKAGE=s3://bucket/nagaya_1.deb CLUSTER=services FILES=s3://bucket/etc/ CONFIG='address: {claim: \"tag:Name=nagaya\"}'"
	log := b.boot(first)
	if want := "; systemctl enable --now --no-block nagaya.service; systemctl --quiet is-active ecs.service"; !strings.HasSuffix(log, want) {
		t.Errorf("asked for %s", log)
	}
	const config = "ECS_CLUSTER=services\nECS_RESERVED_PORTS=[22,80,443,2375,2376,9646,51678,51679,51680]\nECS_AWSVPC_BLOCK_IMDS=true"
	b.want("cat /etc/ecs/ecs.config", config)
	b.want("cat /etc/nagaya/nagaya.yaml", `address: {claim: "tag:Name=nagaya"}`)
	b.want("nagaya config | grep -c tag:Name=nagaya", "1")
	b.want("stat -c '%a %G %n' /etc/nagaya/certs/*.key /etc/nagaya/routes.d/*", "640 root /etc/nagaya/certs/shop.example.com.key\n644 root /etc/nagaya/routes.d/mail box.yaml")
	b.want("ls -d /tmp/tmp.* 2>/dev/null || true", "")

	// Once more: nothing changes, so the ECS agent is not asked about.
	if log := b.boot(first); !strings.HasSuffix(log, "; systemctl enable --now --no-block nagaya.service") {
		t.Errorf("the second time it asked for %s", log)
	}
	b.want("cat /etc/ecs/ecs.config", config)

	// It is in the image now. What the operator reserved stays, and so does what
	// AWS Batch has written; the agent's group may read what was brought.
	b.run("groupadd nagaya; touch /shed/ecs-is-active")
	b.run("printf 'ECS_RESERVED_PORTS=[8080, 443]\nECS_AWSVPC_BLOCK_IMDS=false\nECS_CLUSTER=nightly_Batch_1' >/etc/ecs/ecs.config")
	if log := b.boot("FILES=s3://bucket/etc/"); !strings.HasSuffix(log, "; systemctl restart --no-block ecs.service") {
		t.Errorf("with an ECS agent that runs it asked for %s", log)
	}
	b.want("cat /etc/ecs/ecs.config", "ECS_AWSVPC_BLOCK_IMDS=false\nECS_CLUSTER=nightly_Batch_1\nECS_RESERVED_PORTS=[22,80,443,2375,2376,8080,9646,51678,51679,51680]")
	b.want("stat -c '%a %G' /etc/nagaya/certs/*.key", "640 nagaya")

	if out, ok := b.try("CONFIG='address: {claims: x}' /shed/ecs.sh"); ok || !strings.Contains(out, "claims") || !strings.Contains(out, "CONFIG is wrong") {
		t.Errorf("with a wrong setting: %v, %s", ok, out)
	}
	b.want("cat /etc/nagaya/nagaya.yaml", `address: {claim: "tag:Name=nagaya"}`)

	// Amazon Linux has dnf instead.
	b.run(`mv /usr/bin/apt-get /root/; printf '#!/bin/sh\necho "dnf $*" >>/shed/log\n' >/usr/local/bin/dnf; chmod 755 /usr/local/bin/dnf; cp /shed/nagaya_1.deb /root/nagaya.rpm`)
	log = b.boot("PACKAGE=/root/nagaya.rpm")
	if !strings.HasPrefix(log, "dnf -qy install /tmp/tmp.") || !strings.Contains(log, "/nagaya.rpm nginx nginx-mod-stream; ") {
		t.Errorf("asked for %s", log)
	}
}
