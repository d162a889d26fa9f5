package config

import (
	"slices"
	"strings"
)

// TLSPolicy is a choice of protocols and ciphers for HTTPS.
type TLSPolicy struct {
	Name      string
	Protocols []string
	// Ciphers is for the protocols up to TLS 1.2, as OpenSSL names them; empty where
	// only TLS 1.3 is spoken, whose ciphers need no choice.
	Ciphers string
	// PreferServer lets the server choose among them.
	PreferServer bool
}

// DefaultTLSPolicy is the name of the policy where none is named.
const DefaultTLSPolicy = "Mozilla-Intermediate"

// CiphersWith are the Ciphers where there are Diffie-Hellman parameters or not: Mozilla's
// intermediate policy has ciphers that need them.
func (p TLSPolicy) CiphersWith(parameters bool) string {
	if parameters && p.Name == DefaultTLSPolicy {
		return ciphers([]string{p.Ciphers}, dheGCM)
	}
	return p.Ciphers
}

// The building blocks of the policies, strongest first.
var (
	gcm128  = []string{"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"}
	gcm256  = []string{"ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"}
	chacha  = []string{"ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"}
	dheGCM  = []string{"DHE-RSA-AES128-GCM-SHA256", "DHE-RSA-AES256-GCM-SHA384", "DHE-RSA-CHACHA20-POLY1305"}
	cbc2    = []string{"ECDHE-ECDSA-AES128-SHA256", "ECDHE-RSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA384", "ECDHE-RSA-AES256-SHA384"}
	cbc1    = []string{"ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA", "ECDHE-RSA-AES256-SHA"}
	rsaGCM  = []string{"AES128-GCM-SHA256", "AES256-GCM-SHA384"}
	rsaCBC2 = []string{"AES128-SHA256", "AES256-SHA256"}
	rsaCBC1 = []string{"AES128-SHA", "AES256-SHA"}
	dheCBC  = []string{"DHE-RSA-AES128-SHA"}
	rsa3DES = []string{"DES-CBC3-SHA"}
)

var (
	tls13     = []string{"TLSv1.3"}
	tls12     = []string{"TLSv1.2"}
	tls12To13 = []string{"TLSv1.2", "TLSv1.3"}
	tls11To12 = []string{"TLSv1.1", "TLSv1.2"}
	tls10To12 = []string{"TLSv1", "TLSv1.1", "TLSv1.2"}
	tls11To13 = []string{"TLSv1.1", "TLSv1.2", "TLSv1.3"}
	tls10To13 = []string{"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"}
)

func ciphers(of ...[]string) string { return strings.Join(slices.Concat(of...), ":") }

// oldCiphers is ciphers for the protocols before TLS 1.2, which OpenSSL 3 speaks at
// its security level 0 only (openssl.org, SSL_CTX_set_security_level).
func oldCiphers(of ...[]string) string { return ciphers(of...) + ":@SECLEVEL=0" }

// TLSPolicies are the policies that may be named: Mozilla's three
// (wiki.mozilla.org, Security/Server Side TLS) and those of AWS's load balancers
// (Elastic Load Balancing User Guide, Security policies), by nginx-proxy's names.
var TLSPolicies = []TLSPolicy{
	{"Mozilla-Modern", tls13, "", false},
	{DefaultTLSPolicy, tls12To13, ciphers(gcm128, gcm256, chacha), false},
	{"Mozilla-Old", tls10To13, oldCiphers(gcm128, gcm256, chacha, dheGCM, cbc2, cbc1, rsaGCM, rsaCBC2, rsaCBC1), true},
	{"AWS-TLS13-1-3-2021-06", tls13, "", true},
	{"AWS-TLS13-1-2-Res-2021-06", tls12To13, ciphers(gcm128, gcm256), true},
	{"AWS-TLS13-1-2-2021-06", tls12To13, ciphers(gcm128, cbc2[:2], gcm256, cbc2[2:]), true},
	{"AWS-TLS13-1-2-Ext1-2021-06", tls12To13, ciphers(gcm128, cbc2[:2], gcm256, cbc2[2:], rsaGCM, rsaCBC2), true},
	{"AWS-TLS13-1-2-Ext2-2021-06", tls12To13, ciphers(gcm128, cbc2, cbc1, gcm256, rsaGCM, rsaCBC2, rsaCBC1), true},
	{"AWS-TLS13-1-1-2021-06", tls11To13, oldCiphers(gcm128, cbc2, cbc1, gcm256, rsaGCM, rsaCBC2, rsaCBC1), true},
	{"AWS-TLS13-1-0-2021-06", tls10To13, oldCiphers(gcm128, cbc2, cbc1, gcm256, rsaGCM, rsaCBC2, rsaCBC1), true},
	{"AWS-FS-1-2-Res-2020-10", tls12, ciphers(gcm128, gcm256), true},
	{"AWS-FS-1-2-Res-2019-08", tls12, ciphers(gcm128, cbc2[:2], gcm256, cbc2[2:]), true},
	{"AWS-FS-1-2-2019-08", tls12, ciphers(gcm128, cbc2, gcm256, cbc1), true},
	{"AWS-FS-1-1-2019-08", tls11To12, oldCiphers(gcm128, cbc2, gcm256, cbc1), true},
	{"AWS-FS-2018-06", tls10To12, oldCiphers(gcm128, cbc2, gcm256, cbc1), true},
	{"AWS-TLS-1-2-2017-01", tls12, ciphers(gcm128, cbc2[:2], gcm256, cbc2[2:], rsaGCM, rsaCBC2), true},
	{"AWS-TLS-1-2-Ext-2018-06", tls12, ciphers(gcm128, cbc2, gcm256, cbc1, rsaGCM, rsaCBC2, rsaCBC1), true},
	{"AWS-TLS-1-1-2017-01", tls11To12, oldCiphers(gcm128, cbc2, gcm256, cbc1, rsaGCM, rsaCBC2, rsaCBC1), true},
	{"AWS-2016-08", tls10To12, oldCiphers(gcm128, cbc2, gcm256, cbc1, rsaGCM, rsaCBC2, rsaCBC1), true},
	{"AWS-2015-05", tls10To12, oldCiphers(gcm128, cbc2, gcm256, cbc1, rsaGCM, rsaCBC2, rsaCBC1, rsa3DES), true},
	{"AWS-2015-03", tls10To12, oldCiphers(gcm128, cbc2, gcm256, cbc1, dheCBC, rsaGCM, rsaCBC2, rsaCBC1, rsa3DES), true},
	{"AWS-2015-02", tls10To12, oldCiphers(gcm128, cbc2, gcm256, cbc1, dheCBC, rsaGCM, rsaCBC2, rsaCBC1), true},
}

func policyNames() (names []string) {
	for _, p := range TLSPolicies {
		names = append(names, p.Name)
	}
	return names
}

// PolicyNamed returns the policy of that name; the empty name is the default's.
func PolicyNamed(name string) (TLSPolicy, bool) {
	if name == "" {
		name = DefaultTLSPolicy
	}
	i := slices.IndexFunc(TLSPolicies, func(p TLSPolicy) bool { return p.Name == name })
	if i < 0 {
		return TLSPolicy{}, false
	}
	return TLSPolicies[i], true
}
