package route

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// What the operator chose holds where a container says nothing, and its own word
// where it says something.
func TestDefaultsOfRoutes(t *testing.T) {
	chosen := Defaults{HTTPSMethod: "noredirect", HSTS: "max-age=60", TLSPolicy: "Mozilla-Modern", RedirectCode: 301, OwnCertOnly: true, HTTPSOnly: true}
	type got struct {
		TLS       tlsMode
		HSTS      string
		Policy    string
		Code      int
		Own, Only bool
	}
	for name, row := range map[string]struct {
		d           Defaults
		env, labels map[string]string
		want        got
	}{
		"nobody says anything, labels":    {Defaults{}, nil, map[string]string{"nagaya.host": "a.test"}, got{tlsAuto, "", "", 0, false, false}},
		"nobody says anything, variables": {Defaults{}, map[string]string{"VIRTUAL_HOST": "a.test"}, nil, got{tlsAuto, nginxProxyHSTS, "", 0, false, false}},
		"operator, labels":                {chosen, nil, map[string]string{"nagaya.host": "a.test"}, got{tlsNoRedirect, "", "Mozilla-Modern", 301, true, true}},
		"operator, variables":             {chosen, map[string]string{"VIRTUAL_HOST": "a.test"}, nil, got{tlsNoRedirect, "", "Mozilla-Modern", 301, true, true}},
		"container against operator, variables": {
			chosen,
			map[string]string{
				"VIRTUAL_HOST": "a.test", "HTTPS_METHOD": "redirect", "SSL_POLICY": "Mozilla-Old", "HSTS": "max-age=1", "ENABLE_HTTP_ON_MISSING_CERT": "true",
			},
			map[string]string{nginxProxyLabel + "non-get-redirect": "307", nginxProxyLabel + "trust-default-cert": "true"},
			got{tlsAuto, "max-age=1", "Mozilla-Old", 307, false, false},
		},
		"container against operator, labels": {chosen, nil, map[string]string{"nagaya.host": "a.test", "nagaya.tls": "off", "nagaya.hsts": "max-age=2"}, got{tlsOff, "max-age=2", "Mozilla-Modern", 301, true, true}},
		"only HSTS":                          {Defaults{HSTS: "max-age=60"}, map[string]string{"VIRTUAL_HOST": "a.test"}, nil, got{tlsAuto, "max-age=60", "", 0, false, false}},
		"no HSTS":                            {Defaults{HSTS: "off"}, map[string]string{"VIRTUAL_HOST": "a.test"}, nil, got{tlsAuto, "", "", 0, false, false}},
		"several ports":                      {Defaults{HSTS: "max-age=60"}, map[string]string{"VIRTUAL_HOST_MULTIPORTS": "a.test:"}, nil, got{tlsAuto, "max-age=60", "", 0, false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			p := parse(tasks.Container{ID: "a", Name: "a", Env: row.env, Labels: row.labels}, row.d)
			if len(p.routes) != 1 || len(p.problems) != 0 {
				t.Fatalf("routes %+v, problems %+v", p.routes, p.problems)
			}
			s := p.routes[0]
			if diff := cmp.Diff(row.want, got{s.tls, s.edge.HSTS, s.edge.TLSPolicy, s.edge.RedirectCode, s.ownCertOnly, s.httpsOnly}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The names that may be configured are those that are known here.
func TestPoliciesThatMayBeConfigured(t *testing.T) {
	var names []string
	for _, p := range TLSPolicies {
		names = append(names, p.Name)
	}
	if diff := cmp.Diff(config.TLSPolicies, names); diff != "" {
		t.Error(diff)
	}
	if config.Default().Routes.TLSPolicy != DefaultTLSPolicy {
		t.Errorf("the default is %s there and %s here", config.Default().Routes.TLSPolicy, DefaultTLSPolicy)
	}
}
