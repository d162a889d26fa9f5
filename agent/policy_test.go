package agent

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/address"
)

// statement is one of the policy that is installed for the operator.
type statement struct {
	Sid, Effect string
	Action      words
	Resource    words
	Condition   map[string]map[string]words
}

// words are one text or several, as IAM writes them.
type words []string

func (w *words) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*w = words{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(w))
}

func readPolicy(t *testing.T) []statement {
	t.Helper()
	b, err := os.ReadFile("../packaging/iam-policy.json")
	if err != nil {
		t.Fatal(err)
	}
	var policy struct {
		Version   string
		Statement []statement
	}
	if err := json.Unmarshal(b, &policy); err != nil || policy.Version != "2012-10-17" {
		t.Fatalf("version %q, %v", policy.Version, err)
	}
	return policy.Statement
}

// actions are those that calls of another name take, or that S3 takes with another service.
var actions = map[string][]string{
	"s3:PUT Key": {"s3:PutObject", "kms:Decrypt", "kms:GenerateDataKey"}, // with a KMS key
	"s3:GET Key": {"s3:GetObject"},
	"s3:GET":     {"s3:ListBucket"},
}

// calls finds the actions of AWS that the program may call: for each there is a
// value of the SDK's type ACTIONInput somewhere, or one of awsclient.S3Request.
func calls(t *testing.T) []string {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "simaws" || d.Name() == "nagaya-sim" || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && d.Name() != "..") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			sel, ok := lit.Type.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			service, isName := sel.X.(*ast.Ident)
			action, input := strings.CutSuffix(sel.Sel.Name, "Input")
			if isName && input && action != "" && service.Name != "imds" || sel.Sel.Name == "S3Request" {
				call := service.Name + ":" + action
				if !input {
					call = "s3:" + s3Call(lit)
				}
				taken := actions[call]
				if taken == nil {
					taken = []string{call}
				}
				for _, a := range taken {
					found[a] = true
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(found))
}

// s3Call is the method of a request of S3, with Key behind it if it is about an object.
func s3Call(request *ast.CompositeLit) (call string) {
	key := ""
	for _, e := range request.Elts {
		field := e.(*ast.KeyValueExpr)
		switch method, named := field.Value.(*ast.SelectorExpr); field.Key.(*ast.Ident).Name {
		case "Method":
			if named {
				call = strings.ToUpper(strings.TrimPrefix(method.Sel.Name, "Method"))
			}
		case "Key":
			key = " Key"
		}
	}
	return call + key
}

// The policy grants what the program calls, and nothing else.
func TestPolicyIsWhatIsCalled(t *testing.T) {
	granted := map[string]bool{}
	for _, s := range readPolicy(t) {
		for _, a := range s.Action {
			granted[a] = true
		}
	}
	if diff := cmp.Diff(calls(t), slices.Sorted(maps.Keys(granted))); diff != "" {
		t.Errorf("packaging/iam-policy.json (-called +granted):\n%s", diff)
	}
}

// What changes something is granted on named resources only, and tags only under
// the one key.
func TestPolicyIsNarrow(t *testing.T) {
	sids := map[string]bool{}
	for _, s := range readPolicy(t) {
		if s.Effect != "Allow" || s.Sid == "" || sids[s.Sid] {
			t.Errorf("statement %+v", s)
		}
		sids[s.Sid] = true
		for _, a := range s.Action {
			_, verb, _ := strings.Cut(a, ":")
			if strings.HasPrefix(verb, "Describe") || strings.HasPrefix(verb, "Get") {
				continue
			}
			for _, r := range s.Resource {
				whole := strings.HasSuffix(r, "instance/*") || strings.HasSuffix(r, "network-interface/*")
				if r == "*" || strings.Contains(a, "*") || whole && len(s.Condition) == 0 {
					t.Errorf("%s: %s on %s without a condition", s.Sid, a, r)
				}
			}
			if verb == "CreateTags" && !slices.Equal(s.Condition["ForAllValues:StringEquals"]["aws:TagKeys"], []string{address.TagKey}) {
				t.Errorf("%s: tags under any key: %+v", s.Sid, s.Condition)
			}
		}
	}
}
