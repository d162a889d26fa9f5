package route

import (
	"errors"
	"fmt"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// parseMultiports reads nginx-proxy's VIRTUAL_HOST_MULTIPORTS: a mapping from
// host names to paths, and from these to port, proto and dest. What is left out
// has the defaults of the variables of one route.
func parseMultiports(v string) ([]said, error) {
	file, err := parser.ParseBytes([]byte(v), 0)
	if err != nil {
		return nil, errors.New("neither YAML nor JSON")
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return nil, errors.New("not one mapping of host names")
	}
	var all []said
	err = eachPair(file.Docs[0].Body, func(host string, paths ast.Node) error {
		h, err := parseVirtualHost(host)
		if err != nil {
			return fmt.Errorf("host %s: %w", quoted(host), err)
		}
		if isNull(paths) {
			all = append(all, said{hosts: []string{h}, path: "/"})
			return nil
		}
		return eachPair(paths, func(path string, words ast.Node) error {
			s := said{hosts: []string{h}}
			if err := s.multiport(path, words); err != nil {
				return fmt.Errorf("host %s, path %s: %w", quoted(host), quoted(path), err)
			}
			if all = append(all, s); len(all) > maxRoutes {
				return fmt.Errorf("more than %d routes", maxRoutes)
			}
			return nil
		})
	})
	if err == nil && len(all) == 0 {
		err = errors.New("no host name in it")
	}
	return all, err
}

// multiport reads what stands behind one path.
func (s *said) multiport(path string, words ast.Node) error {
	if err := setVirtualPath(s, path); err != nil {
		return err
	}
	if isNull(words) {
		return nil
	}
	return eachPair(words, func(name string, value ast.Node) error {
		scalar, ok := value.(ast.ScalarNode)
		if !ok {
			return fmt.Errorf("%s has no plain value", quoted(name))
		}
		text := scalar.GetToken().Value
		var err error
		switch name {
		case "port":
			s.port, err = parsePort(text)
		case "proto":
			s.scheme, err = parseScheme(text)
		case "dest":
			if text != "" {
				s.dest, err = parseDest(text)
			}
		default:
			return fmt.Errorf("%s is none of port, proto, dest", quoted(name))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

func isNull(n ast.Node) bool { return n == nil || n.Type() == ast.NullType }

// eachPair calls do for every pair of a mapping, in its order. Keys must be plain.
func eachPair(n ast.Node, do func(key string, value ast.Node) error) error {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		return errors.New("not a mapping")
	}
	seen := map[string]bool{}
	for _, p := range pairs {
		key, ok := p.Key.(ast.ScalarNode)
		if !ok {
			return errors.New("a key that is not plain text")
		}
		name := key.GetToken().Value
		if seen[name] {
			return fmt.Errorf("%s is there twice", quoted(name))
		}
		seen[name] = true
		if err := do(name, p.Value); err != nil {
			return err
		}
	}
	return nil
}
