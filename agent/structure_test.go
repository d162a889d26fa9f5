package agent

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"iter"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	mostFields  = 15   // of a struct of a package that does I/O
	mostMethods = 6    // of an interface
	mostLines   = 500  // of a file
	mostMedian  = 150  // of the files' lines
	mostWiring  = 1000 // lines of code of package agent
)

// standing are the violations that are known and wait to be mended, by what violations
// returns before the colon. It may only become shorter.
var standing = []string{}

// patterns are the regular expressions of nginx and the packages beneath it. None reads
// text that nagaya has written: what was known before it was written is in the manifest.
var patterns = map[string]string{
	"nginx luaToken":            "reads the operator's files",
	"nginx usedVariable":        "reads the operator's files",
	"nginx versionLine":         "reads what nginx -V prints",
	"nginx pathPattern":         "judges the path of a setting",
	"nginx/runtime modulesDir":  "reads what nginx -V prints",
	"nginx/runtime deniedPath":  "reads a message of nginx",
	"nginx/apply fileInMessage": "reads a message of nginx",
}

// doesIO reports whether a package is one of the halves that do I/O.
func doesIO(pkg string) bool { return !slices.Contains(nouns, pkg) }

// shipped reports whether a file is a part of the program.
func shipped(file string) bool {
	pkg := path.Dir(file)
	switch {
	case strings.HasSuffix(file, "_test.go"), slices.Contains(aids, pkg), strings.HasPrefix(pkg, "agent/simaws"):
		return false
	}
	return slices.ContainsFunc([]string{"agent", "cmd/nagaya", "nginx", "systemd"}, func(top string) bool {
		return pkg == top || strings.HasPrefix(pkg, top+"/")
	})
}

// program is the shipped code by package.
type program map[string][]*ast.File

// violations finds what breaks the rules in a file, each as "WHERE WHAT: why".
func (p program) violations(file string, set *token.FileSet, f *ast.File) []string {
	pkg := path.Dir(file)
	var all []string
	if n := set.File(f.FileStart).LineCount(); n > mostLines {
		all = append(all, fmt.Sprintf("%s: %d lines, at most %d may be", file, n, mostLines))
	}
	if pkg == "agent" {
		for _, spec := range f.Imports {
			if at, _ := strconv.Unquote(spec.Path.Value); client(at) {
				all = append(all, fmt.Sprintf("%s: imports %s, a client; wiring has nothing to ask of it", file, at))
			}
		}
	}
	if pkg == "agent" {
		for _, at := range decided(f) {
			all = append(all, fmt.Sprintf("%s: decides by %s, which is for the package of that word", file, at))
		}
	}
	named := map[ast.Expr]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.TypeSpec:
			named[n.Type] = n.Name.Name
		case *ast.StructType:
			if k := n.Fields.NumFields(); k > mostFields && doesIO(pkg) {
				all = append(all, fmt.Sprintf("%s %s: %d fields, at most %d may be", pkg, nameless(named[n]), k, mostFields))
			}
		case *ast.InterfaceType:
			if k := p.methods(pkg, f, n); k > mostMethods {
				all = append(all, fmt.Sprintf("%s %s: %d methods, at most %d may be", pkg, nameless(named[n]), k, mostMethods))
			}
		}
		return true
	})
	if pkg == "nginx" || strings.HasPrefix(pkg, "nginx/") {
		for _, name := range compiled(f) {
			if patterns[pkg+" "+name] == "" {
				all = append(all, fmt.Sprintf("%s %s: a regular expression that patterns gives no reason for", pkg, name))
			}
		}
	}
	return all
}

// decided are the words of nouns, such as address.Take, that a file compares a value with.
func decided(f *ast.File) (all []string) {
	word := func(e ast.Expr) {
		sel, ok := e.(*ast.SelectorExpr)
		if !ok {
			return
		}
		if id, ok := sel.X.(*ast.Ident); ok && id.Obj == nil && slices.Contains(nouns, imported(f, id.Name)) {
			all = append(all, id.Name+"."+sel.Sel.Name)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			if slices.Contains([]token.Token{token.EQL, token.NEQ, token.LSS, token.GTR, token.LEQ, token.GEQ}, n.Op) {
				word(n.X)
				word(n.Y)
			}
		case *ast.CaseClause:
			for _, e := range n.List {
				word(e)
			}
		}
		return true
	})
	return all
}

// client reports whether a package of another module speaks a service's API.
func client(at string) bool {
	return strings.HasPrefix(at, "github.com/aws/aws-sdk-go-v2/service/") || strings.HasPrefix(at, "github.com/aws/aws-sdk-go-v2/feature/") ||
		strings.HasPrefix(at, "github.com/moby/moby/") || strings.HasPrefix(at, "github.com/docker/")
}

// codeLines counts the lines of a text that are neither blank nor comments.
func codeLines(text string) int {
	n := 0
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
			n++
		}
	}
	return n
}

func nameless(name string) string {
	if name == "" {
		return "a type without a name"
	}
	return name
}

// methods counts those of an interface with those of the ones that it embeds. One that
// is not of this program counts as too many.
func (p program) methods(pkg string, f *ast.File, i *ast.InterfaceType) int {
	n := 0
	for _, m := range i.Methods.List {
		switch x := m.Type.(type) {
		case *ast.FuncType:
			n += len(m.Names)
		case *ast.Ident:
			n += p.methodsOf(pkg, x.Name)
		case *ast.SelectorExpr:
			n += p.methodsOf(imported(f, nameOf(x.X)), x.Sel.Name)
		}
	}
	return n
}

func (p program) methodsOf(pkg, name string) int {
	switch pkg + "." + name {
	case "io.Closer", "io.Reader", "io.Writer", "fmt.Stringer":
		return 1
	}
	for _, f := range p[pkg] {
		for spec := range types(f) {
			if spec.Name.Name != name {
				continue
			}
			if i, ok := spec.Type.(*ast.InterfaceType); ok {
				return p.methods(pkg, f, i)
			}
			return 0 // a type constraint
		}
	}
	if token.IsExported(name) {
		return mostMethods + 1
	}
	return 0 // a type constraint: comparable, int, …
}

// types are the types that a file declares outside of functions.
func types(f *ast.File) iter.Seq[*ast.TypeSpec] {
	return func(yield func(*ast.TypeSpec) bool) {
		for _, d := range f.Decls {
			if d, ok := d.(*ast.GenDecl); ok {
				for _, spec := range d.Specs {
					if spec, ok := spec.(*ast.TypeSpec); ok && !yield(spec) {
						return
					}
				}
			}
		}
	}
}

// imported is the package that a file knows by a name, as in its module.
func imported(f *ast.File, name string) string {
	for _, spec := range f.Imports {
		at, _ := strconv.Unquote(spec.Path.Value)
		if path.Base(at) == name || spec.Name != nil && spec.Name.Name == name {
			return strings.TrimPrefix(at, module)
		}
	}
	return ""
}

// compiled are the variables and functions of a file in which a regular expression is
// compiled or used without one. To quote text for nginx is neither.
func compiled(f *ast.File) []string {
	pkg := ""
	for _, spec := range f.Imports {
		if spec.Path.Value == `"regexp"` {
			if pkg = "regexp"; spec.Name != nil {
				pkg = spec.Name.Name
			}
		}
	}
	if pkg == "" {
		return nil
	}
	var all []string
	in := func(name string, n ast.Node) {
		ast.Inspect(n, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && nameOf(sel.X) == pkg && sel.Sel.Name != "QuoteMeta" && sel.Sel.Name != "Regexp" {
				all = append(all, name)
			}
			return true
		})
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			in(d.Name.Name, d)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if v, ok := spec.(*ast.ValueSpec); ok {
					for i, value := range v.Values {
						in(v.Names[min(i, len(v.Names)-1)].Name, value)
					}
				}
			}
		}
	}
	if pkg == "." {
		all = append(all, "an import without a name")
	}
	return all
}

// readProgram parses the shipped code.
func readProgram(t *testing.T) (program, map[string]*ast.File, *token.FileSet) {
	t.Helper()
	p, files, all := program{}, map[string]*ast.File{}, token.NewFileSet()
	eachFile(t, all, func(file string, f *ast.File) {
		if shipped(file) {
			p[path.Dir(file)] = append(p[path.Dir(file)], f)
			files[file] = f
		}
	})
	return p, files, all
}

func TestStructure(t *testing.T) {
	p, files, set := readProgram(t)
	if len(files) < 200 {
		t.Errorf("only %d files read; the search is blind", len(files))
	}
	found, wiring := map[string]bool{}, 0
	var lengths []int
	for _, f := range files {
		lengths = append(lengths, set.File(f.FileStart).LineCount())
	}
	slices.Sort(lengths)
	if median := lengths[len(lengths)/2]; median > mostMedian {
		t.Errorf("half of the files have more than %d lines, at most %d may be", median, mostMedian)
	}
	for file := range files {
		if path.Dir(file) == "agent" {
			wiring += codeLines(read(t, "../"+file))
		}
	}
	if wiring > mostWiring {
		if found["agent"] = true; !slices.Contains(standing, "agent") {
			t.Errorf("agent: %d lines of code, at most %d may be: it wires", wiring, mostWiring)
		}
	}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		for _, v := range p.violations(file, set, files[file]) {
			what, _, _ := strings.Cut(v, ":")
			if found[what] = true; !slices.Contains(standing, what) {
				t.Error(v)
			}
		}
	}
	for _, what := range standing {
		if !found[what] {
			t.Logf("%s is mended: remove it from the list of standing violations", what)
		}
	}
}

// Every regular expression that has a reason exists.
func TestStructureOfPatterns(t *testing.T) {
	_, files, _ := readProgram(t)
	have := map[string]bool{}
	for file, f := range files {
		for _, name := range compiled(f) {
			have[path.Dir(file)+" "+name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(patterns)) {
		if !have[name] {
			t.Errorf("there is no regular expression %s", name)
		}
	}
}

// The rules are tested on made-up sources, so that they cannot pass by being blind.
func TestStructureRulesNameCulprits(t *testing.T) {
	fields := func(n int) string {
		return "type big struct {\n" + strings.Repeat("a, b int\n", n/2) + strings.Repeat("*embedded\n", n%2) + "}\n"
	}
	for _, row := range []struct {
		name, file, source string
		want               string // begins so; empty is allowed
	}{
		{"a large struct", "agent/gate/loop/a.go", fields(16), "agent/gate/loop big: 16 fields"},
		{"one with something embedded", "agent/gate/loop/a.go", fields(17), "agent/gate/loop big: 17 fields"},
		{"one that is large enough", "agent/gate/loop/a.go", fields(15), ""},
		{"one of a noun", "agent/gate/a.go", fields(40), ""},
		{"one of a command", "cmd/nagaya/a.go", fields(16), "cmd/nagaya big: 16 fields"},
		{"one within a function", "systemd/a.go", "func f() { " + fields(16) + " }", "systemd big: 16 fields"},
		{"one without a name", "systemd/a.go", "var x " + strings.TrimPrefix(fields(16), "type big "), "systemd a type without a name: 16 fields"},
		{"a large interface", "agent/gate/a.go", "type i interface { a(); b(); c(); d(); e(); f(); g() }", "agent/gate i: 7 methods"},
		{"one that is large enough", "agent/gate/a.go", "type i interface { a(); b(); c(); d(); e(); f() }", ""},
		{"one that embeds", "agent/gate/a.go", "type i interface { j; k }\ntype j interface { a(); b(); c(); d() }\ntype k interface { e(); f(); g() }", "agent/gate i: 7 methods"},
		{"one that embeds a foreign one", "agent/gate/loop/a.go", "import \"net\"\ntype i interface { net.Conn }", "agent/gate/loop i: 7 methods"},
		{"one that embeds a small one", "agent/gate/loop/a.go", "import \"io\"\ntype i interface { io.Closer; a() }", ""},
		{"a constraint", "agent/gate/a.go", "type i interface { comparable; ~int | ~string }", ""},
		{"a long file", "nginx/a.go", strings.Repeat("\n", 501), "nginx/a.go: 501 lines"},
		{"one that is long enough", "nginx/a.go", strings.Repeat("\n", 500), ""},
		{"a pattern", "nginx/a.go", "import \"regexp\"\nvar (\n\ta = 1\n\tlisten = regexp.MustCompile(`x`)\n)", "nginx listen: a regular expression"},
		{"one by another name", "nginx/apply/a.go", "import r \"regexp\"\nfunc f() { r.MatchString(`x`, s) }", "nginx/apply f: a regular expression"},
		{"one with a reason", "nginx/a.go", "import \"regexp\"\nvar versionLine = regexp.MustCompile(`x`)", ""},
		{"one of others", "agent/route/a.go", "import \"regexp\"\nvar listen = regexp.MustCompile(`x`)", ""},
		{"a client in the wiring", "agent/a.go", "import \"github.com/aws/aws-sdk-go-v2/service/ec2\"", "agent/a.go: imports github.com/aws"},
		{"a decision in the wiring", "agent/a.go", "import \"github.com/nagaya-ecs/nagaya/agent/address\"\nfunc f(a address.Action) bool { return a == address.Take }", "agent/a.go: decides by address.Take"},
		{"one by cases", "agent/a.go", "import \"github.com/nagaya-ecs/nagaya/agent/gate\"\nfunc f(p gate.Phase) { switch p { case gate.Waiting: } }", "agent/a.go: decides by gate.Waiting"},
		{"a value that is passed on", "agent/a.go", "import \"github.com/nagaya-ecs/nagaya/agent/gate\"\nfunc f() gate.Phase { return gate.Waiting }", ""},
		{"a client beneath a noun", "agent/tasks/docker/a.go", "import \"github.com/moby/moby/client\"", ""},
		{"a text that is quoted", "nginx/a.go", "import \"regexp\"\nfunc f() string { return regexp.QuoteMeta(`x`) }", ""},
	} {
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, row.file, "package x; "+row.source, 0)
		if err != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
		p := program{path.Dir(row.file): {f}}
		got := strings.Join(p.violations(row.file, set, f), "\n")
		if (got == "") != (row.want == "") || !strings.HasPrefix(got, row.want) {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
	if n := codeLines("package x\n\n// It is\n\t// nothing.\nfunc f() {\n}\n"); n != 3 {
		t.Errorf("%d lines of code, want 3", n)
	}
	for file, want := range map[string]bool{
		"agent/flow.go": true, "cmd/nagaya/main.go": true, "nginx/install/run.go": true, "systemd/log.go": true,
		"cmd/nagaya-sim/main.go": false, "agent/simaws/ec2.go": false, "agent/flow_test.go": false, "nginx/nginxtest/nginxtest.go": false,
	} {
		if shipped(file) != want {
			t.Errorf("%s is a part of the program: %v", file, !want)
		}
	}
}
