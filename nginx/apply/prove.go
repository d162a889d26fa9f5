package apply

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// prover finds the largest part of a tree that nginx accepts.
type prover struct {
	// try returns nil when nginx accepts the tree, a *refusal when it does not, and
	// any other error when it could not be asked.
	try func(context.Context, nginx.Tree) error
}

// siteGroup is some sites that are tried together: those of a family that have changed, or one.
type siteGroup struct {
	sites  []nginx.SiteFile
	reason string // nginx's message when it refused them
}

// proof is a tree that nginx accepts, and the groups that are not in it because nginx accepts
// it without them, and not with them.
type proof struct {
	tree    nginx.Tree
	refused []siteGroup
}

func sitesOf(groups ...siteGroup) (sites []nginx.SiteFile) {
	for _, g := range groups {
		sites = append(sites, g.sites...)
	}
	return sites
}

// prove adds to a tree the groups that nginx accepts with it; no is nginx's refusal of them
// all, nil where that has not been asked yet. A group that nginx's message names is tried
// first; the message alone is no proof, as text from containers is in it. The error is a
// *refusal if nginx refuses the tree without any group.
// With an error, the proof has what was found before.
func (p prover) prove(ctx context.Context, base nginx.Tree, groups []siteGroup, no *refusal) (proof, error) {
	out := proof{tree: base}
	var err error
	accepted := func(tree nginx.Tree) bool {
		if no, err = p.ask(ctx, tree); no != nil || err != nil {
			return false
		}
		out.tree = tree
		return true
	}
	if no == nil && (accepted(base.With(sitesOf(groups...)...)) || err != nil) {
		return out, err
	}
	reason := no.reason
	var named []siteGroup
	rest := slices.Clone(groups)
	for err == nil {
		at := namedGroups(rest, no)
		if len(at) != 1 {
			break
		}
		named = append(named, siteGroup{rest[at[0]].sites, no.reason})
		rest = slices.Delete(rest, at[0], at[0]+1)
		switch {
		case !accepted(base.With(sitesOf(rest...)...)):
		case len(named) == 1:
			out.refused = named
			return out, nil
		default:
			for i := 0; i < len(named) && err == nil; i++ {
				err = p.add(ctx, &out, named[i:i+1])
			}
			return out, err
		}
	}
	// The groups that were named are searched like all others.
	if err == nil && len(groups) == 0 {
		err = no
	}
	if err == nil {
		err = p.try(ctx, base)
	}
	if err == nil {
		err = p.search(ctx, &out, groups, reason)
	}
	return out, err
}

// ask tries a tree, and tells a refusal from other errors.
func (p prover) ask(ctx context.Context, tree nginx.Tree) (*refusal, error) {
	err := p.try(ctx, tree)
	if no, ok := errors.AsType[*refusal](err); ok {
		return no, nil
	}
	return nil, err
}

// add adds those groups to the tree that nginx accepts together with what is there.
func (p prover) add(ctx context.Context, out *proof, groups []siteGroup) error {
	if len(groups) == 0 {
		return nil
	}
	more := out.tree.With(sitesOf(groups...)...)
	no, err := p.ask(ctx, more)
	switch {
	case no != nil:
		return p.search(ctx, out, groups, no.reason)
	case err == nil:
		out.tree = more
	}
	return err
}

// search finds the groups at fault among those that nginx refuses together, by trying
// halves of them. reason is its refusal of them all.
func (p prover) search(ctx context.Context, out *proof, groups []siteGroup, reason string) error {
	if len(groups) == 1 {
		out.refused = append(out.refused, siteGroup{groups[0].sites, reason})
		return nil
	}
	half := len(groups) / 2
	if err := p.add(ctx, out, groups[:half]); err != nil {
		return err
	}
	return p.add(ctx, out, groups[half:])
}

// fileInMessage is the file that nginx's message is about.
var fileInMessage = regexp.MustCompile(` in (\S+):\d+$`)

// namedGroups are the groups, by their index, of the file that nginx's message names at its end,
// which is where it says what it read: a file of a site, or a snippet that the operator wrote
// for it.
func namedGroups(groups []siteGroup, no *refusal) (named []int) {
	file := no.file()
	if file == "" {
		return nil
	}
	dir, name := filepath.Split(file)
	own := slices.Contains(nginx.TreeDirs, filepath.Base(dir))
	isNamed := func(s nginx.SiteFile) bool { return own && s.Name == name || s.Facts.Includes(file) }
	for i, g := range groups {
		if slices.ContainsFunc(g.sites, isNamed) {
			named = append(named, i)
		}
	}
	return named
}

// refusal is the error of a tree that nginx refuses, with nginx's message.
type refusal struct{ reason string }

func (r *refusal) Error() string { return r.reason }

// file is the file that the message is about; empty if it names none.
func (r *refusal) file() string {
	if at := fileInMessage.FindStringSubmatch(r.reason); at != nil {
		return at[1]
	}
	return ""
}

// tester runs nginx -t.
type tester struct {
	runtime Runtime
	store   *store
	limit   time.Duration // for one test, see patience
	// ignore reports whether to ignore a refusal; nil means never.
	ignore func(reason string) bool
}

func (a *applier) tester() tester {
	return tester{runtime: a.o.Runtime, store: a.store, limit: a.o.Limits.Test}
}

// try tests a tree, which it stages.
func (t tester) try(ctx context.Context, tree nginx.Tree) error {
	if err := t.store.stage(tree); err != nil {
		return err
	}
	reason, err := t.test(ctx, t.store.stagingPath(), tree)
	if err == nil && reason != "" && (t.ignore == nil || !t.ignore(reason)) {
		return &refusal{reason: reason}
	}
	return err
}

// test tests the tree that is in a directory; reason is empty when nginx accepts it.
func (t tester) test(ctx context.Context, dir string, tree nginx.Tree) (reason string, err error) {
	limit := patience(t.limit, dir)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	output, exit, err := t.runtime.Command(ctx, "-t", "-c", filepath.Join(dir, nginx.MainFile), "-p", t.store.dir, "-e", "stderr")
	_, isFault := errors.AsType[*nginx.Fault](err)
	switch {
	case ctx.Err() != nil:
		return "", nginx.NewFault(ctx.Err(), "nginx-test-timeout", "nginx -t did not end within "+limit.String(),
			"look for names in your snippets that take long to resolve; nginx goes on with what it has")
	case isFault:
		return "", err
	case err != nil:
		return "", nginx.NewFault(err, "nginx-not-runnable", "running nginx -t failed: "+nginx.Printable(err.Error()),
			"install nginx, or correct the path of its binary")
	case exit == 0:
		return "", nil
	}
	text := tree.OwnPaths(strings.ReplaceAll(output, dir+"/", ""))
	return cmp.Or(nginx.LastEmerg(text), nginx.Printable(strings.TrimSpace(text)), "nginx -t failed without a message"), nil
}
