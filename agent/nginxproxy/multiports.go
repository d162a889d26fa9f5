package nginxproxy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/nagaya-ecs/nagaya/agent/labels"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/yamlmap"
)

// parseMultiports reads VIRTUAL_HOST_MULTIPORTS: a mapping from host names to public ports and
// to paths, and from these to port, proto and dest. Each is a route like base, but for these. A
// mistake costs the host that it is in: without one of its paths another would get the requests.
func parseMultiports(v string, base route.Spec) (all []route.Spec, err error) {
	doc, err := yamlmap.Parse([]byte(v))
	if err != nil {
		return nil, errors.New("neither YAML nor JSON")
	}
	if doc == nil {
		return nil, errors.New("not one mapping of host names")
	}
	base.Path, base.Match, base.Dest, base.Port, base.Scheme = "/", "", "", 0, ""
	base.Edge.HTTPPort, base.Edge.HTTPSPort, base.PortsFirst = 0, 0, true
	var bad error // the first mistake
	err = yamlmap.Each(doc, func(host string, words ast.Node) error {
		h, err := parseVirtualHost(host)
		if err == nil {
			s := base
			s.Hosts, s.Files = h, filesOf(host)
			var routes []route.Spec
			routes, err = pathsOf(s, words)
			all = append(all, routes...)
		}
		if err != nil {
			bad = cmp.Or(bad, fmt.Errorf("host %s: %w", problem.Quoted(host), firstLine(err)))
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, firstLine(err)
	case len(all) > labels.MaxRoutes:
		return nil, fmt.Errorf("more than %d routes", labels.MaxRoutes)
	case bad != nil && len(all) == 0:
		return nil, bad
	case bad != nil:
		return all, labels.Partial{Err: bad}
	}
	return all, nil
}

// firstLine is the first of joined errors.
func firstLine(err error) error {
	first, _, _ := strings.Cut(err.Error(), "\n")
	return errors.New(first)
}

// isEmpty reports whether there is nothing to read: no value, "" or {}.
func isEmpty(n ast.Node) bool {
	text, plain := yamlmap.Plain(n)
	mapping, is := n.(*ast.MappingNode)
	return yamlmap.IsNull(n) || plain && text == "" || is && len(mapping.Values) == 0
}

// pathsOf makes the routes of one host; its root, where there is no path.
func pathsOf(s route.Spec, words ast.Node) (all []route.Spec, err error) {
	if isEmpty(words) {
		return []route.Spec{s}, nil
	}
	paths := map[string]ast.Node{}
	err = yamlmap.Each(words, func(name string, value ast.Node) error {
		var port *uint16
		switch name {
		case "external_http_port":
			port = &s.Edge.HTTPPort
		case "external_https_port":
			port = &s.Edge.HTTPSPort
		default:
			paths[name] = value
			return nil
		}
		if isEmpty(value) {
			return nil
		}
		text, _ := yamlmap.Plain(value)
		if *port, err = labels.ParsePort(text); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	if err == nil && samePorts(s.Edge) {
		err = errors.New("external_https_port: the same port as external_http_port")
	}
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return []route.Spec{s}, nil
	}
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		one := s
		if err := setMultiport(&one, path, paths[path]); err != nil {
			return nil, fmt.Errorf("path %s: %w", problem.Quoted(path), err)
		}
		all = append(all, one)
	}
	return all, nil
}

// samePorts reports whether a site asks for plain HTTP and HTTPS at one port.
func samePorts(e route.Edge) bool { return e.HTTPPort != 0 && e.HTTPPort == e.HTTPSPort }

// setMultiport reads what stands behind one path.
func setMultiport(s *route.Spec, path string, words ast.Node) error {
	if err := setVirtualPath(s, path); err != nil || isEmpty(words) {
		return err
	}
	return yamlmap.Each(words, func(name string, value ast.Node) (err error) {
		text, ok := yamlmap.Plain(value)
		switch {
		case name != "port" && name != "proto" && name != "dest":
			return fmt.Errorf("%s is none of port, proto, dest", problem.Quoted(name))
		case isEmpty(value):
			return nil
		case !ok:
			return fmt.Errorf("%s has no plain value", problem.Quoted(name))
		case name == "port":
			err = labels.Set(s, "port", text)
		case name == "proto":
			err = labels.Set(s, "scheme", text)
		default:
			s.Dest, err = parseDest(text)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}
