// Package yamlmap reads mappings of plain values from YAML that others wrote: without
// anchors and types, and with the line of each mistake.
package yamlmap

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Bounds of one mapping.
const (
	maxKeys   = 500
	maxErrors = 8
)

// Parse returns the one document of a text; nil where it is empty. A key that is there
// twice is an error.
func Parse(text []byte) (doc ast.Node, err error) {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return nil, errors.New("it is not YAML: " + first)
	}
	for i, d := range file.Docs {
		switch {
		case IsNull(d.Body) || d.Body.Type() == ast.CommentType:
		case i > 0:
			return nil, Errorf(d.Body, "a second document; write one")
		default:
			doc = d.Body
		}
	}
	return doc, nil
}

// IsNull reports whether there is no value.
func IsNull(n ast.Node) bool { return n == nil || n.Type() == ast.NullType }

// Errorf is an error at the line of a node.
func Errorf(n ast.Node, format string, args ...any) error {
	return fmt.Errorf("line %d: %w", n.GetToken().Position.Line, fmt.Errorf(format, args...))
}

// Each calls do for every pair of a mapping, in its order, and joins the first eight errors.
func Each(n ast.Node, do func(key string, value ast.Node) error) error {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		return Errorf(n, "not a mapping, KEY: VALUE")
	}
	if len(pairs) > maxKeys {
		return Errorf(n, "more than %d keys", maxKeys)
	}
	var errs []error
	for _, p := range pairs {
		key, ok := Plain(p.Key)
		err := Errorf(p, "a key that is not plain text")
		if ok {
			err = do(key, p.Value)
		}
		if err != nil && len(errs) < maxErrors {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Plain returns the text of a plain value; ok is false for any other.
func Plain(n ast.Node) (text string, ok bool) {
	switch s, ok := n.(ast.ScalarNode); {
	case !ok, IsNull(n), n.Type() == ast.AnchorType, n.Type() == ast.AliasType:
		return "", false
	default:
		return s.GetToken().Value, true
	}
}
