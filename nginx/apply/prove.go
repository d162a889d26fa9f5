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

// part is what nginx is given together, or not at all: sites, of a family that have changed or
// one alone, or a changed file of the operator's.
type part struct {
	sites  []nginx.SiteFile
	file   *refusedSnippet // nil for sites
	reason string          // nginx's message when it refused the part
}

// proof is a tree that nginx accepts, with as many of the parts as it accepts, and those that it
// refuses together with them.
type proof struct {
	// try returns nil when nginx accepts a tree, a *refusal when it does not, and any other
	// error when it could not be asked.
	try func(context.Context, nginx.Tree) error
	// base is the tree without the sites of the parts. Where files of the operator's are among
	// the parts, wanted is the whole tree, whose sites are rendered again without one.
	base, wanted nginx.Tree
	parts        []part

	tree    nginx.Tree // what nginx accepts if sound is true, and in it are these parts
	in      []part
	sound   bool
	refused []part
}

// prove finds what nginx accepts; no is its refusal of all parts together, nil where that has not
// been asked yet. The error is a *refusal if nginx refuses the tree without any part. With an
// error, the proof has what was found before.
func (p *proof) prove(ctx context.Context, no *refusal) (err error) {
	p.tree = p.with()
	if no == nil {
		if no, err = p.add(ctx, p.parts); no == nil {
			return err
		}
	}
	return p.search(ctx, p.parts, no)
}

// with returns the tree with those parts that are in it and these.
func (p *proof) with(more ...part) nginx.Tree {
	in := slices.Concat(p.in, more)
	var sites []nginx.SiteFile
	for _, q := range in {
		sites = append(sites, q.sites...)
	}
	var instead []nginx.Snippet
	for _, q := range p.parts {
		if q.file != nil && !slices.ContainsFunc(in, func(o part) bool { return o.file == q.file }) {
			instead = append(instead, q.file.instead)
		}
	}
	return withSnippets(p.base.With(sites...), p.wanted, instead)
}

// add adds parts to the tree if nginx accepts them with what is there, else it returns its refusal.
func (p *proof) add(ctx context.Context, parts []part) (*refusal, error) {
	tree := p.with(parts...)
	err := p.try(ctx, tree)
	if no, ok := errors.AsType[*refusal](err); ok {
		return no, nil
	}
	if err == nil {
		p.tree, p.in, p.sound = tree, append(p.in, parts...), true
	}
	return nil, err
}

// search adds the parts that nginx accepts, of some that it refuses together.
func (p *proof) search(ctx context.Context, parts []part, no *refusal) error {
	if p.sound && len(parts) == 1 {
		p.refused = append(p.refused, part{parts[0].sites, parts[0].file, no.reason})
		return nil
	}
	first, last := p.split(parts, no.file())
	because, err := p.add(ctx, first)
	switch {
	case err != nil:
		return err
	case because == nil:
		return p.search(ctx, last, no) // with the first ones it is what was refused
	case len(first) == 0:
		return because
	}
	if err := p.search(ctx, first, because); err != nil {
		return err
	}
	if because, err = p.add(ctx, last); because == nil {
		return err
	}
	return p.search(ctx, last, because)
}

// split returns which of the parts to try first: all but the one that nginx's message names, as
// the message alone is no proof (text from containers is in it), else none as long as it is not
// known whether nginx accepts that, else a half of them.
func (p *proof) split(parts []part, file string) (first, last []part) {
	at := namedPart(parts, file)
	switch {
	case at >= 0:
		return slices.Delete(slices.Clone(parts), at, at+1), parts[at : at+1]
	case !p.sound:
		return nil, parts
	}
	return parts[:len(parts)/2], parts[len(parts)/2:]
}

// fileInMessage is the file that nginx's message is about.
var fileInMessage = regexp.MustCompile(` in (\S+):\d+$`)

// namedPart is the index of the part of a file that nginx's message names at its end, which is where it
// says what it read: a file of the operator's for several sites, or of the only part that has it,
// a file of a site or one that the operator wrote for it. It is -1 if there is none.
func namedPart(parts []part, file string) int {
	if i := slices.IndexFunc(parts, func(q part) bool { return q.file != nil && q.file.snippet.Path == file }); i >= 0 {
		return i
	}
	dir, name := filepath.Split(file)
	own := slices.Contains(nginx.TreeDirs, filepath.Base(dir))
	has := func(q part) bool {
		return slices.ContainsFunc(q.sites, func(s nginx.SiteFile) bool { return own && s.Name == name || s.Facts.Includes(file) })
	}
	i := slices.IndexFunc(parts, has)
	if i >= 0 && slices.ContainsFunc(parts[i+1:], has) {
		return -1
	}
	return i
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
