package labels

import (
	"strconv"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/config"
)

// Configured returns what the configuration says for routes that say nothing. In it 0 is no
// limit, while here it is the default.
func Configured(all config.Config) Defaults {
	c := all.Routes
	d := Defaults{
		BodySize: c.BodySize, Timeout: c.Timeout, TLS: HTTPSMethods[c.HTTPSMethod], HSTS: c.HSTS, TLSPolicy: c.TLSPolicy,
		OwnCertOnly: !c.DefaultCert, HTTPSOnly: !c.HTTPWithoutCert, Expressions: c.Expressions,
		MaxBodySize: c.MaxBodySize, MaxTimeout: c.MaxTimeout, MaxKeepalive: c.MaxKeepalive, ACME: certs.Configured(all.Certs, ""),
	}
	if d.BodySize == 0 {
		d.BodySize = -1
	}
	// What nginx does without being told is not written for each site.
	if d.TLSPolicy == config.DefaultTLSPolicy {
		d.TLSPolicy = ""
	}
	if code, err := strconv.Atoi(c.RedirectCode); err == nil && code != 308 {
		d.RedirectCode = code
	}
	return d
}
