package acme

import (
	"context"
	"fmt"
	"strings"

	acmez "github.com/mholt/acmez/v3/acme"

	"github.com/nagaya-ecs/nagaya/agent/certs"
)

// Register finds the account that the key has, or makes one, and returns it with its URL. To make it is to
// agree to the CA's terms of service. The binding is used only where there is no account yet, as some
// CAs take each only once.
func (ca *CA) Register(ctx context.Context, a certs.Account, eab certs.Binding) (certs.Account, error) {
	acc, err := account(a)
	if err != nil {
		return a, err
	}
	acc.Location, acc.TermsOfServiceAgreed = "", true
	err = ca.session(ctx, 10, func(ctx context.Context, s session) error {
		dir, err := s.GetDirectory(ctx)
		if err != nil {
			return err
		}
		got, err := s.GetAccount(ctx, acc)
		switch {
		case err == nil:
		case s.problem.Type == acmez.ProblemTypeUnauthorized: // RFC 8555, section 7.3.6
			return &certs.CAError{Status: s.status, Type: certs.AccountDeactivated, Detail: cut(s.problem.Detail)}
		case s.problem.Type == acmez.ProblemTypeAccountDoesNotExist:
			if err := s.bind(ctx, dir, &acc, eab); err != nil {
				return err
			}
			got, err = s.NewAccount(ctx, acc)
		}
		if err != nil {
			return err
		}
		if got.Status != acmez.StatusValid && got.Status != "" {
			return &certs.CAError{Status: s.status, Type: certs.AccountDeactivated, Detail: "the account is " + cut(got.Status)}
		}
		if !httpsURL(got.Location) {
			return fmt.Errorf("the account has no URL: %.200q", got.Location)
		}
		a.URL = got.Location
		return nil
	})
	return a, err
}

// bind puts the binding into an account that is about to be made.
func (s session) bind(ctx context.Context, dir acmez.Directory, acc *acmez.Account, eab certs.Binding) error {
	switch {
	case eab.KeyID != "":
		// CAs print the key in either alphabet, some with padding.
		mac := strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(eab.MACKey), "=")
		if err := acc.SetExternalAccountBinding(ctx, s.Client, acmez.EAB{KeyID: eab.KeyID, MACKey: mac}); err != nil {
			return &certs.CAError{Type: "externalAccountRequired", Detail: "the MAC key of the external account binding is not in base64url"}
		}
	case dir.Meta != nil && dir.Meta.ExternalAccountRequired:
		return &certs.CAError{Type: "externalAccountRequired", Detail: "the CA makes accounts only with an external account binding"}
	}
	return nil
}
