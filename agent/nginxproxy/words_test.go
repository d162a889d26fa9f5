package nginxproxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/labels"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// What the operator chose holds where a container says nothing, and its own word
// where it says something.
func TestDefaults(t *testing.T) {
	chosen := defaults(func(r *config.Routes) {
		r.HTTPSMethod, r.HSTS, r.TLSPolicy, r.RedirectCode, r.DefaultCert, r.HTTPWithoutCert = "noredirect", "max-age=60", "Mozilla-Modern", "301", false, false
	})
	hsts := func(value string) labels.Defaults { return defaults(func(r *config.Routes) { r.HSTS = value }) }
	type got struct {
		TLS       route.TLSMode
		HSTS      string
		Policy    string
		Code      int
		Own, Only bool
	}
	for name, row := range map[string]struct {
		d             labels.Defaults
		env, labelled map[string]string
		want          got
	}{
		"nobody says anything, labels":    {defaults(), nil, map[string]string{"nagaya.host": "a.test"}, got{route.TLSAuto, "", "", 0, false, false}},
		"nobody says anything, variables": {defaults(), map[string]string{"VIRTUAL_HOST": "a.test"}, nil, got{route.TLSAuto, defaultHSTS, "", 0, false, false}},
		"operator, labels":                {chosen, nil, map[string]string{"nagaya.host": "a.test"}, got{route.TLSNoRedirect, "", "Mozilla-Modern", 301, true, true}},
		"operator, variables":             {chosen, map[string]string{"VIRTUAL_HOST": "a.test"}, nil, got{route.TLSNoRedirect, "", "Mozilla-Modern", 301, true, true}},
		"container against operator, variables": {
			chosen,
			map[string]string{
				"VIRTUAL_HOST": "a.test", "HTTPS_METHOD": "redirect", "SSL_POLICY": "Mozilla-Old", "HSTS": "max-age=1", "ENABLE_HTTP_ON_MISSING_CERT": "true",
			},
			map[string]string{labelPrefix + "non-get-redirect": "307", labelPrefix + "trust-default-cert": "true"},
			got{route.TLSAuto, "max-age=1", "Mozilla-Old", 307, false, false},
		},
		"container against operator, labels": {chosen, nil, map[string]string{"nagaya.host": "a.test", "nagaya.tls": "off", "nagaya.hsts": "max-age=2"}, got{route.TLSOff, "max-age=2", "Mozilla-Modern", 301, true, true}},
		"only HSTS":                          {hsts("max-age=60"), map[string]string{"VIRTUAL_HOST": "a.test"}, nil, got{route.TLSAuto, "max-age=60", "", 0, false, false}},
		"no HSTS":                            {hsts("off"), map[string]string{"VIRTUAL_HOST": "a.test"}, nil, got{route.TLSAuto, "", "", 0, false, false}},
		"several ports":                      {hsts("max-age=60"), map[string]string{"VIRTUAL_HOST_MULTIPORTS": "a.test:"}, nil, got{route.TLSAuto, "max-age=60", "", 0, false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			r := labels.Requests([]tasks.Container{{ID: "a", Name: "a", Env: row.env, Labels: row.labelled}}, row.d, Reader(false))["a"]
			if len(r.Routes) != 1 || len(r.Problems) != 0 {
				t.Fatalf("routes %+v, problems %+v", r.Routes, r.Problems)
			}
			s := r.Routes[0]
			if diff := cmp.Diff(row.want, got{s.TLS, s.Edge.HSTS, s.Edge.TLSPolicy, s.Edge.RedirectCode, s.Cert.OwnOnly, s.HTTPSOnly}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDocsAreComplete(t *testing.T) {
	for _, d := range Docs() {
		if d.Name == "" || d.Meaning == "" || d.Allowed == "" || d.Default == "" {
			t.Errorf("incomplete: %+v", d)
		}
		if !Knows(d.Name) {
			t.Errorf("%s is documented but never read", d.Name)
		}
	}
}

func TestKeepaliveHasACeiling(t *testing.T) {
	for word, limited := range map[string]int{"64": 0, "1024": 1, "auto": 0} {
		routes, problems := routesOf(defaults(), "VIRTUAL_HOST", "a.test", labelPrefix+"keepalive", word)
		if len(routes) != 1 || routes[0].Keepalive > 64 || len(problems) != limited {
			t.Errorf("%s: %+v, %+v", word, routes, problems)
		}
	}
}

// Without VIRTUAL_PORT it is the only exposed port, else 80, whichever is published.
func TestPortOfSeveral(t *testing.T) {
	ports := func(numbers ...uint16) (ps []tasks.Port) {
		for _, n := range numbers {
			ps = append(ps, tasks.Port{Container: n, Protocol: "tcp"}, tasks.Port{Container: n, Protocol: "tcp"}, tasks.Port{Container: 53, Protocol: "udp"})
		}
		if len(ps) > 0 {
			ps[0].Host = 32768
		}
		return ps
	}
	for name, row := range map[string]struct {
		env   map[string]string
		ports []tasks.Port
		want  uint16 // 0 is left to what all containers are asked for
	}{
		"none":                {nil, ports(), 0},
		"one":                 {nil, ports(8080), 0},
		"several":             {nil, ports(22, 80, 443), 80},
		"several without 80":  {nil, ports(8080, 9000), 80},
		"several, and a word": {map[string]string{"VIRTUAL_PORT": "9000"}, ports(8080, 9000), 9000},
	} {
		env := map[string]string{"VIRTUAL_HOST": "a.test"}
		for k, v := range row.env {
			env[k] = v
		}
		r := labels.Requests([]tasks.Container{{ID: "a", Name: "a", Env: env, Ports: row.ports}}, defaults(), Reader(false))["a"]
		if len(r.Routes) != 1 || r.Routes[0].Port != row.want {
			t.Errorf("%s: %+v, want port %d", name, r.Routes, row.want)
		}
	}
}

// Hosts are served as nginx-proxy and nginx have them, however they are written.
func TestHostsAsNginxHasThem(t *testing.T) {
	var many []string
	for i := range 40 {
		many = append(many, fmt.Sprintf("a%d.test", i))
	}
	slices.Sort(many)
	for value, want := range map[string][]string{
		"a.test\n  b.test,\r\n\tc.test\n":          {"a.test", "b.test", "c.test"},
		".a.test":                                  {"*.a.test", "a.test"},
		"a_b.test _x.a.test":                       {"_x.a.test", "a_b.test"},
		"Bücher.test XN--bcher-kva.test":           {"xn--bcher-kva.test"},
		"*.bücher.test bücher.* .bücher.test":      {"*.xn--bcher-kva.test", "xn--bcher-kva.*", "xn--bcher-kva.test"},
		"[FD00::01] 10.0.0.1":                      {"10.0.0.1", "[fd00::1]"},
		"~^www[.]bücher[.]test$":                   {"www.xn--bcher-kva.test"},
		strings.Join(many, ","):                    many,
		strings.Join(many, "\n") + ",\n, ,a0.test": many,
	} {
		routes, problems := routesOf(defaults(), "VIRTUAL_HOST", value)
		if len(routes) != 1 || len(problems) != 0 || !slices.Equal(routes[0].Hosts, want) {
			t.Errorf("%q: %+v, %+v", value, routes, problems)
		}
	}
	for _, value := range []string{"*.*.test", "..a.test", ".*.a.test", ".a.*", "[fd00::1].*", "*.[fd00::1]", "[fd00::1%eth0]", "a..b", "_", "-a", "ü ber.test;"} {
		if routes, problems := routesOf(defaults(), "VIRTUAL_HOST", "b.test "+value); len(problems) != 1 || len(routes) != 1 || !strings.Contains(problems[0].Text, "the others are used") {
			t.Errorf("%q: %+v, %+v", value, routes, problems)
		}
	}
}

// The problem says where the value comes from.
func TestTheSourceOfAMistakeIsNamed(t *testing.T) {
	wrong := map[string]string{"VIRTUAL_HOST": "a.test", "VIRTUAL_PORT": "x"}
	const subject = "container a VIRTUAL_PORT"
	for want, c := range map[string]tasks.Container{
		"correct this label of the container; ":                {ID: "a", Name: "a", Labels: wrong},
		"correct this environment variable of the container; ": {ID: "a", Name: "a", Env: wrong},
	} {
		if got := labels.Requests([]tasks.Container{c}, defaults(), Reader(false))["a"].Problems; len(got) != 1 || !strings.HasPrefix(got[0].Hint, want) || got[0].Subject != subject {
			t.Errorf("%+v, want %q of %s", got, want, subject)
		}
	}
}

func TestMultiports(t *testing.T) {
	type got struct {
		Host, Path, Dest  string
		Port, HTTP, HTTPS uint16
		Scheme            route.Scheme
	}
	for name, row := range map[string]struct {
		value string
		want  []got
	}{
		"nothing of a host":           {`{"a.test": {}, "b.test": null, "c.test": ""}`, []got{{Host: "a.test", Path: "/"}, {Host: "b.test", Path: "/"}, {Host: "c.test", Path: "/"}}},
		"nothing of a path":           {`{"a.test": {"/": {}, "/b": null, "/c": ""}}`, []got{{Host: "a.test", Path: "/"}, {Host: "a.test", Path: "/b"}, {Host: "a.test", Path: "/c"}}},
		"nothing of a word":           {"a.test:\n  /:\n    port:\n    proto: \"\"\n    dest:\n", []got{{Host: "a.test", Path: "/"}}},
		"scalars":                     {"a.test:\n  /b:\n    port: \"8080\"\n    dest: /\n  /c:\n    port: 8081\n    proto: https\n", []got{{Host: "a.test", Path: "/b", Dest: "/", Port: 8080}, {Host: "a.test", Path: "/c", Port: 8081, Scheme: route.HTTPS}}},
		"public ports":                {"a.test:\n  external_http_port: 8080\n  /:\n    port: 81\n  external_https_port: \"8443\"\nb.test:\n", []got{{Host: "a.test", Path: "/", Port: 81, HTTP: 8080, HTTPS: 8443}, {Host: "b.test", Path: "/"}}},
		"public ports and no path":    {"{a.test: {external_http_port: 8080, external_https_port: }}", []got{{Host: "a.test", Path: "/", HTTP: 8080}}},
		"as the words of one host do": {"{.a.test: }", []got{{Host: "a.test", Path: "/"}}},
	} {
		routes, problems := routesOf(defaults(), "VIRTUAL_HOST_MULTIPORTS", row.value, "VIRTUAL_HOST", "x.test", "VIRTUAL_PORT", "9", "VIRTUAL_PATH", "/x", "EXTERNAL_HTTP_PORT", "7")
		var have []got
		for _, r := range routes {
			if r.Scheme == route.HTTP {
				r.Scheme = "" // the default
			}
			have = append(have, got{r.Hosts[0], r.Path, r.Dest, r.Port, r.Edge.HTTPPort, r.Edge.HTTPSPort, r.Scheme})
		}
		if diff := cmp.Diff(row.want, have); diff != "" || len(problems) > 0 {
			t.Errorf("%s: %s %+v", name, diff, problems)
		}
	}
	for _, value := range []string{"a.test\nb.test:", "a.test:\na.test:", "a.test:\n  /:\n    port: 1\n  /:\n    port: 2\n"} {
		if routes, problems := routesOf(defaults(), "VIRTUAL_HOST_MULTIPORTS", value); len(routes) > 0 || len(problems) != 1 {
			t.Errorf("%q: %+v, %+v", value, routes, problems)
		}
	}
}
