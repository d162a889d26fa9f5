package nginxproxy

import (
	"slices"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/labels"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// defaults are those of an operator who has set nothing but this.
func defaults(set ...func(*config.Routes)) labels.Defaults {
	c := config.Default()
	for _, f := range set {
		f(&c.Routes)
	}
	return labels.Configured(c)
}

func allowExpressions(r *config.Routes) { r.Expressions = true }

// routesOf reads the variables of one container.
func routesOf(d labels.Defaults, variables ...string) ([]route.Spec, []problem.Problem) {
	env := map[string]string{}
	for i := 0; i < len(variables); i += 2 {
		env[variables[i]] = variables[i+1]
	}
	r := labels.Requests([]tasks.Container{{ID: "a", Name: "a", Env: env}}, d, Reader(false))["a"]
	return r.Routes, r.Problems
}

// One request of 440 bytes occupied a worker for a minute by the first of these.
const slowExpression = `\w{0,110}\w{0,110}\w{0,110}\w{0,110}[!#]`

func TestExpressionsAreOffUnlessAllowed(t *testing.T) {
	for _, row := range [][]string{
		{"VIRTUAL_HOST", "a.test", "VIRTUAL_PATH", "~" + slowExpression},
		{"VIRTUAL_HOST", "a.test", "VIRTUAL_PATH", "~* ^/(a|b)/"},
		{"VIRTUAL_HOST", "~^a[0-9]+\\.test$"},
		{"VIRTUAL_HOST_MULTIPORTS", `{"~^a[0-9]+\\.test$": {"/": {}}}`},
		{"VIRTUAL_HOST_MULTIPORTS", `{"a.test": {"~^/(a|b)/": {}}}`},
	} {
		routes, problems := routesOf(defaults(), row...)
		if len(routes) != 0 || len(problems) != 1 {
			t.Errorf("%q: routes %+v, problems %+v; want a problem alone", row, routes, problems)
		}
		allowed, problems := routesOf(defaults(allowExpressions), row...)
		if slow := strings.Contains(row[len(row)-1], slowExpression); (len(allowed) == 0) != slow || (len(problems) == 1) != slow {
			t.Errorf("%q where they are allowed: routes %+v, problems %+v", row, allowed, problems)
		}
	}
}

// A name that cannot be used costs itself alone, and the problem names it. Expressions beside it
// are left out too where it may be the rest of one.
func TestOneBadNameCostsItselfAlone(t *testing.T) {
	for _, row := range []struct {
		allowed           bool
		word, value, want string
		named             string
	}{
		{false, "VIRTUAL_HOST", "b.test,~^a[0-9]+\\.test$", "b.test", `"~^a[0-9]+\\.test$"`},
		{false, "VIRTUAL_HOST", "b.test,a..b.test c.test", "b.test c.test", `"a..b.test" is not a DNS name`},
		{false, "VIRTUAL_HOST", "b.test,a\nc.test,_", "a b.test c.test", `"_" is not a DNS name`},
		{true, "VIRTUAL_HOST", "b.test,~(a+)+", "b.test", `"~(a+)+" is`},
		{true, "VIRTUAL_HOST", "b.test,~^a[0-9] +$", "b.test", `"+$" is not`},
		{true, "VIRTUAL_HOST", "~^a[0-9] +$", "", "not a DNS name"},
		{false, "VIRTUAL_HOST", "-a.test,_", "", `"-a.test" is not a DNS name`},
		{false, "VIRTUAL_HOST_MULTIPORTS", "{a..b.test: {/: {}}, b.test: {/: {}}}", "b.test", `host "a..b.test": not a DNS name`},
		{false, "VIRTUAL_HOST_MULTIPORTS", "{a.test: {/: {}, /b: {port: x}}, b.test: {/: {}}}", "b.test", `host "a.test": path "/b": `},
		{false, "VIRTUAL_HOST_MULTIPORTS", "{a.test: {external_http_port: 0}, b.test: {/: {}}}", "b.test", `host "a.test": `},
		{false, "VIRTUAL_HOST_MULTIPORTS", "{a.test: {external_http_port: 81, external_https_port: 81}, b.test: {/: {}}}", "b.test", `host "a.test": external_https_port: the same`},
		{false, "VIRTUAL_HOST_MULTIPORTS", "{a.test: 8080, b.test: }", "b.test", `host "a.test": `},
		{false, "VIRTUAL_HOST_MULTIPORTS", "{a.test: {/: 8080}, b.test: }", "b.test", `host "a.test": path "/": `},
		{false, "VIRTUAL_HOST_MULTIPORTS", "{a.test: {/: {prot: http}}, b.test: }", "b.test", `"prot" is none of`},
		{false, "VIRTUAL_HOST_MULTIPORTS", "{'~^a[0-9]+$': {/: {}}, b.test: {/: {}}}", "b.test", `"~^a[0-9]+$"`},
	} {
		routes, problems := routesOf(defaults(func(r *config.Routes) { r.Expressions = row.allowed }), row.word, row.value)
		var hosts []string
		for _, r := range routes {
			hosts = append(hosts, r.Hosts...)
		}
		if got := strings.Join(hosts, " "); got != row.want {
			t.Errorf("%s=%q: hosts %q, want %q", row.word, row.value, got, row.want)
		}
		if len(problems) != 1 || problems[0].Code != "label-invalid" || !strings.Contains(problems[0].Text, row.named) {
			t.Errorf("%s=%q: %+v", row.word, row.value, problems)
		}
	}
}

// A label's path is a prefix, whatever VIRTUAL_PATH is: an expression of it would be checked by nobody.
func TestALabelsPathIsNoExpression(t *testing.T) {
	for _, path := range []string{"~ ^/x", "~* ^/x", "= /x", "^~ /x", "/x/", ""} {
		c := tasks.Container{ID: "a", Name: "a", Env: map[string]string{"VIRTUAL_HOST": "a.test", "VIRTUAL_PATH": path}, Labels: map[string]string{"nagaya.path": "/.+a.+a.+a.+a.+"}}
		if path == "" {
			delete(c.Env, "VIRTUAL_PATH")
		}
		r := labels.Requests([]tasks.Container{c}, defaults(allowExpressions), Reader(false))["a"]
		if len(r.Routes) != 1 || r.Routes[0].Match != route.Segments || r.Routes[0].Path != "/.+a.+a.+a.+a.+" {
			t.Errorf("%q: %+v, %+v", path, r.Routes, r.Problems)
		}
	}
}

func TestExpressionsOfHostsBecomeNames(t *testing.T) {
	for expr, want := range map[string]string{
		`^(a|b)\.example\.com$`:                "a.example.com b.example.com",
		`^(?:shop|www\.shop)\.test$`:           "shop.test www.shop.test",
		`^(www\.)?example\.com$`:               "example.com www.example.com",
		`^Example[.]com$`:                      "example.com",
		`^www[1-3]\.test$`:                     "www1.test www2.test www3.test",
		`^(a|b{1,2})\.test$`:                   "a.test b.test bb.test",
		`^(a\.|b\.)?(c|d)\.test$`:              "a.c.test a.d.test b.c.test b.d.test c.test d.test",
		`^.+\.example\.com$`:                   "*.example.com",
		`^.*\.example\.com$`:                   "*.example.com",
		`\.example\.com$`:                      "*.example.com",
		`.+\.example\.com$`:                    "*.example.com",
		`^[^.]+\.example\.com$`:                "*.example.com",
		`^[a-z0-9-]+\.example\.com$`:           "*.example.com",
		`^(.+\.)?example\.com$`:                "*.example.com example.com",
		`^www\.example\..+$`:                   "www.example.*",
		`^www\.`:                               "www.*",
		`^www\..*`:                             "www.*",
		`^[0-9]+\.example\.com$`:               "",
		`^.+example\.com$`:                     "", // fits badexample.com too
		`example\.com$`:                        "",
		`^a.example\.com$`:                     "",
		`^a\.*\.test$`:                         "",
		`^a\*\.test$`:                          "",
		`^\*\.test$`:                           "",
		`^a\.(.+)\.test$`:                      "",
		`^(a|b)`:                               "",
		`^.+$`:                                 "",
		`^[a-f][a-f]\.test$`:                   "", // 36 names
		`^[a-z]{9}[a-z]{9}[a-z]{9}\.test$`:     "",
		`^(((a|b)?){1000})?\.test$`:            "",
		`^(a|b){1,30}(a|b){1,30}(c|d){9}\.te$`: "",
		`^a_b\.test$`:                          "a_b.test",
		`^a\.test$|^b\.test$`:                  "a.test b.test",
		`^a\.test$|b\.test$`:                   "",
	} {
		got, ok := names(expr)
		if ok != (want != "") || strings.Join(got, " ") != want {
			t.Errorf("%s: %q, %v; want %q", expr, got, ok, want)
		}
	}
	routes, problems := routesOf(defaults(), "VIRTUAL_HOST", `~^(www\.)?b\.test$ a.test,www.b.test`)
	if len(routes) != 1 || len(problems) != 0 || !slices.Equal(routes[0].Hosts, []string{"a.test", "b.test", "www.b.test"}) {
		t.Errorf("beside names: %+v, %+v", routes, problems)
	}
	var many []string
	for c := 'a'; c <= 'z'; c++ {
		many = append(many, `~^`+string(c)+`[0-9]\.test$`)
	}
	if routes, problems := routesOf(defaults(), "VIRTUAL_HOST", strings.Join(many, ",")); len(routes) != 0 || len(problems) != 1 {
		t.Errorf("more hosts than a route may have: %+v, %+v", routes, problems)
	}
}

// What PCRE could take more than a few steps for each byte of the request line for is
// refused. Go's own parser is not asked: it merges what PCRE tries one after the other.
func TestExpressionsAreLinear(t *testing.T) {
	for expr, fine := range map[string]bool{
		`^/(a|b)/`: true, `\.php$`: true, `^/.*\.php$`: true, `^/[0-9]+/x`: true, `^/[0-9]{1,8}/.*\.jpe?g$`: true, `^/a[]]b`: false,
		`^a\.test$|^b\.test$`: true, `^[\w.-]+\.test$`: true, `^(api|www)[.]`: true, `^/v[0-9]{2}/`: true, `^/x{2,}?$`: true, `^/(foo|bar)/.*`: true,
		slowExpression: false, "^" + slowExpression: false,
		`(a+)+$`: false, `^(a+)+$`: false, `^(?:a*)*b`: false, `^(?:a|a)*$`: false, `^(.|a)+$`: false, `^(|a)+$`: false, `^(a|aa)+$`: false,
		`^` + strings.Repeat(`(a|a)`, 20) + `$`: false,
		`^` + strings.Repeat(`a?`, 30) + `b`:    false,
		`^(a?){30}b`:                            false,
		`^.*.*$`:                                false,
		`^.*a.*b$`:                              false,
		`a+b`:                                   false, // from every position again
		`a|^b`:                                  true,
		`b+|^a`:                                 false,
		`(?i)^a`:                                false,
		`^(?P<x>a)`:                             false,
		`^(?<x>a)`:                              false,
		`^(?=a)`:                                false,
		`^(a)\1`:                                false,
		`^\x{100}`:                              false,
		`^\x61`:                                 false,
		`^\pL`:                                  false,
		`^\Qa\E`:                                false,
		`^a{,5}`:                                false,
		`^a{`:                                   false,
		`^[[:alpha:]]`:                          false,
		`^a b`:                                  false,
		`^a++`:                                  false,
		`^(`:                                    false,
		`^a)`:                                   false,
		``:                                      false,
		`^ä`:                                    false,
		strings.Repeat("a", maxExpression+1):    false,
		"^" + strings.Repeat("(", 90) + strings.Repeat(")", 90): true,
	} {
		if err := checkExpression(expr); (err == nil) != fine {
			t.Errorf("%s: %v", expr, err)
		}
	}
}

func FuzzExpression(f *testing.F) {
	for _, s := range []string{`^(a|b)\.test$`, slowExpression, `[]a]`, `a{2}{3}`, `(?:`, `\`, `[^`, `x{9999999999}`, `^(www\.)?a\.test$`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		_ = checkExpression(expr)
		if all, ok := names(expr); ok {
			for _, name := range all {
				if _, err := plainHost(name); err != nil {
					t.Errorf("%q becomes %q: %v", expr, name, err)
				}
			}
		}
	})
}
