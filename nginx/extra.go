package nginx

import (
	"cmp"
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
	debugPath       = "/nginx-proxy-debug"
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
	switch cmp.Or(site.Edge.Challenges, s.Challenges) {
	case route.ChallengesNone:
		return false
	case route.ChallengesRedirected:
		return site.Plain == route.Redirect
	}
	return site.Plain != route.Refuse
}

// answerChallenges has a server answer challenges before anything else. A location by itself would
// come behind the redirect to HTTPS, and be there over HTTPS too.
func answerChallenges(t *text) {
	t.set("error_page", challengeStatus, "=", challengeName)
	t.returnIf("$nagaya_challenge", challengeStatus)
}

// challengeLocation writes the location of the answers. Everybody may have them, whatever the
// server asks for.
func challengeLocation(t *text) {
	t.block("location", []string{challengeName}, func() {
		t.set("satisfy", "any")
		t.set("allow", "all")
		t.set("root", t.settings.ChallengeDir)
		t.set("try_files", "$uri", "=404")
	})
}

// debugLocation writes the location that tells how a site is set. Who may not see its root may not
// see that either.
func debugLocation(t *text, site route.Site, pools route.Pools) {
	own := site.Edge.Debug == route.On || site.Edge.Debug == route.Unset && t.settings.Debug
	taken := func(l route.Location) bool { return strings.TrimRight(l.Path, "/") == debugPath }
	if !own || slices.ContainsFunc(site.Locations, taken) {
		return
	}
	root := route.Location{Path: "/"}
	if i := slices.IndexFunc(site.Locations, func(l route.Location) bool { return l.Path == "/" }); i >= 0 {
		root = site.Locations[i]
	}
	t.block("location", []string{"=", debugPath}, func() {
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
