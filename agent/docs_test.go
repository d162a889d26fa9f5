package agent

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/config/load"
	"github.com/nagaya-ecs/nagaya/agent/labels"
	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

var update = flag.Bool("update", false, "write the generated documents again")

// The references are made from the tables that the program itself works with,
// so that they cannot drift.
func TestReferencesAreGenerated(t *testing.T) {
	for name, write := range map[string]func(was string) string{
		"labels.md": labelReference, "configuration.md": func(string) string { return settingReference() },
	} {
		file := filepath.Join("..", "docs", name)
		have, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := write(string(have))
		if *update {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			have = []byte(text)
		}
		if diff := cmp.Diff(text, string(have)); diff != "" {
			t.Errorf("docs/%s is not what the program's tables say (go test ./agent -update):\n%s", name, diff)
		}
	}
}

// labelReference is the page with its tables made again: those between the comments.
func labelReference(was string) string {
	var words, others, policies strings.Builder
	table(&words, labels.Docs())
	table(&others, nginxproxy.Docs())
	policies.WriteString("| policy | protocols |\n|---|---|\n")
	for _, p := range config.TLSPolicies {
		fmt.Fprintf(&policies, "| `%s` | %s |\n", p.Name, strings.Join(p.Protocols, ", "))
	}
	for name, text := range map[string]string{"labels": words.String(), "nginx-proxy": others.String(), "policies": policies.String()} {
		before, rest, found := strings.Cut(was, "<!-- "+name+" -->\n")
		_, after, ended := strings.Cut(rest, "<!-- end -->")
		if !found || !ended {
			return "the page has no place for the table " + name
		}
		was = before + "<!-- " + name + " -->\n" + text + "<!-- end -->" + after
	}
	return was
}

var jsonExample = regexp.MustCompile("(?s)```json\n(.*?)```")

// Every example of labels makes a route, and no problem.
func TestExamplesOfLabelsWork(t *testing.T) {
	page, err := os.ReadFile("../docs/labels.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := jsonExample.FindAllStringSubmatch(string(page), -1)
	if len(examples) < 8 {
		t.Errorf("only %d examples found", len(examples))
	}
	for _, m := range examples {
		said := map[string]string{}
		if err := json.Unmarshal([]byte(m[1]), &said); err != nil {
			t.Errorf("%s: %v", m[1], err)
			continue
		}
		list := []tasks.Container{{
			ID: strings.Repeat("a", 64), Name: "web", Labels: said, State: tasks.Running, Health: tasks.Healthy, Network: tasks.Bridge,
			Addrs: []netip.Addr{netip.MustParseAddr("172.17.0.2")}, Networks: []tasks.Network{{Name: "front", Addrs: []netip.Addr{netip.MustParseAddr("172.18.0.2")}}},
		}}
		got := route.Build(route.Input{
			Snapshot: tasks.Snapshot{Complete: true, Containers: list}, Requests: labels.Requests(list, labels.Configured(config.Default()), nginxproxy.Reader(false)),
			Certs: certs.Inventory{Complete: true}, Options: route.Options{Stream: true, Reserved: config.Default().Routes.ReservedPorts, Shared: map[string][]string{"example": nil}},
		})
		if len(got.Problems) > 0 || len(got.Sites)+len(got.Streams) == 0 {
			t.Errorf("%s: %d sites, %d streams, problems %+v", m[1], len(got.Sites), len(got.Streams), got.Problems)
		}
	}
}

var (
	problemCode = regexp.MustCompile(`(?:Code(?::| =) |roblem\((?:[A-Za-z.()]+, )*|problem\.(?:Warning|Error), |problem\.Of[A-Za-z]*\([^\n]*?, )"([a-z0-9-]+)"`)
	codeRow     = regexp.MustCompile("(?m)^\\| (`[a-z0-9-]+`(?:, `[a-z0-9-]+`)*) \\|")
)

// The page names every problem that routes can have, and no other.
func TestProblemsOfRoutesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/labels.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(page), "## Problems")
	documented, known := map[string]bool{}, map[string]bool{}
	for _, m := range codeRow.FindAllStringSubmatch(list, -1) {
		for _, code := range strings.Split(m[1], ", ") {
			documented[strings.Trim(code, "`")] = true
		}
	}
	for _, dir := range []string{"route", "labels", "../nginx"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range problemCode.FindAllStringSubmatch(string(text), -1) {
				if !strings.HasSuffix(file, "_test.go") {
					known[m[1]] = true
				}
			}
		}
	}
	if diff := cmp.Diff(known, documented); diff != "" {
		t.Errorf("problems of routes (-in the program +in docs/labels.md):\n%s", diff)
	}
}

func table(b *strings.Builder, docs []labels.Doc) {
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
` + "`/etc/nagaya/nagaya.yaml`" + ` or an instance tag; the first of these that has it
wins. A wrong or unknown field is an error that names the file, the line and what is
allowed. The agent takes a correct change of the file automatically. After a wrong one the
previous configuration stays in force, and ` + "`nagaya status`" + ` says what is wrong.

For ` + "`routes.timeout`" + ` the four ways are:

| where | how |
|---|---|
| flag | ` + "`--routes-timeout 90s`" + ` |
| environment | ` + "`NAGAYA_ROUTES_TIMEOUT=90s`" + ` |
| file | ` + "`routes: {timeout: 90s}`" + ` |
| instance tag | ` + "`nagaya:routes-timeout`" + ` with the value ` + "`90s`" + ` (the instance must allow tags in its metadata) |

Not everybody who can tag an instance is trusted with everything. So a tag cannot name what is run, read or
spoken to, weaken what protects a site, send traffic elsewhere, or allow costs. The agent ignores such a tag
(problem ` + "`tag-invalid`" + `). The column *tag* says which settings a tag may give. A tag may claim Elastic IPs: the
IAM policy bounds which ones, and ` + "`address.claim`" + ` in the file outranks the tag.

| setting | meaning | allowed | default | tag |
|---|---|---|---|---|
`)
	for _, s := range config.Settings {
		value := strings.Join(s.Get(config.Default()), ", ")
		if value != "" {
			value = "`" + value + "`"
		}
		tag := "no"
		if s.FromTag {
			tag = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", s.Path, cell(s.Doc), cell(s.Allowed), value, tag)
	}
	return b.String()
}

// The tables of nginx-proxy's words are made from those that the program reads.
func TestTablesOfNginxProxyAreGenerated(t *testing.T) {
	const file = "../docs/from-nginx-proxy.md"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	have := string(b)
	want := between(t, have, "<!-- variables: go test ./agent -update -->\n", variables())
	want = between(t, want, "<!-- files: go test ./agent -update -->\n", mountedFiles())
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		have = want
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("%s is not what the program's tables say (go test ./agent -update):\n%s", file, diff)
	}
}

// between puts text in place of what is between a mark and the next end.
func between(t *testing.T, all, mark, text string) string {
	t.Helper()
	before, rest, begun := strings.Cut(all, mark)
	_, after, ended := strings.Cut(rest, "<!-- end -->")
	if !begun || !ended {
		t.Fatalf("%q has no place for its text", mark)
	}
	return before + mark + text + "<!-- end -->" + after
}

func variables() string {
	var b strings.Builder
	b.WriteString("| variable | setting | here |\n|---|---|---|\n")
	for _, w := range nginxproxy.Variables {
		setting, here := "none", w.Here
		if w.Setting != "" {
			setting = "`" + w.Setting + "`"
		}
		if w.Remedy != "" {
			here += ": " + w.Remedy
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", w.Name, setting, cell(here))
	}
	return b.String()
}

func mountedFiles() string {
	var b strings.Builder
	b.WriteString("| file | here | instead |\n|---|---|---|\n")
	for _, f := range nginxproxy.Files {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.Pattern, cell(f.Here), cell(f.Remedy))
	}
	return b.String()
}

var called = regexp.MustCompile(`(?m)(?:^\$ |^|[` + "`" + `'])(nagaya|make)( [a-z-][A-Za-z0-9:=./-]*(?: [A-Za-z0-9:=./-]+)*)`)

// asShipped builds nagaya as it is shipped, as 'make build' does, whose cache serves it then.
func asShipped(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "nagaya")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, "./cmd/nagaya")
	build.Dir, build.Env = "..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// Where the program looks a method up by a name that is not constant, as Go's own templates
// do, the linker keeps every method of the SDK, and it is three times as large.
func TestTheProgramIsNotTooLarge(t *testing.T) {
	const most = 25_000_000 // bytes
	info, err := os.Stat(asShipped(t))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > most {
		t.Errorf("nagaya has %d bytes, want at most %d", info.Size(), most)
	}
}

// Every command that a document shows must exist: make targets in the Makefile,
// verbs and flags in the program's help.
func TestCommandsInDocumentsExist(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	bin := asShipped(t)
	docs, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range append(docs, "../README.md", "../CONTRIBUTING.md", "../packaging/README.md") {
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

var (
	dotted  = regexp.MustCompile("`(address|nginx|routes|gate|credit|certs|docker|ecs|metrics)\\.([a-z0-9-]+)`")
	coded   = regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)` \\|")
	literal = regexp.MustCompile(`"((?:address|ec2|clock)-[a-z-]+)"`)
	series  = regexp.MustCompile("`nagaya_([a-z_]+)`")
)

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A setting that a document names is one.
func TestSettingsInDocumentsExist(t *testing.T) {
	docs, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range append(docs, "../README.md") {
		for _, m := range dotted.FindAllStringSubmatch(read(t, file), -1) {
			seen++
			if _, ok := config.Find(m[1] + "." + m[2]); !ok {
				t.Errorf("%s: %s is no setting", filepath.Base(file), m[0])
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d settings found; the search is blind", seen)
	}
}

// The page about the address names every policy, every problem and every metric of
// it, and the tag; and no other.
func TestAddressIsDocumented(t *testing.T) {
	page := read(t, "../docs/address.md")
	_, table, _ := strings.Cut(page, "## When something is wrong")
	var told []string
	for _, m := range coded.FindAllStringSubmatch(table, -1) {
		told = append(told, m[1])
	}
	sources, err := filepath.Glob("address/claim/*.go")
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]bool{}
	for _, file := range sources {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, m := range literal.FindAllStringSubmatch(read(t, file), -1) {
			codes[m[1]] = true
		}
	}
	slices.Sort(told)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(codes)), told); diff != "" {
		t.Errorf("problem codes (-program +document):\n%s", diff)
	}
	golden := read(t, "report/metrics/testdata/sample.prom")
	var metrics []string
	for _, m := range series.FindAllStringSubmatch(page, -1) {
		metrics = append(metrics, m[1])
		if !strings.Contains(golden, "# TYPE nagaya_"+m[1]+" ") {
			t.Errorf("nagaya_%s is no metric", m[1])
		}
	}
	for _, line := range strings.Split(golden, "\n") {
		if name, ok := strings.CutPrefix(line, "# TYPE nagaya_"); ok && strings.HasPrefix(name, "address_") && !slices.Contains(metrics, strings.Fields(name)[0]) {
			t.Errorf("metric %s is not documented", name)
		}
	}
	for _, p := range []address.Policy{address.Wait, address.Standby, address.Takeover, address.Manual} {
		if !strings.Contains(page, "| `"+string(p)+"`") {
			t.Errorf("policy %s is not documented", p)
		}
	}
	_, tag, ok := strings.Cut(page, "\n"+address.TagKey+" = ")
	tag, _, _ = strings.Cut(tag, "\n")
	if s, err := address.ParseHolderTag(tag); !ok || err != nil || len(s.Hosts) == 0 {
		t.Errorf("the holder tag that is shown, %q, is none: %v", tag, err)
	}
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(page+read(t, "../docs/moving.md"), -1) {
		values, err := config.ParseYAML("document", []byte(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		r, err := load.Sources{Check: checkConfig}.Layers(values)
		if err != nil || len(r.Config.Address.Claim) == 0 {
			t.Errorf("%v in\n%s", err, m[1])
		}
	}
}
