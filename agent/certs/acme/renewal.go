package acme

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	acmez "github.com/mholt/acmez/v3/acme"

	"github.com/nagaya-ecs/nagaya/agent/certs"
)

// Renewal asks when a certificate, by its certs.Held.CertID, should be renewed (RFC 9773), and returns what the CA says: whether that makes
// sense, certs.Ledger.Answer judges. Again is zero if it does not say.
func (ca *CA) Renewal(ctx context.Context, id string) (certs.Window, error) {
	var w certs.Window
	err := ca.session(ctx, 10, func(ctx context.Context, s session) error {
		dir, err := s.GetDirectory(ctx)
		if err != nil {
			return err
		}
		if dir.RenewalInfo == "" {
			return nil
		}
		// acmez v3.1.7 asks three times where the window makes no sense, and waits 7 s meanwhile.
		if err := ca.get(ctx, dir.RenewalInfo+"/"+id); err != nil {
			return err
		}
		w.Again = s.retry
		switch {
		case s.status == http.StatusNotFound, s.status == http.StatusBadRequest: // the certificate is another CA's
			return nil
		case s.status != http.StatusOK:
			return errors.New("no renewal information")
		}
		var info acmez.RenewalInfo
		if err := json.Unmarshal(s.body, &info); err != nil {
			return fmt.Errorf("the renewal information: %w", err)
		}
		w.Start, w.End = info.SuggestedWindow.Start, info.SuggestedWindow.End
		w.Supported = true
		return nil
	})
	if err != nil {
		return certs.Window{}, err
	}
	return w, nil
}

// get makes one request; the session has the answer.
func (ca *CA) get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", ca.o.UserAgent)
	resp, err := ca.http.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
