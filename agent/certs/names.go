package certs

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// refusalOf is why names cannot be ordered: because of this one. Each text is a clause or a sentence without a full stop.
func refusalOf(name, why, hint string) *cause {
	return &cause{text: fmt.Sprintf("%s cannot be ordered: %s", problem.Quoted(name), why), code: "cert-refused", hint: hint}
}

// check says what of the names a directory cannot issue a certificate for; nil where it can. It
// says nothing of wildcards without DNS, and of addresses that are not ours.
func check(names []string, directory string) *cause {
	if len(names) > 1 && slices.ContainsFunc(names, isIP) {
		return refusalOf(names[0], "an IP address is among the names", "ask for names alone")
	}
	for _, name := range names {
		if why, hint := refused(name, publicCA(directory)); why != "" {
			return refusalOf(name, why, hint)
		}
	}
	return nil
}

// refused says what is wrong with a name, and what helps.
func refused(name string, public bool) (cause, hint string) {
	if a, err := netip.ParseAddr(name); err == nil && validName(name) {
		if public && (a.IsPrivate() || !a.IsGlobalUnicast()) {
			return "it is a private address, of which no public CA issues certificates", "use a host name"
		}
		return "", ""
	}
	base, star := strings.CutPrefix(name, "*.")
	labels := strings.Split(base, ".")
	switch last := labels[len(labels)-1]; {
	case strings.Contains(name, "_"):
		return "it has an underscore, which host names in certificates may not have", "use a hyphen in its place"
	case !validName(name) || strings.Trim(last, "0123456789") == "":
		return "it is no host name in lower case, or ends with a number", "write it as a host name"
	}
	for _, label := range labels {
		if len(label) > 3 && label[2:4] == "--" && !readable(label) {
			return fmt.Sprintf("its label %s is no name in other letters that can be read", problem.Quoted(label)), "write it as a browser does"
		}
	}
	return notPublic(base, star, public)
}

// readable reports whether an A-label is that of a U-label (RFC 5891, section 4).
func readable(label string) bool {
	if !strings.HasPrefix(label, "xn--") {
		return false
	}
	text, err := idna.Registration.ToUnicode(label)
	if err != nil {
		return false
	}
	again, err := idna.Registration.ToASCII(text)
	return err == nil && again == label
}

// nobody are the ends of names that no CA can verify (RFC 2606, 6761, 7686).
var nobody = []string{"localhost", "invalid", "onion"}

// notPublic says why no public CA issues certificates for a name. What is nobody's in the public DNS, as .internal, has a
// top-level domain that the public suffix list does not know, but for .arpa.
func notPublic(base string, star, public bool) (cause, hint string) {
	const own = "order from a CA of your own (certs.acme.directory), put a certificate into the certificate directory, or set nagaya.tls=off"
	top := base[strings.LastIndexByte(base, '.')+1:]
	_, known := publicsuffix.PublicSuffix(top)
	suffix, registry := publicsuffix.PublicSuffix(base)
	switch {
	case slices.Contains(nobody, top):
		return "no CA issues certificates for such names", "use a name of a domain of yours"
	case !public:
		return "", ""
	case top == base && !known:
		return "it is a name of one label, which is private", own
	case !known || top == "arpa":
		return fmt.Sprintf("it is a private name: there is no top-level domain %s below which public CAs issue certificates", problem.Quoted(top)), own
	case base == suffix && star:
		return "it is a wildcard for all domains below a public suffix", "ask for a wildcard of a domain of yours"
	case base == suffix && registry:
		return "it is a public suffix, below which others register domains", "ask for a domain of yours"
	}
	return "", ""
}

// publicCAs are the domains of CAs that browsers trust.
var publicCAs = []string{
	"letsencrypt.org", "zerossl.com", "pki.goog", "googleapis.com", "ssl.com", "buypass.com", "buypass.no", "digicert.com",
	"sectigo.com", "globalsign.com", "entrust.net", "actalis.com", "actalis.it", "harica.gr", "certum.pl", "trust-provider.com",
}

// publicCA reports whether a directory is of a CA that browsers trust: those issue certificates for
// public names alone.
func publicCA(directory string) bool {
	u, err := url.Parse(directory)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(publicCAs, func(d string) bool { return u.Hostname() == d || strings.HasSuffix(u.Hostname(), "."+d) })
}

// nameOf is the host of a directory, for people.
func nameOf(directory string) string {
	if u, err := url.Parse(directory); err == nil && u.Host != "" {
		return u.Host
	}
	return problem.Quoted(directory)
}
