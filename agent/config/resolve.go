package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Resolved is a configuration with the origin of every value.
type Resolved struct {
	Config Config
	// From maps a setting's path to the Where of the value that won; a path that
	// is missing has its default.
	From map[string]string
	// Problems are about settings without effect; they end with a restart.
	Problems []problem.Problem
}

// Resolve lays the layers over the defaults, the weakest first (tags, file,
// environment, flags), and checks the outcome. On an error the result is not to
// be used.
func Resolve(layers ...[]Value) (Resolved, error) {
	r := Resolved{Config: Default(), From: map[string]string{}}
	good, err := set(&r.Config, slices.Concat(layers...))
	for _, v := range good {
		r.From[v.Setting.Path] = v.Where
	}
	// What no single setting can check.
	if c := r.Config.Nginx; c.HTTPPort == c.HTTPSPort {
		err = errors.Join(err, &Error{
			Where: r.From["nginx.https-port"], Field: "nginx.https-port",
			Reason: fmt.Sprintf("is %d like nginx.http-port; one port cannot speak both", c.HTTPSPort),
		})
	}
	if field, reason := r.Config.wrongPage(); reason != "" {
		err = errors.Join(err, &Error{Where: r.From[field], Field: field, Reason: reason})
	}
	return r, err
}

// wrongPage says which of the page's settings cannot be, and why.
func (c Config) wrongPage() (field, reason string) {
	const noSite = "is for the site page.host, which is not set, so it keeps nobody out; set page.host too, or remove this"
	switch p := c.Page; {
	case p.Host == "" && p.Auth != "":
		return "page.auth", noSite
	case p.Host == "" && len(p.Allow) > 0:
		return "page.allow", noSite
	case p.Host == "":
		return "", ""
	case p.Auth == "" && len(p.Allow) == 0:
		return "page.host", "would be open to everybody; set page.auth to a password file in nginx.htpasswd-dir, or page.allow to the networks of those who may see it"
	case c.Metrics.Listen == "":
		return "page.host", "has nothing to show: the page is served at metrics.listen, which is off; set that to an address such as 127.0.0.1:9646"
	}
	return "", ""
}

// ResolveIn is Resolve in an environment, in the form of os.Environ, of which variables that every Docker tool obeys
// stand in for a default: where nothing sets docker.host, DOCKER_HOST does. An engine that wants
// TLS (DOCKER_TLS_VERIFY) is an error, and so is one behind ssh://.
func ResolveIn(environ []string, layers ...[]Value) (Resolved, error) {
	r, err := Resolve(layers...)
	host := variable(environ, "DOCKER_HOST")
	if host == "" || r.From["docker.host"] != "" {
		return r, err
	}
	s, _ := Find("docker.host")
	r, err = Resolve(append([][]Value{{{Setting: s, Values: []string{host}, Where: "environment DOCKER_HOST"}}}, layers...)...)
	if strings.HasPrefix(host, "tcp:") && variable(environ, "DOCKER_TLS_VERIFY") != "" {
		err = errors.Join(err, &Error{Where: "environment DOCKER_TLS_VERIFY", Field: s.Path, Reason: "Docker is not spoken to over TLS; set it to the engine's socket, or to a proxy of that"})
	}
	return r, err
}

func variable(environ []string, name string) (value string) {
	for _, kv := range environ {
		if v, is := strings.CutPrefix(kv, name+"="); is {
			value = strings.TrimSpace(v)
		}
	}
	return value
}

// Usable returns those of the values that are allowed, and what is wrong with the
// others.
func Usable(values []Value) ([]Value, error) {
	scratch := Default()
	return set(&scratch, values)
}

// set sets the values in c, and returns those that are allowed and what is wrong with the others.
func set(c *Config, values []Value) (good []Value, err error) {
	for _, v := range values {
		if wrong := v.Setting.Set(c, v.Values); wrong != nil {
			err = errors.Join(err, &Error{Where: v.Where, Field: v.Setting.Path, Reason: wrong.Error(), Allowed: v.Setting.Allowed})
			continue
		}
		good = append(good, v)
	}
	return good, err
}

// YAML writes c as a configuration file. With docs every field has its meaning
// and allowed values above it. With comment every field is commented out, which
// is the form that is installed: it shows the defaults and freezes none. The
// names of groups stay, so that removing one # is enough to set a field.
func YAML(c Config, docs, comment bool) string {
	var b strings.Builder
	mark := ""
	if comment {
		mark = "#"
	}
	open := ""
	for _, s := range Settings {
		group, name, nested := strings.Cut(s.Path, ".")
		indent := ""
		if nested {
			indent = "  "
			if group != open {
				fmt.Fprintf(&b, "\n%s:\n", group)
				open = group
			}
		} else {
			name = group
		}
		if docs {
			fmt.Fprintf(&b, "%s# %s\n%s# Allowed: %s.\n", indent, s.Doc, indent, s.Allowed)
		}
		fmt.Fprintf(&b, "%s%s%s: %s\n", indent, mark, name, yamlValue(s, s.Get(c)))
	}
	return b.String()
}

func yamlValue(s Setting, values []string) string {
	if !s.List {
		return yamlScalar(values[0])
	}
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = yamlScalar(v)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// yamlScalar quotes what YAML might read as something else.
func yamlScalar(v string) string {
	if v == "" || strings.ContainsAny(v, ":#{}[],&*!|>'\"%@`= ") || v == "off" {
		return fmt.Sprintf("%q", v)
	}
	return v
}
