package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// ProxyWord is one variable of nginx-proxy's proxy-wide environment, and what
// becomes of it.
type ProxyWord struct {
	Name string
	// Setting is the path of the setting that it stands for; empty where there is none.
	Setting string
	// Here says what it does here, or why it does nothing, for people.
	Here string
	// Remedy says what to do instead, where it does nothing.
	Remedy string

	// values translates what it is set to into values of the setting. No values
	// mean that the default is what was asked for.
	values func(v string) ([]string, error)
	// harmless reports whether a value asks for nothing that is missing here.
	harmless func(v string) bool
}

// ProxyImage is how nginx-proxy's image is made, as settings: the places where its
// users mount things, and that a container logs to its stdout. Docker kills what has not
// ended ten seconds after it was told to.
var ProxyImage = []struct{ Setting, Value string }{
	{"docker.host", "unix:///tmp/docker.sock"},
	{"nginx.log-stdout", "true"},
	{"nginx.stop-timeout", "8s"},
	{"certs.dir", "/etc/nginx/certs"},
	{"nginx.vhost-dir", "/etc/nginx/vhost.d"},
	{"nginx.conf-dir", "/etc/nginx/conf.d"},
	{"nginx.htpasswd-dir", "/etc/nginx/htpasswd"},
	{"nginx.host-auth", "true"},
	{"routes.share-hosts", "true"},
}

// ProxyFile is a file that users of nginx-proxy mount and that has no effect here.
type ProxyFile struct {
	// Pattern is the file's path, with a star where there may be several.
	Pattern      string
	Here, Remedy string
}

// ProxyFiles are those files (nginx-proxy, docs/README.md).
var ProxyFiles = []ProxyFile{
	{"/etc/nginx/proxy.conf", "the headers that a container gets are nagaya's own", "put single directives into vhost.d/default_location"},
	{"/etc/nginx/network_internal.conf", "NETWORK_ACCESS=internal always means the private and loopback ranges", "put other ranges into the label nagaya.allow"},
	{"/etc/nginx/toplevel.conf.d/*.conf", "nagaya writes the main file of nginx", "put stream servers into stream.d of nginx.snippet-dir, or use the label nagaya.listen"},
	{"/usr/share/nginx/html/errors/50x.html", "the pages for errors are nagaya's own", "set error_page in vhost.d"},
	{"/etc/nginx/dhparam/dhparam.pem", "the ciphers that are offered by default need none", "put NAME.dhparam.pem beside the certificate NAME.crt"},
}

// ProxyWords are nginx-proxy's variables (nginx-proxy, docs/README.md, nginx.tmpl and
// docker-entrypoint.sh), in the order in which they are shown.
var ProxyWords = []ProxyWord{
	same("DEFAULT_HOST", "routes.default-host", "the host that also answers for names that nobody has"),
	same("DEFAULT_ROOT", "nginx.default-root", "the answer to paths that no container of a host serves"),
	same("HTTP_PORT", "nginx.http-port", "the port of plain HTTP"),
	same("HTTPS_PORT", "nginx.https-port", "the port of HTTPS, which redirects name too"),
	{
		Name: "TRUST_DOWNSTREAM_PROXY", Setting: "nginx.trusted-proxies",
		Here: "true believes everybody's X-Forwarded-* headers; not set is false, unlike nginx-proxy's default",
		values: func(v string) ([]string, error) {
			return ifTrue(v, "0.0.0.0/0", "::/0")
		},
	},
	same("ENABLE_IPV6", "nginx.ipv6", "whether IPv6 is listened on; not set is true where the container has IPv6"),
	same("ENABLE_HTTP2", "nginx.http2", "whether HTTP/2 is offered"),
	same("ENABLE_HTTP3", "nginx.http3", "whether HTTP/3 is offered, where the nginx can"),
	same("ENABLE_PROXY_PROTOCOL", "nginx.proxy-protocol", "whether clients come by the PROXY protocol; name the load balancer in nginx.trusted-proxies"),
	same("HTTPS_METHOD", "routes.https-method", "what sites with a certificate do about plain HTTP"),
	same("ENABLE_HTTP_ON_MISSING_CERT", "routes.http-without-cert", "whether plain HTTP serves a site that has no certificate"),
	same("TRUST_DEFAULT_CERT", "routes.default-cert", "whether the certificate that is named default may stand in"),
	same("HSTS", "routes.hsts", "the header Strict-Transport-Security"),
	same("SSL_POLICY", "routes.tls-policy", "protocols and ciphers"),
	same("NON_GET_REDIRECT", "routes.redirect-code", "the status that sends requests other than GET and HEAD to HTTPS; not set is 308, unlike nginx-proxy's default"),
	{
		Name: "DISABLE_ACCESS_LOGS", Setting: "nginx.access-log", Here: "true logs no requests",
		values: func(v string) ([]string, error) { return ifTrue(v, "off") },
	},
	{
		Name: "LOG_JSON", Setting: "nginx.log-format", Here: "true logs requests as JSON where LOG_FORMAT is not set",
		values: func(v string) ([]string, error) { return ifTrue(v, "json") },
	},
	same("LOG_FORMAT", "nginx.log-format", "the line that is logged for a request"),
	same("LOG_FORMAT_ESCAPE", "nginx.log-escape", "how variables in that line are escaped"),
	same("DOCKER_HOST", "docker.host", "the Docker Engine, or a proxy in front of it"),
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
	same("NGINX_CONTAINER_LABEL", "nginx.container-label", "the label of nginx's container where it has one of its own"),
	{
		Name: "ACME_HTTP_CHALLENGE_LOCATION", Here: "no location for challenges is made",
		Remedy:   "set ACME_HTTP_CHALLENGE_LOCATION=true on acme-companion, which then writes it into vhost.d",
		harmless: isFalse,
	},
	{
		Name: "RESOLVERS", Here: "nginx is given addresses only, and resolves no names",
		Remedy: "where a snippet of yours needs it, put a line resolver into conf.d",
	},
	{
		Name: "DHPARAM_BITS", Here: "the ciphers that are offered by default need no Diffie-Hellman parameters",
		Remedy: "for SSL_POLICY=Mozilla-Old put NAME.dhparam.pem beside the certificate NAME.crt",
	},
	{Name: "DHPARAM_SKIP", Here: "as DHPARAM_BITS; true is what happens", Remedy: "remove it", harmless: isTrue},
	{Name: "DHPARAM_GENERATION", Here: "as DHPARAM_BITS; false is what happens", Remedy: "remove it", harmless: isFalse},
	{
		Name: "SHA1_UPSTREAM_NAME", Here: "upstreams have names of nagaya's own",
		Remedy:   "snippets that name an upstream must use those, which nagaya render shows",
		harmless: isFalse,
	},
	{
		Name: "PREFER_IPV6_NETWORK", Here: "a container's IPv4 address is taken where it has one",
		Remedy:   "put containers that shall be reached over IPv6 on a network without IPv4",
		harmless: isFalse,
	},
	{
		Name: "DEBUG_ENDPOINT", Here: "nothing about the proxy is shown to clients",
		Remedy:   "ask 'nagaya routes' or 'nagaya status --json' inside the container",
		harmless: isFalse,
	},
	{
		Name: "DOCKER_TLS_VERIFY", Here: "Docker is spoken to without TLS",
		Remedy: "mount its socket, or put a proxy of the socket on a private network",
	},
	{
		Name: "DOCKER_CERT_PATH", Here: "as DOCKER_TLS_VERIFY", Remedy: "mount the socket",
	},
}

// same is a word whose values are the setting's own.
func same(name, setting, here string) ProxyWord {
	return ProxyWord{Name: name, Setting: setting, Here: here, values: func(v string) ([]string, error) { return []string{v}, nil }}
}

// ifTrue is the value of a setting where v is true, and none where it is false.
func ifTrue(v string, is ...string) ([]string, error) {
	on, err := strconv.ParseBool(v)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%q is neither true nor false", bounded(v))
	case on:
		return is, nil
	}
	return nil, nil
}

func isTrue(v string) bool { on, err := strconv.ParseBool(v); return err == nil && on }

func isFalse(v string) bool { on, err := strconv.ParseBool(v); return err == nil && !on }

// FromNginxProxy returns what nginx-proxy's image and variables say, in an
// order in which a later value wins over an earlier one. What has no counterpart
// here, or a value that is not allowed, is a problem and nothing else. An empty
// variable is one that is not set, as nginx-proxy takes it.
func FromNginxProxy(environ []string) ([]Value, []problem.Problem) {
	set := map[string]string{}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		set[name] = strings.TrimSpace(value)
	}
	var values []Value
	var problems []problem.Problem
	for _, d := range ProxyImage {
		s, _ := Find(d.Setting)
		values = append(values, Value{Setting: s, Values: []string{d.Value}, Where: "as nginx-proxy's image"})
	}
	for _, w := range ProxyWords {
		v := set[w.Name]
		if v == "" {
			continue
		}
		got, err := w.value(v)
		if err != nil {
			problems = append(problems, problem.Problem{
				Code: "nginx-proxy-invalid", Severity: problem.Error, Subject: "variable " + w.Name,
				Text: fmt.Sprintf("%s is not usable and is ignored: %s", w.Name, problem.Printable(err.Error(), 300)),
				Hint: "correct it and start the container anew",
			})
			continue
		}
		if got != nil {
			values = append(values, *got)
		}
		if p, ok := w.missing(v); ok {
			problems = append(problems, p)
		}
	}
	return values, problems
}

// value is what the word says about its setting; nil for nothing.
func (w ProxyWord) value(v string) (*Value, error) {
	if w.Setting == "" {
		return nil, nil
	}
	values, err := w.values(v)
	if err != nil || values == nil {
		return nil, err
	}
	s, _ := Find(w.Setting)
	got := Value{Setting: s, Values: values, Where: "nginx-proxy's variable " + w.Name}
	scratch := Default()
	return &got, got.set(&scratch)
}

// missing is the problem of a word that has no effect here.
func (w ProxyWord) missing(v string) (problem.Problem, bool) {
	if w.Setting != "" || w.harmless != nil && w.harmless(v) {
		return problem.Problem{}, false
	}
	return problem.Problem{
		Code: "nginx-proxy-unsupported", Severity: problem.Warning, Subject: "variable " + w.Name,
		Text: fmt.Sprintf("%s has no effect: %s", w.Name, w.Here), Hint: w.Remedy,
	}, true
}
