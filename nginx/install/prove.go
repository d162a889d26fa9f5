package install

import (
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
	// lastGood returns a site's file that was accepted before.
	lastGood func(nginx.SiteFile) (nginx.SiteFile, bool)
}

// proof is what came of it. Every site of refused is missing in tree, or there
// with its last good file.
type proof struct {
	tree    nginx.Tree
	refused []refused
}

type refused struct {
	site   nginx.SiteFile
	reason string
	// good is the file that is served instead; its Host is empty if there is none.
	good nginx.SiteFile
}

// prove tries the whole tree and, when it is refused, everything without the
// sites at fault. A site is at fault when nginx names its file, else when
// nginx refuses a tree that it accepts without it.
func (p prover) prove(ctx context.Context, wanted nginx.Tree) (proof, error) {
	out := proof{tree: wanted}
	err := p.try(ctx, out.tree)
	for {
		var no *refusal
		if err == nil || !errors.As(err, &no) {
			break
		}
		site, found, shared := blame(out.tree, no.text)
		if shared {
			return proof{}, err
		}
		if !found {
			break
		}
		out.refused = append(out.refused, refused{site: site, reason: no.text})
		out.tree = out.tree.Without(site.Host)
		err = p.try(ctx, out.tree)
	}
	if err != nil {
		if err = p.search(ctx, &out, err); err != nil {
			return proof{}, err
		}
	}
	return out, p.restore(ctx, &out)
}

// search finds sites at fault that nginx does not name. err is its refusal of
// out.tree.
func (p prover) search(ctx context.Context, out *proof, err error) error {
	var no *refusal
	if !errors.As(err, &no) {
		return err
	}
	sites := out.tree.Sites
	hosts := make([]string, 0, len(sites))
	for _, s := range sites {
		hosts = append(hosts, s.Host)
	}
	base := out.tree.Without(hosts...)
	if len(sites) > 0 {
		err = p.try(ctx, base)
	}
	if err != nil {
		return err
	}
	out.tree = base
	if len(sites) == 1 {
		out.refused = append(out.refused, refused{site: sites[0], reason: no.text})
		return nil
	}
	half := len(sites) / 2
	if err := p.add(ctx, out, sites[:half]); err != nil {
		return err
	}
	return p.add(ctx, out, sites[half:])
}

// add brings those sites into the tree that nginx accepts together with what is
// there, trying halves of what it refuses.
func (p prover) add(ctx context.Context, out *proof, sites []nginx.SiteFile) error {
	if len(sites) == 0 {
		return nil
	}
	more := out.tree.With(sites...)
	err := p.try(ctx, more)
	if err == nil {
		out.tree = more
		return nil
	}
	var no *refusal
	if !errors.As(err, &no) {
		return err
	}
	if len(sites) == 1 {
		out.refused = append(out.refused, refused{site: sites[0], reason: no.text})
		return nil
	}
	half := len(sites) / 2
	if err := p.add(ctx, out, sites[:half]); err != nil {
		return err
	}
	return p.add(ctx, out, sites[half:])
}

// restore puts the last good files of refused sites in, where nginx still
// accepts them.
func (p prover) restore(ctx context.Context, out *proof) error {
	for i, r := range out.refused {
		good, ok := p.lastGood(r.site)
		if !ok {
			continue
		}
		better := out.tree.With(good)
		var no *refusal
		switch err := p.try(ctx, better); {
		case err == nil:
			out.tree, out.refused[i].good = better, good
		case !errors.As(err, &no):
			return err
		}
	}
	return nil
}

// fileInError is the file that nginx's message is about.
var fileInError = regexp.MustCompile(` in (\S+):\d+`)

// blame finds the site that nginx's message is about: the message names a file of
// the site, or a snippet that the operator wrote for it. shared is true when it is
// a snippet of many sites or of all: then no site is at fault.
func blame(t nginx.Tree, text string) (site nginx.SiteFile, found, shared bool) {
	for _, m := range fileInError.FindAllStringSubmatch(text, -1) {
		dir, name := filepath.Split(m[1])
		own := slices.Contains(treeDirs, filepath.Base(dir))
		n := 0
		for _, s := range t.Sites {
			if own && s.Name == name || strings.Contains(s.Text, "include "+m[1]+";") {
				site, found = s, true
				n++
			}
		}
		if n > 1 || strings.Contains(t.Main, "include "+m[1]+";") {
			return nginx.SiteFile{}, false, true
		}
	}
	return site, found, false
}

// tester asks nginx -t about trees that it stages in a store.
type tester struct {
	way   way
	store *store
	limit time.Duration // for one test
	// meanwhile begins what can go on while nginx reads a staged tree; nil is nothing.
	meanwhile func()
	// pass says of a refusal that it is none; nil means never.
	pass func(text string) bool
}

func (t tester) try(ctx context.Context, tree nginx.Tree) error {
	if err := t.store.stage(tree); err != nil {
		return err
	}
	if t.meanwhile != nil {
		t.meanwhile()
	}
	ctx, cancel := context.WithTimeout(ctx, t.limit)
	defer cancel()
	said, exit, err := t.way.run(ctx, "-t", "-c", filepath.Join(t.store.staged(), nginx.MainFile), "-p", t.store.dir, "-e", "stderr")
	switch {
	case ctx.Err() != nil:
		return &trouble{
			code: "nginx-test-timeout", err: ctx.Err(), text: "nginx -t did not end within " + t.limit.String(),
			hint: "look for names in your snippets that take long to resolve; nginx goes on with what it has",
		}
	case err != nil:
		return notRunnable(err)
	case exit == 0:
		return nil
	}
	text := strings.ReplaceAll(said, t.store.staged()+"/", "")
	reason := lastEmerg(text)
	if reason == "" {
		reason = bounded(strings.TrimSpace(text))
	}
	if t.pass != nil && t.pass(reason) {
		return nil
	}
	return &refusal{text: reason}
}
