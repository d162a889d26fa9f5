// Package yamlmap reads mappings of plain values from YAML that others wrote: without
// anchors and types, and with the line of each mistake.
package yamlmap

import (
	"errors"
	"fmt"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Bounds of one mapping.
const (
	maxKeys   = 500
	maxErrors = 8
	// maxOpen bounds the brackets that are open at a time: to read 8,000 of them takes the parser a quarter of a second.
	maxOpen = 100
)

// Bounded returns an error for a text that would take the parser too long, or too much memory.
func Bounded(text []byte) error {
	open := 0
	for _, c := range text {
		switch c {
		case '[', '{':
			open++
		case ']', '}':
			open = max(0, open-1)
		}
		if open > maxOpen {
			return fmt.Errorf("it is not YAML that is read here: more than %d brackets are open at a time", maxOpen)
		}
	}
	return nil
}

// Parse returns the one document of a text; nil where it is empty. A key that is there
// twice is an error. The error of a text that is not YAML shows the place in further lines.
func Parse(text []byte) (doc ast.Node, err error) {
	if err := Bounded(text); err != nil {
		return nil, err
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, fmt.Errorf("it is not YAML: %w", err)
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

// Line is the line of a node.
func Line(n ast.Node) int { return n.GetToken().Position.Line }

// Errorf is an error at the line of a node.
func Errorf(n ast.Node, format string, args ...any) error {
	return fmt.Errorf("line %d: %w", Line(n), fmt.Errorf(format, args...))
}

// Pairs are those of a mapping; ok is false for anything else.
func Pairs(n ast.Node) (pairs []*ast.MappingValueNode, ok bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

// Each calls do for every pair of a mapping, in its order, and joins the first eight errors.
func Each(n ast.Node, do func(key string, value ast.Node) error) error {
	pairs, ok := Pairs(n)
	switch {
	case !ok:
		return Errorf(n, "not a mapping, KEY: VALUE")
	case len(pairs) > maxKeys:
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

// Words returns a plain value, or those of a list, whatever their number; ok is false for anything else.
func Words(n ast.Node) (words []string, ok bool) {
	items := []ast.Node{n}
	if list, several := n.(*ast.SequenceNode); several {
		items = list.Values
	}
	words = []string{}
	for _, item := range items {
		text, ok := Plain(item)
		if !ok {
			return nil, false
		}
		words = append(words, text)
	}
	return words, true
}

// Plain returns the text of a plain value; ok is false for any other.
func Plain(n ast.Node) (text string, ok bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NanNode, *ast.InfinityNode:
		return n.GetToken().Value, true
	}
	return "", false
}
