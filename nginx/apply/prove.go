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
	// lastGood returns a site's file that was accepted before.
	lastGood func(nginx.SiteFile) (nginx.SiteFile, bool)
}

// proof is the result: a tree that nginx accepts. Every site of refused is missing in tree,
// or there with its last good file.
type proof struct {
	tree    nginx.Tree
	refused []refused
}

// refused is a site that nginx refuses.
type refused struct {
	site   nginx.SiteFile
	reason string
	// good is the file that is served instead; its Host is empty if there is none.
	good nginx.SiteFile
}

// prove tries the whole tree and, when it is refused, finds the sites at fault: those
// without which nginx accepts it, and with which it does not. A site that nginx's message
// names is tried first; the message alone is no proof, as text from containers is in it.
func (p prover) prove(ctx context.Context, wanted nginx.Tree) (proof, error) {
	out := proof{tree: wanted}
	named, err := p.withoutNamed(ctx, &out)
	no, isRefusal := errors.AsType[*refusal](err)
	switch {
	case err == nil && len(named) == 1:
		out.refused = named
	case err == nil:
		for _, r := range named {
			if err := p.add(ctx, &out, []nginx.SiteFile{r.site}); err != nil {
				return proof{}, err
			}
		}
	case !isRefusal:
		return proof{}, err
	default:
		// The sites that were named are searched like all others.
		out = proof{tree: wanted.Without(hostsOf(wanted.Sites)...)}
		if len(wanted.Sites) > 0 {
			err = p.try(ctx, out.tree)
		}
		if err == nil {
			err = p.shared(ctx, out.tree, no)
		}
		if err == nil {
			err = p.search(ctx, &out, wanted.Sites, no.reason)
		}
		if err != nil {
			return proof{}, err
		}
	}
	return out, p.restore(ctx, &out)
}

// withoutNamed tries the tree without the sites that nginx's messages name, one after
// the other, until nginx accepts it or names none.
func (p prover) withoutNamed(ctx context.Context, out *proof) (named []refused, err error) {
	for {
		err = p.try(ctx, out.tree)
		no, ok := errors.AsType[*refusal](err)
		if !ok {
			return named, err
		}
		no.named = namedSites(out.tree, no.reason)
		if len(no.named) != 1 {
			return named, no
		}
		named = append(named, refused{site: no.named[0], reason: no.reason})
		out.tree = out.tree.Without(no.named[0].Host)
	}
}

// shared returns the refusal again where a snippet that it names is at fault, which many
// sites share: then nginx accepts none of them, of which a few are tried alone. No site is
// to go for that.
func (p prover) shared(ctx context.Context, without nginx.Tree, no *refusal) error {
	if len(no.named) == 0 {
		return nil
	}
	for _, s := range no.named[:min(len(no.named), 8)] {
		err := p.try(ctx, without.With(s))
		if _, ok := errors.AsType[*refusal](err); !ok {
			return err
		}
	}
	return no
}

func hostsOf(sites []nginx.SiteFile) (hosts []string) {
	for _, s := range sites {
		hosts = append(hosts, s.Host)
	}
	return hosts
}

// add adds those sites to the tree that nginx accepts together with what is there.
func (p prover) add(ctx context.Context, out *proof, sites []nginx.SiteFile) error {
	if len(sites) == 0 {
		return nil
	}
	more := out.tree.With(sites...)
	err := p.try(ctx, more)
	if no, ok := errors.AsType[*refusal](err); ok {
		return p.search(ctx, out, sites, no.reason)
	}
	if err == nil {
		out.tree = more
	}
	return err
}

// search finds the sites at fault among those that nginx refuses together, by trying
// halves of them. reason is its refusal of them all.
func (p prover) search(ctx context.Context, out *proof, sites []nginx.SiteFile, reason string) error {
	if len(sites) == 1 {
		out.refused = append(out.refused, refused{site: sites[0], reason: reason})
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
		err := p.try(ctx, better)
		if err == nil {
			out.tree, out.refused[i].good = better, good
		} else if _, ok := errors.AsType[*refusal](err); !ok {
			return err
		}
	}
	return nil
}

// fileInMessage is the file that nginx's message is about.
var fileInMessage = regexp.MustCompile(` in (\S+):\d+`)

// namedSites are the sites of the file that nginx's message names last, which is where it
// says what it read: a file of a site, or a snippet that the operator wrote for some.
func namedSites(t nginx.Tree, reason string) (sites []nginx.SiteFile) {
	for _, m := range fileInMessage.FindAllStringSubmatch(reason, -1) {
		dir, name := filepath.Split(m[1])
		own := slices.Contains(nginx.TreeDirs, filepath.Base(dir))
		sites = slices.DeleteFunc(slices.Clone(t.Sites), func(s nginx.SiteFile) bool {
			return !(own && s.Name == name || s.Facts.Includes(m[1]))
		})
	}
	return sites
}

// refusal is the error of a tree that nginx -t refuses, with nginx's message and the sites
// that it names.
type refusal struct {
	reason string
	named  []nginx.SiteFile
}

func (r *refusal) Error() string { return r.reason }

// tester runs nginx -t.
type tester struct {
	runtime Runtime
	store   *store
	limit   time.Duration // for one test
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
	reason, err := t.test(ctx, t.store.stagingPath())
	if err == nil && reason != "" && (t.ignore == nil || !t.ignore(reason)) {
		return &refusal{reason: reason}
	}
	return err
}

// test tests the tree in a directory; reason is empty when nginx accepts it.
func (t tester) test(ctx context.Context, dir string) (reason string, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.limit)
	defer cancel()
	output, exit, err := t.runtime.Command(ctx, "-t", "-c", filepath.Join(dir, nginx.MainFile), "-p", t.store.dir, "-e", "stderr")
	_, isFault := errors.AsType[*nginx.Fault](err)
	switch {
	case ctx.Err() != nil:
		return "", nginx.NewFault(ctx.Err(), "nginx-test-timeout", "nginx -t did not end within "+t.limit.String(),
			"look for names in your snippets that take long to resolve; nginx goes on with what it has")
	case isFault:
		return "", err
	case err != nil:
		return "", nginx.NewFault(err, "nginx-not-runnable", "running nginx -t failed: "+nginx.Printable(err.Error()),
			"install nginx, or correct the path of its binary")
	case exit == 0:
		return "", nil
	}
	text := strings.ReplaceAll(output, dir+"/", "")
	return cmp.Or(nginx.LastEmerg(text), nginx.Printable(strings.TrimSpace(text)), "nginx -t failed without a message"), nil
}
