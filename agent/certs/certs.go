// Package certs chooses which certificate serves which host. It holds values and
// the choice; package files below it reads directories.
package certs

import (
	"crypto/sha1"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Inventory is every usable certificate at one moment.
type Inventory struct {
	At time.Time `json:"at,omitzero"`
	// Complete is false until the place where certificates are kept was read
	// once: then "no certificate" means "unknown".
	Complete bool `json:"complete"`
	// Pairs are the operator's files, sorted by Name.
	Pairs []Pair `json:"pairs"`
	// Issued are those from the store, which nobody brought: they are chosen by the hosts that
	// they name, never by Name.
	Issued []Pair `json:"issued,omitempty"`
	// Waiting is a certificate that says in its name that the site waits for its own; zero for none.
	Waiting Pair `json:"waiting,omitzero"`
	// Gone are the names of pairs whose files have gone, and of which a copy is left.
	Gone []string `json:"gone,omitempty"`
	// Authorities are sorted by Name.
	Authorities []Authority       `json:"authorities,omitempty"`
	Problems    []problem.Problem `json:"problems,omitempty"`
}

// For returns the certificate that serves host: one that names it, else one
// whose wildcard stands for its first label (RFC 6125, section 6.4.3: a wildcard
// covers exactly one label). One of Pairs is taken before one of Issued. Of several the one that
// expires last is taken, and of those the first by name. One that has expired, or whose files have
// gone, is taken only where no other serves the host. Host is a DNS name, a wildcard itself, or an
// IP address, an IPv6 address in brackets or not.
func (v Inventory) For(host string) (Pair, bool) {
	return v.best(host, func(Pair) bool { return true })
}

// Beside returns a second certificate for the host of p, which For returned, with a key of the
// other kind: nginx shows each client the one that it can use. One that has expired, or whose
// files have gone, stands beside none.
func (v Inventory) Beside(host string, p Pair) (Pair, bool) {
	return v.best(host, func(o Pair) bool {
		return p.KeyType != "" && o.KeyType != "" && o.KeyType != p.KeyType && !v.givesWay(o)
	})
}

func (v Inventory) best(host string, fits func(Pair) bool) (Pair, bool) {
	names := hostNames(host)
	for _, last := range []bool{false, true} {
		for _, pairs := range [][]Pair{v.Pairs, v.Issued} {
			for _, name := range names {
				if p, ok := naming(pairs, name, func(p Pair) bool { return fits(p) && v.givesWay(p) == last }); ok {
					return p, true
				}
			}
		}
	}
	return Pair{}, false
}

// hostNames are the names by which a certificate serves a host: its own and the wildcard above.
func hostNames(host string) []string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return []string{a.Unmap().String()}
	}
	names := []string{host}
	if label, parent, ok := strings.Cut(host, "."); ok && label != "*" && label != "" {
		names = append(names, "*."+parent)
	}
	return names
}

// givesWay reports whether a pair is the last that should be chosen. One by whose name clients
// are asked for certificates is not: another would let everybody in.
func (v Inventory) givesWay(p Pair) bool {
	_, asks := v.AuthorityOf(p.Name)
	return !asks && (slices.Contains(v.Gone, p.Name) || !p.NotAfter.After(v.At))
}

// NamedLike returns the pair whose base name is the host, or its parent domain, which is
// how nginx-proxy chooses. A wildcard counts as what it stands below.
func (v Inventory) NamedLike(host string) (Pair, bool) {
	name := strings.TrimPrefix(strings.ToLower(host), "*.")
	if p, ok := v.Named(name); ok {
		return p, true
	}
	if _, parent, _ := strings.Cut(name, "."); strings.Contains(parent, ".") {
		return v.Named(parent)
	}
	return Pair{}, false
}

// Without returns the inventory without the pair of Pairs that has that base name.
func (v Inventory) Without(name string) Inventory {
	v.Pairs = slices.DeleteFunc(slices.Clone(v.Pairs), func(p Pair) bool { return p.Name == name })
	return v
}

// Named returns the pair of Pairs that was found under the base name.
func (v Inventory) Named(name string) (Pair, bool) {
	for _, p := range v.Pairs {
		if p.Name == name {
			return p, true
		}
	}
	return Pair{}, false
}

func naming(pairs []Pair, name string, fits func(Pair) bool) (best Pair, ok bool) {
	for _, p := range pairs {
		if !p.names(name) || !fits(p) {
			continue
		}
		if !ok || p.NotAfter.After(best.NotAfter) || p.NotAfter.Equal(best.NotAfter) && p.Name < best.Name {
			best, ok = p, true
		}
	}
	return best, ok
}

func (p Pair) names(name string) bool {
	same := func(n string) bool { return strings.EqualFold(n, name) }
	return slices.ContainsFunc(p.DNSNames, same) || slices.ContainsFunc(p.IPs, func(a netip.Addr) bool { return a.String() == name })
}

// Pair is one usable certificate with its key: read, parsed, matching each
// other, and inside its validity or at least not refused for it.
type Pair struct {
	// Name is the base name the pair was found under, e.g. "example.com".
	Name string `json:"name"`
	// CertFile and KeyFile are absolute paths; the key never enters memory longer
	// than it takes to check that it matches.
	CertFile string `json:"cert_file"`
	KeyFile  string `json:"key_file"`
	// ClientCAFile, CRLFile and ClientFingerprint are those of the Authority that verifies
	// clients' certificates; they are set where the pair is a site's.
	ClientCAFile      string `json:"client_ca_file,omitempty"`
	CRLFile           string `json:"crl_file,omitempty"`
	ClientFingerprint string `json:"client_fingerprint,omitempty"`
	// DHParamFile is read by nginx if it is there: an absolute path or empty.
	DHParamFile string `json:"dhparam_file,omitempty"`
	// DNSNames are the names in the certificate, lower case, wildcards included. One without
	// names serves where its base name is chosen.
	DNSNames []string `json:"dns_names"`
	// IPs are the addresses in the certificate.
	IPs []netip.Addr `json:"ips,omitempty"`
	// KeyType is the kind of the key: ECDSA for any curve, RSA for any length, empty for another kind.
	KeyType KeyType `json:"key_type,omitempty"`
	// Issuer is the common name of who signed it, else the organization: from outside, at most 64 bytes.
	Issuer string `json:"issuer,omitempty"`
	// CommonName is the subject's, in lower case, of a certificate without names: some
	// clients take it for one.
	CommonName string    `json:"common_name,omitempty"`
	NotBefore  time.Time `json:"not_before"`
	NotAfter   time.Time `json:"not_after"`
	// Fingerprint is the first half of a hash in hex over the certificates, the key and the file beside them: it
	// changes when any of these does, and so makes nginx reload it.
	Fingerprint string `json:"fingerprint"`
}

// Names are the names that some client takes the certificate for.
func (p Pair) Names() []string {
	if len(p.DNSNames) == 0 && p.CommonName != "" {
		return []string{p.CommonName}
	}
	return p.DNSNames
}

// Nameless reports whether the certificate names no host and no address: it serves where the name of
// its file is chosen.
func (p Pair) Nameless() bool { return len(p.DNSNames)+len(p.IPs) == 0 }

// Authority is what clients' certificates are verified by.
type Authority struct {
	// Name is that of the host or the certificate that it is for, with what FileName makes of
	// it, or GlobalAuthority.
	Name string `json:"name"`
	// CAFile and CRLFile are absolute paths; CRLFile has what was revoked, and is empty if
	// there is no such file.
	CAFile  string `json:"ca_file,omitempty"`
	CRLFile string `json:"crl_file,omitempty"`
	// Fingerprint changes when the content of the files does.
	Fingerprint string `json:"fingerprint,omitempty"`
	// Unusable is true where the files are there and cannot be used.
	Unusable bool `json:"unusable,omitempty"`
}

// GlobalAuthority is the name of the authority for all hosts of nginx-proxy's words.
const GlobalAuthority = "ca"

// AuthorityOf returns the authority of the first of these names that has one.
func (v Inventory) AuthorityOf(names ...string) (Authority, bool) {
	for _, name := range names {
		for _, a := range v.Authorities {
			if a.Name == name {
				return a, true
			}
		}
	}
	return Authority{}, false
}

// FileName is how nginx-proxy begins the names of a host's files: for a regular expression,
// which begins with ~, with its SHA-1.
func FileName(host string) string {
	if !strings.HasPrefix(host, "~") {
		return host
	}
	sum := sha1.Sum([]byte(host))
	return hex.EncodeToString(sum[:])
}
