package apply

import (
	"path"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// refusedSnippet is a file of the operator's for several sites that nginx refuses. What it says
// is what its last accepted version says; where there is none, the file is left out.
type refusedSnippet struct {
	snippet nginx.Snippet // its Path alone for one that was removed
	instead nginx.Snippet
	reason  string
	retryAt time.Time // when it is tried again although it has not changed
}

// shared returns the snippets of a tree that are not for one site alone: each is at fault by
// itself, and no site is to go for it.
func shared(tree nginx.Tree) []nginx.Snippet {
	users := map[string]int{}
	for _, site := range tree.Sites {
		own := map[string]bool{}
		for _, sn := range site.Facts.Snippets {
			own[sn.Path] = true
		}
		for path := range own {
			users[path]++
		}
	}
	for _, sn := range tree.MainFacts.Snippets {
		users[sn.Path] += 2
	}
	return slices.DeleteFunc(tree.Snippets(), func(sn nginx.Snippet) bool {
		return users[sn.Path] < 2 && !strings.HasPrefix(path.Base(sn.Name), "default")
	})
}

// changedFiles returns the shared snippets of a tree that differ from those that nginx has
// accepted, each with what would be in its place. One that was removed is among them: others
// may need it.
func changedFiles(accepted, tree nginx.Tree) (all []part) {
	byPath := func(in []nginx.Snippet, sn nginx.Snippet) int {
		return slices.IndexFunc(in, func(o nginx.Snippet) bool { return o.Path == sn.Path && o.Name == sn.Name })
	}
	good, now := accepted.Snippets(), tree.Snippets()
	for _, sn := range shared(tree) {
		c := refusedSnippet{snippet: sn, instead: sn}
		c.instead.Out = true
		if i := byPath(good, sn); i >= 0 {
			c.instead = good[i]
		}
		if c.instead.Out || c.instead.Fingerprint != sn.Fingerprint {
			all = append(all, part{file: &c})
		}
	}
	for _, sn := range shared(accepted) {
		if byPath(now, sn) < 0 {
			all = append(all, part{file: &refusedSnippet{snippet: nginx.Snippet{Path: sn.Path}, instead: sn}})
		}
	}
	return all
}

// withSnippets returns a tree, which holds some sites of the wanted one back, with other
// snippets.
func withSnippets(tree, wanted nginx.Tree, snippets []nginx.Snippet) nginx.Tree {
	if len(snippets) == 0 {
		return tree
	}
	again := wanted.WithSnippets(snippets...)
	var out []string
	var held []nginx.SiteFile
	for _, site := range again.Sites {
		asked, _ := wanted.Site(site.Host)
		switch now, there := tree.Site(site.Host); {
		case !there:
			out = append(out, site.Host)
		case !now.Equal(asked):
			held = append(held, now)
		}
	}
	return again.Without(out...).With(held...)
}

// heldSnippets returns the wanted tree in which the snippets that nginx refuses are replaced. It
// forgets those that have changed, and those that are to be tried again.
func (a *applier) heldSnippets(wanted nginx.Tree) nginx.Tree {
	q := &a.quarantine
	now := wanted.Snippets()
	q.snippets = slices.DeleteFunc(q.snippets, func(r refusedSnippet) bool {
		same := func(sn nginx.Snippet) bool {
			return sn.Path == r.snippet.Path && (r.snippet.Name == "" || sn.Fingerprint == r.snippet.Fingerprint)
		}
		there := slices.ContainsFunc(now, same)
		return there != (r.snippet.Name != "") || !time.Now().Before(r.retryAt)
	})
	var instead []nginx.Snippet
	for _, r := range q.snippets {
		instead = append(instead, r.instead)
	}
	return wanted.WithSnippets(instead...)
}

// refuseSnippet puts a snippet into quarantine.
func (a *applier) refuseSnippet(r refusedSnippet, reason string) {
	r.reason, r.retryAt = reason, time.Now().Add(a.o.Limits.RetryQuarantine)
	a.quarantine.snippets = append(a.quarantine.snippets, r)
	a.log.Warn("file of the operator refused by nginx", event.Key, event.SnippetRefused, "file", r.snippet.Path, "err", r.reason, "last_good", !r.instead.Out)
}
