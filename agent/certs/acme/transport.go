package acme

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/pattern"
)

const (
	mostBody   = 1 << 20 // bytes of one answer
	mostFailed = 2       // failures of one call, after which it ends
	mostNonces = 5       // refused nonces in a row, after which it ends
	mostLeft   = 7 * 24 * time.Hour
)

// answers counts the requests of one call and keeps the last answer. acmez v3.1.7 sends a request again up
// to 3 times, and those with a body 3 times more, whatever Retry-After says, and polls as often as it likes;
// ending the call's context ends that.
type answers struct {
	left   int // requests that may still be made
	end    context.CancelCauseFunc
	failed int
	nonces int

	// Of the last answer: its status, 0 for none; Retry-After; the problem; the body; why there was none.
	status  int
	retry   time.Time
	problem acmez.Problem
	body    []byte
	err     error
}

type answersOf struct{} // key of the context's value

// transport bounds what a CA can make the agent do.
type transport struct {
	base *http.Transport
	log  *slog.Logger
}

func (t *transport) CloseIdleConnections() { t.base.CloseIdleConnections() }

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	a, ok := req.Context().Value(answersOf{}).(*answers)
	if !ok {
		return nil, errors.New("a request of no call")
	}
	a.status, a.retry, a.problem, a.body, a.err = 0, time.Time{}, acmez.Problem{}, nil, nil
	ctx, cancel := context.WithTimeout(req.Context(), requestTimeout)
	defer cancel()
	var resp *http.Response
	switch a.left--; {
	case a.left < 0:
		a.err = errors.New("the CA makes for too many requests")
	case req.URL.Scheme != "https": // directories and orders name URLs
		a.err = fmt.Errorf("the CA names %.200q, which is no URL with https", req.URL.Redacted())
	default:
		if resp, a.err = t.base.RoundTrip(req.WithContext(ctx)); a.err == nil {
			a.read(resp)
		}
	}
	switch {
	case a.status == http.StatusBadRequest && a.problem.Type == acmez.ProblemTypeBadNonce:
		a.nonces++
	case a.err != nil && ctx.Err() != nil:
		a.err, a.failed = fmt.Errorf("no answer within %s", requestTimeout), mostFailed // it would hang again
	case a.err != nil || a.status >= 500:
		a.failed++
	default:
		a.nonces = 0
	}
	if a.left < 0 || a.failed >= mostFailed || a.nonces >= mostNonces || a.status == http.StatusTooManyRequests ||
		a.status >= 500 && !a.retry.IsZero() {
		a.end(errors.New("no more requests in this call"))
	}
	t.log.Debug("the CA was asked", "url", req.URL.String(), "reason", http.StatusText(a.status), "err", a.err)
	if a.err != nil {
		return nil, a.err
	}
	return resp, nil
}

// read takes an answer's body, so that what was read stands even if the call ends with it.
func (a *answers) read(resp *http.Response) {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, mostBody+1))
	if err == nil && len(body) > mostBody {
		err = fmt.Errorf("its answer is larger than %d bytes", mostBody)
	}
	if a.err = err; err != nil {
		return
	}
	a.status, a.body = resp.StatusCode, body
	a.retry = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	if a.status >= 400 {
		_ = json.Unmarshal(body, &a.problem) // what is none has no type
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
}

// retryAfter reads seconds or a date (RFC 9110, section 10.2.3). Zero is for none and for what is neither.
func retryAfter(text string, now time.Time) time.Time {
	at, err := http.ParseTime(text)
	if n, notNumber := strconv.ParseUint(text, 10, 31); notNumber == nil {
		at, err = now.Add(time.Duration(n)*time.Second), nil
	}
	if err != nil {
		return time.Time{}
	}
	if most := now.Add(mostLeft); at.After(most) {
		at = most
	}
	return at
}

// failure is the error of a call, from the last answer. err says what was wrong with one that is no error.
func (a *answers) failure(err error) *certs.CAError {
	out := &certs.CAError{Status: a.status, RetryAfter: a.retry}
	switch {
	case a.status >= 400:
		out.Type, out.Detail = problemType(a.problem.Type), cut(a.problem.Detail)
		for _, sub := range a.problem.Subproblems {
			out.Names = append(out.Names, sub.Identifier.Value)
		}
		out.Err = errors.New(strings.ToLower(http.StatusText(a.status)))
	case a.err != nil:
		out.Err = a.err // of the network, or of ours
	case err != nil:
		out.Err = fmt.Errorf("%.300q", err.Error())
	default:
		out.Err = errors.New("nothing of use")
	}
	return out
}

// problemType is the last part of a problem's type, empty where that is no word.
func problemType(urn string) string {
	word := urn[strings.LastIndexAny(urn, ":/#")+1:]
	if !typeForm.MatchString(word) {
		return ""
	}
	return word
}

var typeForm = pattern.Of(64, `[A-Za-z0-9]*`)

// cut bounds a text of the CA's.
func cut(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), 1000)], "")
}

// ours are those of the names that an order is for.
func ours(names, all []string) []string {
	names = slices.DeleteFunc(names, func(name string) bool { return !slices.Contains(all, name) })
	slices.Sort(names)
	return slices.Compact(names)
}
