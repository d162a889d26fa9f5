// Package certs says which certificate serves which host. It holds values and
// the choice; package files below it reads directories.
package certs

import "time"

// Pair is one usable certificate with its key: read, parsed, matching each
// other, and inside its validity or at least not refused for it.
type Pair struct {
	// Name is the base name the pair was found under, e.g. "example.com".
	Name string `json:"name"`
	// CertFile and KeyFile are absolute paths; the key never enters memory longer
	// than it takes to check that it matches.
	CertFile string `json:"cert_file"`
	KeyFile  string `json:"key_file"`
	// DNSNames are the names in the certificate, lower case, wildcards included.
	DNSNames  []string  `json:"dns_names"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	// Fingerprint is the SHA-256 of the leaf in hex: it changes when the file's
	// content does, and so makes nginx reload it.
	Fingerprint string `json:"fingerprint"`
}
