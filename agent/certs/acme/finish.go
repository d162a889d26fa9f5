package acme

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/certs"
)

// Finish has the CA look at the answers, waits for it, at most 3 minutes, and returns the chain as PEM for the
// request (CSR, DER). It goes on with an order in any state.
func (ca *CA) Finish(ctx context.Context, a certs.Account, p certs.Pending, csr []byte) (string, error) {
	acc, err := account(a)
	if err != nil {
		return "", err
	}
	var chain string
	err = ca.session(ctx, 40+10*len(p.Names), func(ctx context.Context, s session) error {
		chain, err = s.finish(ctx, acc, p, csr)
		return err
	})
	return chain, err
}

// finish looks at the order again after each step, as another agent may have been here before.
func (s session) finish(ctx context.Context, acc acmez.Account, p certs.Pending, csr []byte) (string, error) {
	end := time.Now().Add(finishTimeout)
	answered, finalized := false, false
	for wait := 250 * time.Millisecond; ; wait = min(wait*3/2, 5*time.Second) {
		order, err := s.GetOrder(ctx, acc, acmez.Order{Location: p.URL})
		if err != nil {
			return "", s.over(err)
		}
		if err := sound(order, p.Names); err != nil {
			return "", err
		}
		switch order.Status {
		case acmez.StatusPending:
			if !answered {
				if err := s.answer(ctx, acc, order, p); err != nil {
					return "", err
				}
			}
			answered = true
		case acmez.StatusReady:
			if !finalized {
				// Its error may be that of a state that the order is in; the next look tells.
				_, err := s.FinalizeOrder(ctx, acc, order, csr)
				if s.err != nil || s.status >= 400 && s.problem.Type != acmez.ProblemTypeOrderNotReady {
					return "", s.over(err)
				}
			}
			finalized = true
		case acmez.StatusProcessing:
		case acmez.StatusValid:
			return s.download(ctx, acc, order)
		case acmez.StatusInvalid:
			return "", s.refused(ctx, acc, order, p.Names)
		default:
			return "", fmt.Errorf("the order is %.60q, which is no status of one", order.Status)
		}
		if !s.retry.IsZero() {
			wait = min(max(time.Until(s.retry), 100*time.Millisecond), 30*time.Second)
		}
		if time.Now().Add(wait).After(end) {
			return "", &certs.CAError{Status: s.status, Err: fmt.Errorf("the order is still %s after %s", order.Status, finishTimeout)}
		}
		if !backoff.Sleep(ctx, wait) {
			return "", ctx.Err()
		}
	}
}

// answer tells the CA to look at what was not looked at yet.
func (s session) answer(ctx context.Context, acc acmez.Account, order acmez.Order, p certs.Pending) error {
	for _, at := range order.Authorizations {
		auth, err := s.GetAuthorization(ctx, acc, at)
		if err != nil {
			return s.over(err)
		}
		if auth.Status != acmez.StatusPending {
			continue // the order tells, if it is no good
		}
		i := slices.IndexFunc(auth.Challenges, func(c acmez.Challenge) bool {
			return slices.ContainsFunc(p.Challenges, func(own certs.Challenge) bool { return own.URL == c.URL })
		})
		if i < 0 {
			return &certs.CAError{Status: s.status, Names: ours([]string{nameOf(auth)}, p.Names), Over: true, Type: certs.ChallengeNotOffered, Detail: "none of its challenges has been answered here"}
		}
		if c := auth.Challenges[i]; c.Status == acmez.StatusPending {
			if _, err := s.InitiateChallenge(ctx, acc, acmez.Challenge{URL: c.URL}); err != nil {
				return s.over(err)
			}
		}
	}
	return nil
}

// over is the error of a request about an order. What the CA refuses, it refuses for good.
func (s session) over(err error) error {
	out := s.failure(err)
	out.Over = s.status >= 400 && s.status < 500 && s.status != http.StatusTooManyRequests && s.status != http.StatusRequestTimeout &&
		s.problem.Type != acmez.ProblemTypeBadNonce
	return out
}

// refused is the error of an order that is invalid: what the CA said about each name.
func (s session) refused(ctx context.Context, acc acmez.Account, order acmez.Order, names []string) error {
	out := &certs.CAError{Status: s.status, Over: true}
	var details []string
	for _, at := range order.Authorizations {
		auth, err := s.GetAuthorization(ctx, acc, at)
		if err != nil {
			break // what is known already says enough
		}
		if auth.Status == acmez.StatusPending || auth.Status == acmez.StatusValid {
			continue
		}
		why := acmez.Problem{Detail: "its authorization is " + auth.Status}
		for _, c := range auth.Challenges {
			if c.Error != nil {
				why = *c.Error
			}
		}
		if out.Type == "" {
			out.Type = problemType(why.Type)
		}
		out.Names = append(out.Names, nameOf(auth))
		details = append(details, nameOf(auth)+": "+why.Detail)
	}
	if order.Error != nil && len(details) == 0 {
		out.Type, details = problemType(order.Error.Type), []string{order.Error.Detail}
		for _, sub := range order.Error.Subproblems {
			out.Names = append(out.Names, sub.Identifier.Value)
		}
	}
	out.Names, out.Detail = ours(out.Names, names), cut(strings.Join(details, "; "))
	if out.Detail == "" {
		out.Detail = "the order is invalid"
	}
	return out
}
