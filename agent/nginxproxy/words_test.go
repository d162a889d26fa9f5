package nginxproxy

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/labels"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// What the operator chose holds where a container says nothing, and its own word
// where it says something.
func TestDefaults(t *testing.T) {
	chosen := labels.Defaults{TLS: route.TLSNoRedirect, HSTS: "max-age=60", TLSPolicy: "Mozilla-Modern", RedirectCode: 301, OwnCertOnly: true, HTTPSOnly: true}
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
		"nobody says anything, labels":    {labels.Defaults{}, nil, map[string]string{"nagaya.host": "a.test"}, got{route.TLSAuto, "", "", 0, false, false}},
		"nobody says anything, variables": {labels.Defaults{}, map[string]string{"VIRTUAL_HOST": "a.test"}, nil, got{route.TLSAuto, defaultHSTS, "", 0, false, false}},
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
		"only HSTS":                          {labels.Defaults{HSTS: "max-age=60"}, map[string]string{"VIRTUAL_HOST": "a.test"}, nil, got{route.TLSAuto, "max-age=60", "", 0, false, false}},
		"no HSTS":                            {labels.Defaults{HSTS: "off"}, map[string]string{"VIRTUAL_HOST": "a.test"}, nil, got{route.TLSAuto, "", "", 0, false, false}},
		"several ports":                      {labels.Defaults{HSTS: "max-age=60"}, map[string]string{"VIRTUAL_HOST_MULTIPORTS": "a.test:"}, nil, got{route.TLSAuto, "max-age=60", "", 0, false, false}},
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
		routes, problems := routesOf(labels.Defaults{MaxKeepalive: 64}, "VIRTUAL_HOST", "a.test", labelPrefix+"keepalive", word)
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
		r := labels.Requests([]tasks.Container{{ID: "a", Name: "a", Env: env, Ports: row.ports}}, labels.Defaults{}, Reader(false))["a"]
		if len(r.Routes) != 1 || r.Routes[0].Port != row.want {
			t.Errorf("%s: %+v, want port %d", name, r.Routes, row.want)
		}
	}
}
