// Package zone writes the TXT records of DNS-01 into hosted zones of Route 53.
package zone

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/route53"

	"github.com/nagaya-ecs/nagaya/agent/pattern"
)

const (
	ttl        = 60              // s, of the record sets
	syncMost   = 3 * time.Minute // until all name servers have a change; AWS says that most take a minute
	retryMost  = 2 * time.Minute // of one call that is throttled
	mostValues = 100             // of one record set
	mostRaces  = 50              // lost in one change
)

// valueForm is base64url.
var valueForm = pattern.Of(255, `[A-Za-z0-9_-]+`)

// API is what is asked of Route 53, a *route53.Client.
type API interface {
	ListResourceRecordSets(context.Context, *route53.ListResourceRecordSetsInput, ...func(*route53.Options)) (*route53.ListResourceRecordSetsOutput, error)
	ChangeResourceRecordSets(context.Context, *route53.ChangeResourceRecordSetsInput, ...func(*route53.Options)) (*route53.ChangeResourceRecordSetsOutput, error)
	GetChange(context.Context, *route53.GetChangeInput, ...func(*route53.Options)) (*route53.GetChangeOutput, error)
}

// Zones are those that may be changed. Several goroutines, and several agents, may change one record at once.
type Zones struct {
	api API
	ids map[string]string // of the zones, by their names
}

// New reads zones as the setting certs.acme.zones names them: NAME=ID, which package config has checked. It asks nothing.
func New(zones []string, api API) (*Zones, error) {
	z := &Zones{api: api, ids: map[string]string{}}
	for _, text := range zones {
		name, id, _ := strings.Cut(text, "=")
		name, id = plain(name), strings.TrimPrefix(id, "/hostedzone/")
		if other, twice := z.ids[name]; twice && other != id {
			return nil, fmt.Errorf("certs.acme.zones: %s has two zones, %s and %s: name the public one alone", name, other, id)
		}
		z.ids[name] = id
	}
	return z, nil
}

// plain is a name as it is compared: in lower case without the last dot.
func plain(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// Covers reports whether the name, which may be a wildcard, is in one of the zones.
func (z *Zones) Covers(name string) bool {
	_, _, found := z.of(strings.TrimPrefix(name, "*."))
	return found
}

// of is the zone that a name is in: the one with the longest name.
func (z *Zones) of(name string) (zone, id string, found bool) {
	if _, err := netip.ParseAddr(name); err == nil {
		return "", "", false
	}
	for name = plain(name); name != ""; {
		if id, found = z.ids[name]; found {
			return name, id, true
		}
		_, name, _ = strings.Cut(name, ".")
	}
	return "", "", false
}

// Add adds a value to the TXT record, beside others that are there, and returns when all name servers have
// it, or after 3 minutes with an error.
func (z *Zones) Add(ctx context.Context, record, value string) error {
	set, err := z.set(record, value)
	if err != nil {
		return err
	}
	change, err := set.change(ctx, true)
	if err != nil {
		return err
	}
	return set.wait(ctx, change)
}

// Remove takes a value away again, and the record with its last one; what is not there is no error.
func (z *Zones) Remove(ctx context.Context, record, value string) error {
	set, err := z.set(record, value)
	if err != nil {
		return err
	}
	_, err = set.change(ctx, false)
	return err
}

// set is the record set of a record, and the value that is to be changed in it. A value is a digest in base64url (RFC 8555, section 8.4).
func (z *Zones) set(record, value string) (recordSet, error) {
	zone, id, found := z.of(record)
	if !strings.HasPrefix(plain(record), "_acme-challenge.") { // it may come from the store, which others write
		return recordSet{}, fmt.Errorf("%.253q is no record of a challenge", record)
	}
	if !found {
		return recordSet{}, fmt.Errorf("%.253q is in none of the zones of certs.acme.zones", record)
	}
	if !valueForm.MatchString(value) {
		return recordSet{}, fmt.Errorf("the value %.100q for %s is not base64url", value, record)
	}
	return recordSet{z, zone, id, plain(record), `"` + value + `"`}, nil
}
