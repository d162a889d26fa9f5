package simaws

import (
	"encoding/xml"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// s3Service speaks the REST XML protocol of S3, with the bucket in the path or in the host's name.
type s3Service struct{}

const s3Namespace = "http://s3.amazonaws.com/doc/2006-03-01/"

// mostSkew is how far the clock of a caller may be off (S3 API reference, "RequestTimeTooSkewed").
const mostSkew = 15 * time.Minute

func (s3Service) name() string  { return "s3" }
func (s3Service) scope() string { return "s3" }

// action is the name of the operation. Whether there is a key decides between those on a bucket and
// those on an object.
func (s3Service) action(r *http.Request, _ []byte) string {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if inHost(r.Host) {
		key = strings.TrimPrefix(r.URL.Path, "/")
	}
	onObject := key != ""
	switch {
	case r.Method == http.MethodGet && onObject:
		return "GetObject"
	case r.Method == http.MethodHead && onObject:
		return "HeadObject"
	case r.Method == http.MethodPut && onObject:
		return "PutObject"
	case r.Method == http.MethodHead:
		return "HeadBucket"
	case r.Method == http.MethodGet && r.URL.Query().Get("list-type") == "2":
		return "ListObjectsV2"
	}
	return ""
}

// storePermission is the permission of IAM that an operation needs.
func storePermission(action string) string {
	switch action {
	case "ListObjectsV2", "HeadBucket":
		return "s3:ListBucket"
	case "HeadObject":
		return "s3:GetObject"
	}
	return "s3:" + action
}

// inHost reports whether a host's name begins with that of a bucket: an SDK keeps it in the path
// where the endpoint is an IP address.
func inHost(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	return net.ParseIP(strings.Trim(name, "[]")) == nil && strings.Contains(name, ".")
}

// target is the bucket and the key of a request.
func (w *World) target(r *http.Request) (b *storeBucket, key string, fail *apiError) {
	name, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if inHost(r.Host) {
		name, key = "", strings.TrimPrefix(r.URL.Path, "/")
		for _, known := range sortedKeys(w.buckets) {
			if strings.HasPrefix(r.Host, known+".") {
				name = known
			}
		}
	}
	b = w.buckets[name]
	if b == nil {
		return nil, "", failed("NoSuchBucket", "The specified bucket does not exist")
	}
	if region := signedRegion(r); region != b.spec.Region {
		fail := failed("PermanentRedirect", "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to this endpoint.")
		fail.header = map[string]string{"X-Amz-Bucket-Region": b.spec.Region}
		return nil, "", fail
	}
	return b, key, nil
}

// signedRegion is the Region in the credential scope.
func signedRegion(r *http.Request) string {
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	if parts := strings.Split(credential, "/"); len(parts) > 2 {
		return parts[2]
	}
	return ""
}

func (s s3Service) do(w *World, r *request) (reply, *apiError) {
	sent, err := time.Parse("20060102T150405Z", r.http.Header.Get("X-Amz-Date"))
	if err != nil {
		return reply{}, failed("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")
	}
	if off := w.wall().Sub(sent); off.Abs() > mostSkew {
		return reply{}, failed("RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
	}
	if !w.signatureFits(r.http) {
		return reply{}, failed("SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your key and signing method.")
	}
	b, key, fail := w.target(r.http)
	if fail != nil {
		return reply{}, fail
	}
	if r.action != "PutObject" && len(r.body) > 0 {
		return reply{}, failed("InvalidRequest", "A body was not expected")
	}
	switch r.action {
	case "GetObject", "HeadObject":
		return w.getObject(b, key, r)
	case "PutObject":
		return w.putObject(b, key, r)
	case "HeadBucket":
		return reply{status: 200, contentType: "application/xml", header: map[string]string{"X-Amz-Bucket-Region": b.spec.Region}}, nil
	case "ListObjectsV2":
		return w.listObjects(b, r.http.URL.Query())
	}
	return reply{}, failed("NotImplemented", "The simulated S3 has no operation for this request")
}

func (s3Service) refuse(why refusal, text string) *apiError {
	switch why {
	case notSigned:
		return failed("AccessDenied", "Access Denied")
	case wrongScope:
		return failed("AuthorizationHeaderMalformed", "The authorization header is malformed; %s", text)
	case expiredKey:
		return failed("ExpiredToken", "The provided token has expired.")
	default:
		return failed("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
	}
}

func (s3Service) deny() string { return "AccessDenied" }

func (s3Service) fail(e *apiError, requestID string) reply {
	body, _ := xml.Marshal(struct {
		XMLName   xml.Name `xml:"Error"`
		Code      string
		Message   string
		RequestID string `xml:"RequestId"`
		HostID    string `xml:"HostId"`
	}{Code: e.code, Message: e.message, RequestID: requestID, HostID: "simulated"})
	header := map[string]string{"X-Amz-Request-Id": requestID}
	for k, v := range e.header {
		header[k] = v
	}
	return reply{status: e.status, contentType: "application/xml", header: header, body: append([]byte(xml.Header), body...)}
}

// mayKMS judges whether the caller may use the key that encrypts an object; "" is none.
func (w *World) mayKMS(r *request, key, action string) *apiError {
	if key == "" {
		return nil
	}
	return w.allowed(w.instances[r.instance], "kms:"+action, "AccessDenied")
}

func (w *World) getObject(b *storeBucket, key string, r *request) (reply, *apiError) {
	o := b.objects[key]
	if o == nil {
		// Who may not list may not learn that an object is missing (S3 API reference, GetObject).
		if fail := w.allowed(w.instances[r.instance], "s3:ListBucket", "AccessDenied"); fail != nil {
			return reply{}, fail
		}
		return reply{}, failed("NoSuchKey", "The specified key does not exist.")
	}
	if fail := w.mayKMS(r, o.kmsKey, "Decrypt"); fail != nil {
		return reply{}, fail
	}
	header := o.header()
	header["Last-Modified"] = o.modified.UTC().Format(http.TimeFormat)
	if r.http.Header.Get("X-Amz-Checksum-Mode") == "ENABLED" {
		for name, sum := range o.sums {
			header[name] = sum
			header["X-Amz-Checksum-Type"] = "FULL_OBJECT"
		}
	}
	return reply{status: 200, contentType: "application/octet-stream", header: header, body: o.body}, nil
}

func (w *World) putObject(b *storeBucket, key string, r *request) (reply, *apiError) {
	h := r.http.Header
	body, sums, fail := payload(h, r.body)
	if fail != nil {
		return reply{}, fail
	}
	kmsKey := b.spec.KMSKey
	switch kind := h.Get("X-Amz-Server-Side-Encryption"); kind {
	case "":
		if b.spec.DemandKMS {
			return reply{}, failed("AccessDenied", "User: arn:aws:sts::%s:assumed-role is not authorized to perform: s3:PutObject with an explicit deny in a resource-based policy", w.account)
		}
	case "AES256":
		kmsKey = ""
	case "aws:kms":
		if kmsKey = h.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"); kmsKey == "" {
			kmsKey = "alias/aws/s3"
		}
	default:
		return reply{}, failed("InvalidEncryptionAlgorithmError", "The encryption request you specified is not valid. The valid value is AES256.")
	}
	if fail := w.mayKMS(r, kmsKey, "GenerateDataKey"); fail != nil {
		return reply{}, fail
	}
	old := b.objects[key]
	none, match := h.Get("If-None-Match"), strings.Trim(h.Get("If-Match"), `"`)
	switch {
	case none != "" && none != "*":
		return reply{}, failed("NotImplemented", "A header you provided implies functionality that is not implemented")
	case none == "*" && old != nil, match != "" && old != nil && old.etag != match:
		return reply{}, failed("PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
	case match != "" && old == nil:
		return reply{}, failed("NoSuchKey", "The specified key does not exist.")
	}
	o := w.newObject(body, kmsKey)
	o.sums = sums
	b.objects[key] = o
	if w.stored != nil {
		var before []byte
		if old != nil {
			before = old.body
		}
		w.stored(b.spec.Name, key, before, o.body)
	}
	header := o.header()
	for name, sum := range sums {
		header[name] = sum
	}
	return reply{status: 200, contentType: "application/xml", header: header}, nil
}

// mostKeys is how many keys a page of a list has at most.
const mostKeys = 1000

func (w *World) listObjects(b *storeBucket, q url.Values) (reply, *apiError) {
	if q.Get("delimiter") != "" {
		return reply{}, failed("NotImplemented", "The simulated S3 knows no delimiter")
	}
	most := min(mostKeys, b.spec.PageSize)
	if s := q.Get("max-keys"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return reply{}, failed("InvalidArgument", "Provided max-keys not an integer or within integer range")
		}
		most = min(most, n)
	}
	after := q.Get("start-after")
	if token := q.Get("continuation-token"); token != "" {
		var ok bool
		if after, ok = strings.CutPrefix(token, "after/"); !ok {
			return reply{}, failed("InvalidArgument", "The continuation token provided is incorrect")
		}
	}
	name := func(key string) string { return key }
	if q.Get("encoding-type") == "url" {
		name = url.QueryEscape
	}
	keys := sortedKeys(b.objects)
	keys = slices.DeleteFunc(keys, func(k string) bool { return !strings.HasPrefix(k, q.Get("prefix")) || k <= after })
	type item struct {
		Key, LastModified, ETag string
		Size                    int
		StorageClass            string
	}
	out := struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		Namespace             string   `xml:"xmlns,attr"`
		Name, Prefix          string
		KeyCount, MaxKeys     int
		IsTruncated           bool
		EncodingType          string `xml:",omitempty"`
		ContinuationToken     string `xml:",omitempty"`
		NextContinuationToken string `xml:",omitempty"`
		Contents              []item
	}{
		Namespace: s3Namespace, Name: b.spec.Name, Prefix: name(q.Get("prefix")), MaxKeys: most, EncodingType: q.Get("encoding-type"),
		ContinuationToken: q.Get("continuation-token"), KeyCount: min(most, len(keys)), IsTruncated: len(keys) > most,
	}
	for _, k := range keys[:out.KeyCount] {
		o := b.objects[k]
		out.Contents = append(out.Contents, item{name(k), o.modified.UTC().Format("2006-01-02T15:04:05.000Z"), `"` + o.etag + `"`, len(o.body), "STANDARD"})
	}
	if out.IsTruncated && most > 0 {
		out.NextContinuationToken = "after/" + keys[most-1]
	}
	body, err := xml.Marshal(out)
	if err != nil {
		return reply{}, failed("InternalError", "%v", err)
	}
	return reply{status: 200, contentType: "application/xml", body: fmt.Append(nil, xml.Header, string(body))}, nil
}
