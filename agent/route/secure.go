package route

import (
	"fmt"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// secure decides what a site does about HTTPS.
func (b *builder) secure(s *Site, rule claim) {
	s.Plain = Serve
	if rule.tls == tlsOff {
		return
	}
	if s.Passthrough != nil {
		s.Plain = Redirect
		return
	}
	pair, ok := b.pair(s.Host, rule)
	if !ok {
		b.noCertificate(s, rule)
		return
	}
	s.TLS, s.Cert = true, pair
	s.Edge.ClientCert = clientCert(rule.edge.ClientCert, pair)
	switch rule.tls {
	case tlsTerminate:
		s.Plain = Refuse
	case tlsAuto:
		s.Plain = Redirect
	}
}

// pair is the certificate for a host. nginx-proxy's users name the files by the
// hosts, whatever names are in the certificates.
func (b *builder) pair(host string, rule claim) (certs.Pair, bool) {
	if rule.certName != "" {
		return b.in.Certs.Named(rule.certName)
	}
	pair, ok := b.in.Certs.For(host)
	if !ok && rule.nginxProxy {
		pair, ok = b.in.Certs.NamedLike(host)
		if !ok && !rule.ownCertOnly {
			pair, ok = b.in.Certs.Named("default")
		}
	}
	return pair, ok
}

// clientCert says whether clients need a certificate: where the operator has put
// an authority for them beside the host's, yes, unless the containers ask for less.
func clientCert(asked string, pair certs.Pair) string {
	switch {
	case pair.ClientCAFile == "", asked == "off":
		return ""
	case asked == "optional":
		return "optional"
	}
	return "on"
}

// noCertificate says that there is none. Where nothing is kept in the directory at
// all, HTTPS is not wanted, and silence is right.
func (b *builder) noCertificate(s *Site, rule claim) {
	x := problem.Problem{
		Code: "no-certificate", Severity: problem.Warning, Subject: "site " + s.Host, Host: s.Host,
		Text: fmt.Sprintf("no certificate covers %s, so it is served without HTTPS", s.Host),
		Hint: "put a certificate for it into the certificate directory, or set nagaya.tls=off",
	}
	if rule.certName != "" {
		word := "nagaya.cert"
		if rule.nginxProxy {
			word = "CERT_NAME"
		}
		x.Text = fmt.Sprintf("%s of %s names %s, which is not among the usable certificates, so %s is served without HTTPS", word, rule.ref, quoted(rule.certName), s.Host)
		x.Hint = "put that certificate into the certificate directory, or remove " + word
	}
	if rule.httpsOnly && rule.tls != tlsTerminate {
		s.Plain = Refuse
		x.Severity = problem.Error
		x.Text = fmt.Sprintf("no certificate covers %s, and plain HTTP is refused because ENABLE_HTTP_ON_MISSING_CERT is false", s.Host)
	} else if rule.tls == tlsTerminate {
		s.Plain = Refuse
		x.Severity = problem.Error
		x.Text = fmt.Sprintf("no certificate covers %s, and plain HTTP is refused because nagaya.tls is terminate", s.Host)
		x.Hint = "put a certificate for it into the certificate directory"
	} else if len(b.in.Certs.Pairs) == 0 && len(b.in.Certs.Problems) == 0 {
		return
	}
	b.say(x)
}

// stillSecure keeps what an abandoned site did, with the certificate that is there now.
func (b *builder) stillSecure(s *Site, was Site) {
	s.Plain, s.Edge = was.Plain, was.Edge
	if !was.TLS {
		return
	}
	pair, ok := b.in.Certs.Named(was.Cert.Name)
	if !ok {
		pair, ok = b.in.Certs.For(s.Host)
	}
	if ok {
		s.TLS, s.Cert = true, pair
	} else if s.Plain == Redirect {
		s.Plain = Serve
	}
}
