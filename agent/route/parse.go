package route

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

const (
	// maxRoutes bounds the routes of one container.
	maxRoutes = 32
	// maxComplaints bounds the problems about one container's labels, so that a
	// hostile one cannot hide the others.
	maxComplaints = 8
)

// parsed is what a container says, route by route; routes that cannot be used
// are problems instead.
type parsed struct {
	defaults Defaults
	routes   []said
	problems []problem.Problem
	ref      string // of the container
	subject  string
}

// parse reads labels and environment of a container. A mistake costs the route
// that it is in and no other.
func parse(c tasks.Container, d Defaults) parsed {
	p := parsed{ref: ref(c), subject: "container " + ref(c), defaults: d}
	byRoute := p.labels(c.Labels)
	env := nginxProxyWords(c)
	if !slices.ContainsFunc(slices.Collect(maps.Values(byRoute)), hasHost) && (env["VIRTUAL_HOST"] != "" || env["VIRTUAL_HOST_MULTIPORTS"] != "") {
		over := byRoute[""]
		if _, stream := over["listen"]; stream {
			over = nil
		} else {
			delete(byRoute, "")
		}
		p.nginxProxy(env, over)
	}
	for _, name := range slices.Sorted(maps.Keys(byRoute)) {
		p.route(name, byRoute[name])
	}
	p.twice()
	if more := len(p.problems) - maxComplaints; more > 0 {
		p.problems = p.problems[:maxComplaints]
		p.complain(problem.Problem{
			Code: "label-invalid", Severity: problem.Error,
			Text: fmt.Sprintf("and %d more mistakes in its labels", more),
			Hint: "mend those that are listed first",
		})
	}
	return p
}

// nginxProxyWords are nginx-proxy's words of a container, which may be variables or
// labels; a label wins.
func nginxProxyWords(c tasks.Container) map[string]string {
	words := map[string]string{}
	for _, from := range []map[string]string{c.Env, c.Labels} {
		for name, value := range from {
			if knownEnv(name) {
				words[name] = value
			}
		}
	}
	return words
}

func hasHost(words map[string]string) bool { _, ok := words["host"]; return ok }

func (p *parsed) complain(x problem.Problem) {
	x.Subject, x.Container = cmp.Or(x.Subject, p.subject), p.ref
	p.problems = append(p.problems, x)
}

// wordForm is what a name of a label may be without being quoted.
var wordForm = pattern.Of(64, `[A-Za-z0-9_.-]+`)

// about is the subject of a problem with one label or variable.
func (p *parsed) about(label string) string {
	return p.subject + " label " + harmless(label)
}

// harmless is the name of a label in a form that may stand anywhere.
func harmless(label string) string {
	if !wordForm.MatchString(label) {
		return quoted(label)
	}
	return label
}

func (p *parsed) add(s said, ok bool) {
	switch {
	case !ok:
	case len(p.routes) == maxRoutes:
		p.complain(problem.Problem{
			Code: "label-invalid", Severity: problem.Error,
			Text: fmt.Sprintf("it asks for more than %d routes; the rest is left out", maxRoutes),
			Hint: "put several host names into one nagaya.host",
		})
	default:
		p.routes = append(p.routes, s)
	}
}

// labels sorts the labels by the route they belong to; "" is the one without a name.
func (p *parsed) labels(labels map[string]string) map[string]map[string]string {
	byRoute := map[string]map[string]string{}
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		rest, ok := strings.CutPrefix(label, tasks.LabelPrefix)
		if !ok {
			continue
		}
		name, key, named := strings.Cut(rest, ".")
		if !named {
			name, key = "", rest
		}
		w, known := find(labelWords, key)
		switch {
		case !known || named && (!routeForm.MatchString(name) || ofContainer(key)):
			if key = p.unknown(label, key); key == "" {
				continue
			}
		case ofContainer(key):
			if err := w.set(nil, strings.TrimSpace(labels[label])); err != nil {
				p.invalid(label, labels[label], err)
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

// ofContainer reports whether a word is about the container, not one of its routes.
func ofContainer(key string) bool { return key == "batch" || key == "upstream" || key == "nginx" }

// unknown complains of a label that has no meaning. Where it can only have been
// meant to keep somebody out, it returns a key that no route survives: rather no
// route than one that is open to everybody.
func (p *parsed) unknown(label, key string) (poison string) {
	like := nearest(key)
	x := problem.Problem{
		Code: "label-unknown", Severity: problem.Warning, Subject: p.about(label),
		Text: "the label " + quoted(label) + " has no meaning to nagaya",
		Hint: "the nearest label is nagaya." + like + "; nagaya.<name>." + like + " for one of several routes",
	}
	if (like == "auth" || like == "allow") && distance(key, like) <= 2 {
		x.Severity = problem.Error
		x.Text += "; because it looks like nagaya." + like + " its route is left out rather than opened to everybody"
		poison = "?" + key
	}
	p.complain(x)
	return poison
}

func (p *parsed) invalid(label, value string, err error) {
	x := problem.Problem{
		Code: "label-invalid", Severity: problem.Error, Subject: p.about(label),
		Text: fmt.Sprintf("%s has the value %s: %s", quoted(label), quoted(value), err),
		Hint: "correct it in the task definition; the route is left out until then",
	}
	p.complain(x)
}

// route reads the words of one route of labels.
func (p *parsed) route(name string, words map[string]string) {
	prefix := tasks.LabelPrefix
	if name != "" {
		prefix += name + "."
	}
	if _, stream := words["listen"]; !hasHost(words) && !stream {
		p.complain(problem.Problem{
			Code: "route-without-host", Severity: problem.Warning, Subject: p.about(prefix + "host"),
			Text: "there are labels that begin with " + quoted(prefix) + " but none that names a host, so nothing is routed by them",
			Hint: "set " + harmless(prefix+"host"),
		})
		return
	}
	s := p.defaults.fresh(false)
	p.add(p.read(&s, prefix, words))
}

// nginxProxy reads nginx-proxy's words, and over them labels of the unnamed route.
func (p *parsed) nginxProxy(env, words map[string]string) {
	s := p.defaults.fresh(true)
	good := true
	for _, name := range slices.Sorted(maps.Keys(env)) {
		w, known := find(envWords, name)
		if !known {
			p.complain(problem.Problem{
				Code: "label-unknown", Severity: problem.Warning, Subject: p.about(name),
				Text: "the variable " + quoted(name) + " of nginx-proxy is not understood and has no effect",
				Hint: "see the list of nginx-proxy's words in the documentation of labels",
			})
		} else if err := w.set(&s, strings.TrimSpace(env[name])); err != nil {
			p.invalid(name, env[name], err)
			good = false
		}
	}
	if !good {
		return
	}
	routes, err := []said{s}, error(nil)
	if many := env["VIRTUAL_HOST_MULTIPORTS"]; many != "" {
		if routes, err = parseMultiports(many); err != nil {
			return // complained of above
		}
		for i, r := range routes {
			one := s
			one.hosts, one.path, one.match, one.dest, one.port, one.scheme = r.hosts, r.path, r.match, r.dest, r.port, r.scheme
			routes[i] = one
		}
	}
	for _, r := range routes {
		p.add(p.read(&r, tasks.LabelPrefix, words))
	}
}

// read puts the words into s; ok is false when one of them is no good. All are
// read, so that all mistakes are told at once.
func (p *parsed) read(s *said, prefix string, words map[string]string) (_ said, ok bool) {
	ok = true
	for _, key := range slices.Sorted(maps.Keys(words)) {
		w, known := find(labelWords, key)
		if !known {
			ok = false // the complaint was made where the key was made
			continue
		}
		if err := w.set(s, strings.TrimSpace(words[key])); err != nil {
			p.invalid(prefix+key, words[key], err)
			ok = false
		}
	}
	s.complete(p.defaults)
	return *s, p.fits(s, prefix, words) && ok
}

// notForStreams are the words that nginx has no use for where it does not see HTTP.
var notForStreams = []string{"auth", "body-size", "buffering", "hsts", "http2", "http3", "path", "scheme", "server-name", "strip-prefix", "verify"}

// fits complains of words that have no effect on this kind of route. A password
// that could not be asked for costs the route: rather none than one that is open.
func (p *parsed) fits(s *said, prefix string, words map[string]string) bool {
	ok := true
	for _, key := range slices.Sorted(maps.Keys(words)) {
		x := problem.Problem{Code: "label-without-effect", Severity: problem.Warning, Subject: p.about(prefix + key)}
		switch {
		case s.isStream() && key == "auth":
			ok = false
			x.Severity = problem.Error
			x.Text = quoted(prefix+key) + " cannot be asked for where nginx does not see HTTP (listen, passthrough), so the route is left out rather than opened to everybody"
			x.Hint = "let the container ask for the password, or use nagaya.allow"
		case s.isStream() && slices.Contains(notForStreams, key), s.listen.Port != 0 && key == "tls":
			x.Text = quoted(prefix+key) + " has no effect where nginx does not see HTTP (listen, passthrough)"
			x.Hint = "remove it"
		case (s.listen.Protocol == TCP || s.listen.Protocol == UDP) && (key == "host" || key == "cert"):
			x.Text = fmt.Sprintf("%s has no effect at %s, where no client names a host", quoted(prefix+key), s.listen)
			x.Hint = "remove it, or ask for tls:PORT"
		case s.tls == tlsPass && key == "cert":
			x.Text = quoted(prefix+key) + " has no effect where the container holds the certificate (passthrough)"
			x.Hint = "remove it, or set nagaya.tls to auto"
		case s.listen.Protocol == UDP && key == "proxy-protocol":
			x.Text = quoted(prefix+key) + " has no effect for datagrams"
			x.Hint = "remove it"
		case !s.isStream() && key == "proxy-protocol":
			x.Text = quoted(prefix+key) + " has an effect with nagaya.listen and nagaya.tls=passthrough only"
			x.Hint = "remove it; over HTTP the container learns the client's address by X-Forwarded-For"
		default:
			continue
		}
		p.complain(x)
	}
	return ok
}

// complete fills in what was not said.
func (s *said) complete(d Defaults) {
	if s.path == "" {
		s.path = "/"
	}
	if s.isStream() {
		s.path = ""
	}
	if s.tls == "" {
		s.tls = httpsMethods[cmp.Or(d.HTTPSMethod, "redirect")]
	}
	if s.edge.HSTS == "off" || s.tls == tlsNoRedirect && s.edge.HSTS == d.hsts(s.nginxProxy) {
		s.edge.HSTS = ""
	}
	if s.weight == 0 {
		s.weight = 1
	}
	if s.balance == "" {
		s.balance = RoundRobin
	}
}

// twice drops routes that claim what an earlier route of the same container claims.
func (p *parsed) twice() {
	seen := map[spot]bool{}
	p.routes = slices.DeleteFunc(p.routes, func(s said) bool {
		for _, at := range s.spots() {
			if seen[at] {
				p.complain(problem.Problem{
					Code: "label-invalid", Severity: problem.Error,
					Text: fmt.Sprintf("two of its routes claim %s%s; only the first by name is used", at.host, at.path),
					Hint: "give them different hosts, paths or ports",
				})
				return true
			}
		}
		for _, at := range s.spots() {
			seen[at] = true
		}
		return false
	})
}

// quoted makes a stranger's text harmless and short.
func quoted(s string) string {
	const most = 64
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}

// ref names a container for people, in a form that may stand anywhere.
func ref(c tasks.Container) string {
	if r := c.Ref(); refForm.MatchString(r) {
		return r
	}
	if len(c.ID) > 12 && idForm.MatchString(c.ID) {
		return c.ID[:12]
	}
	if idForm.MatchString(c.ID) {
		return c.ID
	}
	return "unnamed"
}

// family says which containers belong together: those of one ECS task family,
// of one Compose service, or with one name.
// Where containers say the same nagaya.upstream they are one family, which nobody
// is in who does not say so; nobody in Docker is of the family of an operator's file.
func family(c tasks.Container) string {
	if name, err := parseFile(strings.TrimSpace(c.Labels[tasks.LabelPrefix+"upstream"])); err == nil {
		return "upstream:" + name
	}
	if c.File != "" {
		return "file:" + c.Name
	}
	if f := c.Task.Family; familyForm.MatchString(f) {
		return f
	}
	project, service := c.Labels[tasks.LabelComposeProject], c.Labels[tasks.LabelComposeService]
	if f := project + "/" + service; project != "" && service != "" && familyForm.MatchString(f) {
		return f
	}
	if familyForm.MatchString(c.Name) {
		return c.Name
	}
	return c.ID
}
