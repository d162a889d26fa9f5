package nginxproxy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// changed lists the settings of c that differ from the defaults.
func changed(c config.Config) map[string]string {
	m := map[string]string{}
	for _, s := range config.Settings {
		if got := strings.Join(s.Get(c), " "); got != strings.Join(s.Get(config.Default()), " ") {
			m[s.Path] = got
		}
	}
	return m
}

func codes(ps []problem.Problem) string {
	var b strings.Builder
	for _, p := range ps {
		b.WriteString(p.Severity.String() + " " + p.Code + " " + p.Subject + "\n")
	}
	return b.String()
}

// always is what nginx-proxy's directories make of the defaults.
func always(more ...string) map[string]string {
	m := map[string]string{
		"nginx-proxy": "true", "docker.host": "unix:///tmp/docker.sock", "nginx.log-stdout": "true", "nginx.stop-timeout": "8s", "certs.dir": "/etc/nginx/certs", "nginx.vhost-dir": "/etc/nginx/vhost.d",
		"nginx.conf-dir": "/etc/nginx/conf.d", "nginx.htpasswd-dir": "/etc/nginx/htpasswd", "nginx.host-auth": "true",
		"routes.share-hosts": "true", "routes.expressions": "true", "routes.redirect-code": "301", "nginx.challenge-dir": "/usr/share/nginx/html", "nginx.unserved-status": "503", "nginx.unserved-cert": "default", "nginx.server-tokens": "true", "nginx.ipv6": "false",
	}
	for i := 0; i+1 < len(more); i += 2 {
		if m[more[i]] = more[i+1]; more[i+1] == "" {
			delete(m, more[i]) // nagaya's own default
		}
	}
	return m
}

func TestNginxVariables(t *testing.T) {
	for name, row := range map[string]struct {
		env      []string
		want     map[string]string
		problems string
	}{
		"nothing":   {nil, always(), ""},
		"unrelated": {[]string{"PATH=/bin", "HTTP_PORTS=1", "=x", "CERT_NAME=a"}, always(), ""},
		"empty":     {[]string{"HTTP_PORT=", "HSTS= "}, always(), ""},
		"ports": {
			[]string{"HTTP_PORT=8080", "HTTPS_PORT= 8443 ", "DEFAULT_HOST=a.test", "DEFAULT_ROOT=301 https://b.test$request_uri"},
			always("nginx.http-port", "8080", "nginx.https-port", "8443", "routes.default-host", "a.test", "nginx.default-root", "301 https://b.test$request_uri"), "",
		},
		"trusting": {
			[]string{"TRUST_DOWNSTREAM_PROXY=true"},
			always("nginx.trusted-proxies", "0.0.0.0/0 ::/0"),
			"warning everybody-trusted variable TRUST_DOWNSTREAM_PROXY\n",
		},
		"not trusting": {[]string{"TRUST_DOWNSTREAM_PROXY=false"}, always(), ""},
		"protocols": {
			[]string{"ENABLE_IPV6=true", "ENABLE_HTTP2=false", "ENABLE_HTTP3=true", "ENABLE_PROXY_PROTOCOL=1"},
			always("nginx.ipv6", "", "nginx.http2", "false", "nginx.http3", "true", "nginx.proxy-protocol", "true"), "",
		},
		"defaults of sites": {
			[]string{"HTTPS_METHOD=noredirect", "HSTS=off", "SSL_POLICY=Mozilla-Modern", "NON_GET_REDIRECT=307", "TRUST_DEFAULT_CERT=false", "ENABLE_HTTP_ON_MISSING_CERT=false"},
			always("routes.https-method", "noredirect", "routes.hsts", "off", "routes.tls-policy", "Mozilla-Modern", "routes.redirect-code", "307",
				"routes.default-cert", "false", "routes.http-without-cert", "false"), "",
		},
		"logs": {
			[]string{"LOG_JSON=true", "LOG_FORMAT=$host $status", "LOG_FORMAT_ESCAPE=json", "DISABLE_ACCESS_LOGS=false"},
			always("nginx.log-format", "$host $status", "nginx.log-escape", "json"), "",
		},
		"JSON":    {[]string{"LOG_JSON=true"}, always("nginx.log-format", "json"), ""},
		"no logs": {[]string{"DISABLE_ACCESS_LOGS=true"}, always("nginx.access-log", "off"), ""},
		"filters": {
			[]string{"DOCKER_CONTAINER_FILTERS=status=running, label=zone=public,network=front"},
			always("docker.filters", "label=zone=public network=front"), "",
		},
		"filters that Docker refuses": {
			[]string{"DOCKER_CONTAINER_FILTERS=colour=red"}, always(), "error nginx-proxy-invalid variable DOCKER_CONTAINER_FILTERS\n",
		},
		"engine": {[]string{"DOCKER_HOST=tcp://socket-proxy:2375"}, always("docker.host", "tcp://socket-proxy:2375"), ""},
		"what is here anyhow": {
			[]string{"DHPARAM_SKIP=true", "DEBUG_ENDPOINT=false", "SHA1_UPSTREAM_NAME=false", "ACME_HTTP_CHALLENGE_LOCATION=true"}, always(), "",
		},
		"challenges": {
			[]string{"ACME_HTTP_CHALLENGE_LOCATION=legacy", "ACME_HTTP_CHALLENGE_ACCEPT_UNKNOWN_HOST=true", "DEBUG_ENDPOINT=true"},
			always("nginx.challenges", "redirected", "nginx.challenge-unknown", "true", "nginx.debug-endpoint", "true"), "",
		},
		"no challenges":    {[]string{"ACME_HTTP_CHALLENGE_LOCATION=false"}, always("nginx.challenges", "none"), ""},
		"wrong challenges": {[]string{"ACME_HTTP_CHALLENGE_LOCATION=perhaps"}, always(), "error nginx-proxy-invalid variable ACME_HTTP_CHALLENGE_LOCATION\n"},
		"what is not here": {
			[]string{"DHPARAM_BITS=2048", "RESOLVERS=10.0.0.2"},
			always(),
			"warning nginx-proxy-unsupported variable DHPARAM_BITS\n" + "warning nginx-proxy-unsupported variable RESOLVERS\n",
		},
		"wrong values": {
			[]string{"HTTP_PORT=eighty", "TRUST_DOWNSTREAM_PROXY=perhaps", "SSL_POLICY=Strong", "HTTPS_PORT=8443", "HSTS=x; include y", "DEFAULT_ROOT=200 a b"},
			always("nginx.https-port", "8443"),
			"error nginx-proxy-invalid variable DEFAULT_ROOT\n" + "error nginx-proxy-invalid variable HSTS\n" + "error nginx-proxy-invalid variable HTTP_PORT\n" +
				"error nginx-proxy-invalid variable SSL_POLICY\n" + "error nginx-proxy-invalid variable TRUST_DOWNSTREAM_PROXY\n",
		},
		"values that do not go together": {
			[]string{"HTTP_PORT=443"},
			map[string]string{"nginx-proxy": "true"},
			"error nginx-proxy-invalid nginx-proxy's variables\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			on, _ := config.Find("nginx-proxy")
			r, err := Resolve(row.env, []config.Value{config.FromFlag(on, "true")})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, changed(r.Config)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(row.problems, codes(r.Problems)); diff != "" {
				t.Error(diff)
			}
			for _, p := range r.Problems {
				if p.Text == "" || p.Hint == "" || strings.Contains(p.Text, "\n") {
					t.Errorf("%+v", p)
				}
			}
		})
	}
}

// Every other source is stronger than nginx-proxy's words, and without the setting
// they are nothing.
func TestNginxVariablesAreTheWeakest(t *testing.T) {
	on, _ := config.Find("nginx-proxy")
	env := []string{"HTTP_PORT=8080", "HTTPS_PORT=8443", "TRUST_DOWNSTREAM_PROXY=true", "DHPARAM_BITS=2048"}
	off, err := Resolve(env)
	if err != nil || len(changed(off.Config)) != 0 || len(off.Problems) != 0 {
		t.Errorf("not asked for: %v, %v, %v", changed(off.Config), off.Problems, err)
	}
	file, err := config.ParseYAML("f.yaml", []byte("nginx: {http-port: 81, trusted-proxies: [10.0.0.0/8]}\ncerts: {dir: /c}\n"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Resolve(env, file, []config.Value{config.FromFlag(on, "true")})
	if err != nil {
		t.Fatal(err)
	}
	want := always("nginx.http-port", "81", "nginx.https-port", "8443", "nginx.trusted-proxies", "10.0.0.0/8", "certs.dir", "/c")
	if diff := cmp.Diff(want, changed(r.Config)); diff != "" {
		t.Error(diff)
	}
	if got, want := codes(r.Problems), "warning nginx-proxy-unsupported variable DHPARAM_BITS\n"; got != want {
		t.Errorf("problems %q, want %q", got, want)
	}
	if got := r.From["nginx.https-port"]; got != "nginx-proxy's variable HTTPS_PORT" {
		t.Errorf("the origin of the port is %q", got)
	}
}

func TestEveryNginxProxyWordIsWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, w := range Variables {
		_, found := config.Find(w.Setting)
		switch {
		case seen[w.Name]:
			t.Errorf("%s is there twice", w.Name)
		case w.Here == "":
			t.Errorf("%s: nothing is said about it", w.Name)
		case w.Setting == "" && w.Remedy == "":
			t.Errorf("%s does nothing, and nothing is said of what to do", w.Name)
		case w.Setting != "" && (!found || w.Remedy != ""):
			t.Errorf("%s: setting %q", w.Name, w.Setting)
		}
		seen[w.Name] = true
	}
	for _, d := range Image {
		if s, ok := config.Find(d.Setting); !ok {
			t.Errorf("there is no setting %s", d.Setting)
		} else if _, err := config.Resolve([]config.Value{config.FromFlag(s, d.Value)}); err != nil {
			t.Error(err)
		}
	}
	for _, f := range Files {
		if f.Pattern[0] != '/' || f.Here == "" || f.Remedy == "" {
			t.Errorf("%+v", f)
		}
	}
}
