package apply

import (
	"cmp"
	"context"
	"errors"
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

// changedSnippets returns the shared snippets of a tree that differ from those that nginx has
// accepted, each with what would be in its place. One that was removed is among them: others
// may need it.
func changedSnippets(accepted, tree nginx.Tree) (all []refusedSnippet) {
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
			all = append(all, c)
		}
	}
	for _, sn := range shared(accepted) {
		if byPath(now, sn) < 0 {
			all = append(all, refusedSnippet{snippet: nginx.Snippet{Path: sn.Path}, instead: sn})
		}
	}
	return all
}

func insteadOf(all []refusedSnippet) (out []nginx.Snippet) {
	for _, r := range all {
		out = append(out, r.instead)
	}
	return out
}

// snippets finds which of the changed snippets nginx refuses. with returns the tree in which
// some are replaced; no is nginx's refusal of it as it is. What is refused without any of the
// changed ones too is not their fault: then others is the refusal of the tree in which all are
// replaced, and no that of the one that is returned.
func (p prover) snippets(ctx context.Context, changed []refusedSnippet, with func([]refusedSnippet) nginx.Tree, no *refusal) (bad []refusedSnippet, tree nginx.Tree, others *refusal, _ *refusal, err error) {
	rest := slices.Clone(changed)
	tree = with(nil)
	for no != nil && err == nil {
		i := slices.IndexFunc(rest, func(c refusedSnippet) bool { return c.snippet.Path == no.file() })
		if i < 0 {
			break
		}
		rest[i].reason = no.reason
		bad, rest = append(bad, rest[i]), slices.Delete(rest, i, i+1)
		tree = with(bad)
		no, err = p.ask(ctx, tree)
	}
	if no == nil || err != nil || len(rest) == 0 {
		return bad, tree, no, no, err
	}
	without := with(slices.Concat(bad, rest))
	if others, err = p.ask(ctx, without); others != nil || err != nil {
		return bad, tree, others, no, err
	}
	tree = without
	for i, c := range rest {
		with := with(slices.Concat(bad, rest[i+1:]))
		because, err := p.ask(ctx, with)
		switch {
		case err != nil:
			return bad, tree, nil, nil, err
		case because != nil:
			c.reason = because.reason
			bad = append(bad, c)
		default:
			tree = with
		}
	}
	return bad, tree, nil, nil, nil
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
	return wanted.WithSnippets(insteadOf(q.snippets)...)
}

// accepted returns as much of a tree as nginx accepts; no is its refusal of all of it, nil
// where that has not been asked yet. The error is a *refusal if the cause is outside the sites
// and the operator's files.
func (a *applier) accepted(ctx context.Context, wanted, tree nginx.Tree, no *refusal) (nginx.Tree, error) {
	p := prover{a.tester().try}
	if no == nil {
		var err error
		if no, err = p.ask(ctx, tree); no == nil {
			return tree, err
		}
	}
	before := nginx.Tree{}
	if a.live != nil {
		before = *a.live
	} else if tree, err := a.treeOf(a.store.current()); err == nil {
		before = tree
	}
	changed := changedSnippets(before, tree)
	with := func(bad []refusedSnippet) nginx.Tree { return withSnippets(tree, wanted, insteadOf(bad)) }
	bad, tree2, others, no, err := p.snippets(ctx, changed, with, no)
	if err != nil {
		return tree, err
	}
	retry := a.o.Limits.RetryQuarantine
	if no != nil {
		var out nginx.Tree
		out, err = a.acceptedSites(ctx, tree2, no)
		if _, refused := errors.AsType[*refusal](err); refused && len(changed) > len(bad) {
			// Sites are at fault, and a changed snippet too, which is looked for without those sites.
			bad, retry = changed, time.Second
			out, err = a.acceptedSites(ctx, with(changed), others)
		}
		if err != nil {
			return out, err
		}
		tree2 = out
	}
	reason := ""
	if no != nil {
		reason = no.reason
	}
	a.refuseSnippets(bad, reason, retry)
	return tree2, nil
}

// refuseSnippets puts snippets into quarantine, for that reason if they have none.
func (a *applier) refuseSnippets(bad []refusedSnippet, reason string, retry time.Duration) {
	for _, r := range bad {
		r.reason, r.retryAt = cmp.Or(r.reason, reason), time.Now().Add(retry)
		a.quarantine.snippets = append(a.quarantine.snippets, r)
		a.log.Warn("file of the operator refused by nginx", event.Key, event.SnippetRefused, "file", r.snippet.Path, "err", r.reason, "last_good", !r.instead.Out)
	}
}
