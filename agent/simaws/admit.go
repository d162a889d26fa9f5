package simaws

import (
	"net/url"
	"slices"
	"strings"
	"time"
)

// admit judges a request whose caller is known, before its action looks at it:
// does EC2 know the role yet, may the role do that, is it one request too many.
func (w *World) admit(s apiService, r *request) *apiError {
	i := w.instances[r.instance]
	if i == nil {
		return failed("AuthFailure", "AWS was not able to validate the provided access credentials")
	}
	if s.name() == "ec2" {
		if w.Now().Sub(i.launched) < time.Duration(w.conditions.RoleUnknown) {
			return failed("AuthFailure", "AWS was not able to validate the provided access credentials")
		}
		if w.conditions.Throttling && !w.takeToken(r) {
			return failed("RequestLimitExceeded", "Request limit exceeded.")
		}
	}
	if s.name() == "route53" && w.conditions.Throttling && !w.takeToken(r) {
		return failed("Throttling", "Rate exceeded")
	}
	action := s.scope() + ":" + r.action
	switch s.name() {
	case "cloudwatch":
		action = "cloudwatch:" + r.action // signed for as "monitoring"
	case "s3":
		action = storePermission(r.action)
	}
	fail := w.allowed(i, action, s.deny())
	if fail != nil && s.name() == "ec2" {
		fail.message = "You are not authorized to perform this operation. " + fail.message
	}
	return fail
}

// allowed judges whether the role of an instance may do an action, such as kms:Decrypt.
func (w *World) allowed(i *instance, action, deny string) *apiError {
	if i.allow == nil || slices.ContainsFunc(i.allow, func(pattern string) bool { return wildcard(pattern, action) }) {
		return nil
	}
	return failed(deny, "User: arn:aws:sts::%s:assumed-role/%s/%s is not authorized to perform: %s because no identity-based policy allows the %s action",
		w.account, i.role, i.id, action, action)
}

// bucket is one token bucket of the account in the Region.
type bucket struct {
	tokens float64
	at     time.Time
}

// takeToken takes a token for the request out of the bucket of its kind, if there
// is one. The sizes and refill rates a second are AWS's (EC2 API reference,
// "Request throttling"): Describe calls that name what they want, those that do
// not, and calls that change something.
func (w *World) takeToken(r *request) bool {
	kind, size, refill := "mutating", 50.0, 5.0
	if strings.HasPrefix(r.action, "Describe") {
		kind, size, refill = "describe", 100, 20
		if form, err := url.ParseQuery(string(r.body)); err == nil && r.action != "DescribeAddresses" && isUnfiltered(form) {
			kind, size, refill = "unfiltered", 50, 10
		}
	}
	if strings.HasPrefix(r.http.URL.Path, zonePath) {
		kind, size, refill = "route53", 5, 5 // five requests a second for an account
	}
	now := w.Now()
	b := w.tokens[kind]
	if b == nil {
		b = &bucket{tokens: size, at: now}
		w.tokens[kind] = b
	}
	b.tokens = min(size, b.tokens+refill*now.Sub(b.at).Seconds())
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// isUnfiltered reports whether a Describe call asks for everything at once.
func isUnfiltered(form url.Values) bool {
	for name := range form {
		if strings.HasPrefix(name, "Filter.") || strings.HasSuffix(name, "Id.1") || name == "MaxResults" || strings.HasPrefix(name, "InstanceType.") {
			return false
		}
	}
	return true
}
