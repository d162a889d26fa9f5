package files

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/dirwatch"
	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/readfile"
)

const (
	// maxFile bounds one file in bytes; a chain of certificates takes a few kB.
	maxFile = 1 << 20
	// maxEntries bounds how many entries of the directory are read: five for each of the hosts that there may be. Those beyond
	// could be what closes a site.
	maxEntries = 10000
)

// candidate is a pair as the directory suggests it, not read yet. Several names
// may be found in one place; a missing key is found out by reading.
type candidate struct {
	name     string
	certFile string
	keyFile  string
	beside   string // how the paths of the files beside it begin
	// maybe is true when the file need not be a server's certificate at all:
	// without a key it is ignored.
	maybe bool
}

// parameters ends the name of the file beside a certificate with Diffie-Hellman parameters,
// as nginx-proxy has it.
const parameters = ".dhparam.pem"

// The names of the files of a copy.
const (
	copied     = "pair"
	copiedPair = copied + ".pem" // the certificates and the key
)

// Base names that are usable: what a host, a wildcard or a label would be called.
// They are the names of directories, too, and of files with an end of 12 bytes.
var baseName = pattern.Of(240, `[A-Za-z0-9_*@][A-Za-z0-9._*@+-]*`)

// scan reads the directory, and makes a copy of each pair in it. It returns an error only
// when the directory itself cannot be read; one that is not there is empty. dirs are the
// directories whose change can change the result.
func scan(dir string, k kept, now time.Time) (inv certs.Inventory, dirs []string, err error) {
	inv = certs.Inventory{At: now, Complete: true, Pairs: []certs.Pair{}}
	entries, err := readDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return certs.Inventory{}, nil, err
	}
	if err == nil {
		dirs = []string{dir}
	}
	if k.pairs.dir != "" {
		dirs = append(dirs, k.pairs.dir, k.clients.dir)
	}
	var found []candidate
	for _, e := range entries {
		path := filepath.Join(dir, e)
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			continue
		}
		dirs = append(dirs, path)
		has := func(name string) bool { return exists(filepath.Join(path, name)) }
		// With key.pem it is acme-companion's, who links to it what is to be served.
		if has("privkey.pem") || has("fullchain.pem") && !has("key.pem") {
			found = append(found, candidate{name: e, certFile: filepath.Join(path, "fullchain.pem"), keyFile: filepath.Join(path, "privkey.pem"), beside: path})
		}
	}
	found = append(found, flat(dir, entries)...)
	slices.SortStableFunc(found, func(a, b candidate) int { return cmp.Compare(a.name, b.name) })
	wrong := map[string]problem.Problem{} // by the name of the pair that cannot be used
	var lost uncopied
	for _, c := range found {
		dirs = append(dirs, targets(c.certFile, c.keyFile, c.beside+parameters)...)
		inv = add(inv, wrong, &lost, k.pairs, c, now)
	}
	inv.Problems = append(inv.Problems, lost.problems(k.pairs.dir)...)
	named := func(name string) bool { _, ok := inv.Named(name); return ok }
	gone := k.pairs.fallBack(named, wrong, func(name, version string) {
		if pair, ok := pairIn(name, version); ok {
			inv.Pairs = append(inv.Pairs, pair)
		}
		if _, spoilt := wrong[name]; !spoilt {
			inv.Gone = append(inv.Gone, name)
		}
	})
	slices.SortStableFunc(inv.Pairs, func(a, b certs.Pair) int { return cmp.Compare(a.Name, b.Name) })
	var more []problem.Problem
	inv.Authorities, dirs, more = authorities(dir, entries, dirs, k.clients)
	replaced(inv, gone)
	if len(entries) == maxEntries {
		more = append(more, *about("cert-unreadable", problem.Error, dir, fmt.Sprintf("%q has %d files and directories or more, and no more are read", dir, maxEntries), "move elsewhere what is no certificate"))
	}
	inv.Problems = slices.Concat(inv.Problems, gone, more, slices.Collect(maps.Values(wrong)))
	problem.Sort(inv.Problems)
	slices.Sort(dirs)
	return inv, slices.Compact(dirs), nil
}

// replaced has the problems of pairs whose files have gone say where others serve all their hosts.
func replaced(inv certs.Inventory, gone []problem.Problem) {
	for i, p := range gone {
		pair, ok := inv.Named(strings.TrimPrefix(p.Subject, "certificate "))
		if !ok || len(pair.DNSNames) == 0 || slices.ContainsFunc(pair.DNSNames, func(host string) bool {
			other, ok := inv.For(host)
			return !ok || other.Name == pair.Name
		}) {
			continue
		}
		gone[i].Severity = problem.Warning
		gone[i].Text = fmt.Sprintf("the files of the certificate %q have gone, and others serve its hosts; a copy is left for containers that name it", pair.Name)
		gone[i].Hint = "nothing is to be done: a copy that no site has used for 30 days is removed; at once by rm -r " + filepath.Dir(p.File)
	}
}

func readDir(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(maxEntries)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	slices.Sort(names)
	return names, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// flat finds <name>.crt + <name>.key, <name>.pem + <name>.key, and a .pem that
// holds both. nginx-proxy's side files are no certificates of a host.
func flat(dir string, entries []string) []candidate {
	has := func(name string) bool {
		_, ok := slices.BinarySearch(entries, name)
		return ok
	}
	var found []candidate
	for _, e := range entries {
		ext := filepath.Ext(e)
		name := strings.TrimSuffix(e, ext)
		if ext != ".crt" && ext != ".pem" || name == "" || sideFile(name) {
			continue
		}
		if ext == ".pem" && has(name+".crt") {
			continue // the .crt of that name is the one
		}
		c := candidate{name: name, certFile: filepath.Join(dir, e), keyFile: filepath.Join(dir, name+".key"), beside: filepath.Join(dir, name), maybe: !has(name + ".key")}
		if c.maybe && ext == ".pem" {
			c.keyFile = c.certFile
		}
		found = append(found, c)
	}
	return found
}

func sideFile(name string) bool {
	return name == "dhparam" || name == certs.GlobalAuthority || slices.Contains([]string{".chain", ".dhparam", ".ca", ".crl"}, filepath.Ext(name))
}

// targets are the directories of the symbolic links that files are behind, and those that they lead to: a renewal may
// replace the file there and leave the first link alone.
func targets(files ...string) (dirs []string) {
	for _, f := range files {
		if real, links := dirwatch.Follow(f); len(links) > 0 {
			dirs = append(append(dirs, links...), filepath.Dir(real))
		}
	}
	return dirs
}

// add reads the pair of a candidate, and adds it to the inventory, or what is wrong.
func add(inv certs.Inventory, wrong map[string]problem.Problem, lost *uncopied, k copies, c candidate, now time.Time) certs.Inventory {
	if !baseName.MatchString(c.name) {
		inv.Problems = append(inv.Problems, *unreadable(c.certFile, "the name has characters other than letters, digits and . _ * @ + -, or more than 240", "rename the file"))
		return inv
	}
	l, p := read(c)
	switch {
	case p == nil && l.leaf == nil: // no certificate of a server, and none was promised
		return inv
	case p != nil:
		wrong[c.name] = *p
		return inv
	}
	if slices.ContainsFunc(inv.Pairs, func(o certs.Pair) bool { return o.Name == c.name }) {
		text := fmt.Sprintf("another pair is called %q too; this one is not used", c.name)
		inv.Problems = append(inv.Problems, *about("cert-duplicate", problem.Warning, c.certFile, text, "remove one of the two, or rename it"))
		return inv
	}
	use, p := dates(c, l.leaf, now)
	if !use {
		wrong[c.name] = *p
		return inv
	}
	valid, seen, has := k.valid(l.pair, now)
	if k.issued {
		p = nil
	} else if has {
		p.Text += ", so a copy is served, of what it was at " + seen
	}
	for _, p := range []*problem.Problem{p, l.warning} {
		if p != nil {
			inv.Problems = append(inv.Problems, *p)
		}
	}
	if has { // what has expired is not kept: it would push out a copy that is valid
		inv.Pairs = append(inv.Pairs, valid)
		return inv
	}
	pair := l.pair
	version, err := k.keep(original{c.name, l.files, c.keyFile})
	if err != nil {
		lost.add(c.certFile, err)
	}
	if copy, ok := pairIn(c.name, version); ok {
		pair = copy
	}
	inv.Pairs = append(inv.Pairs, pair)
	return inv
}

// loaded is a pair that was read, and the files of its copy by their names.
type loaded struct {
	pair  certs.Pair
	leaf  *x509.Certificate
	files map[string][]byte
	// warning is about what the pair does without.
	warning *problem.Problem
}

// read loads and checks one pair. It returns neither a leaf nor a problem for a
// file that need not have been a pair and is none.
func read(c candidate) (l loaded, p *problem.Problem) {
	certPEM, err := readfile.Regular(c.certFile, maxFile)
	if err != nil {
		return loaded{}, unreadable(c.certFile, err.Error(), fileRemedy(err))
	}
	leaf, err := firstCertificate(certPEM)
	if c.maybe && (err != nil || isAuthority(c.name, leaf) && firstKey(certPEM) == nil) {
		return loaded{}, nil
	}
	if err != nil {
		return loaded{}, unreadable(c.certFile, err.Error(), "put the certificate there as PEM, the host's own first and then its chain")
	}
	keyPEM, err := readfile.Regular(c.keyFile, maxFile)
	if err != nil {
		return loaded{}, unreadable(c.keyFile, err.Error(), fileRemedy(err))
	}
	if p := checkKey(c, certPEM, keyPEM); p != nil {
		return loaded{}, p
	}
	l = loaded{leaf: leaf, files: map[string][]byte{copiedPair: onlyPair(certPEM, keyPEM)}, pair: certs.Pair{
		Name: c.name, CertFile: c.certFile, KeyFile: c.keyFile,
		DNSNames:  dnsNames(leaf),
		IPs:       addresses(leaf),
		KeyType:   certs.KeyTypeOf(leaf),
		Issuer:    certs.IssuerOf(leaf),
		NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(),
	}}
	if cn := leaf.Subject.CommonName; len(l.pair.DNSNames)+len(l.pair.IPs) == 0 && len(cn) <= 253 {
		l.pair.CommonName = strings.ToLower(cn)
	}
	switch text, err := readParameters(c.beside + parameters); {
	case err != nil:
		l.warning = unreadable(c.beside+parameters, err.Error(), "replace it, e.g. by what openssl dhparam 2048 makes, or remove it; the certificate is used without")
		l.warning.Severity = problem.Warning
	case text != nil:
		l.pair.DHParamFile = c.beside + parameters
		l.files[copied+parameters] = text
	}
	l.pair.Fingerprint = sumOf(l.files)
	return l, nil
}

// isAuthority reports whether a certificate is for signing others. Those that openssl makes
// for a host in one step say so too, without being meant for it.
func isAuthority(name string, leaf *x509.Certificate) bool {
	return leaf.IsCA && len(leaf.DNSNames) == 0 && (leaf.KeyUsage&x509.KeyUsageCertSign != 0 || !strings.Contains(name, "."))
}

// onlyPair is one file with the certificates and the key.
func onlyPair(certPEM, keyPEM []byte) []byte {
	var text []byte
	for block := range blocks(certPEM) {
		if block.Type == "CERTIFICATE" {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
		}
	}
	if key := firstKey(keyPEM); key != nil {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: key.Type, Bytes: key.Bytes})...)
	}
	return text
}

// readParameters reads Diffie-Hellman parameters that OpenSSL takes (PKCS #3, and its security
// level 2); none where there is no such file.
func readParameters(file string) ([]byte, error) {
	text, err := readfile.Regular(file, maxFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	block := firstBlock(text, "DH PARAMETERS")
	if block == nil {
		return nil, errors.New("there is no PEM block of type DH PARAMETERS in it")
	}
	var dh struct {
		P, G   *big.Int
		Length int `asn1:"optional"`
	}
	if _, err := asn1.Unmarshal(block.Bytes, &dh); err != nil {
		return nil, err
	}
	if bits := dh.P.BitLen(); bits < 2048 {
		return nil, fmt.Errorf("its prime has %d bits, and needs 2048 at least", bits)
	}
	return text, nil
}

// blocks are the PEM blocks of a file.
func blocks(b []byte) iter.Seq[*pem.Block] {
	return func(yield func(*pem.Block) bool) {
		for {
			var block *pem.Block
			if block, b = pem.Decode(b); block == nil || !yield(block) {
				return
			}
		}
	}
}

// firstBlock is the first one of a type, nil for none.
func firstBlock(b []byte, kind string) *pem.Block {
	for block := range blocks(b) {
		if block.Type == kind {
			return block
		}
	}
	return nil
}

// firstKey is the first private key of any kind, nil for none.
func firstKey(b []byte) *pem.Block {
	for block := range blocks(b) {
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return block
		}
	}
	return nil
}

func firstCertificate(b []byte) (*x509.Certificate, error) {
	block := firstBlock(b, "CERTIFICATE")
	if block == nil {
		return nil, errors.New("there is no PEM block of type CERTIFICATE in it")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the certificate cannot be parsed: %w", err)
	}
	return leaf, nil
}

// checkKey reports whether the key can be used and belongs to the certificate.
func checkKey(c candidate, certPEM, keyPEM []byte) *problem.Problem {
	if c.keyFile == c.certFile && firstKey(keyPEM) == nil {
		return unreadable(c.certFile, "it holds no private key, and there is no .key file beside it",
			"put the key beside it as "+strings.TrimSuffix(c.certFile, ".pem")+".key")
	}
	if strings.Contains(string(keyPEM), "ENCRYPTED") {
		return unreadable(c.keyFile, "the key is encrypted", "store it without a passphrase (openssl pkey), for its owner and group alone: chmod 640, and systemctl reload nagaya gives it to the group")
	}
	_, err := tls.X509KeyPair(certPEM, keyPEM)
	switch {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), "does not match"):
		text := fmt.Sprintf("the key in %q does not belong to the certificate in %q; the pair is not used", c.keyFile, c.certFile)
		return about("cert-key-mismatch", problem.Error, c.certFile, text, "put the key there that the certificate was made for, or order the certificate again")
	}
	return unreadable(c.keyFile, err.Error(), "put the private key there as PEM")
}

// maxNames bounds the host names of one certificate.
const maxNames = 1000

func dnsNames(leaf *x509.Certificate) []string {
	names := make([]string, 0, len(leaf.DNSNames))
	for _, n := range leaf.DNSNames {
		n = strings.ToLower(n)
		if len(n) <= 253 && len(names) < maxNames {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func addresses(leaf *x509.Certificate) (all []netip.Addr) {
	for _, ip := range leaf.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok && len(all) < maxNames {
			all = append(all, a.Unmap())
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// dates checks the validity. An expired certificate is still used, because some
// clients can ignore that, and none can connect where nothing answers; one that is not
// valid yet is not, because it would push out the one that is.
func dates(c candidate, leaf *x509.Certificate, now time.Time) (use bool, p *problem.Problem) {
	const renew = "renew it and put the new files in the same place; they are picked up at once"
	end := leaf.NotAfter.UTC().Format(time.RFC3339)
	switch late, soon := certs.Expiring(now, leaf.NotBefore, leaf.NotAfter); {
	case now.Before(leaf.NotBefore):
		text := fmt.Sprintf("the certificate in %q is valid from %s on; it is not used before", c.certFile, leaf.NotBefore.UTC().Format(time.RFC3339))
		return false, about("cert-not-yet-valid", problem.Warning, c.certFile, text, "wait, or set this machine's clock right")
	case !leaf.NotAfter.After(now):
		return true, about("cert-expired", problem.Error, c.certFile, fmt.Sprintf("the certificate in %q expired at %s", c.certFile, end), renew)
	case late, soon:
		severity := problem.Warning
		if soon {
			severity = problem.Error
		}
		return true, about("cert-expiring", severity, c.certFile, fmt.Sprintf("the certificate in %q expires at %s", c.certFile, end), renew)
	}
	return true, nil
}

// about is a problem of a file.
func about(code string, severity problem.Severity, file, text, hint string) *problem.Problem {
	p := problem.Of("certificate "+file, code, hint, "%s", text)
	p.Severity, p.File = severity, file
	return &p
}

func unreadable(file, why, hint string) *problem.Problem {
	return about("cert-unreadable", problem.Error, file, fmt.Sprintf("%q cannot be used: %q", file, bounded(why)), hint)
}

func bounded(why string) string { return problem.Printable(why, 200) }

func fileRemedy(err error) string {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "put the missing file there, or remove its other half"
	case errors.Is(err, os.ErrPermission):
		return "let the agent read it: systemctl reload nagaya gives what is in /etc/nagaya/certs to its group; elsewhere chgrp nagaya and chmod 640, and make the directories above it searchable"
	}
	return "replace it by a regular PEM file"
}
