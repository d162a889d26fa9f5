package yamlmap

import (
	"strings"
	"testing"

	"github.com/goccy/go-yaml/ast"
)

func TestEach(t *testing.T) {
	for _, row := range []struct{ text, want string }{
		{"a: 1\nb: 0x2\n", "a=1 b=0x2"},
		{"a: true", "a=true"},
		{"a: |-\n  b c\n", "a=b c"},
		{"a: !!str 7", "error: a has no plain value"},
		{"", ""},
		{"# nothing", ""},
		{"[1]", "error: line 1: not a mapping"},
		{"7", "error: line 1: not a mapping"},
		{"a: 1\na: 2", "already defined"},
		{"? [a]\n: b", "invalid key"},
		{"a: {b: c}", "error: a has no plain value"},
		{"a: " + strings.Repeat("[", maxOpen+1), "more than 100 brackets are open"},
		{"a: " + strings.Repeat("{", maxOpen+1) + strings.Repeat("}", maxOpen+1), "more than 100 brackets are open"},
		{strings.Repeat("# ]\n", 9) + "a: '" + strings.Repeat("[]", maxOpen) + "'", "a=" + strings.Repeat("[]", maxOpen)},
		{"a:", "error: a has no plain value"},
		{"a: [", "error: it is not YAML"},
		{"a: 1\n---\nb: 2", "error: line 3: a second document"},
		{"a: &x 1\nb: *x", "has no plain value"},
	} {
		doc, err := Parse([]byte(row.text))
		got := ""
		if err == nil && doc != nil {
			err = Each(doc, func(key string, v ast.Node) error {
				text, ok := Plain(v)
				if !ok {
					return errorString(key + " has no plain value")
				}
				got += " " + key + "=" + text
				return nil
			})
		}
		if err != nil {
			got = "error: " + err.Error()
		}
		if !strings.Contains(strings.TrimSpace(got), row.want) || row.want == "" && got != "" {
			t.Errorf("%q: %q, want %q", row.text, got, row.want)
		}
	}
}

type errorString string

func (e errorString) Error() string { return string(e) }
