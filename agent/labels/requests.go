package labels

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

const prefix = tasks.LabelPrefix

// Bounds on what one container may ask for.
const (
	// MaxRoutes bounds the routes of one container, counted once for each of their hosts.
	MaxRoutes = 1024
	// maxProblems bounds the problems about one container's labels, so that a
	// hostile one cannot hide the others.
	maxProblems = 8
)

// How long a stream may be silent where no label says otherwise: a connection for
// nginx's own default (nginx.org, proxy_timeout of the stream module); a client of UDP,
// which never says that it is done and holds two of nginx's connections meanwhile, as
// long as Linux itself remembers one (nf_conntrack_udp_timeout).
const (
	streamTimeout   = 10 * time.Minute
	datagramTimeout = 30 * time.Second
)

// Defaults are the operator's choices for routes that say nothing, and the most that labels may ask for.
type Defaults struct {
	config.Routes
	// ACME says what is ordered, and from whom.
	ACME certs.Settings
}

// Configured are the defaults of a configuration.
func Configured(c config.Config) Defaults {
	return Defaults{c.Routes, certs.Settings{ACME: c.Certs.ACME}}
}

// HTTPSMethods are the words of the setting routes.https-method.
var HTTPSMethods = map[string]route.TLSMode{
	"redirect": route.TLSAuto, "noredirect": route.TLSNoRedirect, "nohttp": route.TLSTerminate, "nohttps": route.TLSOff,
}

// Spec is a route that says nothing. What nginx does without being told is not written for each site.
func (d Defaults) Spec() route.Spec {
	s := route.Spec{
		Location: route.Location{Path: "/", BodySize: d.BodySize, Buffering: true, Balance: route.RoundRobin},
		Cert:     route.CertChoice{OwnOnly: !d.DefaultCert}, HTTPSOnly: !d.HTTPWithoutCert, Weight: 1,
	}
	if d.TLSPolicy != config.DefaultTLSPolicy {
		s.Edge.TLSPolicy = d.TLSPolicy
	}
	if code, err := strconv.Atoi(d.RedirectCode); err == nil && code != 308 {
		s.Edge.RedirectCode = code
	}
	return s
}

// TLSMode is that of a route whose words ask for none.
func (d Defaults) TLSMode() route.TLSMode { return HTTPSMethods[d.HTTPSMethod] }

// complete fills in what depends on other words.
func (d Defaults) complete(s *route.Spec) {
	s.TLS = cmp.Or(s.TLS, d.TLSMode())
	if s.Edge.HSTS == "" && s.TLS != route.TLSNoRedirect {
		s.Edge.HSTS = d.HSTS
	}
	if s.Edge.HSTS == "off" {
		s.Edge.HSTS = ""
	}
	s.StripPrefix = s.StripPrefix && s.Path != "/"
	switch {
	case s.Listen.Protocol == route.UDP:
		s.Timeout = cmp.Or(s.Timeout, datagramTimeout)
	case s.IsStream():
		s.Timeout = cmp.Or(s.Timeout, streamTimeout)
	default:
		s.Timeout = cmp.Or(s.Timeout, d.Timeout)
	}
}

// Foreign reads another program's words of a container, where these ask for a route
// (asked). The labels of the route without a name are laid over the routes that it returns.
type Foreign func(c tasks.Container, d Defaults) (routes []route.Spec, problems []problem.Problem, asked bool)

// Requests reads what containers ask for, by their IDs. Other programs' words count where
// no label names a host.
func Requests(list []tasks.Container, d Defaults, foreign Foreign) map[string]route.Request {
	all := make(map[string]route.Request, len(list))
	for _, c := range list {
		all[c.ID] = read(c, d, foreign)
	}
	return all
}

// networkAccess is nginx-proxy's word that keeps clients out by their networks. Who says it beside
// labels of nagaya's, where it does not count, must not believe that it does.
const networkAccess = "NETWORK_ACCESS"

// reader reads one container's labels. A mistake costs the route that it is in and no
// other.
type reader struct {
	route.Request
	defaults Defaults
	ref      string // of the container
	routes   int    // counted as MaxRoutes does
}

func read(c tasks.Container, d Defaults, foreign Foreign) route.Request {
	r := &reader{ref: route.Ref(c), defaults: d}
	byRoute := r.sort(c.Labels)
	heard := false
	if !slices.ContainsFunc(slices.Collect(maps.Values(byRoute)), hasHost) {
		var routes []route.Spec
		var problems []problem.Problem
		if routes, problems, heard = foreign(c, d); heard {
			r.Problems = append(r.Problems, problems...)
			over := byRoute[""]
			if _, stream := over["listen"]; stream {
				over = nil
			} else {
				delete(byRoute, "")
			}
			for _, s := range routes {
				r.add(s, prefix, over)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byRoute)) {
		r.addNamed(name, byRoute[name])
	}
	if access := cmp.Or(c.Env[networkAccess], c.Labels[networkAccess]); !heard && len(r.Routes) > 0 && strings.TrimSpace(access) == "internal" {
		r.report(networkAccess, problem.Warning, "label-without-effect", "set nagaya.allow to the networks that may come in, e.g. 10.0.0.0/8,172.16.0.0/12,192.168.0.0/16",
			"%s=internal has no effect beside labels nagaya., so everybody is let in", networkAccess)
	}
	r.dropDoubles()
	if more := len(r.Problems) - maxProblems; more > 0 {
		r.Problems = r.Problems[:maxProblems]
		r.report("", problem.Error, "label-invalid", "correct those that are listed first", "and %d more mistakes in its labels", more)
	}
	return r.Request
}

func hasHost(words map[string]string) bool { _, ok := words["host"]; return ok }

// report adds a problem about the container, or about one label or variable of it.
func (r *reader) report(label string, s problem.Severity, code, hint, format string, args ...any) {
	r.Problems = append(r.Problems, Problem(r.ref, label, s, code, hint, format, args...))
}

// Problem is a problem about one label or variable of a container, or about the container
// where label is empty.
func Problem(ref, label string, s problem.Severity, code, hint, format string, args ...any) problem.Problem {
	p := problem.OfContainer(ref, code, hint, format, args...)
	p.Severity = s
	if label != "" {
		if strings.Contains(label, ".") { // a word without a dot may also be a variable
			p.Subject += " label"
		}
		p.Subject += " " + harmless(label)
	}
	return p
}

// Invalid is the problem of a label whose value cannot be used, or of another source's
// variable.
func Invalid(ref, source, label, value string, err error) problem.Problem {
	hint := "correct this " + source + " of the container"
	if !InPart(err) {
		hint += "; the route is left out until then"
	}
	return Problem(ref, label, problem.Error, "label-invalid", hint,
		"%s has the value %s: %s", problem.Quoted(label), problem.Quoted(value), err)
}

// labelForm is what a name of a label may be without being quoted.
var labelForm = pattern.Of(64, `[A-Za-z0-9_.-]+`)

// harmless is the name of a label in a form that may stand anywhere.
func harmless(label string) string {
	if !labelForm.MatchString(label) {
		return problem.Quoted(label)
	}
	return label
}

// sort sorts the labels by the route they belong to; "" is the one without a name. Those
// about the container are read here.
func (r *reader) sort(labels map[string]string) map[string]map[string]string {
	byRoute := map[string]map[string]string{}
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		rest, ok := strings.CutPrefix(label, prefix)
		if !ok {
			continue
		}
		name, key, named := strings.Cut(rest, ".")
		if !named {
			name, key = "", rest
		}
		w, known := Find(words, key)
		switch {
		case !known || named && (!routeForm.MatchString(name) || ofContainer(key)):
			if key = r.unknown(label, key); key == "" {
				continue
			}
		case ofContainer(key):
			value := strings.TrimSpace(labels[label])
			if err := w.Set(nil, value); err != nil {
				r.Problems = append(r.Problems, Invalid(r.ref, "label", label, labels[label], err))
			} else if key == "upstream" {
				r.Upstream = value
			}
			continue
		}
		if byRoute[name] == nil {
			byRoute[name] = map[string]string{}
		}
		byRoute[name][key] = labels[label]
	}
	return byRoute
}

// unknown reports a label that has no meaning. Where it can only have been
// meant to keep others out, it returns a key that rejects its route: better no
// route than one that is open to everybody.
func (r *reader) unknown(label, key string) (rejectKey string) {
	like := nearest(key)
	hint := fmt.Sprintf("the nearest label is %s%s; %[1]s<name>.%[2]s for one of several routes", prefix, like)
	if (like == "auth" || like == "allow") && pattern.Distance(key, like) <= 2 {
		r.report(label, problem.Error, "label-unknown", hint,
			"the label %s has no meaning to nagaya; because it looks like %s%s its route is left out rather than opened to everybody", problem.Quoted(label), prefix, like)
		return "?" + key
	}
	r.report(label, problem.Warning, "label-unknown", hint, "the label %s has no meaning to nagaya", problem.Quoted(label))
	return ""
}

// addNamed adds the route of the labels of one name.
func (r *reader) addNamed(name string, words map[string]string) {
	at := prefix
	if name != "" {
		at += name + "."
	}
	if _, stream := words["listen"]; !hasHost(words) && !stream {
		r.leaveOut(route.Spec{}, guards(words))
		r.report(at+"host", problem.Warning, "route-without-host", "set "+harmless(at+"host"),
			"there are labels that begin with %s but none that names a host, so nothing is routed by them", problem.Quoted(at))
		return
	}
	r.add(r.defaults.Spec(), at, words)
}

// add lays the words over s and adds the route, if none of them is wrong. All are
// read, so that all mistakes are reported at once.
func (r *reader) add(s route.Spec, at string, values map[string]string) {
	good := true
	for _, key := range slices.Sorted(maps.Keys(values)) {
		w, known := Find(words, key)
		if !known {
			good = false // reported where the key was made
			continue
		}
		if err := w.Set(&s, strings.TrimSpace(values[key])); err != nil {
			r.Problems = append(r.Problems, Invalid(r.ref, "label", at+key, values[key], err))
			good = good && InPart(err)
		} else if key == route.AskedBodySize || key == route.AskedTimeout || key == route.AskedBuffering {
			s.Asked = append(s.Asked, key)
		}
	}
	r.limit(&s, values)
	r.defaults.complete(&s)
	switch good = r.checkEffect(s, at, values) && good; {
	case !good:
		r.leaveOut(s, guards(values))
	case r.routes+len(s.Keys()) > MaxRoutes:
		r.leaveOut(s, s.Guards())
		r.report("", problem.Error, "label-invalid", "ask for less", "it asks for more than %d routes, counted for each host; the rest is left out", MaxRoutes)
	default:
		r.routes += len(s.Keys())
		r.Routes = append(r.Routes, s)
	}
}

// limit lowers what is asked for to what the operator allows, and says so.
func (r *reader) limit(s *route.Spec, values map[string]string) {
	d := r.defaults
	if _, asked := values["body-size"]; asked && storesBodies(*s) && d.MaxBodySize > 0 && (s.BodySize == 0 || s.BodySize > d.MaxBodySize) {
		s.BodySize = d.MaxBodySize
		r.limited("bodies of requests", config.FormatSize(d.MaxBodySize), "routes.max-body-size", "; over http, https and grpc nagaya.buffering=off stores no bodies, and they may have any size")
	}
	if d.MaxTimeout > 0 && s.Timeout > d.MaxTimeout {
		s.Timeout = d.MaxTimeout
		r.limited("a timeout", d.MaxTimeout.String(), "routes.max-timeout", "")
	}
	if d.MaxKeepalive > 0 && s.Keepalive > d.MaxKeepalive {
		s.Keepalive = d.MaxKeepalive
		r.limited("idle connections", strconv.Itoa(d.MaxKeepalive), "routes.max-keepalive", "")
	}
}

// storesBodies reports whether nginx stores a body before it passes it on. It cannot pass on
// at once what has no length over FastCGI and uwsgi (nginx.org, fastcgi_request_buffering),
// and does for gRPC always.
func storesBodies(s route.Spec) bool {
	switch s.Scheme {
	case route.GRPC, route.GRPCS:
		return false
	case route.FastCGI, route.UWSGI:
		return true
	}
	return s.Buffering && !s.IsStream()
}

func (r *reader) limited(what, most, setting, more string) {
	r.report("", problem.Warning, "label-limited", "ask for less, or raise the setting "+setting+more, "it asks for %s beyond %s, the most that is allowed here, which holds", what, most)
}

// onlyHTTP are the words that nginx has no use for where it does not see HTTP.
var onlyHTTP = []string{"auth", "body-size", "buffering", "hsts", "http2", "http3", "path", "scheme", "server-name", "strip-prefix", "verify"}

// checkEffect reports words that have no effect on this kind of route. A password
// that could not be asked for costs the route: better none than one that is open.
func (r *reader) checkEffect(s route.Spec, at string, values map[string]string) bool {
	good := true
	for _, key := range slices.Sorted(maps.Keys(values)) {
		severity, hint, text := problem.Warning, "remove it", ""
		switch {
		case s.IsStream() && key == "auth":
			good, severity, hint = false, problem.Error, "let the container ask for the password, or use nagaya.allow"
			text = "cannot be asked for where nginx does not see HTTP (listen, passthrough), so the route is left out rather than opened to everybody"
		case s.IsStream() && slices.Contains(onlyHTTP, key), s.Listen.Port != 0 && key == "tls":
			text = "has no effect where nginx does not see HTTP (listen, passthrough)"
		case (s.Listen.Protocol == route.TCP || s.Listen.Protocol == route.UDP) && (key == "host" || key == "cert"):
			hint, text = "remove it, or ask for tls:PORT", fmt.Sprintf("has no effect at %s, where no client names a host", s.Listen)
		case s.TLS == route.TLSPass && key == "cert":
			hint, text = "remove it, or set nagaya.tls to auto", "has no effect where the container holds the certificate (passthrough)"
		case s.Listen.Protocol == route.UDP && key == "proxy-protocol":
			text = "has no effect for datagrams"
		case !s.IsStream() && key == "proxy-protocol":
			hint, text = "remove it; over HTTP the container learns the client's address by X-Forwarded-For", "has an effect with nagaya.listen and nagaya.tls=passthrough only"
		default:
			continue
		}
		r.report(at+key, severity, "label-without-effect", hint, "%s %s", problem.Quoted(at+key), text)
	}
	return good
}

// guards reports whether the words of a route say who is let in, or were meant to.
func guards(values map[string]string) bool {
	return slices.ContainsFunc(slices.Collect(maps.Keys(values)), func(key string) bool { return key == "auth" || key == "allow" || key[0] == '?' })
}

// leaveOut notes the hosts of a route that is left out and was to say who is let in.
func (r *reader) leaveOut(s route.Spec, guards bool) {
	switch {
	case !guards || s.Listen.Port != 0:
	case len(s.Hosts) == 0:
		r.Unguarded = append(r.Unguarded, "")
	default:
		r.Unguarded = append(r.Unguarded, s.Hosts...)
	}
}

// dropDoubles drops routes that claim what an earlier route of the same container claims.
func (r *reader) dropDoubles() {
	seen := map[route.PoolKey]bool{}
	r.Routes = slices.DeleteFunc(r.Routes, func(s route.Spec) bool {
		keys := s.Keys()
		if i := slices.IndexFunc(keys, func(k route.PoolKey) bool { return seen[k] }); i >= 0 {
			r.report("", problem.Error, "label-invalid", "give them different hosts, paths or ports",
				"two of its routes claim %s%s; only the first by name is used", keys[i].Host, keys[i].Path)
			r.leaveOut(s, s.Guards())
			return true
		}
		for _, k := range keys {
			seen[k] = true
		}
		return false
	})
}
