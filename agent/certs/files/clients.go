package files

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/readfile"
)

// The ends of the names of an authority for clients' certificates and of what it has revoked,
// as nginx-proxy has them. Those of certs.GlobalAuthority are ca.crt and ca.crl.pem.
const clientCA, revoked = ".ca.crt", ".crl.pem"

// The names of the files of a copy.
const copiedCA, copiedCRL = "ca.crt", "crl.pem"

// authorities finds the authorities for clients' certificates. One that cannot be used, and has
// no copy, is Unusable: its sites must not be open to everybody. dirs gets the directories that
// links lead to.
func authorities(dir string, entries, dirs []string, k copies) (all []certs.Authority, _ []string, problems []problem.Problem) {
	wrong := map[string]problem.Problem{}
	var lost uncopied
	for _, e := range entries {
		name, ok := strings.CutSuffix(e, clientCA)
		if e == certs.GlobalAuthority+".crt" {
			name, ok = certs.GlobalAuthority, true
		}
		if !ok || !baseName.MatchString(name) {
			continue
		}
		ca, crl := filepath.Join(dir, e), filepath.Join(dir, name+revoked)
		dirs = append(dirs, targets(ca, crl)...)
		a, files, p := readAuthority(name, ca, crl)
		if p == nil && k.hasRevoked(name, files) {
			p = unreadable(crl, "it has gone", fmt.Sprintf("put it back; or, to let in whom it revoked, rm -r %s", filepath.Join(k.dir, name)))
		}
		if p != nil {
			wrong[name] = *p
			continue
		}
		version, err := k.keep(original{name, files, ca})
		if err != nil {
			lost.add(ca, err)
		}
		if version != "" {
			a, _, _ = readAuthority(name, filepath.Join(version, copiedCA), filepath.Join(version, copiedCRL))
		}
		all = append(all, a)
	}
	found := func(name string) bool {
		return slices.ContainsFunc(all, func(a certs.Authority) bool { return a.Name == name })
	}
	gone := k.fallBack(found, wrong, func(name, version string) {
		if a, _, p := readAuthority(name, filepath.Join(version, copiedCA), filepath.Join(version, copiedCRL)); p == nil {
			all = append(all, a)
		}
	})
	for name, p := range wrong {
		problems = append(problems, p)
		if !found(name) {
			all = append(all, certs.Authority{Name: name, Unusable: true})
		}
	}
	slices.SortFunc(all, func(a, b certs.Authority) int { return strings.Compare(a.Name, b.Name) })
	return all, dirs, slices.Concat(problems, gone, lost.problems(k.dir))
}

// hasRevoked reports whether the newest copy of an authority has what was revoked, and these
// files, with the same authority, have not.
func (k copies) hasRevoked(name string, files map[string][]byte) bool {
	version, _, ok := k.newest(name)
	if _, has := files[copiedCRL]; !ok || has {
		return false
	}
	_, err := os.Stat(filepath.Join(version, copiedCRL))
	ca, _ := readfile.Regular(filepath.Join(version, copiedCA), maxFile)
	return err == nil && bytes.Equal(ca, files[copiedCA])
}

// readAuthority reads and checks an authority, and what it has revoked if that is there.
func readAuthority(name, ca, crl string) (certs.Authority, map[string][]byte, *problem.Problem) {
	const hint = "correct or remove it; until then nobody is let in"
	a, files := certs.Authority{Name: name, CAFile: ca}, map[string][]byte{}
	text, err := readfile.Regular(ca, maxFile)
	if err == nil {
		_, err = firstCertificate(text)
	}
	if err != nil {
		return certs.Authority{}, nil, unreadable(ca, err.Error(), hint)
	}
	files[copiedCA] = text
	if text, err = readfile.Regular(crl, maxFile); !errors.Is(err, os.ErrNotExist) {
		if err == nil {
			err = checkRevoked(text)
		}
		if err != nil {
			return certs.Authority{}, nil, unreadable(crl, err.Error(), hint)
		}
		a.CRLFile, files[copiedCRL] = crl, text
	}
	a.Fingerprint = sumOf(files)
	return a, files, nil
}

// checkRevoked reports whether these are lists of revoked certificates.
func checkRevoked(text []byte) error {
	if firstBlock(text, "X509 CRL") == nil {
		return errors.New("there is no PEM block of type X509 CRL in it")
	}
	for block := range blocks(text) {
		if _, err := x509.ParseRevocationList(block.Bytes); block.Type == "X509 CRL" && err != nil {
			return err
		}
	}
	return nil
}
