package acme

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	acmez "github.com/mholt/acmez/v3/acme"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/pattern"
)

// Begin makes an order and says what has to be answered: one challenge for each name that is not proven yet,
// of the first of its kinds that the CA offers.
func (ca *CA) Begin(ctx context.Context, a certs.Account, o certs.Order, kinds func(name string) []string) (certs.Pending, error) {
	var p certs.Pending
	acc, err := account(a)
	if err != nil {
		return p, err
	}
	err = ca.session(ctx, 10+2*len(o.Names), func(ctx context.Context, s session) error {
		wanted, err := s.wanted(ctx, o)
		if err != nil {
			return err
		}
		order, err := s.NewOrder(ctx, acc, wanted)
		if err != nil {
			failed := s.failure(err)
			failed.Names = ours(failed.Names, o.Names)
			return failed
		}
		p = certs.Pending{URL: order.Location, Names: o.Names, Finalize: order.Finalize, Expires: order.Expires}
		if err := sound(order, o.Names); err != nil {
			return err
		}
		for _, at := range order.Authorizations {
			auth, err := s.GetAuthorization(ctx, acc, at)
			if err != nil {
				return err
			}
			name := nameOf(auth)
			switch {
			case !slices.Contains(o.Names, name):
				return fmt.Errorf("it wants to see %.100q proven, for which the order is not", name)
			case auth.Status == acmez.StatusValid:
				continue
			case auth.Status != acmez.StatusPending:
				return s.refused(ctx, acc, order, o.Names)
			}
			c, err := choose(auth, kinds(name))
			if err != nil {
				return err
			}
			p.Challenges = append(p.Challenges, c)
		}
		return nil
	})
	if err != nil {
		return certs.Pending{}, err
	}
	return p, nil
}

// wanted is the order as it is sent.
func (s session) wanted(ctx context.Context, o certs.Order) (acmez.Order, error) {
	dir, err := s.GetDirectory(ctx)
	if err != nil {
		return acmez.Order{}, err
	}
	out := acmez.Order{Profile: o.Profile}
	if dir.RenewalInfo != "" { // a CA without it need not know the field
		out.Replaces = o.Replaces
	}
	if o.Profile != "" {
		var offered []string
		if dir.Meta != nil {
			offered = slices.Sorted(maps.Keys(dir.Meta.Profiles))
		}
		if !slices.Contains(offered, o.Profile) {
			detail := fmt.Sprintf("%.60q is not one of its profiles, which are %.60q", o.Profile, offered[:min(len(offered), 10)])
			return out, &certs.CAError{Type: certs.ProfileNotOffered, Detail: cut(detail)}
		}
	}
	for _, name := range o.Names {
		id := acmez.Identifier{Type: "dns", Value: name}
		if _, err := netip.ParseAddr(name); err == nil {
			id.Type = "ip"
		}
		out.Identifiers = append(out.Identifiers, id)
	}
	return out, nil
}

// sound says what is wrong with an order that a CA made.
func sound(o acmez.Order, names []string) error {
	var got []string
	for _, id := range o.Identifiers {
		got = append(got, plain(id.Value))
	}
	want := slices.Clone(names)
	slices.Sort(got)
	slices.Sort(want)
	switch {
	case !slices.Equal(got, want):
		return fmt.Errorf("it made an order for other names: %.60q", got[:min(len(got), 10)])
	case !httpsURL(o.Location) || !httpsURL(o.Finalize):
		return fmt.Errorf("the order has no URL: %.200q", o.Location)
	case len(o.Authorizations) > len(names):
		return fmt.Errorf("the order has %d authorizations for %d names", len(o.Authorizations), len(names))
	}
	return nil
}

// nameOf is the name that an authorization is about, as in the order.
func nameOf(auth acmez.Authorization) string { return plain(auth.IdentifierValue()) }

// plain is a name as certs.Wish has it.
func plain(name string) string {
	if addr, err := netip.ParseAddr(name); err == nil {
		return addr.String()
	}
	return strings.ToLower(name)
}

// choose takes the challenge of the first kind that is offered.
func choose(auth acmez.Authorization, kinds []string) (certs.Challenge, error) {
	name := nameOf(auth)
	var offered []string
	for _, kind := range kinds {
		for _, c := range auth.Challenges[:min(len(auth.Challenges), 20)] {
			if c.Type != kind {
				offered = append(offered, c.Type)
				continue
			}
			if !tokenForm.MatchString(c.Token) || !httpsURL(c.URL) {
				return certs.Challenge{}, fmt.Errorf("the challenge for %s has the token %.200q", name, c.Token)
			}
			out := certs.Challenge{Name: name, Type: kind, URL: c.URL, Auth: auth.Location, Token: c.Token, Answer: c.KeyAuthorization}
			if kind == certs.DNS01 {
				out.Record, out.Value = strings.ToLower(c.DNS01TXTRecordName()), c.DNS01KeyAuthorization()
				out.Token, out.Answer = "", ""
			}
			return out, nil
		}
	}
	slices.Sort(offered)
	detail := fmt.Sprintf("%s can be proven only by %.40q, not by %q", name, slices.Compact(offered), kinds)
	return certs.Challenge{}, &certs.CAError{Type: certs.ChallengeNotOffered, Names: []string{name}, Detail: cut(detail)}
}

// tokenForm is that of a token (RFC 8555, section 8.3), so that it may be a file's name.
var tokenForm = pattern.Of(128, `[A-Za-z0-9_-]+`)
