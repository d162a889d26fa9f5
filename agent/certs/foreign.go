package certs

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// What other programs keep of certificates is recognised by its content alone: a certificate
// belongs to the key that fits it, whatever the files are called. Names of files and directories
// only say which program wrote them, and in which order of equal ones the report goes.

// File is one that another program keeps, as it was read.
type File struct {
	Path string
	Body []byte
}

// Found is a certificate in such files.
type Found struct {
	Held
	// File holds it, and Program wrote that: certbot, acme.sh, Traefik, nginx-acme, or PEM for
	// whoever else. Directory is empty if the files do not say.
	File    string `json:"file"`
	Program string `json:"program"`
	// Why says why it cannot be used; empty if it can. Past is true where nothing is wrong with
	// it but its age: it has expired, or a newer one for the same names was found.
	Why  string `json:"why,omitempty"`
	Past bool   `json:"past,omitempty"`

	chain, key []byte // PEM
}

const (
	maxKeyBytes = 8 << 10 // of an encoded key: RSA with 8192 bits takes 4.7 kB
	maxChain    = 10      // certificates of one
	maxFound    = 5000    // certificates in all files
)

// Foreign finds the certificates in the files of other programs, and says of each whether it can
// be used at that time. They are sorted by names, the newest, as in Held.Replaces, first.
func Foreign(files []File, now time.Time) []Found {
	s := foreign{keys: map[string][]byte{}, leaves: map[string]Found{}, certbot: map[string]string{}, acmesh: map[string]string{}, nginx: map[string]string{}}
	for _, f := range files {
		s.origin(f)
	}
	for _, f := range files {
		if text := bytes.TrimSpace(f.Body); bytes.HasPrefix(text, []byte("{")) {
			s.traefik(f.Path, text)
		} else {
			s.pem(Found{File: f.Path, Program: "PEM"}, f.Body)
		}
	}
	all := make([]Found, 0, len(s.leaves))
	for _, f := range s.leaves {
		all = append(all, s.judged(f, now))
	}
	slices.SortFunc(all, func(a, b Found) int {
		return cmp.Or(slices.Compare(a.Names, b.Names), cmp.Compare(a.KeyType, b.KeyType), b.NotBefore.Compare(a.NotBefore), b.NotAfter.Compare(a.NotAfter), cmp.Compare(a.File, b.File))
	})
	newest := -1
	for i, f := range all {
		switch {
		case f.Why != "":
		case newest >= 0 && f.KeyType == all[newest].KeyType && slices.Equal(f.Names, all[newest].Names):
			all[i].Why, all[i].Past = "a newer one for the same names was found", true
		default:
			newest = i
		}
	}
	return all
}

// foreign is what has been found.
type foreign struct {
	keys   map[string][]byte // PEM, by the public key
	leaves map[string]Found  // by their bytes
	// The ACME directories: of certbot by the name of the certificate, of others by directory.
	certbot, acmesh, nginx map[string]string
}

// maxURL bounds the address of a CA in bytes, for which the expressions do not count (see package pattern).
const maxURL = 512

var (
	certbotServer = regexp.MustCompile(`(?m)^server *= *(https://[!-~]+)$`)
	acmeshAPI     = regexp.MustCompile(`(?m)^Le_API='(https://[!-&(-~]+)'$`)
)

// origin reads what files say of where certificates come from.
func (s foreign) origin(f File) {
	dir, name := path.Split(f.Path)
	switch {
	case name == "account.url" || name == "account.key" && s.nginx[dir] == "": // nginx-acme
		s.nginx[dir] = cmp.Or(directoryOf(string(f.Body)), "-")
	case path.Ext(name) != ".conf":
	case bytes.Contains(f.Body, []byte("[renewalparams]")):
		s.certbot[strings.TrimSuffix(name, ".conf")] = ""
		if m := certbotServer.FindSubmatch(f.Body); m != nil && len(m[1]) <= maxURL {
			s.certbot[strings.TrimSuffix(name, ".conf")] = string(m[1])
		}
	default:
		if m := acmeshAPI.FindSubmatch(f.Body); m != nil && len(m[1]) <= maxURL {
			s.acmesh[dir] = string(m[1])
		}
	}
}

// directoryOf is the ACME directory to which an account's URL belongs, where that is known.
func directoryOf(account string) string {
	for _, host := range []string{"https://acme-v02.api.letsencrypt.org/", "https://acme-staging-v02.api.letsencrypt.org/"} {
		if strings.HasPrefix(account, host) {
			return host + "directory"
		}
	}
	return ""
}

// resolver is what Traefik keeps for one of its certificate resolvers.
type resolver struct {
	Account struct {
		Registration struct {
			URI string `json:"uri"`
		}
	}
	Certificates []struct {
		Certificate, Key string // base64 of PEM
	}
}

// traefik reads acme.json, with all resolvers. Version 1 has one, without a name.
func (s foreign) traefik(file string, text []byte) {
	var all map[string]json.RawMessage
	if json.Unmarshal(text, &all) != nil {
		return
	}
	all[""] = text
	for _, raw := range all {
		var r resolver
		if json.Unmarshal(raw, &r) != nil {
			continue
		}
		from := Found{Held: Held{Directory: directoryOf(r.Account.Registration.URI)}, File: file, Program: "Traefik"}
		for _, c := range r.Certificates {
			chain, err1 := base64.StdEncoding.DecodeString(c.Certificate)
			key, err2 := base64.StdEncoding.DecodeString(c.Key)
			if err1 == nil && err2 == nil {
				s.pem(from, chain)
				s.pem(from, key)
			}
		}
	}
}

// pem reads the keys of a text, and its certificates: one chain, which begins with that of a host.
func (s foreign) pem(from Found, text []byte) {
	var leaf *x509.Certificate
	count := 0
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			break
		}
		if strings.HasSuffix(b.Type, "PRIVATE KEY") {
			if public := publicOf(b); public != "" {
				s.keys[public] = pem.EncodeToMemory(&pem.Block{Type: b.Type, Bytes: b.Bytes})
			}
			continue
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if b.Type != "CERTIFICATE" || err != nil || count == maxChain {
			continue
		}
		count++
		one := pem.EncodeToMemory(&pem.Block{Type: b.Type, Bytes: b.Bytes})
		if leaf == nil && !(c.IsCA && len(c.DNSNames) == 0) {
			leaf, from.chain = c, append(one, from.chain...)
		} else {
			from.chain = append(from.chain, one...)
		}
	}
	if leaf == nil {
		return
	}
	// Of several files with it the one with the longest chain is taken. Of certbot's equal ones
	// the file in live/ is the last.
	old, seen := s.leaves[string(leaf.Raw)]
	if seen && (len(old.chain) > len(from.chain) || len(old.chain) == len(from.chain) && old.File >= from.File) || !seen && len(s.leaves) == maxFound {
		return
	}
	s.leaves[string(leaf.Raw)] = from
}

// publicOf names the public key of a private one that nginx can use; empty for none.
func publicOf(b *pem.Block) string {
	if len(b.Bytes) > maxKeyBytes {
		return ""
	}
	var key any
	var err error
	switch b.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(b.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(b.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(b.Bytes)
	}
	if signer, ok := key.(crypto.Signer); ok && err == nil {
		return publicName(signer.Public())
	}
	return ""
}

func publicName(key any) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return ""
	}
	return string(der)
}

// judged says of a certificate whose it is, and whether it can be used.
func (s foreign) judged(f Found, now time.Time) Found {
	first, _ := pem.Decode(f.chain)
	leaf, err := x509.ParseCertificate(first.Bytes)
	if err != nil {
		f.Why = "it cannot be parsed"
		return f
	}
	f.NotBefore, f.NotAfter = leaf.NotBefore.UTC(), leaf.NotAfter.UTC()
	f.key = s.keys[publicName(leaf.PublicKey)]
	dir, _ := path.Split(f.File)
	server, isCertbot := s.certbot[path.Base(dir)]
	switch {
	case f.Program == "Traefik":
	case isCertbot:
		f.Program, f.Directory = "certbot", server
	case s.acmesh[dir] != "":
		f.Program, f.Directory = "acme.sh", s.acmesh[dir]
	case s.nginx[dir] != "":
		f.Program, f.Directory = "nginx-acme", strings.TrimPrefix(s.nginx[dir], "-")
	}
	f.Names = namesOf(leaf)
	f.KeyType = KeyTypeOf(leaf)
	key, isRSA := leaf.PublicKey.(*rsa.PublicKey)
	day := func(t time.Time) string { return t.Format(time.DateOnly) }
	switch {
	case !f.NotAfter.After(now):
		f.Why, f.Past = "it expired on "+day(f.NotAfter), true
	case f.NotBefore.After(now):
		f.Why = "it is valid from " + day(f.NotBefore) + " on"
	case f.KeyType == "" || isRSA && key.N.BitLen() < 2048:
		f.Why = "its key is neither ECDSA nor RSA with 2048 bits or more"
	case f.key == nil:
		f.Why = "no key was found that belongs to it, or that is not encrypted"
	case len(f.chain)+len(f.key) > MaxObject/2: // as JSON, with all that belongs to it
		f.Why = "its chain is too large for the store"
	case bytes.Equal(leaf.RawIssuer, leaf.RawSubject):
		f.Why = "it is signed by itself; put it into certs.dir if it is to be served"
	case strings.Contains(strings.ToUpper(leaf.Issuer.String()), "(STAGING)"):
		f.Why = "it is from a staging CA, which no client trusts"
	default:
		if _, err := f.Bundle().Checked(); err != nil {
			f.Why = err.Error()
		}
	}
	f.Names = f.Names[:min(len(f.Names), maxNames)]
	return f
}

// Bundle is what is kept of a certificate that can be used.
func (f Found) Bundle() Bundle {
	b := Bundle{Held: f.Held, Chain: string(f.chain), Key: string(f.key)}
	b.ID, b.Imported = ID(f.Names, f.KeyType), true
	return b
}
