package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var compareConfig = cmp.Options{cmpopts.EquateComparable(Default().LocalAddr), cmpopts.EquateEmpty(), cmp.Transformer("text", func(c Config) map[string][]string {
	m := map[string][]string{}
	for _, s := range Settings {
		m[s.Path] = s.Get(c)
	}
	return m
})}

func TestEveryDefaultIsAllowed(t *testing.T) {
	for _, s := range Settings {
		c := Default()
		if err := s.Set(&c, s.Get(Default())); err != nil {
			t.Errorf("%s: its own default is refused: %v", s.Path, err)
		}
		if s.Doc == "" || s.Allowed == "" {
			t.Errorf("%s: has no doc or no allowed values", s.Path)
		}
		if strings.ContainsAny(s.Tag(), "/ ") {
			t.Errorf("%s: tag %q cannot be served by instance metadata", s.Path, s.Tag())
		}
	}
}

func TestPrintedDefaultsParseToDefaults(t *testing.T) {
	for _, docs := range []bool{false, true} {
		values, err := ParseYAML("default", []byte(YAML(Default(), docs, false)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := Resolve(values)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Default(), got.Config, compareConfig); diff != "" {
			t.Errorf("docs=%v: printed and parsed again, the defaults differ:\n%s", docs, diff)
		}
		if len(got.From) != len(Settings) {
			t.Errorf("docs=%v: %d of %d settings were printed", docs, len(got.From), len(Settings))
		}
	}
}

func TestCommentedDefaultsSetNothing(t *testing.T) {
	values, err := ParseYAML("default", []byte(YAML(Default(), true, true)))
	if err != nil || len(values) != 0 {
		t.Fatalf("values %v, err %v; want none", values, err)
	}
}

func TestMistakesAreNamed(t *testing.T) {
	for name, row := range map[string]struct {
		text string
		want []string // every one must appear in the message
	}{
		"unknown field":         {"nginx:\n  htp-port: 80\n", []string{"f.yaml:2", "nginx.htp-port", "is not a field", "nearest is nginx.http-port,"}},
		"unknown top field":     {"ngnix: {}\n", []string{"f.yaml:1", "ngnix", "is not a field", "nearest is nginx,"}},
		"wrong kind":            {"nginx:\n  http-port: yes please\n", []string{"f.yaml:2", "nginx.http-port", "not a whole number", "1 to 65535"}},
		"out of range":          {"nginx: {http-port: 70000}\n", []string{"f.yaml:1", "70000 is outside 1 to 65535"}},
		"no unit":               {"routes:\n  grace: 10\n", []string{"f.yaml:2", "routes.grace", "not a duration", "90s"}},
		"wrong word":            {"address:\n  policy: steal\n", []string{"address.policy", `"steal"`, "takeover"}},
		"list for a scalar":     {"log-level: [info]\n", []string{"log-level", "is a list where one value is wanted"}},
		"mapping for a scalar":  {"log-level: {a: b}\n", []string{"log-level", "is not a plain value"}},
		"scalar for a mapping":  {"nginx: fast\n", []string{"f.yaml:1", "nginx", "is not a mapping"}},
		"twice":                 {"log-level: info\nlog-level: warn\n", []string{"log-level"}},
		"not YAML":              {"a: [\n", []string{"f.yaml", "is not YAML"}},
		"two documents":         {"log-level: info\n---\nlog-level: warn\n", []string{"second document"}},
		"relative path":         {"certs: {dir: certs}\n", []string{"certs.dir", "not an absolute path"}},
		"nginx syntax in path":  {"state-dir: '/var/x;y'\n", []string{"state-dir", "nginx would read as syntax"}},
		"claim":                 {"address: {claim: my-ip}\n", []string{"address.claim", "eipalloc-"}},
		"one claim of two":      {"address: {claim: [203.0.113.7, my-ip]}\n", []string{"address.claim", `"my-ip"`}},
		"place of a claim":      {"address: {claim: 203.0.113.7@eth0}\n", []string{"address.claim", `"eth0"`, "private IPv4"}},
		"same port":             {"nginx: {http-port: 443}\n", []string{"nginx.https-port", "443"}},
		"alias":                 {"log-level: &a info\nstate-dir: *a\n", []string{"is not a plain value"}},
		"not a number":          {"gate: {reserve: .nan}\n", []string{"gate.reserve"}},
		"several at once":       {"log-level: loud\nmetrics: {port: 1}\n", []string{"log-level", "metrics.port"}},
		"trusted proxy":         {"nginx: {trusted-proxies: [10.0.0.0/8, elb]}\n", []string{`"elb"`, "10.0.0.0/8"}},
		"control character":     {"docker: {host: \"unix:///a\\nb\"}\n", []string{"docker.host", "control character"}},
		"docker without a host": {"docker: {host: 'tcp://'}\n", []string{"docker.host", "neither unix:///path nor tcp://host:port"}},
		"docker, bad escape":    {"docker: {host: 'tcp://%zz:2375'}\n", []string{"docker.host"}},
		"docker without path":   {"docker: {host: 'unix:///'}\n", []string{"docker.host"}},
		"unknown of great size": {strings.Repeat("x", 5000) + ": 1\n", []string{"is not a field"}},
	} {
		t.Run(name, func(t *testing.T) {
			values, err := ParseYAML("f.yaml", []byte(row.text))
			_, err2 := Resolve(values)
			err = errors.Join(err, err2)
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range row.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q lacks %q", err, w)
				}
			}
			if len(err.Error()) > 3000 {
				t.Errorf("the message is %d bytes long", len(err.Error()))
			}
		})
	}
}

func TestOrderOfSources(t *testing.T) {
	tags, err := FromTags(map[string]string{"Name": "x", "nagaya:log-level": "debug", "nagaya:address-policy": "wait", "nagaya:routes-grace": "1m", "nagaya:address-ready": "a.test, b.test"})
	if err != nil {
		t.Fatal(err)
	}
	file, err := ParseYAML("f.yaml", []byte("log-level: warn\nroutes: {grace: 2m}\ncerts:\n"))
	if err != nil {
		t.Fatal(err)
	}
	env, err := FromEnv([]string{"HOME=/root", "NAGAYA_ROUTES_GRACE=3m", "NAGAYA_CONFIG=/x"}, "NAGAYA_CONFIG")
	if err != nil {
		t.Fatal(err)
	}
	grace, _ := Find("routes.grace")
	r, err := Resolve(tags, file, env, []Value{FromFlag(grace, "4m")})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.LogLevel, want.Address.Policy, want.Routes.Grace = "warn", "wait", 4*60e9
	want.Address.Ready = []string{"a.test", "b.test"}
	if diff := cmp.Diff(want, r.Config, compareConfig); diff != "" {
		t.Error(diff)
	}
	wantFrom := map[string]string{
		"log-level": "f.yaml:1", "address.policy": "instance tag nagaya:address-policy",
		"address.ready": "instance tag nagaya:address-ready", "routes.grace": "flag --routes-grace",
	}
	if diff := cmp.Diff(wantFrom, r.From); diff != "" {
		t.Error(diff)
	}
}

func TestClaims(t *testing.T) {
	for text, want := range map[string][]string{
		"address: {claim: eipalloc-0123456789abcdef0}\n":                                       {"eipalloc-0123456789abcdef0"},
		"address:\n  claim: [203.0.113.7@10.0.0.5, eipalloc-01234567@eni-0123456789abcdef0]\n": {"203.0.113.7@10.0.0.5", "eipalloc-01234567@eni-0123456789abcdef0"},
		"address: {claim: 'tag:who=me@home'}\n":                                                {"tag:who=me@home"},
		"address: {claim: 'tag:who=me@10.0.0.5'}\n":                                            {"tag:who=me@10.0.0.5"},
		"address: {claim: []}\n":                                                               nil,
	} {
		values, err := ParseYAML("f.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		r, err := Resolve(values)
		if err != nil || !slices.Equal(r.Config.Address.Claim, want) {
			t.Errorf("%s: %q, %v", text, r.Config.Address.Claim, err)
		}
	}
}

// As with every Docker tool, DOCKER_HOST says where the engine is unless something else does.
func TestDockerHostOfTheEnvironment(t *testing.T) {
	s, _ := Find("docker.host")
	set := []Value{FromFlag(s, "unix:///run/other.sock")}
	for _, row := range []struct {
		environ    []string
		layer      []Value
		host, from string
		wrong      string
	}{
		{nil, nil, "unix:///var/run/docker.sock", "", ""},
		{[]string{"DOCKER_HOST="}, nil, "unix:///var/run/docker.sock", "", ""},
		{[]string{"DOCKER_HOST=tcp://10.0.0.5:2375"}, nil, "tcp://10.0.0.5:2375", "environment DOCKER_HOST", ""},
		{[]string{"DOCKER_HOST=unix:///run/user/1000/docker.sock", "DOCKER_TLS_VERIFY=1"}, nil, "unix:///run/user/1000/docker.sock", "environment DOCKER_HOST", ""},
		{[]string{"DOCKER_HOST=tcp://10.0.0.5:2375"}, set, "unix:///run/other.sock", "flag --docker-host", ""},
		{[]string{"DOCKER_HOST=ssh://me@there"}, set, "unix:///run/other.sock", "flag --docker-host", ""},
		{[]string{"DOCKER_HOST=ssh://me@there"}, nil, "", "", `environment DOCKER_HOST: docker.host: "ssh://me@there" is neither`},
		{[]string{"DOCKER_HOST=tcp://10.0.0.5:2376", "DOCKER_TLS_VERIFY=1"}, nil, "", "", "environment DOCKER_TLS_VERIFY: docker.host: "},
	} {
		r, err := ResolveIn(row.environ, row.layer)
		switch {
		case row.wrong != "":
			if err == nil || !strings.Contains(err.Error(), row.wrong) {
				t.Errorf("%q: %v, want %s", row.environ, err, row.wrong)
			}
		case err != nil || r.Config.Docker.Host != row.host || r.From["docker.host"] != row.from:
			t.Errorf("%q: %s from %q, %v; want %s from %q", row.environ, r.Config.Docker.Host, r.From["docker.host"], err, row.host, row.from)
		}
	}
}

// A list is written alike wherever it is one text; a comma within a value is a part of it.
func TestListsAreAlikeEverywhere(t *testing.T) {
	for _, row := range []struct {
		setting, text string
		want          []string
	}{
		{"address.claim", "tag:Name=web,prod", []string{"tag:Name=web,prod"}},
		{"address.claim", "tag:Name=web, prod@10.0.0.5,203.0.113.7", []string{"tag:Name=web, prod@10.0.0.5", "203.0.113.7"}},
		{"address.claim", "eipalloc-0123456789abcdef0 , tag:Name=web,prod,eipalloc-01234567", []string{"eipalloc-0123456789abcdef0", "tag:Name=web,prod", "eipalloc-01234567"}},
		{"address.claim", " ,", nil},
		{"docker.filters", "label=tier=web,blue,name=shop", []string{"label=tier=web,blue", "name=shop"}},
		{"routes.reserved-ports", "22, 2375", []string{"22", "2375"}},
	} {
		s, _ := Find(row.setting)
		env, err := FromEnv([]string{s.Env() + "=" + row.text})
		if err != nil {
			t.Fatal(err)
		}
		file, err := ParseYAML("f.yaml", fmt.Appendf(nil, "%s: {%s: %q}\n", strings.Split(row.setting, ".")[0], strings.Split(row.setting, ".")[1], row.text))
		if err != nil {
			t.Fatal(err)
		}
		ways := map[string][]Value{"file": file, "environment": env, "flag": {FromFlag(s, row.text)}}
		if s.FromTag {
			if ways["tag"], err = FromTags(map[string]string{s.Tag(): row.text}); err != nil {
				t.Fatal(err)
			}
		}
		for way, values := range ways {
			r, err := Resolve(values)
			if got := s.Get(r.Config); err != nil || !slices.Equal(got, row.want) {
				t.Errorf("%s %q by %s: %q, %v; want %q", row.setting, row.text, way, got, err, row.want)
			}
		}
	}
	s, _ := Find("routes.reserved-ports")
	if _, err := Resolve([]Value{FromFlag(s, "22,x,80")}); err == nil || !strings.Contains(err.Error(), `"x"`) {
		t.Errorf("the part that is wrong is not named: %v", err)
	}
}

func TestUnknownNamesOutsideTheFile(t *testing.T) {
	if _, err := FromEnv([]string{"NAGAYA_NGINX_PORT=80"}); err == nil || !strings.Contains(err.Error(), "NAGAYA_NGINX_PORT") {
		t.Errorf("environment: %v", err)
	}
	if _, err := FromTags(map[string]string{"nagaya:nginx.http-port": "80"}); err == nil || !strings.Contains(err.Error(), "nagaya:nginx.http-port") {
		t.Errorf("tags: %v", err)
	}
}

// byTag says for each setting whether a tag may give it: who can tag an
// instance may not run code, move traffic, take protection away or allow costs.
var byTag = map[string]bool{
	"log-level": true, "local-address": false, "imds": false, "nginx-proxy": false, "state-dir": false, "run-dir": false, "log-dir": false,
	"docker.host": false, "docker.filters": false, "ecs.agent-url": false, "ecs.trust-labels": false,
	"address.claim": true, "address.unreachable": false, "address.policy": true, "address.ready": true, "address.every": true,
	"routes.body-size": false, "routes.max-body-size": false, "routes.max-timeout": false, "routes.max-keepalive": false, "routes.max-per-family": false, "routes.max": false, "routes.timeout": true, "routes.grace": true, "routes.dir": false, "routes.default-host": false,
	"routes.share-hosts": false, "routes.expressions": false, "routes.open-wildcards": false, "routes.shared-upstreams": false, "routes.reserved-ports": false, "routes.https-method": false, "routes.hsts": false, "routes.tls-policy": false,
	"routes.redirect-code": true, "routes.default-cert": false, "routes.http-without-cert": false,
	"certs.dir": false, "certs.store": false, "certs.store-kms-key": false, "certs.waiting": false, "certs.acme.email": false, "certs.acme.directory": false, "certs.acme.staging": false, "certs.acme.profile": false,
	"certs.acme.key": false, "certs.acme.ca-file": false, "certs.acme.eab-file": false, "certs.acme.zones": false, "certs.acme.check-address": false, "certs.acme.ip": false,
	"nginx.mode": false, "nginx.unit": false, "nginx.container-label": false, "nginx.binary": false, "nginx.http-port": false, "nginx.https-port": false,
	"nginx.ipv6": false, "nginx.http2": true, "nginx.http3": true, "nginx.proxy-protocol": false, "nginx.upstream-ca": false, "nginx.user": false,
	"nginx.access-log": false, "nginx.default-root": false, "nginx.challenge-dir": false, "nginx.challenges": false, "nginx.challenge-unknown": false, "nginx.debug-endpoint": false, "nginx.unserved-status": false, "nginx.unserved-cert": false, "nginx.server-tokens": false, "nginx.log-format": false, "nginx.log-escape": false, "nginx.log-stdout": false,
	"nginx.snippet-dir": false, "nginx.vhost-dir": false, "nginx.conf-dir": false, "nginx.htpasswd-dir": false, "nginx.host-auth": false,
	"nginx.trusted-proxies": false, "nginx.shutdown-timeout": true, "nginx.stop-timeout": true, "nginx.max-draining": true, "nginx.stop-on-exit": false,
	"credit.every": true, "credit.cloudwatch": true, "credit.proc-dir": false, "credit.cgroup-dir": false,
	"gate.reserve": true, "gate.open-mark": true, "gate.horizon": true, "gate.dwell": true, "gate.stale-after": true,
	"gate.surplus-limit": false, "gate.surplus-dollars": false, "gate.surplus-period": false, "gate.surplus-price": false,
	"gate.busy": true, "gate.windows": true, "gate.slow": true, "gate.ecs": true, "gate.batch-compute-environment": false, "gate.on-exit": true,
	"metrics.listen": false, "page.host": false, "page.auth": false, "page.allow": false,
}

func TestTagsSetOnlyWhatTheyMay(t *testing.T) {
	for _, s := range Settings {
		may, decided := byTag[s.Path]
		if !decided {
			t.Errorf("%s: decide whether an instance tag may give it", s.Path)
			continue
		}
		text := strings.Join(s.Get(Default()), ",")
		values, err := FromTags(map[string]string{s.Tag(): text})
		if got := len(values) == 1; got != may || got != (err == nil) {
			t.Errorf("%s: a tag may give it: %v, %v; want %v", s.Path, got, err, may)
		}
		if wrong, ok := errors.AsType[*Error](err); !may && (!ok || wrong.Subject() != s.Path || !strings.Contains(wrong.Where, s.Tag())) {
			t.Errorf("%s: the error %v does not name it", s.Path, err)
		}
	}
}

func TestNamesAreUnique(t *testing.T) {
	for _, name := range []func(Setting) string{Setting.Env, Setting.Flag, Setting.Tag} {
		var all []string
		for _, s := range Settings {
			all = append(all, name(s))
		}
		slices.Sort(all)
		if len(slices.Compact(all)) != len(Settings) {
			t.Errorf("two settings share a name: %v", all)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "512k": 512 << 10, "10m": 10 << 20, "1G": 1 << 30, "1000": 1000, "100MB": 100 << 20, "1 GiB": 1 << 30, "1kb": 1 << 10} {
		n, err := ParseSize(text)
		if err != nil || n != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, n, err, want)
		}
		if back, err := ParseSize(FormatSize(n)); err != nil || back != n {
			t.Errorf("%q is written as %q, which reads as %d, %v", text, FormatSize(n), back, err)
		}
	}
	for _, text := range []string{"", "m", "-1", "1t", "9999999999999g", "1mm", "1 m b", "b", "1b"} {
		if n, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, n)
		}
	}
}

func FuzzParseYAML(f *testing.F) {
	f.Add([]byte("nginx:\n  http-port: 80\n"))
	f.Add([]byte("address: {ready: [a, b]}\n"))
	f.Add([]byte("a: *b\n? x\n: y\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		values, err := ParseYAML("f", text)
		if err != nil {
			return
		}
		r, err := Resolve(values)
		if err != nil {
			return
		}
		again, err := ParseYAML("f", []byte(YAML(r.Config, false, false)))
		if err != nil {
			t.Fatalf("what was accepted cannot be printed and read: %v", err)
		}
		r2, err := Resolve(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r.Config, r2.Config, compareConfig); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestDockerHosts(t *testing.T) {
	host, _ := Find("docker.host")
	for _, v := range []string{"unix:///run/docker.sock", "tcp://10.0.0.5:2375", "tcp://engine.internal", "tcp://[fd00::1]:2375"} {
		if _, err := Resolve([]Value{FromFlag(host, v)}); err != nil {
			t.Errorf("%s is refused: %v", v, err)
		}
	}
}

func TestUsable(t *testing.T) {
	level, _ := Find("log-level")
	busy, _ := Find("gate.busy")
	good, err := Usable([]Value{FromFlag(level, "loud"), FromFlag(busy, "0.25"), FromFlag(level, "warn")})
	if len(good) != 2 || good[0].Setting.Path != "gate.busy" || good[1].Values[0] != "warn" {
		t.Errorf("usable are %v", good)
	}
	if err == nil || !strings.Contains(err.Error(), "loud") || strings.Contains(err.Error(), "busy") {
		t.Errorf("error %v", err)
	}
	if good, err := Usable(nil); good != nil || err != nil {
		t.Errorf("of nothing: %v, %v", good, err)
	}
}

// Who writes no instead of off gets no log of that name.
func TestNamesOfLogs(t *testing.T) {
	log, _ := Find("nginx.access-log")
	for v, want := range map[string]bool{"off": true, "access.log": true, "no.log": true, "false": false, "No": false, "true": false, "on": false, "a/b": false} {
		if _, err := Resolve([]Value{FromFlag(log, v)}); (err == nil) != want {
			t.Errorf("%q: %v", v, err)
		}
	}
}

// The page is a site of its own for those alone whom the operator names.
func TestThePageIsNeverOpen(t *testing.T) {
	for _, row := range []struct {
		name, file string
		want       string // in the error; empty is none
	}{
		{"with a password", "page: {host: status.example.com, auth: admins}", ""},
		{"for a network", "page: {host: status.example.com, allow: 10.0.0.0/8}", ""},
		{"for both", "page: {host: status.example.com, auth: admins, allow: [10.0.0.0/8, 192.0.2.7]}", ""},
		{"for nobody in particular", "page: {host: status.example.com}", "page.host: would be open to everybody; set page.auth"},
		{"for everybody", "page: {host: status.example.com, allow: 0.0.0.0/0}", `"0.0.0.0/0" is too wide`},
		{"for everybody, in other words", "page: {host: status.example.com, allow: [10.0.0.0/8, '::/0']}", `"::/0" is too wide`},
		{"for everybody, in halves", "page: {host: status.example.com, allow: [0.0.0.0/1, 128.0.0.0/1]}", `"0.0.0.0/1" is too wide`},
		{"with a file elsewhere", "page: {host: status.example.com, auth: ../admins}", "is not a plain file name"},
		{"for many hosts", "page: {host: '*.example.com', auth: admins}", "is not a host name"},
		{"of what is off", "page: {host: status.example.com, auth: admins}\nmetrics: {listen: ''}", "metrics.listen, which is off"},
		{"no site", "page: {}", ""},
		{"a password for no site", "page: {auth: admins}", "page.auth: is for the site page.host, which is not set"},
		{"networks for no site", "page: {allow: 10.0.0.0/8}", "page.allow: is for the site page.host, which is not set"},
	} {
		values, err := ParseYAML("nagaya.yaml", []byte(row.file))
		if err == nil {
			_, err = Resolve(values)
		}
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.name, err, row.want)
		}
	}
}
