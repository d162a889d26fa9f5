package agent

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/nagaya-ecs/nagaya/"

// nouns are the pure packages in the order in which values flow: a noun may
// import the ones above it, never one below.
var nouns = []string{
	"agent/pattern",
	"agent/yamlmap",
	"agent/event",
	"agent/problem",
	"agent/config",
	"agent/identity",
	"agent/address",
	"agent/tasks",
	"agent/certs",
	"agent/route",
	"agent/labels",
	"agent/nginxproxy",
	"nginx",
	"agent/traffic",
	"agent/credit",
	"agent/gate",
	"agent/rehearsal",
	"agent/doctor",
	"agent/report",
	"agent/history",
}

// tools may be imported by whatever does I/O.
var tools = []string{"agent/latest", "agent/stages", "agent/backoff", "agent/atomicfile", "agent/readfile", "agent/lock", "agent/proc", "agent/dirwatch", "agent/cgroup", "agent/dockerapi", "agent/ecsapi", "agent/sockdiag", "agent/awserror", "agent/awsclient", "systemd"}

// aids are for tests alone: nothing but tests and other aids imports them.
var aids = []string{"agent/testenv", "agent/chromium", "nginx/nginxtest", "agent/doctest", "agent/journalwords"}

// told are the packages by which the demonstration understands what the program and
// its nginx say of themselves.
var told = []string{"agent/report", "agent/report/socket", "nginx"}

// pureOutside lists what a noun may import from other modules, each with its reason.
var pureOutside = map[string]string{
	"github.com/goccy/go-yaml":        "a decoder is a function of its text",
	"github.com/goccy/go-yaml/ast":    "a parser is a function of its text",
	"github.com/goccy/go-yaml/parser": "a parser is a function of its text",
	"golang.org/x/net/idna":           "Unicode's rule for host names, with its tables",
	"golang.org/x/net/publicsuffix":   "the list of domains below which others register, as a table",
}

// seeded is what of math/rand/v2 is a function of its seed.
var seeded = []string{"New", "NewPCG", "Rand"}

// impure lists what a noun may not import from the standard library.
var impure = []string{"context", "os", "os/exec", "os/signal", "net", "net/http", "log", "log/slog", "sync", "sync/atomic", "syscall", "io/fs", "io/ioutil", "math/rand", "runtime", "unsafe"}

// clock lists the functions of package time that read or wait for the clock.
var clock = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

func TestEveryPackageKeepsToItsPlace(t *testing.T) {
	seen := map[string]bool{}
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel("..", file)
		if err != nil {
			return err
		}
		pkg := path.Dir(filepath.ToSlash(rel))
		seen[pkg] = true
		for _, fault := range faults(t, pkg, file) {
			t.Errorf("%s: %s", rel, fault)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nouns {
		if !seen[n] {
			t.Errorf("the rule names package %s, which does not exist", n)
		}
	}
}

// faults returns what in the file breaks the rule.
func faults(t *testing.T, pkg, file string) []string {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		if why := forbidden(pkg, imported); why != "" {
			all = append(all, fmt.Sprintf("imports %s: %s", imported, why))
		}
	}
	if slices.Contains(nouns, pkg) {
		all = append(all, impurities(f)...)
	}
	return all
}

// forbidden says why the package may not import that; empty when it may.
func forbidden(pkg, imported string) string {
	own, ours := strings.CutPrefix(imported, module)
	rank := slices.Index(nouns, pkg)
	switch {
	case ours && slices.Contains(aids, own) && !slices.Contains(aids, pkg):
		return "it is for tests alone"
	case pkg == "agent/doctest":
		if ours && !slices.Contains(aids, own) && !slices.Contains(tools, own) && !slices.Contains(nouns, own) {
			return "an aid of tests knows none of what does I/O, so that its tests can import it"
		}
	case slices.Contains(aids, pkg):
		if ours && !slices.Contains(aids, own) {
			return "an aid of tests knows nothing of the program, so that any test can import it"
		}
	case pkg == "agent/simaws" || strings.HasPrefix(pkg, "agent/simaws/"):
		if ours {
			return "the simulated cloud shares no code with what it tests"
		}
	case strings.HasPrefix(pkg, "cmd/nagaya-sim"):
		if ours && own != "agent/simaws" && !strings.HasPrefix(own, "cmd/nagaya-sim") && !slices.Contains(told, own) {
			return "the demonstration drives the real program from outside"
		}
	case ours && strings.HasPrefix(own, "agent/simaws"):
		return "the simulated cloud is never part of the program"
	case rank >= 0:
		return forbiddenForNoun(rank, imported, own, ours)
	case slices.Contains(tools, pkg):
		if ours {
			return "a tool knows nothing of the program"
		}
	case pkg == "agent" || pkg == "cmd/nagaya":
		return ""
	case ours:
		return forbiddenBelowNoun(pkg, own)
	}
	return ""
}

func forbiddenForNoun(rank int, imported, own string, ours bool) string {
	switch {
	case ours && !slices.Contains(nouns, own):
		return "a noun is pure; what does I/O imports it, not the other way round"
	case ours && slices.Index(nouns, own) >= rank:
		return "values flow one way: " + own + " is downstream of " + nouns[rank]
	case ours:
		return ""
	case slices.Contains(impure, imported):
		return "a noun holds values and functions on them; it does no I/O"
	case strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") && pureOutside[imported] == "":
		return "a noun imports no other module unless the rule says why"
	}
	return ""
}

// forbiddenBelowNoun is the rule for the packages that do I/O.
func forbiddenBelowNoun(pkg, own string) string {
	parent := path.Dir(pkg)
	rank := slices.Index(nouns, parent)
	switch {
	case rank < 0:
		return "package " + pkg + " has no place in the rule: it is beneath no noun"
	case slices.Contains(tools, own):
		return ""
	case !slices.Contains(nouns, own):
		return "what does I/O never imports its sibling or package agent; agent wires them"
	case slices.Index(nouns, own) > rank:
		return "values flow one way: " + own + " is downstream of " + parent
	}
	return ""
}

// impurities finds what a noun may not do even with allowed imports.
func impurities(f *ast.File) []string {
	var all []string
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			all = append(all, "starts a goroutine")
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			switch {
			case !ok || x.Obj != nil:
			case x.Name == "time" && slices.Contains(clock, n.Sel.Name):
				all = append(all, "calls time."+n.Sel.Name+": a noun is told the time")
			case x.Name == "rand" && !slices.Contains(seeded, n.Sel.Name):
				all = append(all, "calls rand."+n.Sel.Name+": a noun's draws follow from a seed")
			}
		}
		return true
	})
	return all
}

// The rule itself is tested on made-up imports, so that it cannot pass by being blind.
func TestTheRuleNamesCulprits(t *testing.T) {
	for _, row := range []struct {
		pkg, imported string
		want          string // part of the reason; empty is allowed
	}{
		{"agent/route", "os", "no I/O"},
		{"agent/route", "net/netip", ""},
		{"agent/route", module + "nginx", "downstream"},
		{"nginx", module + "agent/route", ""},
		{"agent/route", module + "agent/tasks/docker", "a noun is pure"},
		{"agent/route", "github.com/aws/aws-sdk-go-v2/aws", "no other module"},
		{"agent/tasks/docker", module + "agent/tasks/ecsagent", "sibling"},
		{"agent/tasks/docker", module + "agent/report", "downstream"},
		{"agent/tasks/docker", module + "agent/latest", ""},
		{"agent/tasks/docker", module + "agent", "agent wires"},
		{"agent/tasks", module + "agent/report", "downstream"},
		{"agent/latest", module + "agent/tasks", "tool"},
		{"agent", module + "agent/simaws", "never part"},
		{"agent/simaws", module + "agent/credit", "shares no code"},
		{"cmd/nagaya-sim/demo", module + "agent", "from outside"},
		{"agent/tools/x", module + "agent/tasks", "no place"},
		{"cmd/nagaya", module + "agent", ""},
		{"cmd/nagaya-sim/stage", module + "agent/testenv", "tests alone"},
		{"nginx", module + "nginx/nginxtest", "tests alone"},
		{"nginx/nginxtest", module + "agent/testenv", ""},
		{"nginx/nginxtest", module + "nginx", "nothing of the program"},
		{"agent/doctest", module + "agent/report", ""},
		{"agent/doctest", module + "agent/report/socket", "none of what does I/O"},
	} {
		got := forbidden(row.pkg, row.imported)
		if (got == "") != (row.want == "") || !strings.Contains(got, row.want) {
			t.Errorf("%s imports %s: %q; want %q", row.pkg, row.imported, got, row.want)
		}
	}
}

// kept lists what must not be linked into the shipped program.
var kept = map[string]string{
	module + "agent/simaws":            "the simulated cloud",
	module + "agent/testenv":           "what tests need",
	module + "agent/chromium":          "drives a browser in tests",
	module + "agent/doctest":           "compares samples of documents",
	module + "agent/journalwords":      "what the documents say of the journal",
	module + "nginx/nginxtest":         "chooses the nginx of tests",
	"testing":                          "the test framework",
	"github.com/google/go-cmp/cmp":     "compares values in tests",
	"google.golang.org/protobuf/proto": "two megabytes, by Prometheus's client library",
	"github.com/chromedp/chromedp":     "drives a browser in tests",
	"github.com/fxamacker/cbor/v2":     "the simulated cloud's wire format",
	"github.com/quic-go/quic-go":       "speaks HTTP/3 in tests",
	"net/http/pprof":                   "opens the program's insides on its HTTP server",
	"github.com/nagaya-ecs/nagaya/cmd": "a command",
}

func TestWhatIsNotLinkedIntoTheProgram(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "../cmd/nagaya").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 100 {
		t.Fatalf("only %d packages are linked; the list cannot be whole", len(deps))
	}
	for _, dep := range deps {
		if what := kept[dep]; what != "" {
			t.Errorf("%s (%s) is linked into nagaya", dep, what)
		}
		// Such a package describes each operation of a service when the program starts, for a handful of calls: those of
		// ECS, CloudWatch and what the SDK signs in with keep 1.4 MB of heap, and as much garbage beside it.
		if strings.HasPrefix(dep, "github.com/aws/") && strings.HasSuffix(dep, "/schemas") {
			t.Errorf("%s is linked into nagaya; take a version of that module without it", dep)
		}
	}
}

// The guide for contributors names the packages as the rule does.
func TestDocsNamePackagesAsTheRuleDoes(t *testing.T) {
	const file = "../CONTRIBUTING.md"
	guide := read(t, file)
	want := guide
	for what, all := range map[string][]string{"a noun": nouns, "a tool": tools, "an aid of tests": aids} {
		before, row, found := strings.Cut(want, "\n| "+what+": ")
		_, after, ended := strings.Cut(row, " | ")
		if !found || !ended {
			t.Fatalf("%s has no row for %s", file, what)
		}
		want = before + "\n| " + what + ": `" + strings.Join(all, "`, `") + "` | " + after
	}
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		guide = want
	}
	if guide != want {
		t.Errorf("%s does not name the packages as the rule does (go test ./agent -update)", file)
	}
}
