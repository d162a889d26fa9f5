package nginxproxy

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/nagaya-ecs/nagaya/agent/labels"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/yamlmap"
)

// parseMultiports reads VIRTUAL_HOST_MULTIPORTS: a mapping from host names to paths, and
// from these to port, proto and dest. Each is a route like base, but for these.
func parseMultiports(v string, base route.Spec) (all []route.Spec, err error) {
	doc, err := yamlmap.Parse([]byte(v))
	if err != nil {
		return nil, errors.New("neither YAML nor JSON")
	}
	if doc == nil {
		return nil, errors.New("not one mapping of host names")
	}
	base.Path, base.Match, base.Dest, base.Port, base.Scheme = "/", "", "", 0, ""
	var bad error // of the first host that cannot be used
	err = yamlmap.Each(doc, func(host string, paths ast.Node) error {
		h, err := parseVirtualHost(host)
		if err != nil {
			bad = cmp.Or(bad, fmt.Errorf("host %s: %w", problem.Quoted(host), err))
			return nil
		}
		base.Hosts = h
		if yamlmap.IsNull(paths) {
			all = append(all, base)
			return nil
		}
		return yamlmap.Each(paths, func(path string, words ast.Node) error {
			s := base
			if err := setMultiport(&s, path, words); err != nil {
				return fmt.Errorf("host %s, path %s: %w", problem.Quoted(host), problem.Quoted(path), err)
			}
			all = append(all, s)
			return nil
		})
	})
	switch {
	case err != nil:
		first, _, _ := strings.Cut(err.Error(), "\n")
		return nil, errors.New(first)
	case len(all) > labels.MaxRoutes:
		return nil, fmt.Errorf("more than %d routes", labels.MaxRoutes)
	case bad != nil && len(all) == 0:
		return nil, bad
	case bad != nil:
		return all, labels.Partial{Err: bad}
	}
	return all, nil
}

// setMultiport reads what stands behind one path.
func setMultiport(s *route.Spec, path string, words ast.Node) error {
	if err := setVirtualPath(s, path); err != nil || yamlmap.IsNull(words) {
		return err
	}
	return yamlmap.Each(words, func(name string, value ast.Node) (err error) {
		text, ok := yamlmap.Plain(value)
		switch {
		case !ok && !yamlmap.IsNull(value):
			return fmt.Errorf("%s has no plain value", problem.Quoted(name))
		case name == "port":
			err = labels.Set(s, "port", text)
		case name == "proto":
			err = labels.Set(s, "scheme", text)
		case name == "dest" && text != "":
			s.Dest, err = parseDest(text)
		case name != "dest":
			return fmt.Errorf("%s is none of port, proto, dest", problem.Quoted(name))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}
