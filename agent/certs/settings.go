package certs

import (
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/config"
)

// Settings say how certificates are ordered.
type Settings struct {
	// On is true where certs.acme.email is set; otherwise nothing is ordered.
	On    bool
	Email string
	// Directories are the CAs, the preferred one first. Staging is what the operator set: StagingOf
	// has what is used.
	Directories []string
	Staging     string
	Profile     string
	// Keys are the kinds of which each site gets a certificate, at least one.
	Keys         []KeyType
	CheckAddress bool
	IP           bool
	// Seed is of the host, so that two hosts do not renew at the same moment; any value.
	Seed string
}

// Configured are the settings of the configuration.
func Configured(c config.Certs, seed string) Settings {
	s := Settings{
		On: c.ACME.Email != "" && len(c.ACME.Directories) > 0, Email: c.ACME.Email,
		Directories: slices.Clone(c.ACME.Directories), Staging: c.ACME.Staging, Profile: c.ACME.Profile,
		Keys: []KeyType{KeyType(c.ACME.Key)}, CheckAddress: c.ACME.CheckAddress, IP: c.ACME.IP, Seed: seed,
	}
	if c.ACME.Key == "both" {
		s.Keys = []KeyType{ECDSA, RSA}
	}
	return s
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
