package apply

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/nginx"
)

func TestProve(t *testing.T) {
	sites := func(n int, bad ...int) nginx.Tree {
		var tree nginx.Tree
		for i := range n {
			text := "fine"
			if slices.Contains(bad, i) {
				text = "bad"
			}
			host := fmt.Sprintf("s%03d.test", i)
			tree = tree.With(nginx.SiteFile{Host: host, Name: host + ".conf", Text: text})
		}
		return tree
	}
	holds := func(tree nginx.Tree, text string) []string {
		var hosts []string
		for _, s := range tree.Sites {
			if s.Text == text {
				hosts = append(hosts, s.Host)
			}
		}
		return hosts
	}
	anyBad := func(say func(host string) string) func(nginx.Tree) error {
		return func(tree nginx.Tree) error {
			if bad := holds(tree, "bad"); len(bad) > 0 {
				return &refusal{reason: say(bad[0])}
			}
			return nil
		}
	}
	including := func(hosts ...string) nginx.Tree {
		tree := sites(4)
		for _, h := range hosts {
			tree = tree.With(nginx.SiteFile{Host: h, Name: h + ".conf", Facts: nginx.Facts{Snippets: []nginx.Snippet{{Path: "/etc/x/mine.conf"}}}})
		}
		return tree
	}
	mainIncluding := func(tree nginx.Tree, file string) nginx.Tree {
		tree.MainFacts.Snippets = []nginx.Snippet{{Path: file}}
		return tree
	}
	anyIncluding := func(tree nginx.Tree) error {
		for _, s := range tree.Sites {
			if s.Facts.Includes("/etc/x/mine.conf") {
				return &refusal{reason: "oops in /etc/x/mine.conf:3"}
			}
		}
		return nil
	}
	vague := anyBad(func(string) string { return "something is wrong" })
	disk := errors.New("disk")
	for _, row := range []struct {
		name    string
		tree    nginx.Tree
		try     func(nginx.Tree) error
		refused []string
		err     string
		tries   int // at most
	}{
		{"all good", sites(3), vague, nil, "", 1},
		{"no sites", sites(0), vague, nil, "", 1},
		{"named", sites(100, 7), anyBad(func(h string) string { return "oops in sites/" + h + ".conf:3" }), []string{"s007.test"}, "", 2},
		{"two named", sites(100, 7, 50), anyBad(func(h string) string { return "oops in sites/" + h + ".conf:3" }), []string{"s007.test", "s050.test"}, "", 5},
		{"another one named by text of a container", sites(100, 50), anyBad(func(string) string { return "oops in sites/s007.test.conf:3" }), []string{"s050.test"}, "", 20},
		{"two others named before the one at fault", sites(8, 5), func(tree nginx.Tree) error {
			if _, bad := tree.Site("s005.test"); !bad {
				return nil
			}
			for _, innocent := range []string{"s001.test", "s002.test", "s005.test"} {
				if _, there := tree.Site(innocent); there {
					return &refusal{reason: "oops in sites/" + innocent + ".conf:3"}
				}
			}
			return nil
		}, []string{"s005.test"}, "", 7},
		{"named by its snippet", including("s001.test"), anyIncluding, []string{"s001.test"}, "", 2},
		{"a snippet of two sites named by text of a container", including("s001.test", "s002.test").With(nginx.SiteFile{Host: "s001.test", Name: "s001.test.conf", Text: "bad", Facts: nginx.Facts{Snippets: []nginx.Snippet{{Path: "/etc/x/mine.conf"}}}}), anyBad(func(string) string { return "oops in /etc/x/mine.conf:3" }), []string{"s001.test"}, "", 8},
		{"a snippet of the main file named by text of a container", mainIncluding(sites(8, 5), "/etc/x/http.d/x.conf"), anyBad(func(string) string { return "oops in /etc/x/http.d/x.conf:3" }), []string{"s005.test"}, "", 10},
		{"a snippet of the main file", mainIncluding(sites(1), "/etc/x/mine.conf"), func(nginx.Tree) error { return &refusal{reason: "oops in /etc/x/mine.conf:3"} }, nil, "mine.conf:3", 2},
		{"named, but not of this tree", sites(2, 1), anyBad(func(string) string { return "oops in sites/other.conf:3" }), []string{"s001.test"}, "", 5},
		{"searched", sites(100, 7, 50), vague, []string{"s007.test", "s050.test"}, "", 30},
		{"the only one", sites(1, 0), vague, []string{"s000.test"}, "", 2},
		{"all bad", sites(4, 0, 1, 2, 3), vague, []string{"s000.test", "s001.test", "s002.test", "s003.test"}, "", 8},
		{"two that do not go together", sites(8), func(tree nginx.Tree) error {
			_, a := tree.Site("s001.test")
			if _, b := tree.Site("s006.test"); a && b {
				return &refusal{reason: "duplicate zone"}
			}
			return nil
		}, []string{"s006.test"}, "", 12},
		{"the main file", sites(8), func(nginx.Tree) error { return &refusal{reason: "main"} }, nil, "main", 2},
		{"nginx cannot be asked", sites(8), func(nginx.Tree) error { return disk }, nil, "disk", 1},
		{"nginx cannot be asked any more", sites(8, 1), func(tree nginx.Tree) error {
			if len(tree.Sites) == 4 {
				return disk
			}
			return vague(tree)
		}, nil, "disk", 4},
	} {
		t.Run(row.name, func(t *testing.T) {
			tries := 0
			got := &proof{try: func(_ context.Context, tree nginx.Tree) error {
				tries++
				return row.try(tree)
			}}
			got.base, got.parts = bySite(row.tree)
			err := got.prove(t.Context(), nil)
			if row.err != "" {
				if err == nil || !strings.Contains(err.Error(), row.err) {
					t.Fatalf("got %v, want %q", err, row.err)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if tries > row.tries {
				t.Errorf("%d tries, want %d at most", tries, row.tries)
			}
			if row.err != "" {
				return
			}
			var refusedHosts []string
			for _, q := range got.refused {
				refusedHosts = append(refusedHosts, q.sites[0].Host)
			}
			slices.Sort(refusedHosts)
			if diff := cmp.Diff(row.refused, refusedHosts); diff != "" {
				t.Error(diff)
			}
			if want := len(row.tree.Sites) - len(row.refused); len(got.tree.Sites) != want {
				t.Errorf("%d sites, want %d", len(got.tree.Sites), want)
			}
			if row.try(got.tree) != nil {
				t.Error("the tree is not one that nginx accepts")
			}
		})
	}
}

// Whatever nginx refuses and names, the tree is one that it accepts, and with any of the parts that
// are left out it is not.
func TestProveFindsTheMost(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		n := 1 + r.IntN(12)
		host := func(i int) string { return fmt.Sprintf("s%03d.test", i) }
		var tree nginx.Tree
		bad := make([]bool, n)
		rival := make([]int, n) // does not go together with it
		for i := range n {
			tree = tree.With(nginx.SiteFile{Host: host(i), Name: host(i) + ".conf"})
			bad[i], rival[i] = r.IntN(4) == 0, r.IntN(3*n)
		}
		try := func(_ context.Context, tree nginx.Tree) error {
			for i := range n {
				_, here := tree.Site(host(i))
				_, other := tree.Site(host(rival[i]))
				if here && (bad[i] || other && rival[i] != i) {
					return &refusal{reason: []string{"oops", "oops in sites/" + host(i) + ".conf:3", "oops in sites/" + host(r.IntN(n)) + ".conf:3"}[r.IntN(3)]}
				}
			}
			return nil
		}
		p := &proof{try: try}
		p.base, p.parts = bySite(tree)
		if err := p.prove(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if try(t.Context(), p.tree) != nil || len(p.in)+len(p.refused) != n || len(p.tree.Sites) != len(p.in) {
			t.Errorf("seed %d: %d in, %d refused of %d", seed, len(p.in), len(p.refused), n)
		}
		for _, q := range p.refused {
			if try(t.Context(), p.with(q)) == nil {
				t.Errorf("seed %d: %s is left out, and nginx accepts it", seed, q.sites[0].Host)
			}
		}
	}
}
