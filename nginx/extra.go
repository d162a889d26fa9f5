package nginx

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// What a site answers by itself, besides its containers: challenges of ACME, and how it is set.

const (
	challengeName = "@nagaya_challenge"
	// challengeStatus leads to that location. No client gets it, and no file of an operator's is
	// likely to use it.
	challengeStatus = "598"
	tokenName       = "@nagaya_token"
	tokenStatus     = "597"
	debugName       = "@nagaya_debug"
	// longestAnswer is what fits into one word of nginx's configuration (nginx source,
	// NGX_CONF_BUFFER).
	longestAnswer = 4000
)

// hasChallenges reports whether a site answers challenges.
func hasChallenges(s Settings, site route.Site) bool {
	if s.ChallengeDir == "" {
		return false
	}
	switch cmp.Or(site.Edge.Challenges, route.Challenges(s.Challenges)) {
	case route.ChallengesNone:
		return false
	case route.ChallengesRedirected:
		return site.Plain == route.Redirect
	}
	return site.Plain != route.Refuse && site.Plain != route.Unavailable
}

// answerChallenges has a server answer challenges before anything else. A location by itself would
// come behind the redirect to HTTPS, and be there over HTTPS too.
func answerChallenges(t *text) {
	t.set("error_page", challengeStatus, "=", challengeName)
	t.returnIf("$nagaya_challenge", challengeStatus)
}

// TokenDir is the directory in a StateDir that has the answers to the challenges of the agent's own
// orders: the file .well-known/acme-challenge/TOKEN for each (RFC 8555, section 8.3). nginx's workers,
// which may be another user's, read them: directories are 0755, files 0644.
func TokenDir(stateDir string) string { return path.Join(stateDir, "challenges") }

// answerTokens has a server answer those challenges before anything else, and before those of the
// operator's directory. A CA may be led to HTTPS by what is in front of nginx, so they are answered there
// too. Without such a file a request takes its usual way: a container may answer challenges of its own.
func answerTokens(t *text) {
	if t.settings.TokenDir != "" {
		t.set("error_page", tokenStatus, "=", tokenName)
		t.block("if (-f $nagaya_token)", nil, func() { t.set("return", tokenStatus) })
	}
}

// challengeLocations writes the locations of the answers: of the agent's own orders, and of the
// operator's directory if that is asked for. Everybody may have them, whatever the server asks for.
func challengeLocations(t *text, ofOperator bool) {
	write := func(name, root string) {
		t.block("location", []string{name}, func() {
			t.set("satisfy", "any")
			t.set("allow", "all")
			t.set("root", root)
			t.set("try_files", "$uri", "=404")
		})
	}
	if t.settings.TokenDir != "" {
		write(tokenName, t.settings.TokenDir)
	}
	if ofOperator {
		write(challengeName, t.settings.ChallengeDir)
	}
}

// debugLocation writes the location that tells how a site is set. Who may not see its root may not
// see that either.
func debugLocation(t *text, site route.Site, pools route.Pools) {
	own := site.Edge.Debug == route.On || site.Edge.Debug == route.Unset && t.settings.DebugEndpoint
	taken := func(l route.Location) bool { return strings.TrimRight(l.Path, "/") == nginxproxy.DebugPath }
	if !own || slices.ContainsFunc(site.Locations, taken) {
		return
	}
	root := route.Location{Path: "/"}
	if i := slices.IndexFunc(site.Locations, func(l route.Location) bool { return l.Path == "/" }); i >= 0 {
		root = site.Locations[i]
	}
	t.block("location", []string{"=", nginxproxy.DebugPath}, func() {
		guard(t, site, root)
		t.comment("There is no such file: nginx returns before it looks who is let in, but not in here.")
		t.set("root", "/dev/null")
		t.set("try_files", "$uri", debugName)
	})
	t.block("location", []string{debugName}, func() {
		t.set("default_type", "application/json")
		t.set("return", "200", nginxproxy.DebugAnswer(site, pools, t.settings.DebugGlobal, func(s string) bool { return len(quote(s)) <= longestAnswer }))
	})
}
