package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// checkPrefix begins the names of the directories of checks.
const checkPrefix = "nagaya-check-"

// Check tests a tree by nginx -t in a directory of its own and
// returns everything that would be a problem, the tree's own problems
// included. It changes nothing of a running nginx and needs no root, though
// without it nginx may not bind ports below 1024 or read private keys, which is a
// problem of its own. The error says why nginx -t could not be run.
func Check(ctx context.Context, o Options, tree nginx.Tree) ([]problem.Problem, error) {
	o = o.withDefaults()
	instance := o.Runtime.Find(ctx)
	scratch, err := os.MkdirTemp(instance.Scratch, checkPrefix)
	if err != nil {
		return nil, fmt.Errorf("nginx check: %w", diskFault("making a directory", cmp.Or(instance.Scratch, os.TempDir()), err))
	}
	defer os.RemoveAll(scratch)
	st := &store{dir: scratch}
	if err := st.prepare(filepath.Join(scratch, "run"), filepath.Join(scratch, "log")); err != nil {
		return nil, fmt.Errorf("nginx check: %w", err)
	}
	problems := slices.Clone(tree.Problems)
	unbound := false
	t := tester{runtime: o.Runtime, store: st, limit: o.Limits.Test, ignore: func(reason string) bool {
		// nginx binds the ports after it has read everything.
		forbidden := os.Geteuid() != 0 && nginx.BindForbidden(reason)
		unbound = unbound || forbidden
		return forbidden
	}}
	tested := tree.Under(scratch)
	base, sites := bySite(tested)
	p := &proof{try: t.try, base: base, wanted: tested, parts: slices.Concat(changedFiles(nginx.Tree{}, tested), sites)}
	err = p.prove(ctx, nil)
	if no, outside := errors.AsType[*refusal](err); outside {
		problems = append(problems, ProblemOf(refusalFault(no.reason, o.Dirs.State)))
	} else if err != nil {
		return problems, fmt.Errorf("nginx check: %w", err)
	}
	for _, q := range p.refused {
		if q.file != nil {
			q.file.reason = q.reason
			problems = append(problems, snippetProblem(*q.file))
		} else {
			problems = append(problems, quarantineProblem(refused{site: q.sites[0], reason: q.reason}))
		}
	}
	if unbound {
		problems = append(problems, problem.Of("nginx", "check-incomplete", "run the check as root, or with CAP_NET_BIND_SERVICE",
			"the ports below 1024 could not be tried, because this is not root").AsWarning())
	}
	problems = append(problems, portProblems(instance, tree)...)
	problem.Sort(problems)
	return problems, nil
}

// removeOldChecks removes the directories of checks that were killed.
func removeOldChecks(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, checkPrefix+"*")) // the pattern is well-formed
	for _, d := range left {
		if info, err := os.Stat(d); err == nil && time.Since(info.ModTime()) > time.Hour {
			os.RemoveAll(d)
		}
	}
}

// portProblems returns the problems of the ports that other processes than nginx hold.
func portProblems(i nginx.Instance, tree nginx.Tree) (out []problem.Problem) {
	for _, l := range tree.Listens() {
		found := listening(i.Net, l)
		// Without root only the user's own sockets can be seen.
		unseen := len(found.pids) == 0 && i.Master != 0
		if !unseen && found.heldByOthers(i.Master, i.MasterAccount) {
			out = append(out, ProblemOf(portInUse(l, found.pids)))
		}
	}
	return out
}
