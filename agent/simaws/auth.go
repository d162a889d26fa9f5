package simaws

import (
	"net/http"
	"strings"
	"time"
)

// roleKey is one set of role credentials that IMDS has handed out.
type roleKey struct {
	instance string
	secret   string
	token    string
	issued   time.Time
	expires  time.Time
}

const (
	roleLife = 6 * time.Hour
	// roleRenew is how long before their end credentials are replaced.
	roleRenew = time.Hour
	// keptKeys bounds the credentials that are remembered.
	keptKeys = 10000
)

// roleCredentials returns credentials of the instance's role that are good for
// an hour at least.
func (w *World) roleCredentials(instanceID string) (accessKey string, k roleKey) {
	now := w.wall()
	for id, k := range w.keys {
		if k.instance == instanceID && k.expires.Sub(now) > roleRenew {
			return id, k
		}
	}
	for id, k := range w.keys {
		if k.expires.Before(now) || len(w.keys) >= keptKeys {
			delete(w.keys, id)
		}
	}
	accessKey = "ASIA" + strings.ToUpper(w.hex(16))
	k = roleKey{instance: instanceID, secret: w.hex(40), token: "sim-" + w.hex(64), issued: now, expires: now.Add(roleLife)}
	w.keys[accessKey] = k
	return accessKey, k
}

// RevokeCredentials makes all role credentials of an instance unknown, as when
// its role is taken away; IMDS hands out new ones at the next question.
func (w *World) RevokeCredentials(instanceID string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, k := range w.keys {
		if k.instance == instanceID {
			delete(w.keys, id)
		}
	}
}

// refusal is why a request is not let in. Each protocol has its own code for it.
type refusal int

const (
	letIn refusal = iota
	notSigned
	wrongScope
	unknownKey
	expiredKey
)

// signedFor reports whether a service takes signatures for the Region. A bucket may be in any Region
// (the answer of a wrong one names the right one). Route 53 signs for us-east-1, and an SDK with an
// endpoint of its own for the Region that it has.
func (w *World) signedFor(scope, region string) bool {
	return region == w.region || scope == "s3" || scope == "route53" && region == "us-east-1"
}

// authenticate looks at the SigV4 Authorization header: it must be there, its
// credential scope must name this service and Region, and the access key and
// session token must be ones that IMDS gave to an instance. The signature itself
// is computed for S3 alone. The text says what is wrong with the scope.
func (w *World) authenticate(r *http.Request, scope string) (instanceID string, why refusal, text string) {
	fields, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return "", notSigned, ""
	}
	parts := map[string]string{}
	for f := range strings.SplitSeq(fields, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(f), "=")
		parts[name] = value
	}
	credential := strings.Split(parts["Credential"], "/")
	if len(credential) != 5 || parts["SignedHeaders"] == "" || len(parts["Signature"]) != 64 || r.Header.Get("X-Amz-Date") == "" {
		return "", notSigned, ""
	}
	switch {
	case !w.signedFor(scope, credential[2]):
		return "", wrongScope, "Credential should be scoped to a valid Region, not '" + credential[2] + "'."
	case credential[3] != scope:
		return "", wrongScope, "Credential should be scoped to correct service: '" + scope + "'."
	case credential[4] != "aws4_request":
		return "", wrongScope, "Credential should be scoped with a valid terminator: 'aws4_request'."
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	k, known := w.keys[credential[0]]
	switch {
	case !known || k.token != r.Header.Get("X-Amz-Security-Token"):
		return "", unknownKey, ""
	case !k.expires.After(w.wall()):
		return "", expiredKey, ""
	}
	return k.instance, letIn, ""
}
