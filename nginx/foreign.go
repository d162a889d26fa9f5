package nginx

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// usedVariable is a variable in an argument.
var usedVariable = regexp.MustCompile(`\$\{?([A-Za-z0-9_]+)`)

// words are the variables and formats of logs that the operator's files use, and those that
// they define.
func words(files []Snippet) (uses, defines map[string]bool) {
	uses, defines = map[string]bool{}, map[string]bool{}
	look := func(d Directive) {
		for _, a := range d.Args {
			for _, m := range usedVariable.FindAllStringSubmatch(a, -1) {
				uses["$"+m[1]] = true
			}
		}
		switch {
		case len(d.Args) == 0:
		case d.Name == "access_log" && len(d.Args) > 1:
			uses[d.Args[1]] = true
		case d.Name == "log_format", d.Name == "js_set", d.Name == "perl_set":
			defines[d.Args[0]] = true
		case d.Name == "map", d.Name == "geo", d.Name == "split_clients", d.Name == "geoip2":
			defines[d.Args[len(d.Args)-1]] = true
		}
	}
	for _, sn := range files {
		if !sn.Out {
			eachDirective(sn.Says, look)
		}
	}
	return uses, defines
}

// mapForeign writes those variables of nginx-proxy's that the operator's files use.
func mapForeign(t *text) {
	for _, v := range nginxproxy.TemplateVariables {
		if t.needs.uses[v[0]] {
			t.block("map", []string{"", v[0]}, func() { t.set("default", v[1]) })
		}
	}
}

// addressOf is the address that a parameter of listen stands for, as nginx compares them.
func addressOf(listen string) string {
	if strings.Trim(listen, "0123456789") == "" {
		return "*:" + listen
	}
	listen = strings.ToLower(listen)
	if port, any := strings.CutPrefix(listen, "0.0.0.0:"); any {
		return "*:" + port
	}
	if !strings.Contains(strings.TrimRight(listen, "]"), ":") || strings.HasSuffix(listen, "]") {
		return addressOf(listen + ":80") // nginx's default port
	}
	return listen
}

// ownDefaults are the addresses for which a server in the operator's files is the default one.
func ownDefaults(all []Directive) map[string]bool {
	out := map[string]bool{}
	for _, server := range all {
		for _, d := range server.Block {
			if server.Name == "server" && d.Name == "listen" && len(d.Args) > 1 &&
				(slices.Contains(d.Args, "default_server") || slices.Contains(d.Args, "default")) {
				out[addressOf(d.Args[0])] = true
			}
		}
	}
	return out
}

// passedTo are the names that the operator's own files for a site pass requests on to, but for
// upstreams in files for all.
func passedTo(t *text, site route.Site) map[string]bool {
	files, names := filesForSite(t.settings, site), map[string]bool{}
	for _, l := range site.Locations {
		files = slices.Concat(files, filesForLocation(t.settings, site, l), overrideFor(t.settings, site, l))
	}
	eachDirective(levelOf(files...).lines, func(d Directive) {
		if strings.HasSuffix(d.Name, "_pass") && len(d.Args) == 1 {
			_, to, scheme := strings.Cut(d.Args[0], "://")
			if !scheme {
				to = d.Args[0]
			}
			to, _, _ = strings.Cut(to, "/")
			names[to] = true
		}
	})
	if site.File != "" && t.needs.fileOwners[site.File] != site.Host {
		maps.DeleteFunc(names, func(name string, _ bool) bool { return strings.HasPrefix(name, site.File) })
	}
	for _, d := range t.needs.httpLevel.lines {
		if d.Name == "upstream" && len(d.Args) == 1 {
			delete(names, d.Args[0])
		}
	}
	return names
}

// foreignUpstream writes the servers of a location under nginx-proxy's name for them. A name that
// is no upstream would be looked for in DNS, where it is likely to be this host.
func foreignUpstream(t *text, name string, b route.Balance, p route.Pool) {
	if upstream(t, name, b, p, 0, "ip_hash"); len(p.Servers) == 0 {
		t.block("upstream", []string{name}, func() { t.set("server", "127.0.0.1", "down") })
	}
}
