package simaws_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

var certs = aws.String(simaws.DefaultBucket)

type putOption func(*s3.PutObjectInput)

func ifNew(in *s3.PutObjectInput) { in.IfNoneMatch = aws.String("*") }

func ifStill(etag string) putOption {
	return func(in *s3.PutObjectInput) { in.IfMatch = aws.String(etag) }
}

func withKMS(key string) putOption {
	return func(in *s3.PutObjectInput) {
		in.ServerSideEncryption, in.SSEKMSKeyId = types.ServerSideEncryptionAwsKms, aws.String(key)
	}
}

func put(t *testing.T, client *s3.Client, bucket, key, body string, options ...putOption) (etag string, err error) {
	t.Helper()
	in := &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(body)}
	for _, o := range options {
		o(in)
	}
	out, err := client.PutObject(t.Context(), in)
	if err != nil {
		return "", err
	}
	return aws.ToString(out.ETag), nil
}

func get(t *testing.T, client *s3.Client, bucket, key string) (string, error) {
	t.Helper()
	out, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return "", err
	}
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body) // checks the checksum
	return string(body), err
}

func TestConditionalWrites(t *testing.T) {
	c := serve(t, newHand())
	client := s3.NewFromConfig(sdkOn(t, c, host))
	first, err := put(t, client, *certs, "p/a b", "one", ifNew)
	must(t, err)
	_, err = put(t, client, *certs, "p/a b", "two", ifNew)
	wantCode(t, err, "PreconditionFailed")
	second, err := put(t, client, *certs, "p/a b", "two", ifStill(first))
	must(t, err)
	_, err = put(t, client, *certs, "p/a b", "three", ifStill(first))
	wantCode(t, err, "PreconditionFailed")
	_, err = put(t, client, *certs, "none", "x", ifStill(first))
	wantCode(t, err, "NoSuchKey")
	if body, err := get(t, client, *certs, "p/a b"); body != "two" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
	_, err = get(t, client, *certs, "none")
	if missing := (*types.NoSuchKey)(nil); !errors.As(err, &missing) {
		t.Errorf("a missing object: %v", err)
	}
	_, err = get(t, client, "nowhere", "none")
	wantCode(t, err, "NoSuchBucket")
	head, err := client.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: certs, Key: aws.String("p/a b")})
	must(t, err)
	if *head.ETag != second || *head.ContentLength != 3 {
		t.Errorf("head: %s, %d", *head.ETag, *head.ContentLength)
	}
	for _, row := range []struct {
		fault simaws.Fault
		code  string
	}{
		{simaws.Fault{Code: "ConditionalRequestConflict"}, "ConditionalRequestConflict"},
		{simaws.Fault{Code: "SlowDown"}, "SlowDown"},
		{simaws.Fault{Code: "InternalError", Applied: true}, "InternalError"},
	} {
		row.fault.Service, row.fault.Action, row.fault.Times = "s3", "PutObject", 1
		_, err := c.AddFault(row.fault)
		must(t, err)
		_, err = put(t, client, *certs, "faulty "+row.code, "x", ifNew)
		wantCode(t, err, row.code)
		if there := c.Objects(*certs)["faulty "+row.code] != nil; there != row.fault.Applied {
			t.Errorf("%s: the object is there: %v", row.code, there)
		}
	}
}

// An SDK that repeats a PUT whose answer was lost is told that the condition does not hold.
func TestRepeatedConditionalWrite(t *testing.T) {
	c := serve(t, newHand())
	cfg := sdkOn(t, c, host)
	cfg.RetryMaxAttempts = 2
	_, err := c.AddFault(simaws.Fault{Service: "s3", Action: "PutObject", Drop: "after", Times: 1})
	must(t, err)
	_, err = put(t, s3.NewFromConfig(cfg), *certs, "a", "one", ifNew)
	wantCode(t, err, "PreconditionFailed")
	if string(c.Objects(*certs)["a"]) != "one" {
		t.Error("the write that was lost did not take effect")
	}
}

func TestListPages(t *testing.T) {
	c := serve(t, newHand())
	must(t, c.AddBucket(simaws.BucketSpec{Name: "small", PageSize: 3}))
	var want []string
	for n := range 10 {
		key := fmt.Sprintf("certs/%02d é+", n)
		want = append(want, key)
		must(t, c.SetObject("small", key, []byte("x")))
	}
	must(t, c.SetObject("small", "other", []byte("x")))
	pages := s3.NewListObjectsV2Paginator(s3.NewFromConfig(sdkOn(t, c, host)), &s3.ListObjectsV2Input{Bucket: aws.String("small"), Prefix: aws.String("certs/")})
	var got []string
	n := 0
	for ; pages.HasMorePages(); n++ {
		page, err := pages.NextPage(t.Context())
		must(t, err)
		for _, o := range page.Contents {
			got = append(got, *o.Key)
		}
	}
	if d := cmp.Diff(want, got); d != "" || n != 4 {
		t.Errorf("%d pages: %s", n, d)
	}
}

func TestBucketsWithKMS(t *testing.T) {
	c := serve(t, newHand())
	must(t, c.AddBucket(simaws.BucketSpec{Name: "sealed", DemandKMS: true}))
	must(t, c.AddBucket(simaws.BucketSpec{Name: "kept", KMSKey: "alias/default"}))
	client := s3.NewFromConfig(sdkOn(t, c, host))
	_, err := put(t, client, "sealed", "a", "x")
	wantCode(t, err, "AccessDenied")
	_, err = put(t, client, "sealed", "a", "x", withKMS("alias/own"))
	must(t, err)
	_, err = put(t, client, "kept", "a", "x")
	must(t, err)
	for bucket, want := range map[string]string{"sealed": "alias/own", "kept": "alias/default"} {
		if key := c.ObjectKey(bucket, "a"); key != want {
			t.Errorf("%s: key %q, want %q", bucket, key, want)
		}
	}
	for _, row := range []struct {
		allow     []string
		put, read string // codes
	}{
		{[]string{"s3:*"}, "AccessDenied", "AccessDenied"},
		{[]string{"s3:*", "kms:Decrypt"}, "AccessDenied", ""},
		{[]string{"s3:*", "kms:GenerateDataKey"}, "", "AccessDenied"},
		{[]string{"kms:*", "s3:GetObject"}, "AccessDenied", ""},
	} {
		must(t, c.SetAllow(host, row.allow))
		_, err := put(t, client, "kept", "a", "x")
		wantCode(t, err, row.put)
		_, err = get(t, client, "kept", "a")
		wantCode(t, err, row.read)
	}
	_, err = get(t, client, "kept", "missing")
	wantCode(t, err, "AccessDenied") // not NoSuchKey: the role may not list
}

func TestBucketInAnotherRegion(t *testing.T) {
	c := serve(t, newHand())
	must(t, c.AddBucket(simaws.BucketSpec{Name: "far", Region: "eu-west-1"}))
	client := s3.NewFromConfig(sdkOn(t, c, host))
	in := &s3.HeadBucketInput{Bucket: aws.String("far")}
	_, err := client.HeadBucket(t.Context(), in)
	var status interface{ HTTPStatusCode() int }
	if !asStatus(err, &status) || status.HTTPStatusCode() != http.StatusMovedPermanently {
		t.Errorf("%v", err)
	}
	_, err = client.HeadBucket(t.Context(), in, func(o *s3.Options) { o.Region = "eu-west-1" })
	must(t, err)
}

// Every way in which an SDK sends a body, its checksum and the bucket's name.
func TestWireOfS3(t *testing.T) {
	c := serve(t, newHand())
	cfg := sdkOn(t, c, host)
	client := s3.NewFromConfig(cfg)
	for _, sum := range []types.ChecksumAlgorithm{types.ChecksumAlgorithmCrc32, types.ChecksumAlgorithmCrc32c, types.ChecksumAlgorithmSha1, types.ChecksumAlgorithmSha256} {
		_, err := put(t, client, *certs, "a", "body", func(in *s3.PutObjectInput) { in.ChecksumAlgorithm = sum })
		must(t, err)
		if body, err := get(t, client, *certs, "a"); body != "body" || err != nil {
			t.Errorf("%s: %q, %v", sum, body, err)
		}
	}

	// By HTTPS the SDK sends its checksum behind the body. What it signs for HTTPS is sent here as it is.
	secure := cfg.Copy()
	secure.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
		if framing := r.Header.Get("X-Amz-Content-Sha256"); r.Method == http.MethodPut && framing != "STREAMING-UNSIGNED-PAYLOAD-TRAILER" {
			t.Errorf("the SDK frames a body as %s", framing)
		}
		r.URL.Scheme = "http"
		return http.DefaultClient.Do(r)
	})
	chunked := s3.NewFromConfig(secure, func(o *s3.Options) {
		o.BaseEndpoint = aws.String(strings.Replace(c.Endpoints().S3, "http:", "https:", 1))
	})
	_, err := put(t, chunked, *certs, "chunked", "body", ifNew)
	must(t, err)
	if body := string(c.Objects(*certs)["chunked"]); body != "body" {
		t.Errorf("by HTTPS: %q", body)
	}

	// With a name as the endpoint, the bucket is in the host.
	named := cfg.Copy()
	named.HTTPClient = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, strings.TrimPrefix(c.Endpoints().S3, "http://"))
	}}}
	inName := s3.NewFromConfig(named, func(o *s3.Options) { o.BaseEndpoint = aws.String("http://s3.ap-northeast-1.amazonaws.com") })
	_, err = put(t, inName, *certs, "p/named", "body", ifNew)
	must(t, err)
	if body := string(c.Objects(*certs)["p/named"]); body != "body" {
		t.Errorf("with the bucket in the host: %q", body)
	}
	page, err := inName.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: certs, Prefix: aws.String("p/")})
	must(t, err)
	if len(page.Contents) != 1 || *page.Contents[0].Key != "p/named" {
		t.Errorf("list with the bucket in the host: %+v", page.Contents)
	}

	// A body that does not fit its checksums is refused, and what was changed after it was signed.
	_, err = put(t, client, *certs, "bent", "body", func(in *s3.PutObjectInput) { in.ChecksumCRC32 = aws.String("AAAAAA==") })
	wantCode(t, err, "BadDigest")
	for code, change := range map[string]func(*http.Request){
		"XAmzContentSHA256Mismatch": func(r *http.Request) { r.Body = io.NopCloser(bytes.NewReader([]byte("bent"))) },
		"SignatureDoesNotMatch":     func(r *http.Request) { r.Header.Set("If-None-Match", "x") },
		"PreconditionFailed":        func(*http.Request) {},
	} {
		bent := cfg.Copy()
		bent.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPut && r.Header.Get("Authorization") != "" {
				change(r)
			}
			return http.DefaultClient.Do(r)
		})
		_, err = put(t, s3.NewFromConfig(bent), *certs, "a", "body", ifNew)
		wantCode(t, err, code)
	}
}

func TestClockSkewOfS3(t *testing.T) {
	wall := &hand{at: time.Now()}
	w := simaws.New(simaws.Options{Wall: wall.now})
	_, err := w.Populate("default", simaws.ScenarioOptions{})
	must(t, err)
	c, err := simaws.Serve(w, simaws.ServeOptions{})
	must(t, err)
	t.Cleanup(c.Close)
	client := s3.NewFromConfig(sdkOn(t, c, host))
	_, err = put(t, client, *certs, "a", "x")
	must(t, err)
	wall.move(16 * time.Minute)
	_, err = put(t, client, *certs, "a", "x")
	wantCode(t, err, "RequestTimeTooSkewed")
}
