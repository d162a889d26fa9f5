package route_test

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/pattern"
	. "github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// What may stand in a table.
var (
	pathForm   = regexp.MustCompile(`^/$|^(/[A-Za-z0-9_~@:+.-]+)+$`)
	healthForm = regexp.MustCompile(`^/[A-Za-z0-9_~@:+./-]*(\?[A-Za-z0-9_~@:+./&=-]*)?$`)
	fileForm   = pattern.Of(64, `[A-Za-z0-9][A-Za-z0-9._-]*`)
	familyForm = pattern.Of(255, `[A-Za-z0-9_][A-Za-z0-9_./-]*`)
	refForm    = pattern.Of(512, `[A-Za-z0-9_][A-Za-z0-9_.:/~-]*`)
	idForm     = pattern.Of(128, `[A-Za-z0-9][A-Za-z0-9_.-]*`)
	listenForm = pattern.Of(9, `(tcp|udp|tls):[1-9][0-9]{0,4}`)
)

// expressionOK takes expressions without spaces and named groups.
func expressionOK(expr string) bool {
	_, err := syntax.Parse(expr, syntax.Perl)
	return err == nil && expr != "" && !strings.ContainsFunc(expr, func(r rune) bool { return r <= ' ' || r > '~' }) && !strings.Contains(expr, "(?P<") && !strings.Contains(expr, "(?<")
}

// checkTable fails when something stands in a table that must not.
func checkTable(t *testing.T, got Table) {
	t.Helper()
	must := func(ok bool, what, s string) {
		if !ok {
			t.Errorf("%s %q does not match its form", what, s)
		}
	}
	for _, s := range got.Sites {
		must(hostOK(s.Host), "host", s.Host)
		must(familyOK(s.Family), "family", s.Family)
		for _, l := range s.Locations {
			must(pathOK(l), "path", l.Path)
			must(l.Dest == "" || destOK(l.Dest), "dest", l.Dest)
			must(l.Root == "" || destOK(l.Root), "root", l.Root)
			must(l.ServerName == "" || pattern.Host(l.ServerName), "server name", l.ServerName)
			must(l.Keepalive == KeepaliveAuto || l.Keepalive >= 0 && l.Keepalive <= 1024, "keepalive", fmt.Sprint(l.Keepalive))
			must(l.Auth == "" || fileForm.MatchString(l.Auth), "auth", l.Auth)
			must(slices.Contains([]Scheme{HTTP, HTTPS, GRPC, GRPCS, FastCGI, UWSGI}, l.Scheme), "scheme", string(l.Scheme))
			must(slices.Contains([]Balance{RoundRobin, LeastConn, IPHash}, l.Balance), "balance", string(l.Balance))
			must(l.BodySize >= 0 && l.Timeout >= time.Second, "limits", fmt.Sprint(l.BodySize, l.Timeout))
			checkPool(must, got, s.PoolKey(l))
		}
		if s.Passthrough != nil {
			must(!s.TLS, "passed and terminated", s.Host)
			checkPool(must, got, s.PassthroughKey())
		}
		e := s.Edge
		hsts, ok := pattern.HSTS(e.HSTS)
		must(e.HSTS == "" || ok && hsts == e.HSTS, "hsts", e.HSTS)
		_, known := config.PolicyNamed(e.TLSPolicy)
		must(known, "policy", e.TLSPolicy)
		must(e.RedirectCode == 0 || e.RedirectCode >= 301 && e.RedirectCode <= 308, "redirect", fmt.Sprint(e.RedirectCode))
		must(slices.Contains([]Choice{Unset, On, Off}, e.HTTP2) && slices.Contains([]Choice{Unset, On, Off}, e.HTTP3), "choice", string(e.HTTP2+e.HTTP3))
	}
	for _, s := range got.Streams {
		must(listenForm.MatchString(s.Listen.String()), "listen", s.Listen.String())
		must(s.Host == "" || hostOK(s.Host), "host", s.Host)
		must(familyOK(s.Family), "family", s.Family)
		checkPool(must, got, s.PoolKey())
	}
	for _, w := range got.Waiting {
		must((hostOK(w.Host) || listenForm.MatchString(w.Host)) && refForm.MatchString(w.Ref), "waiting", w.Host+w.Path+w.Ref)
	}
	for _, p := range got.Probes {
		must(p.Path == "" || healthForm.MatchString(p.Path), "probe", p.Path)
	}
	for _, p := range got.Problems {
		must(len(p.Text) < 1024 && strings.IndexFunc(p.Text+p.Subject+p.Hint, func(r rune) bool { return r < ' ' || r == 0x7f }) < 0, "problem", p.Text)
	}
}

func checkPool(must func(bool, string, string), table Table, at PoolKey) {
	p, there := table.Pools[at]
	must(there && p.VacantSince.IsZero() == (len(p.Servers) > 0), "pool", fmt.Sprint(at, p))
	for _, srv := range p.Servers {
		must(srv.Addr.IsValid() && srv.Addr.Port() != 0 && srv.Addr.Addr().Zone() == "", "address", srv.Addr.String())
		must(srv.Weight >= 1 && srv.Weight <= 1000, "weight", fmt.Sprint(srv.Weight))
		must(idForm.MatchString(srv.Container), "container", srv.Container)
		must(refForm.MatchString(srv.Ref), "ref", srv.Ref)
	}
}

func hostOK(h string) bool {
	if expr, ok := strings.CutPrefix(h, "~"); ok {
		return expressionOK(expr)
	}
	return pattern.Host(strings.TrimSuffix(h, ".*")) || pattern.Address(h)
}

func familyOK(f string) bool {
	kind, name, _ := strings.Cut(f, ":")
	return slices.Contains([]string{"ecs", "compose", "name", "id", "file", "upstream", "shared"}, kind) && familyForm.MatchString(name)
}

func destOK(p string) bool {
	return (pathForm.MatchString(p) || pathForm.MatchString(strings.TrimSuffix(p, "/"))) && !strings.Contains(p, "/../")
}

func pathOK(l Location) bool {
	switch l.Match {
	case Regex, RegexFold:
		return expressionOK(l.Path)
	case Segments:
		return pathForm.MatchString(l.Path) && !strings.Contains(l.Path, "/../")
	case Prefix, Exact:
		return destOK(l.Path)
	}
	return false
}

func FuzzLabels(f *testing.F) {
	f.Add("nagaya.host", "a.example.com", "nagaya.path", "/api", "VIRTUAL_HOST", "b.test", "web", "web")
	f.Add("nagaya.x.host", "a.test; }", "nagaya.x.auth", "../x", "VIRTUAL_PATH", "/;", "a b", "fam\n")
	f.Add("nagaya.host", "*.a.test,b.test", "nagaya.health", "/up?x=1", "HTTPS_METHOD", "nohttp", "", "")
	f.Add("nagaya..host", "a", "nagaya.host.", "b", "CERT_NAME", "*.a.test", "~internal", "x/y")
	f.Add("nagaya.\x15.au", "0", "nagaya.\x1b[2J.alow", "0", "0", "0", "0", "0")
	f.Add("nagaya.listen", "udp:53", "nagaya.upstream", "dns", "VIRTUAL_HOST", "~^(a|b)\\.test$", "w", "f")
	f.Add("nagaya.host", "a.test", "nagaya.tls", "passthrough", "HSTS", "max-age=1; x", "w", "f")
	f.Add("VIRTUAL_PATH", "~^/(a|b)/", "VIRTUAL_DEST", "/x/", "SSL_POLICY", "AWS-2016-08", "w", "f")
	f.Add("VIRTUAL_HOST_MULTIPORTS", `{"a.test": {"/": {"port": 8000}, "= /x": {"dest": "/y"}}}`, "NETWORK_ACCESS", "internal", "EXTERNAL_HTTPS_PORT", "8443", "w", "f")
	f.Add("nagaya.host", "a.test", "nagaya.allow", "10.0.0.0/8", "VIRTUAL_HOST_MULTIPORTS", "{}", "w", "f")
	f.Fuzz(func(t *testing.T, l1, v1, l2, v2, e1, w1, name, fam string) {
		c := web("0123456789abcdef", func(c *tasks.Container) {
			c.Labels = map[string]string{l1: v1, l2: v2}
			c.Env = map[string]string{e1: w1, "VIRTUAL_HOST": v1}
			c.Name = name
			c.Task = tasks.TaskRef{Family: fam, Revision: v2, ContainerName: name}
		})
		bare := c
		bare.Health, bare.Task, bare.ID = tasks.NoCheck, tasks.TaskRef{}, name
		in := input(web("good", labels("nagaya.host", "good.example.com")), c, bare)
		in.Options.Stream = len(v1)%2 == 0
		in.Certs.Pairs = []certs.Pair{{Name: "a", DNSNames: []string{"*.a.test"}}}
		got := build(in)
		checkTable(t, got)
		served := false
		for _, s := range got.Sites {
			served = served || s.Host == "good.example.com"
		}
		if !served {
			t.Errorf("the site of another container is gone: %s", got.Text(0))
		}
		in.Prev = got
		in.Snapshot.Containers = nil
		checkTable(t, build(in))
	})
}
