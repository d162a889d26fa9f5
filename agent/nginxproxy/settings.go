package nginxproxy

import (
	"fmt"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Variable is one variable of nginx-proxy's proxy-wide environment, and what
// becomes of it.
type Variable struct {
	Name string
	// Setting is the path of the setting that it stands for; empty where there is none.
	Setting string
	// Here says what it does here, or why it does nothing, for people.
	Here string
	// Remedy says what to do instead, where it does nothing.
	Remedy string

	// values translates what it is set to into values of the setting. No values
	// mean that the default is what was asked for. Nil takes the value as it is.
	values func(v string) ([]string, error)
	// harmless reports whether a value asks for nothing that is missing here.
	harmless func(v string) bool
}

// Image is how nginx-proxy's image is made, as settings: the places where its
// users mount things, that a container logs to its stdout, and its defaults where they open nothing
// that would be closed. Docker kills what has not
// ended ten seconds after it was told to.
var Image = []struct{ Setting, Value string }{
	{"docker.host", "unix:///tmp/docker.sock"},
	{"nginx.log-stdout", "true"},
	{"nginx.stop-timeout", "8s"},
	{"certs.dir", "/etc/nginx/certs"},
	{"nginx.vhost-dir", "/etc/nginx/vhost.d"},
	{"nginx.conf-dir", "/etc/nginx/conf.d"},
	{"nginx.htpasswd-dir", "/etc/nginx/htpasswd"},
	{"nginx.host-auth", "true"},
	{"routes.share-hosts", "true"},
	{"routes.expressions", "true"},
	{"routes.redirect-code", "301"},
	{"nginx.challenge-dir", "/usr/share/nginx/html"},
	{"nginx.unserved-status", "503"},
	{"nginx.unserved-cert", "default"},
	{"nginx.server-tokens", "true"},
	{"nginx.ipv6", "false"},
}

// Variables are nginx-proxy's proxy-wide variables (nginx-proxy, docs/README.md, nginx.tmpl and
// docker-entrypoint.sh), in the order in which they are shown.
var Variables = []Variable{
	{Name: "DEFAULT_HOST", Setting: "routes.default-host", Here: "the default (catch-all) host"},
	{Name: "DEFAULT_ROOT", Setting: "nginx.default-root", Here: "the answer to paths that no container of a host serves"},
	{Name: "HTTP_PORT", Setting: "nginx.http-port", Here: "the port of plain HTTP"},
	{Name: "HTTPS_PORT", Setting: "nginx.https-port", Here: "the port of HTTPS, which redirects name too"},
	{Name: "TRUST_DOWNSTREAM_PROXY", Setting: "nginx.trusted-proxies", Here: "true trusts the X-Forwarded-* headers of all clients; not set is false, unlike nginx-proxy's default", values: ifTrue("0.0.0.0/0", "::/0")},
	{Name: "ENABLE_IPV6", Setting: "nginx.ipv6", Here: "whether IPv6 is listened on, where the container has it; not set is false"},
	{Name: "ENABLE_HTTP2", Setting: "nginx.http2", Here: "whether HTTP/2 is offered"},
	{Name: "ENABLE_HTTP3", Setting: "nginx.http3", Here: "whether HTTP/3 is offered, where the nginx can"},
	{Name: "ENABLE_PROXY_PROTOCOL", Setting: "nginx.proxy-protocol", Here: "whether clients come by the PROXY protocol; name the load balancer in nginx.trusted-proxies"},
	{Name: "HTTPS_METHOD", Setting: "routes.https-method", Here: "what sites with a certificate do about plain HTTP"},
	{Name: "ENABLE_HTTP_ON_MISSING_CERT", Setting: "routes.http-without-cert", Here: "whether plain HTTP serves a site that has no certificate"},
	{Name: "TRUST_DEFAULT_CERT", Setting: "routes.default-cert", Here: "whether the certificate that is named default may stand in"},
	{Name: "HSTS", Setting: "routes.hsts", Here: "the header Strict-Transport-Security"},
	{Name: "SSL_POLICY", Setting: "routes.tls-policy", Here: "protocols and ciphers"},
	{Name: "NON_GET_REDIRECT", Setting: "routes.redirect-code", Here: "the status that sends requests other than GET and HEAD to HTTPS; not set is 301"},
	{Name: "DISABLE_ACCESS_LOGS", Setting: "nginx.access-log", Here: "true logs no requests", values: ifTrue("off")},
	{Name: "LOG_JSON", Setting: "nginx.log-format", Here: "true logs requests as JSON where LOG_FORMAT is not set", values: ifTrue("json")},
	{Name: "LOG_FORMAT", Setting: "nginx.log-format", Here: "the line that is logged for a request"},
	{Name: "LOG_FORMAT_ESCAPE", Setting: "nginx.log-escape", Here: "how variables in that line are escaped"},
	{Name: "DOCKER_HOST", Setting: "docker.host", Here: "the Docker Engine, or a proxy in front of it"},
	{
		Name: "DOCKER_CONTAINER_FILTERS", Setting: "docker.filters", Here: "which containers may be routed, as KEY=VALUE with commas between; those on status and health are left out, as only what runs and is healthy is routed anyway",
		values: func(v string) ([]string, error) {
			var all []string
			for word := range strings.SplitSeq(v, ",") {
				if word = strings.TrimSpace(word); word != "" && word != "status=running" && word != "health=healthy" {
					all = append(all, word)
				}
			}
			return all, nil
		},
	},
	{Name: "NGINX_CONTAINER_LABEL", Setting: "nginx.container-label", Here: "the label of nginx's container where it has one of its own"},
	{
		Name: "ACME_HTTP_CHALLENGE_LOCATION", Setting: "nginx.challenges", Here: "where /.well-known/acme-challenge/ is served from /usr/share/nginx/html over plain HTTP: at all sites that do not refuse that (true), at those that redirect it (legacy), or nowhere (false)",
		values: func(v string) ([]string, error) {
			all, err := parseChallenges(v)
			return []string{string(all)}, err
		},
	},
	{Name: "ACME_HTTP_CHALLENGE_ACCEPT_UNKNOWN_HOST", Setting: "nginx.challenge-unknown", Here: "whether it is for unknown names too"},
	{Name: "DEBUG_ENDPOINT", Setting: "nginx.debug-endpoint", Here: "whether /nginx-proxy-debug of sites answers with their settings as JSON"},
	{Name: "RESOLVERS", Here: "nginx is given addresses only, and resolves no names", Remedy: "where a snippet of yours needs it, put a line resolver into conf.d"},
	{Name: "DHPARAM_BITS", Here: "the ciphers that are offered by default need no Diffie-Hellman parameters", Remedy: "for clients that know no elliptic curves put NAME.dhparam.pem beside the certificate NAME.crt"},
	{Name: "DHPARAM_SKIP", Here: "as DHPARAM_BITS; true is what happens", Remedy: "remove it", harmless: isTrue},
	{Name: "DHPARAM_GENERATION", Here: "as DHPARAM_BITS; false is what happens", Remedy: "remove it", harmless: isFalse},
	{Name: "SHA1_UPSTREAM_NAME", Here: "the files for a host may name its upstreams either way", Remedy: "remove it", harmless: isFalse},
	{Name: "PREFER_IPV6_NETWORK", Here: "a container's IPv4 address is taken where it has one", Remedy: "put containers that must be reached over IPv6 on a network without IPv4", harmless: isFalse},
	{Name: "DOCKER_TLS_VERIFY", Here: "Docker is spoken to without TLS", Remedy: "mount its socket, or put a proxy of the socket on a private network"},
	{Name: "DOCKER_CERT_PATH", Here: "as DOCKER_TLS_VERIFY", Remedy: "mount the socket"},
}

// ifTrue reads a switch that stands for these values where it is true, and for none where
// it is false.
func ifTrue(is ...string) func(string) ([]string, error) {
	return func(v string) ([]string, error) {
		switch off, err := parseNot(v); {
		case err != nil:
			return nil, fmt.Errorf("%q is neither true nor false", problem.Printable(v, 64))
		case off:
			return nil, nil
		}
		return is, nil
	}
}

func isTrue(v string) bool { off, err := parseNot(v); return err == nil && !off }

func isFalse(v string) bool { off, err := parseNot(v); return err == nil && off }

// Resolve is config.ResolveIn, with nginx-proxy's image and variables as the weakest layer if
// the outcome of the others is that they count (setting nginx-proxy).
func Resolve(environ []string, layers ...[]config.Value) (config.Resolved, error) {
	r, err := config.Resolve(layers...)
	if err != nil || !r.Config.NginxProxy {
		return config.ResolveIn(environ, layers...)
	}
	values, problems := fromEnvironment(environ)
	with, err := config.Resolve(append([][]config.Value{values}, layers...)...)
	if err != nil {
		// Each was allowed by itself, so together they are not: as if none were set.
		with = r
		problems = append(problems, problem.Of("nginx-proxy's variables", "nginx-proxy-invalid", "correct them and recreate the container",
			"they do not go together and are all ignored: %s", problem.Printable(err.Error(), 300)))
	}
	if strings.HasSuffix(with.From["nginx.trusted-proxies"], "TRUST_DOWNSTREAM_PROXY") {
		problems = append(problems, problem.Of("variable TRUST_DOWNSTREAM_PROXY", "everybody-trusted",
			"name the proxy in front in nginx.trusted-proxies (NAGAYA_NGINX_TRUSTED_PROXIES=10.0.0.0/8), or remove it if there is none",
			"it is true, so every client may say in X-Forwarded-* headers who it is and how it came").AsWarning())
	}
	with.Problems = problems
	problem.Sort(with.Problems)
	return with, nil
}

// fromEnvironment returns what nginx-proxy's image and variables say, in an
// order in which a later value wins over an earlier one. What has no counterpart
// here, or a value that is not allowed, is a problem and nothing else. An empty
// variable is one that is not set, as nginx-proxy takes it.
func fromEnvironment(environ []string) (values []config.Value, problems []problem.Problem) {
	set := map[string]string{}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		set[name] = strings.TrimSpace(value)
	}
	for _, d := range Image {
		s, _ := config.Find(d.Setting)
		values = append(values, config.Value{Setting: s, Values: []string{d.Value}, Where: "as nginx-proxy's image"})
	}
	for _, w := range Variables {
		switch v := set[w.Name]; {
		case v == "":
		case w.Setting != "":
			got, err := w.read(v)
			if err != nil {
				problems = append(problems, problem.Of("variable "+w.Name, "nginx-proxy-invalid", "correct it and recreate the container",
					"%s is not usable and is ignored: %s", w.Name, problem.Printable(err.Error(), 300)))
			}
			values = append(values, got...)
		case w.harmless == nil || !w.harmless(v):
			problems = append(problems, problem.Of("variable "+w.Name, "nginx-proxy-unsupported", w.Remedy, "%s has no effect: %s", w.Name, w.Here).AsWarning())
		}
	}
	return values, problems
}

// read is what the variable says about its setting, if anything.
func (w Variable) read(v string) ([]config.Value, error) {
	values := []string{v}
	if w.values != nil {
		var err error
		if values, err = w.values(v); err != nil || values == nil {
			return nil, err
		}
	}
	s, _ := config.Find(w.Setting)
	return config.Usable([]config.Value{{Setting: s, Values: values, Where: "nginx-proxy's variable " + w.Name}})
}
