package agent

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

var update = flag.Bool("update", false, "write the generated documents anew")

// The references are made from the tables that the program itself works with,
// so that they cannot drift.
func TestReferencesAreGenerated(t *testing.T) {
	for name, text := range map[string]string{"labels.md": labelReference(), "configuration.md": settingReference()} {
		file := filepath.Join("..", "docs", name)
		if *update {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(text, string(have)); diff != "" {
			t.Errorf("docs/%s is not what the program's tables say (go test ./agent -update):\n%s", name, diff)
		}
	}
}

func labelReference() string {
	var b strings.Builder
	b.WriteString(`# Labels

What a container says about itself, as Docker labels (` + "`dockerLabels`" + ` in an ECS task
definition). One container may carry several routes: put a name of your own in the
middle, e.g. ` + "`nagaya.admin.host`" + ` and ` + "`nagaya.admin.port`" + `.

A label can never add a directive to nginx, reach a file, take a host name that another
task family holds, or stop another route. What cannot be used is a problem in
` + "`nagaya status`" + `, and only that route is left out.

`)
	table(&b, route.Labels)
	b.WriteString(`
## nginx-proxy's words

These environment variables of the container work too, where no label says otherwise.

`)
	table(&b, route.EnvWords)
	return b.String()
}

func table(b *strings.Builder, docs []route.LabelDoc) {
	b.WriteString("| word | meaning | allowed | default |\n|---|---|---|---|\n")
	for _, d := range docs {
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", d.Name, cell(d.Meaning), cell(d.Allowed), cell(d.Default))
	}
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func settingReference() string {
	var b strings.Builder
	b.WriteString(`# Settings

Every setting is optional. It may come from a flag, the environment, the file
` + "`/etc/nagaya/nagaya.yaml`" + ` or an instance tag; the first of these that says something
wins. A wrong or unknown field is an error that names the file, the line and what is
allowed. A change of the file is picked up by itself, if it is right; otherwise what was
in force before stays, and ` + "`nagaya status`" + ` says what is wrong.

For ` + "`nginx.http-port`" + ` the four ways are:

| where | how |
|---|---|
| flag | ` + "`--nginx-http-port 8080`" + ` |
| environment | ` + "`NAGAYA_NGINX_HTTP_PORT=8080`" + ` |
| file | ` + "`nginx: {http-port: 8080}`" + ` |
| instance tag | ` + "`nagaya:nginx-http-port`" + ` with the value ` + "`8080`" + ` (the instance must allow tags in its metadata) |

| setting | meaning | allowed | default |
|---|---|---|---|
`)
	for _, s := range config.Settings {
		value := strings.Join(s.Get(config.Default()), ", ")
		if value != "" {
			value = "`" + value + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.Path, cell(s.Doc), cell(s.Allowed), value)
	}
	return b.String()
}

var called = regexp.MustCompile(`(?m)(?:^\$ |^|[` + "`" + `'])(nagaya|make)( [a-z-][A-Za-z0-9:=./-]*(?: [A-Za-z0-9:=./-]+)*)`)

// Every command that a document shows must exist: make targets in the Makefile,
// verbs and flags in the program's help.
func TestCommandsInDocumentsExist(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(t.TempDir(), "nagaya")
	build := exec.Command("go", "build", "-o", bin, "./cmd/nagaya")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	docs, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range append(docs, "../README.md", "../CONTRIBUTING.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range called.FindAllStringSubmatch(string(text), -1) {
			words := strings.Fields(m[2])
			seen++
			if m[1] == "make" {
				if !strings.Contains(string(makefile), "\n"+words[0]+":") {
					t.Errorf("%s: 'make %s' is no target", filepath.Base(file), words[0])
				}
				continue
			}
			checkCall(t, filepath.Base(file), bin, words)
		}
	}
	if seen < 10 {
		t.Errorf("only %d commands found; the search is blind", seen)
	}
}

// checkCall asks the help of the verb for the flags that the document gives it.
func checkCall(t *testing.T, file, bin string, words []string) {
	t.Helper()
	var verbs, flags []string
	for _, w := range words {
		if w == "--" {
			break
		}
		if strings.HasPrefix(w, "--") {
			flag, _, _ := strings.Cut(w, "=")
			flags = append(flags, flag)
		} else if len(flags) == 0 {
			verbs = append(verbs, w)
		}
	}
	if len(verbs) > 2 {
		verbs = verbs[:2]
	}
	help, err := exec.Command(bin, append(verbs, "--help")...).CombinedOutput()
	if err != nil || !strings.Contains(string(help), "nagaya "+strings.Join(verbs, " ")) && len(verbs) > 0 && !strings.Contains(string(help), "nagaya "+verbs[0]) {
		t.Errorf("%s: 'nagaya %s' is no verb: %v", file, strings.Join(verbs, " "), err)
		return
	}
	for _, f := range flags {
		if !strings.Contains(string(help), f) {
			t.Errorf("%s: 'nagaya %s' has no flag %s", file, strings.Join(verbs, " "), f)
		}
	}
}
