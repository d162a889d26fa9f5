package simaws

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// signatureFits computes the signature of a request of S3 again (IAM User Guide, "Create a signed AWS API
// request"). Its payload is judged apart.
func (w *World) signatureFits(r *http.Request) bool {
	fields := map[string]string{}
	for f := range strings.SplitSeq(strings.TrimPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 "), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(f), "=")
		fields[name] = value
	}
	id, scope, _ := strings.Cut(fields["Credential"], "/")
	parts := strings.Split(scope, "/")
	k, known := w.keys[id]
	if !known || len(parts) != 4 {
		return false
	}
	path, _, _ := strings.Cut(r.RequestURI, "?")
	canonical := []string{r.Method, path, canonicalQuery(r.URL.Query())}
	for name := range strings.SplitSeq(fields["SignedHeaders"], ";") {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = strconv.FormatInt(r.ContentLength, 10)
		}
		canonical = append(canonical, name+":"+strings.Join(strings.Fields(value), " "))
	}
	canonical = append(canonical, "", fields["SignedHeaders"], r.Header.Get("X-Amz-Content-Sha256"))
	sum := sha256.Sum256([]byte(strings.Join(canonical, "\n")))
	key := []byte("AWS4" + k.secret)
	for _, part := range parts {
		key = mac(key, part)
	}
	want := mac(key, strings.Join([]string{"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"), scope, hex.EncodeToString(sum[:])}, "\n"))
	return hex.EncodeToString(want) == fields["Signature"]
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// canonicalQuery is sorted by names, then by values.
func canonicalQuery(q url.Values) string {
	var all []string
	for _, name := range sortedKeys(q) {
		values := slices.Sorted(slices.Values(q[name]))
		for _, v := range values {
			all = append(all, strings.ReplaceAll(url.QueryEscape(name)+"="+url.QueryEscape(v), "+", "%20"))
		}
	}
	return strings.Join(all, "&")
}
