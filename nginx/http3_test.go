package nginx

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// overHTTP3 are two sites with HTTP/3, one at a port of its own.
func overHTTP3() scene {
	own := func(host string, port uint16) nestedSite {
		return nestedSite{Host: host, Family: host, TLS: true, Cert: pair, Plain: route.Redirect, Edge: route.Edge{HTTPSPort: port}, Locations: []nestedLocation{spot("/", server("10.0.0.1:80", 1)), spot("/vacant")}}
	}
	return scene{build: debian130, settings: func(s *Settings) { s.HTTP3, s.IPv6 = true, true }, sites: []nestedSite{own("a.test", 0), own("b.test", 8443)}}
}

// http3Ports lists the ports of HTTP/3 in the files of a tree, with "offered" where the file
// offers it to clients.
func http3Ports(tree Tree) (all []string) {
	for _, f := range tree.Files() {
		if f.Path == ManifestFile {
			continue
		}
		for _, port := range []string{"443", "8443"} {
			listens, offered := strings.Contains(f.Text, "listen "+port+" quic"), strings.Contains(f.Text, `h3=\":`+port+`\"`)
			if listens != strings.Contains(f.Text, "listen [::]:"+port+" quic") {
				all = append(all, f.Path+" with one family of "+port)
			}
			if listens || offered {
				all = append(all, f.Path+" "+port+map[bool]string{true: " offered"}[offered])
			}
		}
	}
	return all
}

// Without the file of a port of HTTP/3, its sites are served over TCP.
func TestWithoutAPortOfHTTP3(t *testing.T) {
	whole := overHTTP3().render(nil)
	a, b := "sites/a.test.conf 443 offered", "sites/b.test.conf 8443 offered"
	for _, row := range []struct {
		name    string
		tree    Tree
		want    []string
		listens int // at UDP ports
	}{
		{"whole", whole, []string{a, b, "sites/quic~443.conf 443", "sites/quic~8443.conf 8443"}, 2},
		{"without 443", whole.Without("quic:443"), []string{b, "sites/quic~8443.conf 8443"}, 1},
		{"without 8443", whole.Without("quic:8443"), []string{a, "sites/quic~443.conf 443"}, 1},
		{"without both", whole.Without("quic:443", "quic:8443"), nil, 0},
		{"read from a disk", readBack(t, whole.Without("quic:443")), []string{b, "sites/quic~8443.conf 8443"}, 1},
		{"without 443 after it was read", readBack(t, whole).Without("quic:443"), []string{b, "sites/quic~8443.conf 8443"}, 1},
	} {
		if d := cmp.Diff(row.want, http3Ports(row.tree)); d != "" {
			t.Errorf("%s (-want +got):\n%s", row.name, d)
		}
		n := 0
		for _, l := range row.tree.Listens() {
			if l.UDP {
				n++
			}
		}
		if n != row.listens {
			t.Errorf("%s: %+v, want %d of UDP", row.name, row.tree.Listens(), row.listens)
		}
		if read := readBack(t, row.tree); read.Generation != row.tree.Generation {
			t.Errorf("%s: other files than the generation says", row.name)
		}
		if !strings.Contains(row.tree.String(), "listen 8443 ssl") {
			t.Errorf("%s: not served over TCP", row.name)
		}
	}
	without := overHTTP3().render(func(s *Settings) { s.HTTP3 = false })
	for _, tree := range []Tree{whole, readBack(t, whole)} {
		if d := cmp.Diff(without.String(), tree.Without("quic:443", "quic:8443").String()); d != "" {
			t.Errorf("not as if HTTP/3 were off (-want +got):\n%s", d)
		}
	}
	file, ok := whole.Site("quic:443")
	if !ok || whole.Without("quic:443").With(file).Generation != whole.Generation {
		t.Error("with the file again the tree is another one")
	}
}

// No site is offered over HTTP/3 at the UDP port of a stream.
func TestHTTP3AtAStreamsPort(t *testing.T) {
	s := overHTTP3()
	s.streams = []nestedStream{{Listen: route.Listen{Protocol: route.UDP, Port: 8443}, Family: "dns", Pool: pool(server("10.0.0.9:53", 1))}}
	tree := s.render(nil)
	if d := cmp.Diff([]string{"sites/a.test.conf 443 offered", "sites/quic~443.conf 443"}, http3Ports(tree)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if len(tree.Problems) != 1 || tree.Problems[0].Code != "http3-not-offered" || tree.Problems[0].Subject != "site b.test" {
		t.Errorf("problems: %+v", tree.Problems)
	}
	s.streams[0].Listen.Protocol = route.TCP
	if tree := s.render(nil); len(http3Ports(tree)) != 4 {
		t.Errorf("beside a stream of TCP: %v", http3Ports(tree))
	}
}
