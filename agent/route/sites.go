package route

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// makeSites makes the sites of the candidates, and keeps those that just lost their last
// container.
func (b *builder) makeSites(all []candidate) {
	hosts := by(candidate.host, slices.DeleteFunc(slices.Clone(all), func(c candidate) bool { return c.Listen.Port != 0 }))
	for host, s := range b.before {
		b.newest = latest(b.newest, s.Since)
		if _, ok := hosts[host]; !ok {
			hosts[host] = nil
		}
	}
	for host, cs := range hosts {
		was := b.before[host]
		if keys := was.PoolKeys(); slices.ContainsFunc(keys, b.silent) {
			was.CatchAll = host == b.o.DefaultHost
			b.t.Sites = append(b.t.Sites, was)
			b.keepPools(keys...)
			continue
		}
		if len(cs) > 0 && cs[0].family != was.Family {
			was = Site{} // another family starts over
		}
		if s := b.site(host, was, cs); len(s.Locations) > 0 || s.Passthrough != nil {
			b.t.Sites = append(b.t.Sites, s)
		}
	}
	slices.SortFunc(b.t.Sites, func(x, y Site) int { return cmp.Compare(x.Host, y.Host) })
	b.reportPlain()
}

// site makes the site of the candidates of its holder, newest first. was is the
// holder's site in the table before. A site with nothing in it is none.
func (b *builder) site(host string, was Site, cs []candidate) Site {
	s := Site{Host: host, Family: was.Family, Owner: was.Owner, Plain: was.Plain, Secured: was.Secured || was.TLS && was.Plain != Serve && !was.Waiting, NoTLS: was.NoTLS, Edge: was.Edge, File: was.File, Away: was.Away, CatchAll: host == b.o.DefaultHost, Locations: []Location{}}
	if s.Since = was.Since; was.Family == "" && strings.HasPrefix(host, "~") {
		s.Since = latest(cs[len(cs)-1].container.CreatedAt, b.newest.Add(time.Millisecond))
	}
	byKey := by(candidate.poolKey, cs)
	web := slices.DeleteFunc(slices.Clone(cs), func(c candidate) bool { return c.TLS == TLSPass })
	for key, cs := range byKey {
		switch lead, serves := b.pool(key, cs); {
		case serves && key == s.PassthroughKey():
			s.Passthrough = new(lead.streamOptions())
		case serves:
			s.Locations = append(s.Locations, lead.Location)
		}
	}
	for _, l := range was.Locations {
		if key := s.PoolKey(l); b.vacate(key, byKey[key] != nil) {
			s.Locations = append(s.Locations, l)
		}
	}
	if key := s.PassthroughKey(); was.Passthrough != nil && b.vacate(key, byKey[key] != nil) {
		s.Passthrough = was.Passthrough
	}
	b.closePaths(&s, byKey)
	slices.SortFunc(s.Locations, func(x, y Location) int {
		return cmp.Or(cmp.Compare(len(y.Path), len(x.Path)), cmp.Compare(x.Path, y.Path), cmp.Compare(x.Match, y.Match))
	})
	switch lead, ok := leadOf(web); {
	case len(s.Locations) == 0 && s.Passthrough == nil:
	case len(cs) == 0:
		b.stillSecure(&s, was)
	case !ok:
		s.Family, s.Owner, s.Edge, s.Plain, s.File = cs[0].family, cs[0].siteOwner, Edge{}, Redirect, cs[0].Files[host]
	default:
		lead = b.inPlaceOf(lead, was)
		s.Family, s.Owner, s.Edge, s.File = lead.family, lead.siteOwner, lead.Edge, lead.Files[host]
		if i := slices.IndexFunc(web, func(c candidate) bool { return c.PortsFirst }); i >= 0 {
			s.Edge.HTTPPort, s.Edge.HTTPSPort = web[i].Edge.HTTPPort, web[i].Edge.HTTPSPort
		}
		b.secure(&s, was, lead)
	}
	if b.decided[host] = len(cs) > 0; len(cs) > 0 {
		s.Away = b.away[host]
		if slices.ContainsFunc(s.Locations, func(l Location) bool { return !slices.Equal(l.Allow, s.Edge.Allow) }) {
			s.Edge.Allow = nil // it is not about the whole site
		}
	}
	return s
}

// inPlaceOf is the lead of a site with what its owner, which is away, had set.
func (b *builder) inPlaceOf(lead candidate, was Site) candidate {
	if lead.siteOwner == "" || lead.base == lead.siteOwner || lead.siteOwner != was.Owner {
		return lead
	}
	asked := lead.Edge.ClientCert
	lead.Edge = was.Edge
	lead.Edge.ClientCert = asked
	lead.Files = map[string]string{was.Host: was.File}
	if _, there := b.in.Certs.Named(was.Cert.Name); there {
		lead.Cert.Name = was.Cert.Name
	}
	return lead
}

func latest(a, b time.Time) time.Time {
	return slices.MaxFunc([]time.Time{a, b}, time.Time.Compare)
}

// leadOf is the candidate whose labels about TLS count: the newest that serves, else the
// newest; of a host that several families share, only its owner's if there are any.
func leadOf(cs []candidate) (candidate, bool) {
	if len(cs) == 0 {
		return candidate{}, false
	}
	if own := slices.IndexFunc(cs, func(c candidate) bool { return c.base == c.siteOwner }); own >= 0 {
		cs = slices.DeleteFunc(slices.Clone(cs), func(c candidate) bool { return c.base != c.siteOwner })
	}
	return cs[max(0, slices.IndexFunc(cs, candidate.ready))], true
}

// secure decides what a site does about HTTPS.
func (b *builder) secure(s *Site, was Site, lead candidate) {
	asked := s.Edge.ClientCert
	s.Plain, s.Edge.ClientCert, s.NoTLS = Serve, "", lead.TLS == TLSOff
	switch {
	case lead.TLS == TLSOff:
		s.Secured = false
		return
	case s.Passthrough != nil:
		s.Plain = Redirect
		return
	}
	var ok bool
	ordered := b.wish(s.Host, lead)
	if s.Cert, ok = b.certFor(b.in.Certs, s.Host, lead.Cert); !ok {
		// A container that names another one, by mistake perhaps, does not end it.
		kept, still := b.stillThere(was.Cert)
		if s.Waiting = ordered && !(was.TLS && still); s.Waiting {
			s.WaitingSince = b.since(was.WaitingSince)
		}
		switch {
		case was.TLS && still:
			s.Cert = kept
			b.reportCertificate(s, lead, problem.Warning, "so the site keeps the one that it has")
		case ordered && b.o.Waiting == "self-signed" && b.in.Certs.Waiting.CertFile != "":
			s.Cert = b.in.Certs.Waiting
		default:
			s.Cert = certs.Pair{}
			// Where clients need certificates nobody comes in without.
			_, closed := b.authorityOf(s, lead)
			s.Secured = s.Secured || closed && asked != "off" && asked != "optional"
			b.withoutCertificate(s, lead)
			return
		}
	}
	if lead.Cert.Name == "" {
		s.Beside, _ = b.in.Certs.Beside(s.Host, s.Cert)
	}
	if !b.askClients(s, lead, asked) {
		s.Cert, s.Beside, s.Plain = certs.Pair{}, certs.Pair{}, Refuse
		return
	}
	s.TLS = true
	switch lead.TLS {
	case TLSTerminate:
		s.Plain = Refuse
	case TLSAuto:
		s.Plain = Redirect
	}
	s.Secured = s.Plain != Serve && (s.Secured || !s.Waiting)
}

// stillThere is that certificate as it is now, if it has not changed.
func (b *builder) stillThere(was certs.Pair) (certs.Pair, bool) {
	for _, pairs := range [][]certs.Pair{b.in.Certs.Pairs, b.in.Certs.Issued} {
		if i := slices.IndexFunc(pairs, func(p certs.Pair) bool { return p.Name == was.Name && p.Fingerprint == was.Fingerprint }); i >= 0 {
			return pairs[i], true
		}
	}
	return certs.Pair{}, false
}

// authorityOf is the authority for the certificates of a site's clients, by the name of the
// host or of its certificate. own is false for the one for all hosts.
func (b *builder) authorityOf(s *Site, lead candidate) (a certs.Authority, own bool) {
	names := []string{certs.FileName(s.Host), cmp.Or(s.File, s.Cert.Name), s.Cert.Name}
	if a, own = b.in.Certs.AuthorityOf(names...); !own && lead.Cert.ByFile {
		a, _ = b.in.Certs.AuthorityOf(certs.GlobalAuthority)
	}
	return a, own
}

// askClients has a site's clients asked for certificates where the operator has put an
// authority there, unless the containers ask for less. It returns false where that is
// demanded and cannot be done.
func (b *builder) askClients(s *Site, lead candidate, asked string) bool {
	a, _ := b.authorityOf(s, lead)
	switch {
	case asked == "off", a.Name == "" && asked != "on":
		return true
	case a.CAFile == "":
		why := "there is none"
		if a.Unusable {
			why = "it cannot be used"
		}
		b.report(problem.OfHost(s.Host, "client-authority-missing", "put "+cmp.Or(a.Name, certs.FileName(s.Host))+".ca.crt into the certificate directory, as PEM",
			"clients of %s need a certificate by an authority, and %s, so nobody is let in", s.Host, why))
		return false
	}
	s.Edge.ClientCert = cmp.Or(asked, "on")
	s.Cert.ClientCAFile, s.Cert.CRLFile, s.Cert.ClientFingerprint = a.CAFile, a.CRLFile, a.Fingerprint
	return true
}

// certFor is the certificate for a host. One without names is there for the name of its file.
func (b *builder) certFor(from certs.Inventory, host string, c CertChoice) (pair certs.Pair, ok bool) {
	all := from
	if c.ByFile && c.OwnOnly {
		all = all.Without("default")
	}
	switch pair, ok = all.For(host); {
	case c.Name != "":
		pair, ok = from.Named(c.Name)
	case ok:
	case c.ByFile:
		if pair, ok = all.NamedLike(host); !ok {
			pair, ok = all.Named("default")
		}
	default:
		pair, ok = all.Named(host)
		ok = ok && pair.Nameless()
	}
	if ok && pair.Nameless() {
		p := problem.Of("certificate "+pair.Name, "cert-without-names", "order it again with the host names as subject alternative names: browsers refuse it",
			"the certificate %s names no host (no DNS name among its subject alternative names), and is served because of the name of its file", problem.Quoted(pair.Name))
		p.File = pair.CertFile
		b.report(p.AsWarning())
	}
	return pair, ok
}

// withoutCertificate decides what plain HTTP gets where there is none, and reports it, unless one is
// ordered: how that goes is reported with the orders. Where nothing is kept in the directory at all,
// HTTPS is not wanted, and silence is right.
func (b *builder) withoutCertificate(s *Site, lead candidate) {
	s.Secured = s.Secured && lead.TLS != TLSNoRedirect
	outcome, how := "", problem.Error
	switch {
	case lead.TLS == TLSTerminate && !lead.Cert.ByFile:
		s.Plain, outcome = Refuse, "and plain HTTP is refused, because the site is for HTTPS only"
	case lead.HTTPSOnly && lead.TLS == TLSAuto && lead.Cert.ByFile:
		s.Plain, outcome = Redirect, "and plain HTTP is sent to HTTPS, which is refused without one (routes.http-without-cert)"
	case lead.HTTPSOnly:
		s.Plain, outcome = Refuse, "and plain HTTP is refused without one (routes.http-without-cert)"
	case s.Secured:
		s.Plain, outcome = Refuse, "and plain HTTP is refused, because the site had HTTPS before"
	case s.Waiting, len(b.in.Certs.Pairs) == 0 && len(b.in.Certs.Problems) == 0:
	case lead.Cert.Name != "":
		outcome, how = "so it is served without HTTPS", problem.Warning
	default:
		b.plain = append(b.plain, s.Host)
	}
	switch {
	case !s.Waiting && outcome != "":
		b.reportCertificate(s, lead, how, outcome)
	case s.Waiting && b.o.Waiting == "unavailable" && (s.Plain != Serve || lead.TLS != TLSNoRedirect):
		s.Plain = Unavailable
	}
}

// maxListed bounds the hosts that one problem lists.
const maxListed = 10

// listed writes the first of them, and how many more there are.
func listed(names []string) string {
	list := strings.Join(names[:min(len(names), maxListed)], ", ")
	if n := len(names) - maxListed; n > 0 {
		list += fmt.Sprintf(" and %d more", n)
	}
	return list
}

// reportPlain reports the sites without HTTPS, for which no certificate is there.
func (b *builder) reportPlain() {
	if len(b.plain) == 0 {
		return
	}
	slices.Sort(b.plain)
	p := noCertificate(b.plain[0], "so it is served without HTTPS").AsWarning()
	if n := len(b.plain); n > 1 {
		p.Subject, p.Host = "sites without HTTPS", ""
		p.Text = fmt.Sprintf("no certificate covers %d hosts, so they are served without HTTPS: %s", n, listed(b.plain))
		p.Hint = "put certificates for them into the certificate directory, or set nagaya.tls=off"
	}
	b.report(p)
}

func noCertificate(host, outcome string) problem.Problem {
	return problem.OfHost(host, "no-certificate", "put a certificate for it into the certificate directory, or set nagaya.tls=off",
		"no certificate covers %s, %s", host, outcome)
}

// reportCertificate reports that the certificate which a site should have is not there.
func (b *builder) reportCertificate(s *Site, lead candidate, how problem.Severity, outcome string) {
	p := noCertificate(s.Host, outcome)
	p.Severity = how
	switch {
	case lead.TLS == TLSTerminate && lead.Cert.Name == "": // such as the agent's page, which has no label
		p.Hint = "put a certificate for it into the certificate directory, or set certs.acme.email to have one ordered"
	case lead.Cert.Name != "":
		p.Text = fmt.Sprintf("%s of %s names %s, which is not among the usable certificates, %s", lead.Cert.Word, lead.ref, problem.Quoted(lead.Cert.Name), outcome)
		p.Hint = "put that certificate into the certificate directory, or remove " + lead.Cert.Word
	}
	b.report(p)
}

// stillSecure keeps what an abandoned site did, with the certificate that is there now.
func (b *builder) stillSecure(s *Site, was Site) {
	if !was.TLS {
		return
	}
	if s.Cert, s.TLS = b.in.Certs.Named(was.Cert.Name); !s.TLS {
		s.Cert, s.TLS = b.in.Certs.For(s.Host)
	}
	if was.Beside.CertFile != "" {
		s.Beside, _ = b.in.Certs.Beside(s.Host, s.Cert)
	}
	if !s.TLS && s.Plain == Redirect {
		s.Plain = Refuse
	}
	// A snippet of the operator's may serve something all the same.
	s.Cert.ClientCAFile, s.Cert.CRLFile, s.Cert.ClientFingerprint = was.Cert.ClientCAFile, was.Cert.CRLFile, was.Cert.ClientFingerprint
}

// checkDefaultHost reports that the host which should answer for unknown names is not there.
func (b *builder) checkDefaultHost() {
	host := b.o.DefaultHost
	if host == "" || !b.t.Complete || slices.ContainsFunc(b.t.Sites, func(s Site) bool { return s.CatchAll }) {
		return
	}
	b.report(problem.OfHost(host, "default-host-missing", "start its container, or change routes.default-host",
		"%s should answer for names that no site has (routes.default-host), and no container serves it", host).AsWarning())
}
