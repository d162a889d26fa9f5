// Package ami holds the tests of what makes images.
package ami

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

var update = flag.Bool("update", false, "write bake.sh into component.yaml again")

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// packer is a real Packer: that of Debian 12, from before it had plugins.
func packer(t *testing.T, args ...string) (string, error) {
	t.Helper()
	tool := testenv.NeedFile(t, ".ci/debian-tools", ".cache/debian-tools/usr/bin/packer")
	cmd := exec.Command(tool, append([]string{"validate"}, args...)...)
	// It looks for credentials, and calls nobody.
	cmd.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1", "PACKER_NO_COLOR=1", "AWS_ACCESS_KEY_ID=none", "AWS_SECRET_ACCESS_KEY=none", "AWS_EC2_METADATA_DISABLED=true")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The one block of the template that Debian's Packer does not know yet.
var metadata = regexp.MustCompile(`(?m)^  metadata_options \{\n(    .*\n)*  \}\n`)

func TestPackerTakesTheTemplate(t *testing.T) {
	template := read(t, "nagaya.pkr.hcl")
	block := metadata.FindString(template)
	if !regexp.MustCompile(`http_tokens +=[ ]"required"`).MatchString(block) {
		t.Errorf("IMDSv2 is not required: %q", block)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"nagaya.pkr.hcl": metadata.ReplaceAllString(template, ""), "bake.sh": read(t, "bake.sh"), "nagaya.rpm": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	pkg, region := "package="+filepath.Join(dir, "nagaya.rpm"), "region=ap-northeast-1"
	for _, test := range []struct {
		args []string
		says string // empty: it is valid
	}{
		{[]string{"-var", pkg, "-var", region}, ""},
		{[]string{"-var", pkg, "-var", region, "-var", "architecture=arm64"}, ""},
		{[]string{"-var", pkg, "-var", region, "-var", "architecture=mips"}, "must be x86_64 or arm64"},
		{[]string{"-var", region}, `"package"`},
		{[]string{"-var", pkg}, `"region"`},
		{[]string{"-var", "package=/nowhere/nagaya.rpm", "-var", region}, "/nowhere/nagaya.rpm"},
	} {
		out, err := packer(t, append(test.args, dir)...)
		if (err == nil) != (test.says == "") || !strings.Contains(out, test.says) {
			t.Errorf("packer validate %q: %v, and not %q:\n%s", test.args, err, test.says, out)
		}
	}
	// The file of plugins is HCL, of which that Packer misses one block and no more.
	out, _ := packer(t, "plugins.pkr.hcl")
	if strings.Count(out, "Error: ") != 1 || !strings.Contains(out, `Blocks of type "required_plugins" are not expected here`) {
		t.Errorf("plugins.pkr.hcl: %s", out)
	}
}

type component struct {
	Name          string
	Description   string
	SchemaVersion float64 `yaml:"schemaVersion"`
	Parameters    []map[string]struct {
		Type, Default, Description string
	}
	Phases []struct {
		Name  string
		Steps []step
	}
}

type step struct {
	Name, Action   string
	TimeoutSeconds int    `yaml:"timeoutSeconds"`
	OnFailure      string `yaml:"onFailure"`
	MaxAttempts    int    `yaml:"maxAttempts"`
	Inputs         any
}

func load(t *testing.T) component {
	t.Helper()
	var c component
	d := yaml.NewDecoder(bytes.NewReader([]byte(read(t, "component.yaml"))), yaml.Strict())
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

var parameter = regexp.MustCompile(`\{\{\s*(\S*?)\s*\}\}`)

// The rules are those of "Use the AWS TOE component document framework" in the user guide of
// EC2 Image Builder; the actions are the two that are used here, with their inputs.
func TestImageBuilderTakesTheComponent(t *testing.T) {
	c := load(t)
	if c.SchemaVersion != 1 || c.Name == "" {
		t.Errorf("schemaVersion %v, name %q", c.SchemaVersion, c.Name)
	}
	declared, used := map[string]bool{}, map[string]bool{}
	for _, p := range c.Parameters {
		if len(p) != 1 {
			t.Errorf("%v", p)
		}
		for name, d := range p {
			if declared[name] || d.Type != "string" || !regexp.MustCompile(`^[A-Za-z0-9_-]{3,128}$`).MatchString(name) {
				t.Errorf("parameter %s: %+v", name, d)
			}
			declared[name] = true
		}
	}
	phases := map[string]bool{}
	for _, p := range c.Phases {
		if phases[p.Name] || !slices.Contains([]string{"build", "validate", "test"}, p.Name) || len(p.Steps) == 0 {
			t.Errorf("phase %q", p.Name)
		}
		phases[p.Name] = true
		steps := map[string]bool{}
		for _, s := range p.Steps {
			if steps[s.Name] || s.Name == "" || s.OnFailure != "" && s.OnFailure != "Abort" || s.TimeoutSeconds < 0 || s.MaxAttempts < 0 {
				t.Errorf("%s: %+v", p.Name, s)
			}
			steps[s.Name] = true
			var texts []string
			switch s.Action {
			case "ExecuteBash":
				in, _ := s.Inputs.(map[string]any)
				commands, _ := in["commands"].([]any)
				if len(in) != 1 || len(commands) == 0 {
					t.Errorf("%s: inputs %v", s.Name, s.Inputs)
				}
				for _, c := range commands {
					texts = append(texts, c.(string))
				}
				cmd := exec.Command("bash", "-n")
				cmd.Stdin = strings.NewReader(strings.Join(texts, "\n"))
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%s: %s", s.Name, out)
				}
			case "S3Download":
				files, _ := s.Inputs.([]any)
				for _, f := range files {
					f := f.(map[string]any)
					if len(f) != 2 || f["source"] == nil || f["destination"] == nil {
						t.Errorf("%s: input %v", s.Name, f)
					}
					texts = append(texts, f["source"].(string))
				}
			default:
				t.Errorf("%s: action %s", s.Name, s.Action)
			}
			for _, text := range texts {
				for _, m := range parameter.FindAllStringSubmatch(text, -1) {
					used[m[1]] = true
				}
			}
		}
	}
	if diff := cmp.Diff(declared, used); diff != "" {
		t.Errorf("parameters (-declared +used):\n%s", diff)
	}
	if len(phases) != 3 {
		t.Errorf("phases %v", phases)
	}
}

// Both ways to an image do the same to it.
func TestComponentRunsTheScript(t *testing.T) {
	const (
		file   = "component.yaml"
		indent = "              "
	)
	script, text := read(t, "bake.sh"), read(t, file)
	if *update {
		before, rest, begun := strings.Cut(text, "-update\n            - |\n")
		_, after, ended := strings.Cut(rest, "            # end\n")
		if !begun || !ended {
			t.Fatal("there is no place for the script")
		}
		lines := strings.ReplaceAll(indent+strings.ReplaceAll(strings.TrimSuffix(script, "\n"), "\n", "\n"+indent), indent+"\n", "\n")
		text = before + "-update\n            - |\n" + lines + "\n            # end\n" + after
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var got string
	for _, s := range load(t).Phases[0].Steps {
		if s.Name == "Bake" {
			got = s.Inputs.(map[string]any)["commands"].([]any)[1].(string)
		}
	}
	if diff := cmp.Diff(script, got); diff != "" {
		t.Errorf("component.yaml has another script (go test ./packaging/ami -update):\n%s", diff)
	}
}

// The script runs for real, in a directory that stands for the root: it removes what is
// one machine's own and nothing else, and stops at a package that is not the right one.
func TestBake(t *testing.T) {
	root := t.TempDir()
	files := map[string]bool{ // and whether they stay
		"/etc/machine-id": true, "/etc/ssh/ssh_host_ed25519_key": false, "/etc/ssh/sshd_config": true, "/home/ec2-user/.ssh/authorized_keys": false,
		"/var/lib/ecs/data/agent.db": false, "/var/lib/cloud/instance/boot-finished": false, "/var/log/journal/x/system.journal": false,
		"/var/lib/nagaya/gate.json": false, "/etc/nagaya/nagaya.yaml": true, "/etc/ecs/ecs.config": true, "/tmp/nagaya.rpm": false,
	}
	bin := filepath.Join(root, "bin")
	for name := range files {
		write(t, filepath.Join(root, name), "something\n", 0o644)
	}
	for _, name := range []string{"dnf", "systemctl", "nagaya", "nginx"} {
		write(t, filepath.Join(bin, name), "#!/bin/sh\necho \""+name+" $*\" >>"+root+"/log\n", 0o755)
	}
	// Absolute paths become those below root.
	script := regexp.MustCompile(`(^|[ >])/(etc|root|home|var|run)/`).ReplaceAllString(strings.TrimPrefix(read(t, "bake.sh"), "#!/bin/bash\n"), "${1}"+root+"/$2/")
	// Whatever else begins like a path would be one of this machine.
	rest := regexp.MustCompile(`(?m)^#.*$`).ReplaceAllString(strings.ReplaceAll(script, root+"/", ""), "")
	if strings.Count(script, root) < 14 || regexp.MustCompile(`(^|[^\w*])/`).MatchString(rest) {
		t.Fatalf("not every path is below %s:\n%s", root, script)
	}
	pkg := filepath.Join(root, "tmp/nagaya.rpm")
	bake := func(args ...string) (string, error) {
		cmd := exec.Command("bash", append([]string{"-c", script, "bake.sh"}, args...)...)
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, args := range [][]string{nil, {pkg, strings.Repeat("0", 64)}} {
		if out, err := bake(args...); err == nil {
			t.Errorf("%q: %s", args, out)
		}
		if log, err := os.ReadFile(root + "/log"); err == nil {
			t.Errorf("%q: did %s", args, log)
		}
	}
	if out, err := bake(pkg); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if log := read(t, root+"/log"); !strings.HasPrefix(log, "dnf -qy install "+pkg+" nginx nginx-mod-stream\nsystemctl enable nagaya.service\nsystemctl disable nginx.service\n") {
		t.Errorf("it did:\n%s", log)
	}
	for name, stays := range files {
		if _, err := os.Stat(filepath.Join(root, name)); (err == nil) != stays {
			t.Errorf("%s: %v, stays: %v", name, err, stays)
		}
	}
	if id := read(t, root+"/etc/machine-id"); id != "" {
		t.Errorf("machine-id is %q", id)
	}
}

func write(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}
