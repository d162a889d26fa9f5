package nginx

import (
	"crypto/x509"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// visited are names that clients may ask for, some of which several hosts of familyWords match.
var visited = []string{
	"a.test", "b.a.test", "x.a.test", "y.a.test", "b.b.a.test", "x.b.a.test", "b.test", "c.test", "x.test", "a.example.com", "x.example.com",
	"www.example.com", "www.example.org", "www.example.x.test", "www.test", "a.com", "a.b.test", "x.www.example.com", "default", "y",
}

// answering is the host of the site that answers for each visited name at each port, as nginx
// chooses it (nginx.org, "Server names"): the exact name, the longest wildcard with the star in
// front, the longest with it behind, the first expression that matches.
func answering(t testing.TB, tree Tree) map[string]string {
	type server struct {
		host   string
		names  []string
		listen []string
	}
	files := slices.SortedFunc(slices.Values(tree.Sites), func(a, b SiteFile) int { return strings.Compare(a.Name, b.Name) })
	var all []server
	ports := map[string]bool{}
	for _, f := range files {
		ds, err := readTokens(f.Text)
		if err != nil {
			t.Fatalf("%v in\n%s", err, f.Text)
		}
		for _, d := range ds {
			switch {
			case d.name == "server" && d.in == "":
				all = append(all, server{host: f.Host})
			case d.in != "server":
			case d.name == "server_name":
				all[len(all)-1].names = d.args
			case d.name == "listen" && !slices.Contains(d.args, "quic"):
				at := d.args[0]
				if strings.HasPrefix(at, "unix:") { // while some site's TLS is passed through
					at = number(tree.settings.HTTPSPort)
				}
				all[len(all)-1].listen = append(all[len(all)-1].listen, at)
				ports[at] = true
			}
		}
	}
	answers := map[string]string{}
	for port := range ports {
		for _, name := range visited {
			best, rank := "", 0
			for _, s := range all {
				if !slices.Contains(s.listen, port) {
					continue
				}
				for _, n := range s.names {
					// An expression that comes later has no higher rank than the first.
					if r := matches(n, name); r > rank {
						best, rank = s.host, r
					}
				}
			}
			answers[name+":"+port] = best
		}
	}
	return answers
}

// matches is how well a server_name matches a name that a client asks for; 0 is not at all.
func matches(serverName, name string) int {
	front, isFront := strings.CutPrefix(serverName, "*")
	behind, isBehind := strings.CutSuffix(serverName, "*")
	expression, isExpression := strings.CutPrefix(serverName, "~")
	switch {
	case serverName == "":
	case serverName == name:
		return 3000
	case isFront && strings.HasSuffix(name, front):
		return 2000 + len(front)
	case isBehind && strings.HasPrefix(name, behind):
		return 1000 + len(behind)
	case isExpression && regexp.MustCompile("(?i)"+expression).MatchString(name):
		return 1
	}
	return 0
}

// portFault says which name a port with TLS answers for that is another family's, or does not
// answer for although it is no other's.
func portFault(t testing.TB, tree Tree, shape route.Shape) string {
	files := served(tree)
	for _, st := range shape.Streams {
		f, ok := files[st.Listen.String()]
		if !ok || st.Listen.Protocol != route.TLS || !strings.Contains(f.Stream, "proxy_pass") {
			continue
		}
		ds, err := readTokens(f.Stream)
		if err != nil {
			t.Fatal(err)
		}
		certificate := x509.Certificate{DNSNames: st.Cert.DNSNames}
		for _, name := range visited {
			if certificate.VerifyHostname(name) != nil {
				continue
			}
			family, owner, best := st.Family, "", 0
			for _, site := range shape.Sites {
				if r := matches(site.Host, name); r > best && !strings.HasPrefix(site.Host, "~") {
					family, owner, best = site.Family, site.Owner, r
				}
			}
			to, rank := "", 0
			for _, d := range ds {
				key, isName := strings.CutPrefix(d.name, `\`)
				switch r := matches(key, name); {
				case d.in != "map":
				case isName && r > rank:
					to, rank = d.args[0], r
				case d.name == "default" && rank == 0:
					to = d.args[0]
				}
			}
			if want := st.Family == family || st.Family == owner || name == st.Host; (to != "") != want {
				return fmt.Sprintf("%s of %s passes %s, which is of %s, to %q\n%s", st.Listen, st.Family, name, family, to, f.Stream)
			}
		}
	}
	return ""
}
