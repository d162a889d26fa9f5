package certs

import (
	"cmp"
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/config"
)

// Settings say how certificates are ordered: by the operator's settings, and what follows from them. StagingOf has
// which staging directory is used.
type Settings struct {
	config.ACME
	// Seed is of the host, so that two hosts do not renew at the same moment; any value.
	Seed string
}

// Keys are the kinds of which each site gets a certificate.
func (s Settings) Keys() []KeyType {
	if s.Key == "both" {
		return []KeyType{ECDSA, RSA}
	}
	return []KeyType{cmp.Or(KeyType(s.Key), ECDSA)}
}

// The directories of Let's Encrypt.
const (
	letsEncrypt        = "https://acme-v02.api.letsencrypt.org/directory"
	letsEncryptStaging = "https://acme-staging-v02.api.letsencrypt.org/directory"
)

// StagingOf is the directory at which a name that failed at this one is tried first; empty for none.
func (s Settings) StagingOf(directory string) string {
	switch {
	case directory == letsEncrypt && s.Staging == "":
		return letsEncryptStaging
	case directory == s.Staging:
		return ""
	}
	return s.Staging
}

// All are the directories, with those for trials.
func (s Settings) All() []string {
	all := slices.Clone(s.Directories)
	for _, d := range s.Directories {
		if trial := s.StagingOf(d); trial != "" {
			all = append(all, trial)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
