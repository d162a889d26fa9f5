package nginxproxy

import (
	"errors"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/labels"
	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// orders are acme-companion's words about certificates (github.com/nginx-proxy/acme-companion, docs). Of those
// that have two names the newer one counts. A mistake in one costs no route.
var orders = slices.Concat(
	renamed("HOST", "hosts of this family for which one certificate is ordered, where certs.acme.email is set", "host names with commas or white space between them", "none: nothing is ordered",
		ordering("no certificate is ordered by it", setOrdered)),
	renamed("SINGLE_DOMAIN_CERTS", "whether each of these hosts gets a certificate of its own", "true, false", "false",
		ordering("it counts as false", setSingle)),
	renamed("KEYSIZE", "kind of their keys: ECDSA on P-256 (ec-256, ec-384), or RSA of 2048 bits (2048, 3072, 4096)", "2048, 3072, 4096, ec-256, ec-384", "certs.acme.key",
		ordering("certs.acme.key holds", setKeyType)),
	[]labels.Word{
		labels.NewWord("ACME_CERT_PROFILE", "their profile, where the CA has it", "the name of a profile", "certs.acme.profile",
			ordering("certs.acme.profile holds", setProfile)),
		labels.NewWord("ACME_CA_URI", "the CA to order from", "one of certs.acme.directory", "certs.acme.directory",
			ordering("certs.acme.directory holds", setDirectory)),
		labels.NewWord("LETSENCRYPT_TEST", "whether to order from the CA's staging directory, whose certificates no browser takes", "true, false", "false",
			ordering("no certificate is ordered for these hosts", setTest)),
	},
)

// renamed is a word that is ACME_ and LETSENCRYPT_ something.
func renamed(word, meaning, allowed, otherwise string, set func(*route.Spec, string) error) []labels.Word {
	return []labels.Word{
		labels.NewWord("ACME_"+word, meaning, allowed, otherwise, set),
		labels.NewWord("LETSENCRYPT_"+word, "as ACME_"+word, allowed, otherwise, set),
	}
}

// staging stands for the staging directory until the operator's settings are known.
const staging = "staging"

// ordering is a setter whose errors leave the route in place; otherwise says what holds then.
func ordering(otherwise string, set func(x *route.Issue, v string) error) func(*route.Spec, string) error {
	return func(s *route.Spec, v string) error {
		if v == "" {
			return nil // as in many files of Compose
		}
		err := set(&s.ACME, v)
		if err != nil && !labels.InPart(err) {
			return labels.Partial{Err: err, Used: otherwise}
		}
		return err
	}
}

func setOrdered(x *route.Issue, v string) error {
	if x.Names != nil {
		return nil // the newer word, which comes first in the order of names
	}
	all, err := labels.Hosts(v, labels.Separators, labels.ParseHost)
	x.Names = slices.DeleteFunc(all, func(h string) bool { return h[0] == '[' })
	return err
}

func setSingle(x *route.Issue, v string) error {
	on, err := labels.ParseSwitch(v)
	x.Single = x.Single || on
	return err
}

func setKeyType(x *route.Issue, v string) error {
	k, err := meaning(map[string]certs.KeyType{"2048": certs.RSA, "3072": certs.RSA, "4096": certs.RSA, "ec-256": certs.ECDSA, "ec-384": certs.ECDSA})(strings.ToLower(v))
	if x.KeyType == "" {
		x.KeyType = k
	}
	return err
}

var profileForm = pattern.Of(64, `[A-Za-z0-9][A-Za-z0-9._-]*`)

func setProfile(x *route.Issue, v string) error {
	if !profileForm.MatchString(v) {
		return errors.New("not the name of a profile")
	}
	x.Profile = v
	return nil
}

func setDirectory(x *route.Issue, v string) error {
	if len(v) > 1024 || !strings.HasPrefix(v, "https://") {
		return errors.New("not an https URL")
	}
	x.Directory = v
	return nil
}

func setTest(x *route.Issue, v string) error {
	on, err := labels.ParseSwitch(v)
	if err != nil {
		x.Names = nil // better none than from the CA that was not to be used
	} else if on {
		x.Directory = staging
	}
	return err
}

// allowed takes out what the operator does not order, and says so.
func allowed(ref string, x *route.Issue, o certs.Settings) []problem.Problem {
	x.Listed = true
	report := func(word, hint, format string, args ...any) []problem.Problem {
		return []problem.Problem{labels.Problem(ref, word, problem.Warning, "label-limited", hint, format, args...)}
	}
	switch at := x.Directory; {
	case len(x.Names) == 0:
	case at == staging:
		if i := slices.IndexFunc(o.Directories, func(d string) bool { return o.StagingOf(d) != "" }); i >= 0 {
			x.Directory = o.StagingOf(o.Directories[i])
			return nil
		}
		x.Names = nil
		return report("LETSENCRYPT_TEST", "set certs.acme.staging, or remove LETSENCRYPT_TEST", "it asks for a certificate of a staging directory, and none is known, so none is ordered")
	case at != "" && !slices.Contains(o.Directories, at):
		x.Directory = ""
		return report("ACME_CA_URI", "add it to certs.acme.directory, or remove ACME_CA_URI", "it asks for a certificate of %s, which is not in certs.acme.directory, so the CAs of that setting are asked", problem.Quoted(at))
	}
	return nil
}
