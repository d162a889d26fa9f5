package apply

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// report is the status of nginx and where it is put.
type report struct {
	put    func(nginx.Status)
	status nginx.Status
	err    error             // why the last pass failed
	shared []problem.Problem // the ports that another process has as well
}

// fail sets the last error and returns the level of its log line: Debug for one that
// is the last error already.
func (r *report) fail(err error) slog.Level {
	level := slog.LevelWarn
	text := nginx.Printable(err.Error())
	if r.status.LastError == text {
		level = slog.LevelDebug
	}
	r.err, r.status.LastError = err, text
	return level
}

func (r *report) succeed() { r.err, r.status.LastError = nil, "" }

// publish puts a copy of the status with all problems in it.
func (a *applier) publish() {
	s := a.report.status
	s.Quarantined, s.Problems = nil, nil
	for _, q := range a.quarantine.sites {
		s.Quarantined = append(s.Quarantined, nginx.Quarantine{Host: q.site.Host, Reason: q.reason, LastGood: q.good.Host != ""})
		s.Problems = append(s.Problems, quarantineProblem(q))
	}
	for family, q := range a.quarantine.suspects {
		if len(q.waiting) == 0 {
			continue
		}
		for _, site := range q.waiting {
			_, good := a.live.Site(site.Host)
			s.Quarantined = append(s.Quarantined, nginx.Quarantine{Host: site.Host, Reason: q.reason, LastGood: good, Waiting: true})
		}
		s.Problems = append(s.Problems, waitingProblem(family, q))
	}
	for _, r := range a.quarantine.snippets {
		s.Problems = append(s.Problems, snippetProblem(r))
	}
	slices.SortFunc(s.Quarantined, func(a, b nginx.Quarantine) int { return strings.Compare(a.Host, b.Host) })
	if a.report.err != nil {
		s.Problems = append(s.Problems, ProblemOf(a.report.err))
	}
	if a.o.Supervised && a.master.sharesUser(os.Geteuid()) {
		s.Problems = append(s.Problems, sharedUser(a.master.pid))
	}
	s.Problems = append(s.Problems, a.report.shared...)
	if a.guard.problem != nil {
		s.Problems = append(s.Problems, *a.guard.problem)
	}
	if a.wanted != nil {
		s.Problems = append(s.Problems, a.wanted.Problems...)
	}
	problem.Sort(s.Problems)
	a.report.put(s)
}

// sharedUser is the problem of a unit's nginx that runs as the agent's user.
func sharedUser(master int) problem.Problem {
	return problem.Of("nginx", "nginx-shares-user",
		"systemctl restart nagaya-nginx, once after an upgrade from nagaya 0.1; or take User= out of the drop-ins of nagaya-nginx.service",
		"nginx (process %d) runs as the agent's user, so whoever takes it over could take over what the agent runs, and by that this host", master).AsWarning()
}

func quarantineProblem(q refused) problem.Problem {
	p := problem.Of("site "+q.site.Host, "site-quarantined",
		"correct what the message names (a certificate file, a label, a snippet in site.d); the site is tried again when its configuration changes, and every few minutes",
		"nginx refuses this site (%s), so it is left out", q.reason)
	if q.good.Host != "" {
		p.Text = fmt.Sprintf("nginx refuses the site's new configuration (%s), so its last accepted one is served", q.reason)
		return p.AsWarning()
	}
	return p
}

func snippetProblem(r refusedSnippet) problem.Problem {
	hint := "correct what the message names; the file is tried again when it changes, and every few minutes"
	format := "nginx refuses this file (%s), so it is left out"
	switch {
	case r.snippet.Name == "":
		format = "nginx refuses the configuration without this file, which was removed (%s), so it is still in force"
		hint = "put it back, or remove what needs it"
	case !r.instead.Out:
		format = "nginx refuses this file (%s), so its last accepted version is in force"
	case r.snippet.MayRestrict():
		format = "nginx refuses this file (%s), which may say who is let in, so what it is for answers 503"
	case len(r.snippet.ClosedServers()) > 0:
		format = "nginx refuses this file (%s), so it is left out, and sites of the names in its servers are closed"
	}
	p := problem.Of("file "+r.snippet.Path, "snippet-not-in-force", hint, format, r.reason)
	p.File = r.snippet.Path
	return p
}

func waitingProblem(family string, s *suspect) problem.Problem {
	return problem.Of("family "+nginx.Printable(family), "sites-waiting",
		"correct what the message names (a certificate file, a label, a snippet in site.d); until then their last accepted configuration is served, if there is one",
		"nginx refused a change of this family (%s), so what it has changed (%s, e.g. %s) is tried after the others are served", s.reason, problem.Counted(len(s.waiting), "site"), s.waiting[0].Host).AsWarning()
}
