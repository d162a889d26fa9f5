package nginx

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

var update = flag.Bool("update", false, "write the golden files again")

func TestGolden(t *testing.T) {
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			tree := s.render(nil)
			got := tree.String()
			for _, p := range tree.Problems {
				got += "# problem: " + p.Code + " " + p.Subject + ": " + p.Text + "\n"
			}
			golden(t, s.name+".golden", got)
		})
	}
}

// golden compares a text with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("go test ./nginx -update writes it again:\n%s", diff)
	}
}

// Another version of nagaya may read the manifest.
func TestGoldenManifest(t *testing.T) {
	for _, s := range scenes {
		if s.name == "passthrough" {
			s.streams = []nestedStream{{Listen: route.Listen{Protocol: route.UDP, Port: 5353}, Family: "dns", Pool: pool(server("10.0.0.3:53", 1))}}
			tree := s.render(func(set *Settings) {
				set.Snippets = []Snippet{{Name: "http.d/a.conf", Fingerprint: "1"}, {Name: "site.d/a.example.com.conf", Fingerprint: "2"}}
			})
			golden(t, "passthrough.manifest.golden", tree.Manifest())
		}
	}
}

func TestRenderIsDeterministic(t *testing.T) {
	for _, s := range scenes {
		a := s.render(nil)
		s.sites = slices.Clone(s.sites)
		seen := map[string]bool{} // which of two sites of one host is kept depends on the order
		for _, site := range s.sites {
			seen[site.Host] = true
		}
		if len(seen) == len(s.sites) {
			slices.Reverse(s.sites)
		}
		if b := s.render(nil); a.Generation != b.Generation {
			t.Errorf("%s: generations %s and %s of equal tables", s.name, a.Generation, b.Generation)
		}
	}
}

func TestGenerationCoversEverything(t *testing.T) {
	seen := map[string]string{}
	check := func(name string, tree Tree) {
		t.Helper()
		if other, ok := seen[tree.Generation]; ok {
			t.Errorf("%s and %s have the same generation", name, other)
		}
		seen[tree.Generation] = name
	}
	base := scenes[2]
	check("as it is", base.render(nil))
	check("another setting", base.render(func(s *Settings) { s.ShutdownTimeout *= 2 }))
	check("another snippet", base.render(func(s *Settings) { s.Snippets = []Snippet{{Name: "http.d/a.conf", Fingerprint: "1"}} }))
	check("changed snippet", base.render(func(s *Settings) { s.Snippets = []Snippet{{Name: "http.d/a.conf", Fingerprint: "2"}} }))
	check("a site less", base.render(nil).Without("a.example.com"))
	renewed := base
	renewed.sites = slices.Clone(base.sites)
	renewed.sites[1].Cert.Fingerprint = strings.Repeat("cd", 32)
	check("renewed certificate", renewed.render(nil))
}

func TestSameAddressNeedsNoReload(t *testing.T) {
	s := scenes[1]
	a := s.render(nil)
	s.sites = slices.Clone(s.sites)
	srv := s.sites[0].Locations[0].Servers[0]
	srv.Container, srv.Ref = "c2", "web:2/app"
	s.sites[0].Locations = []nestedLocation{with(s.sites[0].Locations[0], func(l *nestedLocation) { l.Servers = []route.Server{srv} })}
	if b := s.render(nil); a.Generation != b.Generation {
		t.Error("a container that was replaced at the same address changed the configuration")
	}
}

func TestTree(t *testing.T) {
	tree := scenes[2].render(nil)
	var hosts []string
	for _, s := range tree.Sites {
		hosts = append(hosts, s.Host+" "+s.Name)
	}
	want := []string{
		"*.example.com _.example.com.conf",
		"a.example.com a.example.com.conf",
		"both.example.com both.example.com.conf",
	}
	if diff := cmp.Diff(want, hosts); diff != "" {
		t.Error(diff)
	}
	site, ok := tree.Site("a.example.com")
	if !ok {
		t.Fatal("a.example.com is missing")
	}
	without := tree.Without("a.example.com")
	if _, ok := without.Site("a.example.com"); ok || without.Generation == tree.Generation {
		t.Error("Without left the site or the generation")
	}
	if back := without.With(site); back.Generation != tree.Generation {
		t.Error("With did not bring the tree back")
	}
	if back := tree.With(site); back.Generation != tree.Generation || len(back.Sites) != 3 {
		t.Error("With doubled a site")
	}
	again := readBack(t, tree)
	if again.Generation != tree.Generation {
		t.Error("a tree read back has another generation")
	}
	if diff := cmp.Diff(tree.Sites, again.Sites); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Listen{{Port: 80}, {Port: 443}}, tree.Listens()); diff != "" {
		t.Error(diff)
	}
	under := tree.Under("/scratch")
	if under.Generation == tree.Generation || strings.Contains(under.String(), "/run/nagaya") ||
		strings.Contains(under.String(), "/var/l") || !strings.Contains(under.Main, "/scratch/run/nginx.sock") {
		t.Errorf("Under left a path of the live nginx:\n%s", under.Main)
	}
	if len(fileName(strings.Repeat("a.", 126)+"a")) > 255 {
		t.Error("a long host makes a file name that no file system takes")
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"":           `""`,
		"a.b-c_d":    "a.b-c_d",
		"a b":        `"a b"`,
		`a"; x`:      `"a\"; x"`,
		`a\`:         `"a\\"`,
		"a;b":        `"a;b"`,
		"{":          `"{"`,
		"}":          `"}"`,
		"#x":         `"#x"`,
		"'x'":        `"'x'"`,
		"a\nb":       `"a\nb"`,
		`a\nb`:       `"a\\nb"`,
		"(?s)^/a\\.": `"(?s)^/a\\."`,
	} {
		if got := quote(in); got != want {
			t.Errorf("quote(%q) = %s, want %s", in, got, want)
		}
	}
}

// readBack reads a tree from its files.
func readBack(t *testing.T, tree Tree) Tree {
	t.Helper()
	again, err := ReadTree(func(path string) (string, error) {
		for _, f := range tree.Files() {
			if f.Path == path {
				return f.Text, nil
			}
		}
		return "", errors.New(path + " is missing")
	})
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func TestReadBack(t *testing.T) {
	for _, s := range scenes {
		tree := s.render(nil)
		again := readBack(t, tree)
		if again.Generation != tree.Generation {
			t.Errorf("%s: a tree read back has another generation", s.name)
		}
		if diff := cmp.Diff(tree.MainFacts, again.MainFacts); diff != "" {
			t.Errorf("%s: %s", s.name, diff)
		}
		if diff := cmp.Diff(tree.Sites, again.Sites); diff != "" {
			t.Errorf("%s: %s", s.name, diff)
		}
	}
}

func TestListensAndServers(t *testing.T) {
	for _, row := range []struct {
		scene   string
		listens []Listen
		servers []string
	}{
		{"tls", []Listen{{Port: 80}, {Port: 443}}, []string{
			"*.example.com 10.0.0.3:8443", "a.example.com 10.0.0.1:80", "a.example.com 10.0.0.2:80", "both.example.com [2001:db8::1]:80",
		}},
		{"streams", []Listen{{Port: 80}, {Port: 443}, {Port: 2222, Site: "tcp:2222"}, {Port: 2223, Site: "tcp:2223"}, {Port: 5353, UDP: true, Site: "udp:5353"}, {Port: 8883, Site: "tls:8883"}}, []string{
			"tcp:2222 10.0.0.1:22", "tls:8883 10.0.0.1:1883", "tls:8883 10.0.0.2:1883", "udp:5353 10.0.0.1:53",
		}},
		{"passthrough", []Listen{{Port: 80}, {Port: 443}}, []string{
			"a.example.com 10.0.0.1:80", "p.example.com 10.0.0.2:443", "p.example.com 10.0.0.2:80",
		}},
		{"nginx-proxy", []Listen{{Port: 80}, {Port: 443}, {Port: 8080, Site: "a.example.com"}, {Port: 8080, Site: "http:8080"}, {Port: 8443, Site: "a.example.com"}, {Port: 8443, Site: "https:8443"}}, nil},
		{"quic", []Listen{{Port: 80}, {Port: 443}, {Port: 443, UDP: true, Site: "quic:443"}}, []string{"a.example.com 10.0.0.1:80", "b.example.com 10.0.0.1:80"}},
	} {
		for _, s := range scenes {
			if s.name != row.scene {
				continue
			}
			tree := s.render(func(s *Settings) { s.IPv6 = true })
			if d := cmp.Diff(row.listens, tree.Listens()); d != "" {
				t.Errorf("%s: listens (-want +got):\n%s", row.scene, d)
			}
			if d := cmp.Diff(row.servers, tree.Servers()); d != "" && row.servers != nil {
				t.Errorf("%s: servers (-want +got):\n%s", row.scene, d)
			}
		}
	}
}
