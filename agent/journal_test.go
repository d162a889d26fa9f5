package agent

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/doctest"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/history"
	"github.com/nagaya-ecs/nagaya/agent/journalwords"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/systemd"
)

// source is one package of the program as it is written.
type source struct {
	dir    string
	files  []*ast.File
	set    *token.FileSet
	consts map[string]string // of text
	coded  map[string][]int  // functions, and which of their parameters are named code
}

// sources parses the program: what is linked into nagaya, without tests.
func sources(t *testing.T) []*source {
	t.Helper()
	byDir := map[string]*source{}
	for _, root := range []string{".", "../nginx", "../systemd", "../cmd/nagaya"} {
		err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "simaws" || d.Name() == "testdata"):
				return filepath.SkipDir
			case !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go"):
				return nil
			}
			dir := filepath.Dir(file)
			s := byDir[dir]
			if s == nil {
				s = &source{dir: dir, set: token.NewFileSet(), consts: map[string]string{}, coded: map[string][]int{}}
				byDir[dir] = s
			}
			f, err := parser.ParseFile(s.set, file, nil, 0)
			s.files = append(s.files, f)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	exported := map[string][]int{}
	for _, s := range byDir {
		s.learn()
		for name, at := range s.coded {
			if ast.IsExported(name) {
				exported[name] = at
			}
		}
	}
	for _, s := range byDir { // other packages call them too
		for name, at := range exported {
			if s.coded[name] == nil {
				s.coded[name] = at
			}
		}
	}
	return slices.Collect(maps.Values(byDir))
}

// learn notes the constants and the functions that are told a code.
func (s *source) learn() {
	for _, f := range s.files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				for i, name := range n.Names {
					if i < len(n.Values) {
						if v, ok := literalOf(n.Values[i]); ok {
							s.consts[name.Name] = v
						}
					}
				}
			case *ast.FuncDecl:
				at := 0
				for _, p := range n.Type.Params.List {
					for _, name := range p.Names {
						if name.Name == "code" {
							s.coded[n.Name.Name] = append(s.coded[n.Name.Name], at)
						}
						at++
					}
				}
			}
			return true
		})
	}
}

func literalOf(e ast.Expr) (string, bool) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	v, err := strconv.Unquote(l.Value)
	return v, err == nil
}

// value is a text that is known from the source alone.
func (s *source) value(e ast.Expr) (string, bool) {
	if id, ok := e.(*ast.Ident); ok {
		v, ok := s.consts[id.Name]
		return v, ok
	}
	return literalOf(e)
}

func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

var kebab = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)+$`)

// problemCodes are the codes that the package gives to problems: what a field or a
// parameter of the name code is set to.
func (s *source) problemCodes() map[string]string {
	codes := map[string]string{}
	note := func(at ast.Expr) {
		if v, ok := s.value(at); ok && kebab.MatchString(v) {
			codes[v] = s.set.Position(at.Pos()).String()
		}
	}
	for _, f := range s.files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr:
				if strings.EqualFold(nameOf(n.Key), "code") {
					note(n.Value)
				}
			case *ast.AssignStmt:
				for i, l := range n.Lhs {
					if sel, ok := l.(*ast.SelectorExpr); ok && strings.EqualFold(sel.Sel.Name, "code") && i < len(n.Rhs) {
						note(n.Rhs[i])
					}
				}
			case *ast.CallExpr:
				for _, i := range s.coded[nameOf(n.Fun)] {
					if i < len(n.Args) {
						note(n.Args[i])
					}
				}
			}
			return true
		})
	}
	return codes
}

// call is one line that the program logs.
type call struct {
	at     string
	level  string
	events []string // what it names; several where that depends
	keys   []string
}

var levels = []string{"Debug", "Info", "Warn", "Error", "Log", "With"}

// calls are the log lines of the package.
func (s *source) calls(t *testing.T, kinds map[string]string) []call {
	var all []call
	for _, f := range s.files {
		ast.Inspect(f, func(n ast.Node) bool {
			x, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			fun, ok := x.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains(levels, fun.Sel.Name) || !isLogger(fun.X) {
				return true
			}
			c := call{at: s.set.Position(x.Pos()).String(), level: fun.Sel.Name}
			first := map[string]int{"With": 0, "Log": 3}
			skip, special := first[c.level]
			if !special {
				skip = 1
			}
			args := x.Args[skip:]
			if x.Ellipsis.IsValid() {
				return true // told by the chronicle, whose fields are looked at by themselves
			}
			for i := 0; i < len(args); i += 2 {
				if nameOf(args[i]) == "Key" {
					c.events = s.events(t, args[i+1], kinds)
					continue
				}
				key, known := literalOf(args[i])
				if !known {
					t.Errorf("%s: the key is no literal", c.at)
				}
				c.keys = append(c.keys, key)
			}
			all = append(all, c)
			return true
		})
	}
	return all
}

// isLogger goes by the name: Log, log, and what With returned.
func isLogger(e ast.Expr) bool {
	return slices.Contains([]string{"Log", "log", "with"}, nameOf(e))
}

// events are the kinds that an expression can name.
func (s *source) events(t *testing.T, e ast.Expr, kinds map[string]string) []string {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		if v := kinds[e.Sel.Name]; v != "" {
			return []string{v}
		}
	case *ast.CallExpr:
		switch nameOf(e.Fun) {
		case "OfGate":
			return []string{event.OfGate(true), event.OfGate(false)}
		case "OfJob":
			var all []string
			for _, p := range []gate.Phase{gate.Waiting, gate.Admitted, gate.Running, gate.Refused, gate.Done} {
				all = append(all, event.OfJob(string(p)))
			}
			return all
		}
	case *ast.Ident: // a parameter
		if all := slices.Collect(maps.Keys(s.passed(kinds))); e.Name == "kind" && len(all) > 0 {
			return all
		}
	}
	t.Errorf("%s: which event it is cannot be told", s.set.Position(e.Pos()))
	return nil
}

// passed are the events that functions of the package are told to log.
func (s *source) passed(kinds map[string]string) map[string]bool {
	all := map[string]bool{}
	for _, f := range s.files {
		ast.Inspect(f, func(n ast.Node) bool {
			if x, ok := n.(*ast.CallExpr); ok {
				for i := 1; i < len(x.Args); i++ {
					_, literal := literalOf(x.Args[i-1])
					if sel, ok := x.Args[i].(*ast.SelectorExpr); ok && literal && nameOf(sel.X) == "event" && kinds[sel.Sel.Name] != "" {
						all[kinds[sel.Sel.Name]] = true
					}
				}
			}
			return true
		})
	}
	return all
}

// kindNames are the constants of package event.
func kindNames(all []*source) map[string]string {
	for _, s := range all {
		if s.dir == "event" {
			kinds := maps.Clone(s.consts)
			delete(kinds, "Key")
			return kinds
		}
	}
	return nil
}

// Every line that is not for debugging names its event, and what it says has the
// same key everywhere.
func TestWordsOfLogLines(t *testing.T) {
	keys, used := map[string]bool{}, map[string]bool{"repeated": true, "last_at": true, "credits": true}
	for _, f := range journalwords.Fields {
		if keys[f.Key] {
			t.Errorf("the key %s is in the table twice", f.Key)
		}
		keys[f.Key] = true
	}
	all := sources(t)
	kinds, lines, happen := kindNames(all), 0, map[string]bool{}
	note := func(at string, events, said []string) {
		for _, key := range said {
			used[key] = true
			if !keys[key] {
				t.Errorf("%s: the key %s is not in journalwords.Fields", at, key)
			}
		}
		for _, e := range events {
			happen[e] = true
			if systemd.MessageID(e) == "" {
				t.Errorf("%s: the event %s has no MESSAGE_ID in systemd/nagaya.catalog", at, e)
			}
		}
	}
	for _, s := range all {
		for _, c := range s.calls(t, kinds) {
			lines++
			if len(c.events) == 0 && c.level != "Debug" && c.level != "With" {
				t.Errorf("%s: the line names no event", c.at)
			}
			note(c.at, c.events, c.keys)
		}
	}
	for _, e := range wholeChronicle() {
		note("the chronicle", []string{e.Fields[1].(string)}, keysOf(e))
	}
	if lines < 60 {
		t.Errorf("only %d log lines found; the search is blind", lines)
	}
	for key := range keys {
		if !used[key] && key != event.Key {
			t.Errorf("nothing has the key %s", key)
		}
	}
	for _, k := range journalwords.Kinds {
		if !happen[k.Name] {
			t.Errorf("nothing logs the event %s", k.Name)
		}
	}
}

// wholeChronicle is a chronicle with everything that it can tell.
func wholeChronicle() []report.Entry {
	at := time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)
	server := func(i byte) route.Server {
		return route.Server{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 17, 0, i}), 80), Container: strings.Repeat(string('a'+rune(i)), 64), Ref: "web"}
	}
	status := func(p problem.Problem, routes route.Table) report.Status {
		s := report.Status{At: at.Add(time.Minute), Routes: routes}
		if p.Code != "" {
			p.Since = at
			s.Problems = []problem.Problem{p}
		}
		return s
	}
	site := func(servers ...route.Server) route.Table {
		s := route.Site{Host: "a.test", Family: "web", Locations: []route.Location{{Path: "/"}}}
		return route.Table{Complete: true, Shape: route.Shape{Sites: []route.Site{s}}, Pools: route.Pools{s.PoolKey(s.Locations[0]): {Servers: servers, Kept: "ECS may start another"}}}
	}
	wrong := problem.Problem{Code: "container-not-listening", Subject: "container web route a.test/", Text: "x", Hint: "y"}
	var containers []tasks.Container
	for i := range byte(3) {
		containers = append(containers, tasks.Container{ID: server(i).Container, Name: "web", Task: tasks.TaskRef{ARN: "arn:aws:ecs:x"}})
	}
	var c report.Chronicle
	var all []report.Entry
	for _, s := range []report.Status{
		status(wrong, site(server(1), server(2))), status(wrong, site(server(2))), status(problem.Problem{}, site()), status(problem.Problem{}, route.Table{Complete: true}),
		status(problem.Problem{}, site(server(1))), status(problem.Problem{}, site(server(2))),
	} {
		entries, _ := c.Changes(s, containers)
		all = append(all, entries...)
	}
	return all
}

func keysOf(e report.Entry) []string {
	var keys []string
	for i := 2; i < len(e.Fields); i += 2 {
		keys = append(keys, e.Fields[i].(string))
	}
	return keys
}

// Every code that a problem can have is in the table.
func TestWordsOfProblems(t *testing.T) {
	at := map[string]string{}
	for _, s := range sources(t) {
		if s.dir != "event" {
			maps.Copy(at, s.problemCodes())
		}
	}
	known := map[string]bool{}
	for _, p := range journalwords.Problems {
		known[p] = true
		if at[p] == "" {
			t.Errorf("no problem has the code %s any more: remove it from journalwords.Problems and systemd/nagaya.catalog", p)
		}
	}
	for _, code := range slices.Sorted(maps.Keys(at)) {
		if !known[code] {
			t.Errorf("%s: the problem %s needs a row in journalwords.Problems and an entry in systemd/nagaya.catalog, with the MESSAGE_ID that 'journalctl --new-id128' makes", at[code], code)
		}
	}
}

// entry is one of the catalog.
type entry struct{ name, id, text string }

func catalog(t *testing.T) []entry {
	t.Helper()
	var all []entry
	for i, part := range regexp.MustCompile(`(?m)^# ([a-z0-9-]+)\n-- `).Split(read(t, "../systemd/nagaya.catalog"), -1) {
		if i > 0 {
			id, text, _ := strings.Cut(part, "\n")
			all = append(all, entry{id: id, text: text})
		}
	}
	for i, m := range regexp.MustCompile(`(?m)^# ([a-z0-9-]+)\n-- `).FindAllStringSubmatch(read(t, "../systemd/nagaya.catalog"), -1) {
		all[i].name = m[1]
	}
	return all
}

var catalogField = regexp.MustCompile(`@([A-Z_]+)@`)

// What 'journalctl -x' explains is what the program logs, with fields that the entry has.
func TestWordsOfTheCatalog(t *testing.T) {
	have := catalog(t)
	var kinds []string
	for _, k := range journalwords.Kinds {
		kinds = append(kinds, k.Name)
	}
	kinds = append(kinds, journalwords.Problems...)
	if len(have) != len(kinds) {
		t.Errorf("%d entries for %d kinds", len(have), len(kinds))
	}
	fields := fieldsOfEvents(t)
	stamped := []string{"instance"}
	seen := map[string]bool{}
	for i, e := range have {
		if i < len(kinds) && (kinds[i] != e.name || systemd.MessageID(e.name) != e.id) {
			t.Fatalf("entry %d is %s (%s), and in package journalwords %s (%s)", i, e.name, e.id, kinds[i], systemd.MessageID(e.name))
		}
		if seen[e.id] || !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(e.id) {
			t.Errorf("%s: %q is no MESSAGE_ID of its own", e.name, e.id)
		}
		seen[e.id] = true
		for _, must := range []string{"Subject: ", "\nDefined-By: nagaya\n", "\nSupport: ", "\nDocumentation: ", "\nWhat to do: "} {
			if !strings.Contains(e.text, must) {
				t.Errorf("%s: no %q", e.name, strings.TrimSpace(must))
			}
		}
		may := slices.Concat(fields[e.name], stamped)
		if i >= len(journalwords.Kinds) {
			may = []string{"subject"}
		}
		for _, m := range catalogField.FindAllStringSubmatch(e.text, -1) {
			if key := strings.ToLower(strings.TrimPrefix(m[1], "NAGAYA_")); !slices.Contains(may, key) {
				t.Errorf("%s: not every line of it has the field %s", e.name, m[1])
			}
		}
		for _, m := range regexp.MustCompile(`\b(address|nginx|routes|gate|credit|certs|docker|ecs|metrics)\.([a-z][a-z0-9-]+)`).FindAllStringSubmatch(e.text, -1) {
			if _, ok := config.Find(m[0]); !ok && m[2] != "md" {
				t.Errorf("%s: %s is no setting", e.name, m[0])
			}
		}
	}
}

// fieldsOfEvents are those that every line of an event has.
func fieldsOfEvents(t *testing.T) map[string][]string {
	all := sources(t)
	fields := map[string][]string{}
	names := kindNames(all)
	note := func(events, keys []string) {
		for _, e := range events {
			if fields[e] == nil {
				fields[e] = append([]string{"event"}, keys...)
			}
			fields[e] = slices.DeleteFunc(fields[e], func(k string) bool { return k != "event" && !slices.Contains(keys, k) })
		}
	}
	for _, s := range all {
		with := []string(nil)
		for _, c := range s.calls(t, names) {
			if c.level == "With" {
				with = append(with, c.keys...)
			}
		}
		for _, c := range s.calls(t, names) {
			note(c.events, append(c.keys, with...))
		}
	}
	for _, e := range wholeChronicle() {
		note([]string{e.Fields[1].(string)}, keysOf(e))
	}
	return fields
}

// What the history keeps of a line, the line has.
func TestWordsOfTheHistory(t *testing.T) {
	fields := fieldsOfEvents(t)
	for _, kind := range history.Kinds() {
		for _, key := range history.Fields(kind) {
			if !slices.Contains(fields[kind], key) {
				t.Errorf("not every line of %s has the field %s", kind, key)
			}
		}
	}
}

// The journal of a healthy day is short enough to be read.
func TestAHealthyDayIsShort(t *testing.T) {
	const most = 200
	lines := 0
	for _, k := range journalwords.Kinds {
		lines += k.Daily
	}
	if lines >= most || lines < most/2 {
		t.Errorf("%d lines a day; want less than %d, and a count that is not blind", lines, most)
	}
}

// The tables of the page about troubles are those of the program, and what 'journalctl -x'
// adds to a line is in the catalog.
func TestDocsOfTroublesAreGenerated(t *testing.T) {
	const file = "../" + doctest.Troubles
	page := read(t, file)
	want := between(t, page, "<!-- fields -->\n", fieldTable())
	want = between(t, want, "<!-- events -->\n", eventTable(t))
	want = between(t, want, "<!-- renamed -->\n", renamedTable(t))
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		page = want
	}
	if page != want {
		t.Errorf("%s: the tables are not what the program's tables say (go test ./agent -update)", file)
	}
	explained := 0
	for _, s := range doctest.Samples(page) {
		for _, line := range s.Lines {
			if text, is := strings.CutPrefix(line, "░░ "); is {
				explained++
				if !inCatalog(t, s.Events(), text) {
					t.Errorf("%s: the catalog does not say %q of %q", file, text, s.Events())
				}
			}
		}
	}
	if explained < 5 {
		t.Errorf("only %d lines of the catalog found; the search is blind", explained)
	}
}

// Each line that the page about troubles shows is compared with a real one: it shows one
// of each event that it asks the journal for, and a test calls doctest.Logged for that.
func TestDocsOfTroublesAreCompared(t *testing.T) {
	compared, called := map[string]bool{}, 0
	eachFile(t, token.NewFileSet(), func(path string, f *ast.File) {
		ast.Inspect(f, func(n ast.Node) bool {
			x, ok := n.(*ast.CallExpr)
			if !ok || !strings.HasSuffix(path, "_test.go") {
				return true
			}
			if sel, ok := x.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Logged" && nameOf(sel.X) == "doctest" {
				called++
				ast.Inspect(x.Args[1], func(n ast.Node) bool {
					if e, ok := n.(ast.Expr); ok {
						if v, ok := literalOf(e); ok {
							compared[v] = true
						}
					}
					return true
				})
			}
			return true
		})
	})
	shown := 0
	for _, s := range doctest.Samples(read(t, "../"+doctest.Troubles)) {
		events := s.Events()
		lines := slices.DeleteFunc(slices.Clone(s.Lines), func(l string) bool { return strings.HasPrefix(l, "░░") })
		shown += len(lines)
		for _, e := range events {
			if systemd.MessageID(e) == "" {
				t.Errorf("%s: there is no event %s", s.Command, e)
			}
			if len(lines) > 0 && !compared[e] {
				t.Errorf("%s: no test compares the line of %s with a real one (doctest.Logged)", s.Command, e)
			}
		}
		if len(lines) > 0 && len(lines) != len(events) {
			t.Errorf("%s: %d lines for %d events, want one of each", s.Command, len(lines), len(events))
		}
	}
	if shown < 20 || called < 15 {
		t.Errorf("only %d lines and %d comparisons found; the search is blind", shown, called)
	}
}

// inCatalog reports whether the words stand in one of the entries, whatever its fields
// are and wherever its lines end.
func inCatalog(t *testing.T, names []string, words string) bool {
	for _, e := range catalog(t) {
		if !slices.Contains(names, e.name) {
			continue
		}
		rest := strings.Join(strings.Fields(e.text), " ")
		plain := catalogField.ReplaceAllString(rest, "\x00")
		return fits(strings.Fields(words), strings.Fields(plain))
	}
	return false
}

// fits reports whether words stand in text in a row; \x00 in it is any word or part of one.
func fits(words, text []string) bool {
	for i := range text {
		if i+len(words) > len(text) {
			break
		}
		all := true
		for j, w := range words {
			form := "^" + strings.ReplaceAll(regexp.QuoteMeta(text[i+j]), "\x00", ".+") + "$"
			all = all && regexp.MustCompile(form).MatchString(w)
		}
		if all {
			return true
		}
	}
	return len(words) == 0
}

func fieldTable() string {
	var b strings.Builder
	b.WriteString("| field | meaning |\n|---|---|\n")
	also := event.Journald()
	for _, f := range journalwords.Fields {
		name := "`NAGAYA_" + strings.ToUpper(f.Key) + "`"
		if also[f.Key] != "" {
			name += ", `" + also[f.Key] + "`"
		}
		fmt.Fprintf(&b, "| %s | %s |\n", name, cell(f.Meaning))
	}
	return b.String()
}

func eventTable(t *testing.T) string {
	var b strings.Builder
	b.WriteString("| event | what has happened |\n|---|---|\n")
	for _, e := range catalog(t) {
		subject, _, _ := strings.Cut(strings.TrimPrefix(e.text, "Subject: "), "\n")
		fmt.Fprintf(&b, "| `%s` | %s |\n", e.name, cell(subject))
	}
	return b.String()
}

// renamedTable is made of the MESSAGE_IDs: an event keeps its own when its name changes.
func renamedTable(t *testing.T) string {
	names := map[string]string{} // by MESSAGE_ID
	used := map[string]bool{}
	for _, e := range catalog(t) {
		names[e.id], used[e.name] = e.name, true
	}
	var b strings.Builder
	b.WriteString("| before | now |\n|---|---|\n")
	for line := range strings.Lines(read(t, "testdata/events-before.txt")) {
		old, id, _ := strings.Cut(strings.TrimSpace(line), " ")
		if old == "#" || names[id] == old {
			continue
		}
		if used[old] {
			t.Errorf("%s is another event than before: an event that is not renamed keeps its MESSAGE_ID %s", old, id)
		}
		now := "none"
		if names[id] != "" {
			now = "`" + names[id] + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", old, now)
	}
	return b.String()
}
