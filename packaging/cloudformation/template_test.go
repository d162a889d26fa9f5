package cloudformation

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// template is a CloudFormation template as maps, lists and texts; the short form of a
// function, !Sub, has become its long one, Fn::Sub.
type template map[string]any

func load(t *testing.T, name string) template {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := parser.ParseBytes(b, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Docs) != 1 {
		t.Fatalf("%s has %d documents", name, len(f.Docs))
	}
	v, ok := value(t, f.Docs[0].Body).(map[string]any)
	if !ok {
		t.Fatalf("%s is no mapping", name)
	}
	return v
}

func value(t *testing.T, n ast.Node) any {
	t.Helper()
	switch n := n.(type) {
	case *ast.MappingNode:
		m := map[string]any{}
		for _, v := range n.Values {
			put(t, m, v)
		}
		return m
	case *ast.MappingValueNode:
		m := map[string]any{}
		put(t, m, n)
		return m
	case *ast.SequenceNode:
		s := []any{}
		for _, v := range n.Values {
			s = append(s, value(t, v))
		}
		return s
	case *ast.TagNode:
		name := strings.TrimPrefix(n.Start.Value, "!")
		v := value(t, n.Value)
		if name == "GetAtt" {
			if s, ok := v.(string); ok {
				resource, attribute, _ := strings.Cut(s, ".")
				v = []any{resource, attribute}
			}
		}
		if name != "Ref" && name != "Condition" {
			name = "Fn::" + name
		}
		return map[string]any{name: v}
	case *ast.LiteralNode:
		return n.Value.Value
	case *ast.StringNode:
		return n.Value
	case *ast.NullNode:
		return nil
	case ast.ScalarNode:
		return n.GetToken().Value
	default:
		t.Fatalf("line %d: %T", n.GetToken().Position.Line, n)
		return nil
	}
}

func put(t *testing.T, m map[string]any, v *ast.MappingValueNode) {
	t.Helper()
	key := v.Key.GetToken().Value
	if _, twice := m[key]; twice {
		t.Errorf("line %d: %s is there twice", v.Key.GetToken().Position.Line, key)
	}
	m[key] = value(t, v.Value)
}

func (t template) section(name string) map[string]any {
	m, _ := t[name].(map[string]any)
	return m
}

// function returns name and argument if v calls a function and is nothing else.
func function(v any) (string, any, bool) {
	m, ok := v.(map[string]any)
	if !ok || len(m) != 1 {
		return "", nil, false
	}
	for name, arg := range m {
		return name, arg, name == "Ref" || name == "Condition" || strings.HasPrefix(name, "Fn::")
	}
	return "", nil, false
}

// walk visits everything in v, and v itself.
func walk(v any, visit func(any)) {
	visit(v)
	switch v := v.(type) {
	case map[string]any:
		for _, e := range v {
			walk(e, visit)
		}
	case []any:
		for _, e := range v {
			walk(e, visit)
		}
	}
}

var pseudo = []string{"AWS::AccountId", "AWS::NoValue", "AWS::Partition", "AWS::Region", "AWS::StackId", "AWS::StackName", "AWS::URLSuffix"}

// uses is what a part of a template refers to.
type uses struct {
	names      []string    // parameters, resources
	attributes [][2]string // of resources
	conditions []string
	strange    []string
}

// variables are those of a text of Fn::Sub: ${!x} is none.
func variables(text string) []string {
	var all []string
	for {
		_, rest, found := strings.Cut(text, "${")
		if !found {
			return all
		}
		name, after, ended := strings.Cut(rest, "}")
		if ended && !strings.HasPrefix(name, "!") {
			all = append(all, name)
		}
		text = after
	}
}

// reference notes what stands in a Ref or as a variable: NAME or RESOURCE.ATTRIBUTE.
func (u *uses) reference(name string) {
	if resource, attribute, ok := strings.Cut(name, "."); ok {
		u.attributes = append(u.attributes, [2]string{resource, attribute})
	} else {
		u.names = append(u.names, name)
	}
}

var functions = []string{"Fn::And", "Fn::Base64", "Fn::Equals", "Fn::GetAtt", "Fn::If", "Fn::Join", "Fn::Not", "Fn::Or", "Fn::Select", "Fn::Split", "Fn::Sub"}

func used(v any) uses {
	var u uses
	walk(v, func(v any) {
		name, arg, ok := function(v)
		if !ok {
			return
		}
		list, _ := arg.([]any)
		text, isText := arg.(string)
		switch name {
		case "Ref":
			u.names = append(u.names, text)
		case "Condition":
			if isText { // IAM's own Condition is a mapping
				u.conditions = append(u.conditions, text)
			}
		case "Fn::If":
			condition, _ := list[0].(string)
			u.conditions = append(u.conditions, condition)
			if len(list) != 3 {
				u.strange = append(u.strange, fmt.Sprint(list))
			}
		case "Fn::GetAtt":
			u.attributes = append(u.attributes, [2]string{list[0].(string), list[1].(string)})
		case "Fn::Sub":
			var own map[string]any
			if len(list) == 2 {
				text, isText = list[0].(string)
				own, _ = list[1].(map[string]any)
			}
			if !isText {
				u.strange = append(u.strange, fmt.Sprint(arg))
			}
			names := variables(text)
			for _, n := range names {
				if _, ok := own[n]; !ok {
					u.reference(n)
				}
			}
			for n := range own {
				if !slices.Contains(names, n) {
					u.strange = append(u.strange, n+" is given to Fn::Sub for nothing")
				}
			}
		default:
			if !slices.Contains(functions, name) {
				u.strange = append(u.strange, name)
			}
		}
	})
	return u
}
