package labels

import (
	"slices"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// A label cannot have the disk filled by bodies that nginx stores before the container is
// asked, nor hold connections without end.
func TestCeilings(t *testing.T) {
	none := func(tasks.Container, Defaults) ([]route.Spec, []problem.Problem, bool) { return nil, nil, false }
	operator := config.Default().Routes
	operator.BodySize = 0
	for name, row := range map[string]struct {
		labels  map[string]string
		size    int64
		timeout time.Duration
		limited int
	}{
		"nothing asked: as the operator says": {nil, 0, time.Minute, 0},
		"within":                              {map[string]string{"nagaya.body-size": "1g", "nagaya.timeout": "1h"}, 1 << 30, time.Hour, 0},
		"beyond":                              {map[string]string{"nagaya.body-size": "2g", "nagaya.timeout": "24h"}, 1 << 30, time.Hour, 2},
		"no limit":                            {map[string]string{"nagaya.body-size": "0"}, 1 << 30, time.Minute, 1},
		"no limit, not stored":                {map[string]string{"nagaya.body-size": "0", "nagaya.buffering": "off"}, 0, time.Minute, 0},
		"no limit, grpc":                      {map[string]string{"nagaya.body-size": "0", "nagaya.scheme": "grpcs"}, 0, time.Minute, 0},
		"no limit, stored all the same":       {map[string]string{"nagaya.body-size": "0", "nagaya.buffering": "off", "nagaya.scheme": "fastcgi"}, 1 << 30, time.Minute, 1},
		"a stream":                            {map[string]string{"nagaya.listen": "tcp:2222", "nagaya.timeout": "24h"}, 0, time.Hour, 1},
	} {
		l := map[string]string{"nagaya.host": "a.test"}
		for k, v := range row.labels {
			l[k] = v
		}
		if l["nagaya.listen"] != "" {
			delete(l, "nagaya.host")
		}
		got := Requests([]tasks.Container{{ID: "a", Name: "a", Labels: l}}, Configured(config.Config{Routes: operator}), none)["a"]
		if len(got.Routes) != 1 {
			t.Errorf("%s: %+v", name, got)
			continue
		}
		if s := got.Routes[0]; s.BodySize != row.size || s.Timeout != row.timeout {
			t.Errorf("%s: bodies of %d bytes, timeout %s", name, s.BodySize, s.Timeout)
		}
		for _, p := range got.Problems {
			if p.Code != "label-limited" || p.Severity != problem.Warning {
				t.Errorf("%s: %+v", name, p)
			}
		}
		if len(got.Problems) != row.limited {
			t.Errorf("%s: %d problems, want %d", name, len(got.Problems), row.limited)
		}
	}
}

// A mistake in a route costs that route alone; but where the route was to say who is let in, another of the
// container would get its requests, from everybody.
func TestAMistakeOpensNothing(t *testing.T) {
	none := func(tasks.Container, Defaults) ([]route.Spec, []problem.Problem, bool) { return nil, nil, false }
	all := []string{"a.test/", "b.test/"}
	for name, row := range map[string]struct {
		labels          map[string]string
		want, unguarded []string
		codes           []string
	}{
		"good":            {map[string]string{"nagaya.admin.auth": "staff"}, append(all, "a.test/admin"), nil, nil},
		"auth":            {map[string]string{"nagaya.admin.auth": "../staff"}, all, []string{"a.test"}, []string{"label-invalid"}},
		"allow":           {map[string]string{"nagaya.admin.allow": "10.0.0.0/33"}, all, []string{"a.test"}, []string{"label-invalid"}},
		"looks like auth": {map[string]string{"nagaya.admin.auht": "staff"}, all, []string{"a.test"}, []string{"label-unknown"}},
		"another word":    {map[string]string{"nagaya.admin.auth": "staff", "nagaya.admin.port": "x"}, all, []string{"a.test"}, []string{"label-invalid"}},
		"nothing kept":    {map[string]string{"nagaya.admin.port": "x"}, all, nil, []string{"label-invalid"}},
		"a port":          {map[string]string{"nagaya.admin.auth": "staff", "nagaya.admin.listen": "tls:8883"}, all, nil, []string{"label-without-effect", "label-without-effect"}},
		"a wrong host":    {map[string]string{"nagaya.admin.auth": "staff", "nagaya.admin.host": "a..test"}, all, []string{""}, []string{"label-invalid"}},
		"no host":         {map[string]string{"nagaya.more.path": "/more", "nagaya.more.auth": "staff"}, append(all, "a.test/admin"), []string{""}, []string{"route-without-host"}},
		"a wrong name":    {map[string]string{"nagaya.More.auth": "staff"}, append(all, "a.test/admin"), []string{""}, []string{"label-unknown", "route-without-host"}},
		"twice": {
			map[string]string{"nagaya.more.host": "a.test,b.test", "nagaya.more.path": "/admin", "nagaya.more.auth": "staff"},
			append(all, "a.test/admin"),
			[]string{"a.test", "b.test"},
			[]string{"label-invalid"},
		},
	} {
		l := map[string]string{"nagaya.host": "a.test,b.test", "nagaya.admin.host": "a.test", "nagaya.admin.path": "/admin"}
		for k, v := range row.labels {
			l[k] = v
		}
		got := Requests([]tasks.Container{{ID: "a", Name: "a", Labels: l}}, Defaults{}, none)["a"]
		var hosts, codes []string
		for _, s := range got.Routes {
			for _, h := range s.Hosts {
				hosts = append(hosts, h+s.Path)
			}
		}
		for _, p := range got.Problems {
			codes = append(codes, p.Code)
		}
		if !slices.Equal(hosts, row.want) || !slices.Equal(got.Unguarded, row.unguarded) || !slices.Equal(codes, row.codes) {
			t.Errorf("%s: routes %v, unguarded %q, problems %+v", name, hosts, got.Unguarded, got.Problems)
		}
	}
}
