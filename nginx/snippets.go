package nginx

import (
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// Where the operator's snippets are included, by their names:
//
//	http.d/ANY.conf           the http section
//	stream.d/ANY.conf         the stream section
//	site.d/HOST.conf          the server of that host ("*" is written "_")
//	location.d/HOST.conf      every location of that host
//	location.d/HOST,A,B.conf  its location of the path /A/B
//	vhost.d/…                 as nginx-proxy does (package nginxproxy)
const (
	httpSnippets     = "http.d"
	streamSnippets   = "stream.d"
	siteSnippets     = "site.d"
	locationSnippets = "location.d"
	vhostSnippets    = "vhost.d"
	etcSnippets      = "etc"

	// InternalFile says who is let in where that is nginxproxy.InternalNetworks.
	InternalFile = "network_internal.conf"
)

// snippetName reports whether a snippet of that name may be included.
func snippetName(s string) bool {
	dir, base, _ := strings.Cut(s, "/")
	switch dir {
	case httpSnippets, streamSnippets, siteSnippets, locationSnippets:
		if !strings.HasSuffix(base, ".conf") {
			return false
		}
	case etcSnippets:
		return base == InternalFile
	case vhostSnippets:
	default:
		return false
	}
	return base != "" && (dir == vhostSnippets || !strings.HasPrefix(base, ".")) && len(base) <= 255 &&
		!strings.ContainsFunc(base, func(r rune) bool { return !alphanumeric(r) && !strings.ContainsRune("._-~,@:+*[]", r) })
}

// includeAll includes the snippets of a directory.
func includeAll(t *text, dir string) {
	for _, sn := range t.settings.Snippets {
		if snippetName(sn.Name) && strings.HasPrefix(sn.Name, dir+"/") {
			include(t, sn)
		}
	}
}

// includeFirst includes the first snippet of a directory that exists, of these names.
func includeFirst(t *text, dir string, names ...string) bool {
	for _, name := range names {
		name = dir + "/" + name
		if i, found := slices.BinarySearchFunc(t.settings.Snippets, name, Snippet.compare); found && snippetName(name) {
			include(t, t.settings.Snippets[i])
			return true
		}
	}
	return false
}

func include(t *text, sn Snippet) {
	t.comment("content " + truncated(sn.Fingerprint))
	file := sn.Path
	if file == "" {
		file = path.Join(t.settings.SnippetDir, sn.Name)
	}
	t.set("include", noGlob.Replace(file))
	t.facts.Snippets = append(t.facts.Snippets, file+" "+sn.Fingerprint)
}

// noGlob keeps nginx from taking the name of a file for a pattern of names.
var noGlob = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`)

// includeForSite includes the operator's snippets for the server of a host.
func includeForSite(t *text, site route.Site) {
	includeFirst(t, siteSnippets, fileName(site.Host))
	includeFirst(t, vhostSnippets, nginxproxy.SiteFiles(site)...)
}

// includeForLocation includes the operator's snippets for a location.
func includeForLocation(t *text, site route.Site, l route.Location) {
	host := strings.TrimSuffix(fileName(site.Host), ".conf")
	includeFirst(t, locationSnippets, host+".conf")
	if p := strings.Trim(l.Path, "/"); p != "" {
		includeFirst(t, locationSnippets, host+","+strings.ReplaceAll(p, "/", ",")+".conf")
	}
	includeFirst(t, vhostSnippets, nginxproxy.LocationFiles(site, l)...)
}

// includeOverride includes the operator's snippet that takes the place of a location, if there
// is one.
func includeOverride(t *text, site route.Site, l route.Location) bool {
	return includeFirst(t, vhostSnippets, nginxproxy.OverrideFiles(site, l)...)
}

// letIn writes who is let in: the operator's file does that for internal networks, if it is there.
func letIn(t *text, networks []netip.Prefix) {
	if !slices.Equal(networks, nginxproxy.InternalNetworks) || !includeFirst(t, etcSnippets, InternalFile) {
		allow(t, networks)
	}
}

// authFile returns the name of the password file of a location; empty for none. The operator's
// for the host comes before what a label names.
func authFile(s Settings, site route.Site, l route.Location) string {
	for _, name := range nginxproxy.PasswordFiles(site, l) {
		if _, found := slices.BinarySearch(s.HostAuth, name); found && snippetName(vhostSnippets+"/"+name) {
			return name
		}
	}
	return l.Auth
}

// namedHosts are the hosts that the operator has files for, password files and snippets, sorted.
func namedHosts(s Settings) (all []string) {
	for _, file := range s.HostAuth {
		all = append(all, nginxproxy.HostOfPasswords(file))
	}
	star := strings.NewReplacer("_.", "*.", "._", ".*")
	for _, sn := range s.Snippets {
		switch dir, base, _ := strings.Cut(sn.Name, "/"); dir {
		case siteSnippets, locationSnippets:
			host, _, _ := strings.Cut(strings.TrimSuffix(base, ".conf"), ",")
			all = append(all, star.Replace(host))
		case vhostSnippets:
			all = append(all, nginxproxy.HostOf(base))
		}
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(h string) bool { return h == "default" || strings.HasPrefix(h, "~") || !usableHost(h) })
}

// namedVariable is, for a request's host, the one of namedHosts that covers it.
const namedVariable = "$nagaya_named"

// mapNamed writes that variable.
func mapNamed(t *text) {
	if len(t.needs.named) == 0 {
		return
	}
	t.comment("The host that you have files for, if the request is for one.")
	t.block("map", []string{"$host", namedVariable}, func() {
		t.set("hostnames")
		t.set("default", "")
		for _, h := range t.needs.named {
			t.set(quote(`\`+h), h)
		}
	})
}

// othersNames reports whether a site answers for names besides its own host for which the
// operator may have files.
func othersNames(t *text, site route.Site) bool {
	return len(t.needs.named) > 0 && (site.CatchAll || strings.ContainsAny(site.Host, "~*"))
}

// mapOthersNames writes the variable of refuseOthersNames.
func mapOthersNames(t *text, site route.Site) {
	if !othersNames(t, site) {
		return
	}
	t.block("map", []string{namedVariable, "$nagaya_others_" + digest(site.Host)}, func() {
		t.set("default", "1")
		t.set(`""`, "0")
		if slices.Contains(t.needs.named, site.Host) {
			t.set(quote(`\`+site.Host), "0")
		}
	})
}

// refuseOthersNames refuses requests for hosts that the operator has files for: the passwords and
// rules in them are not in force at this site, which answers only for want of their own.
func refuseOthersNames(t *text, site route.Site) {
	if othersNames(t, site) {
		t.returnIf("$nagaya_others_"+digest(site.Host), "403", othersPage)
	}
}
