package nginx

import (
	"fmt"
	"net/netip"
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
	// ProxyFile says how requests are passed on, at all sites.
	ProxyFile = "proxy.conf"
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
		return base == InternalFile || base == ProxyFile
	case vhostSnippets:
	default:
		return false
	}
	return base != "" && (dir == vhostSnippets || !strings.HasPrefix(base, ".")) && len(base) <= 255 &&
		!strings.ContainsFunc(base, func(r rune) bool { return !alphanumeric(r) && !strings.ContainsRune("._-~,@:+*[]", r) })
}

// snippetsIn returns the snippets of a directory.
func snippetsIn(s Settings, dir string) (all []Snippet) {
	for _, sn := range s.Snippets {
		if snippetName(sn.Name) && strings.HasPrefix(sn.Name, dir+"/") {
			all = append(all, sn)
		}
	}
	return all
}

// httpFiles returns the snippets of the http section.
func httpFiles(s Settings) []Snippet {
	return append(slices.Clone(firstSnippet(s, etcSnippets, ProxyFile)), snippetsIn(s, httpSnippets)...)
}

// firstSnippet returns the first snippet of a directory that exists, of these names, or none.
func firstSnippet(s Settings, dir string, names ...string) []Snippet {
	for _, name := range names {
		name = dir + "/" + name
		if i, found := slices.BinarySearchFunc(s.Snippets, name, Snippet.compare); found && snippetName(name) {
			return s.Snippets[i : i+1]
		}
	}
	return nil
}

// include includes the copies of snippets, which the tree has: so what has been tested is what
// runs, and what nginx has accepted stays there until it has accepted something else.
func include(t *text, all []Snippet) {
	for _, sn := range all {
		if !sn.Out {
			t.comment(truncated(sn.Path) + ", content " + truncated(sn.Fingerprint))
			t.set("include", SnippetsDir+"/"+sn.File)
			t.facts.Snippets = append(t.facts.Snippets, sn)
		}
	}
}

// copyName is the name of a copy: readable, and another one for another content.
func (s Snippet) copyName() string {
	name := strings.Map(func(r rune) rune {
		if alphanumeric(r) || r == '.' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, strings.Replace(s.Name, "/", ".", 1))
	return fmt.Sprintf("%.150s-%s", name, digest(fmt.Sprint(s.Path, "\x00", s.Private, s.Text)))
}

// closedPage is the answer instead of what a refused snippet may have restricted.
const closedPage = "This site is closed until a file of its operator's is corrected.\n"

// refuseForSnippet closes what is being written where a snippet is left out by which its
// operator may have restricted who is let in.
func refuseForSnippet(t *text, closed bool) {
	if closed {
		t.comment("A file of yours that may say who is let in is refused by nginx.")
		t.set("return", "503", closedPage)
	}
}

// closes reports whether one of these snippets is left out, and may restrict who is let in.
func closes(all []Snippet) bool {
	return slices.ContainsFunc(all, func(sn Snippet) bool { return sn.Out && sn.MayRestrict() })
}

// filesForSite returns the operator's snippets for the server of a host.
func filesForSite(s Settings, site route.Site) []Snippet {
	all := slices.Clone(firstSnippet(s, siteSnippets, fileName(site.Host)))
	return append(all, firstSnippet(s, vhostSnippets, nginxproxy.SiteFiles(site)...)...)
}

// filesForLocation returns the operator's snippets for a location.
func filesForLocation(s Settings, site route.Site, l route.Location) []Snippet {
	host := strings.TrimSuffix(fileName(site.Host), ".conf")
	all := slices.Clone(firstSnippet(s, locationSnippets, host+".conf"))
	if p := strings.Trim(l.Path, "/"); p != "" {
		all = append(all, firstSnippet(s, locationSnippets, host+","+strings.ReplaceAll(p, "/", ",")+".conf")...)
	}
	return append(all, firstSnippet(s, vhostSnippets, nginxproxy.LocationFiles(site, l)...)...)
}

// overrideFor returns the operator's snippet that takes the place of a location, if there
// is one.
func overrideFor(s Settings, site route.Site, l route.Location) []Snippet {
	return firstSnippet(s, vhostSnippets, nginxproxy.OverrideFiles(site, l)...)
}

// letIn writes who is let in: the operator's file does that for internal networks, if it is there.
func letIn(t *text, networks []netip.Prefix) {
	if files := firstSnippet(t.settings, etcSnippets, InternalFile); len(files) > 0 && !files[0].Out && slices.Equal(networks, nginxproxy.InternalNetworks) {
		include(t, files)
		return
	}
	allow(t, networks)
}

// authFile returns the name of the password file of a location; empty for none. The operator's
// for the host comes before what a label names.
func authFile(s Settings, site route.Site, l route.Location) string {
	for _, name := range nginxproxy.PasswordFiles(site, l) {
		if _, found := slices.BinarySearch(s.hostPasswords(), name); found && snippetName(vhostSnippets+"/"+name) {
			return name
		}
	}
	return l.Auth
}

// namedHosts are the hosts that the operator has files for, password files and snippets, and more
// of them, sorted.
func namedHosts(s Settings, more []string) (all []string) {
	all = append(all, more...)
	for _, file := range s.hostPasswords() {
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
