package nginxproxy

import (
	"errors"
	"fmt"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/nagaya-ecs/nagaya/agent/labels"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// parseMultiports reads VIRTUAL_HOST_MULTIPORTS: a mapping from host names to paths, and
// from these to port, proto and dest. Each is a route like base, but for these.
func parseMultiports(v string, base route.Spec) ([]route.Spec, error) {
	file, err := parser.ParseBytes([]byte(v), 0)
	if err != nil {
		return nil, errors.New("neither YAML nor JSON")
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return nil, errors.New("not one mapping of host names")
	}
	base.Path, base.Match, base.Dest, base.Port, base.Scheme = "/", "", "", 0, ""
	var all []route.Spec
	err = eachPair(file.Docs[0].Body, func(host string, paths ast.Node) error {
		h, err := parseVirtualHost(host)
		if err != nil {
			return fmt.Errorf("host %s: %w", problem.Quoted(host), err)
		}
		base.Hosts = []string{h}
		if isNull(paths) {
			all = append(all, base)
			return nil
		}
		return eachPair(paths, func(path string, words ast.Node) error {
			s := base
			if err := setMultiport(&s, path, words); err != nil {
				return fmt.Errorf("host %s, path %s: %w", problem.Quoted(host), problem.Quoted(path), err)
			}
			if all = append(all, s); len(all) > labels.MaxRoutes {
				return fmt.Errorf("more than %d routes", labels.MaxRoutes)
			}
			return nil
		})
	})
	if err == nil && len(all) == 0 {
		err = errors.New("no host name in it")
	}
	return all, err
}

// setMultiport reads what stands behind one path.
func setMultiport(s *route.Spec, path string, words ast.Node) error {
	if err := setVirtualPath(s, path); err != nil {
		return err
	}
	if isNull(words) {
		return nil
	}
	return eachPair(words, func(name string, value ast.Node) error {
		scalar, ok := value.(ast.ScalarNode)
		if !ok {
			return fmt.Errorf("%s has no plain value", problem.Quoted(name))
		}
		text := scalar.GetToken().Value
		var err error
		switch name {
		case "port":
			err = labels.Set(s, "port", text)
		case "proto":
			err = labels.Set(s, "scheme", text)
		case "dest":
			if text != "" {
				s.Dest, err = parseDest(text)
			}
		default:
			return fmt.Errorf("%s is none of port, proto, dest", problem.Quoted(name))
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
			return fmt.Errorf("%s is there twice", problem.Quoted(name))
		}
		seen[name] = true
		if err := do(name, p.Value); err != nil {
			return err
		}
	}
	return nil
}
