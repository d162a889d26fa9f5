package agent

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// eachFile parses every Go file of the repository and passes it on with its path from
// the top directory.
func eachFile(t *testing.T, set *token.FileSet, visit func(path string, f *ast.File)) {
	t.Helper()
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(file, ".go"):
			return nil
		}
		rel, err := filepath.Rel("..", file)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(set, file, nil, parser.ParseComments)
		if err == nil {
			visit(filepath.ToSlash(rel), f)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// skips finds what in a file lets a test be skipped, or looks itself at what decides that.
func skips(set *token.FileSet, f *ast.File) []string {
	var all []string
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, n.Sel.Name) {
				all = append(all, fmt.Sprintf("%s: %s", set.Position(n.Pos()), n.Sel.Name))
			}
		case *ast.BasicLit:
			if n.Value == `"CI"` {
				all = append(all, fmt.Sprintf("%s: reads CI", set.Position(n.Pos())))
			}
		}
		return true
	})
	return all
}

// A test is skipped by testenv.Need alone, which fails where CI is set.
func TestRuleOnlyNeedSkips(t *testing.T) {
	here, files, set := 0, 0, token.NewFileSet()
	eachFile(t, set, func(path string, f *ast.File) {
		files++
		found := skips(set, f)
		switch {
		case strings.HasPrefix(path, "agent/testenv/"):
			here += len(found)
		case strings.HasSuffix(path, "_test.go") && path != "agent/skip_test.go":
			for _, what := range found {
				t.Errorf("%s in a test: call a function of package testenv", what)
			}
		}
	})
	if here == 0 || files < 300 {
		t.Errorf("%d found in package testenv, %d files read; the search is blind", here, files)
	}
}

func TestSkipsAreFound(t *testing.T) {
	const made = `package x
func TestA(t *testing.T) { t.Skip("no") }
func TestB(t *testing.T) { t.Run("", func(u *testing.T) { u.Skipf("%d", 1); f := u.SkipNow; f() }) }
func TestC(t *testing.T) { if os.Getenv("CI") == "" { return } }
func TestD(t *testing.T) { testenv.Need(t, nil); d.SkipDir() }
`
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, "x_test.go", made, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := skips(set, f); len(got) != 4 {
		t.Errorf("found %q, want four", got)
	}
}
