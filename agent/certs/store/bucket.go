package store

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/awsclient"
	"github.com/nagaya-ecs/nagaya/agent/awserror"
	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/pattern"
)

// Client is what is asked of S3: awsclient.S3.
type Client interface {
	Do(ctx context.Context, r awsclient.S3Request) (awsclient.S3Answer, error)
}

// bucket is a store in S3: an object's version is its ETag, and a write says which one it replaces
// (S3 User Guide, "Conditional requests").
type bucket struct {
	s3     Client
	name   string
	prefix string // ends with a slash, or is empty
	kmsKey string
	where  func(context.Context) (string, error)
	// region is the bucket's, once that is known.
	region atomic.Pointer[string]
}

func newBucket(at string, o Options) *bucket {
	name, prefix, _ := strings.Cut(at, "/")
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		prefix += "/"
	}
	return &bucket{s3: o.S3, name: name, prefix: prefix, kmsKey: o.KMSKey, where: o.Region}
}

const (
	// perTry bounds a try: one that hangs, as on a connection that died when the public address moved,
	// leaves time for others within patience.
	perTry = 5 * time.Second
	tries  = 6
)

// regionForm is that of a Region, which becomes part of a host's name.
var regionForm = pattern.Of(40, `[a-z]{2}(-[a-z0-9]+)+`)

// ask makes a request in the Region of the bucket, and makes it again after what passes.
func (b *bucket) ask(ctx context.Context, r awsclient.S3Request) (awsclient.S3Answer, error) {
	again := backoff.Backoff{First: 100 * time.Millisecond, Most: 2 * time.Second}
	for n := 1; ; n++ {
		try, done := context.WithTimeout(ctx, perTry)
		r.Bucket, r.Region = b.name, b.likely(try)
		out, err := b.s3.Do(try, r)
		hung := try.Err() != nil
		done()
		refused, answered := errors.AsType[*awsclient.S3Error](err)
		if err == nil || answered && refused.Status == http.StatusNotFound {
			b.region.Store(&r.Region)
		}
		switch {
		case err == nil, n == tries, ctx.Err() != nil:
			return out, err
		case hung, answered && refused.Skewed:
		case answered && regionForm.MatchString(refused.Region):
			b.region.Store(&refused.Region)
		case !answered, refused.Status >= 500, refused.Status == http.StatusTooManyRequests, refused.Status == http.StatusConflict, refused.Code == "RequestTimeout":
			if !backoff.Sleep(ctx, again.Next()) {
				return out, err
			}
		default:
			return out, err
		}
	}
}

// likely is the Region of the bucket, or one to ask first: any of them names the right one.
func (b *bucket) likely(ctx context.Context) string {
	if r := b.region.Load(); r != nil {
		return *r
	}
	if b.where != nil {
		if r, err := b.where(ctx); err == nil && regionForm.MatchString(r) {
			return r
		}
	}
	return "us-east-1"
}

// maxPage bounds a page of a list, in bytes: 1,000 names of at most 1,024 bytes, written three times as long.
const maxPage = 4 << 20

func (b *bucket) list(ctx context.Context, prefix string) (map[string]string, error) {
	all, seen := map[string]string{}, 0
	r := awsclient.S3Request{Method: http.MethodGet, Query: url.Values{"list-type": {"2"}, "encoding-type": {"url"}, "prefix": {b.prefix + prefix}}, Most: maxPage}
	for {
		out, err := b.ask(ctx, r)
		var page struct {
			IsTruncated           bool
			NextContinuationToken string
			Contents              []struct{ Key, ETag string }
		}
		if err == nil {
			err = xml.Unmarshal(out.Body, &page)
		}
		if err == nil && page.IsTruncated && page.NextContinuationToken == "" {
			err = errors.New("a page that is not the last names no next one")
		}
		if err != nil {
			return nil, b.wrong("s3:ListBucket", err)
		}
		if seen += len(page.Contents); seen > certs.MaxObjects {
			return nil, &certs.StoreError{
				Text:   fmt.Sprintf("s3://%s/%s has more than %d objects", b.name, b.prefix, certs.MaxObjects),
				Remedy: "let certs.store name a prefix that nothing else uses", Err: errors.New("too many objects"),
			}
		}
		for _, o := range page.Contents {
			key, err := url.QueryUnescape(o.Key)
			name, below := strings.CutPrefix(key, b.prefix)
			// Not all that speak the protocol write the quotation marks.
			if version := strings.Trim(o.ETag, `"`); err == nil && below && isName(name) && version != "" {
				all[name] = version
			}
		}
		if !page.IsTruncated {
			return all, nil
		}
		r.Query.Set("continuation-token", page.NextContinuationToken)
	}
}

func (b *bucket) get(ctx context.Context, name string) (body []byte, version string, err error) {
	out, err := b.ask(ctx, awsclient.S3Request{Method: http.MethodGet, Key: b.prefix + name, Most: certs.MaxObject})
	switch {
	case awserror.Code(err) == "NoSuchKey":
		return nil, "", fmt.Errorf("s3://%s/%s%s: %w", b.name, b.prefix, name, certs.ErrNotFound)
	case err == nil && out.ETag == "":
		err = errors.New("the answer has no ETag")
	case err == nil && len(out.Body) > certs.MaxObject:
		return nil, out.ETag, fmt.Errorf("s3://%s/%s%s: %w: it has more than %d bytes", b.name, b.prefix, name, certs.ErrUnusable, certs.MaxObject)
	}
	if err != nil {
		return nil, "", b.wrong("s3:GetObject", err)
	}
	return out.Body, out.ETag, nil
}

func (b *bucket) put(ctx context.Context, name string, body []byte, version string) (string, error) {
	r := awsclient.S3Request{Method: http.MethodPut, Key: b.prefix + name, Body: body, Header: map[string]string{"Content-Type": "application/json"}, Most: maxPage}
	if version == "" {
		r.Header["If-None-Match"] = "*"
	} else {
		r.Header["If-Match"] = `"` + version + `"`
	}
	if b.kmsKey != "" {
		r.Header["X-Amz-Server-Side-Encryption"], r.Header["X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"] = "aws:kms", b.kmsKey
		r.Header["X-Amz-Server-Side-Encryption-Bucket-Key-Enabled"] = "true" // fewer requests to KMS, which each cost
	}
	out, err := b.ask(ctx, r)
	refused, answered := errors.AsType[*awsclient.S3Error](err)
	switch {
	case err == nil && out.ETag != "":
		return out.ETag, nil
	case err == nil:
		err = errors.New("the answer has no ETag")
	case answered && refused.Status == http.StatusPreconditionFailed, awserror.Code(err) == "NoSuchKey":
		return b.ours(ctx, name, body)
	case answered && refused.Status == http.StatusConflict:
		return "", fmt.Errorf("s3://%s/%s%s: %w", b.name, b.prefix, name, certs.ErrConflict)
	}
	return "", b.wrong("s3:PutObject", err)
}

// ours returns the version of an object if it is the one that was to be written: then an answer was lost, and
// the request made once more.
func (b *bucket) ours(ctx context.Context, name string, body []byte) (string, error) {
	there, version, err := b.get(ctx, name)
	if err != nil && !errors.Is(err, certs.ErrNotFound) && !errors.Is(err, certs.ErrUnusable) {
		return "", err
	}
	if err != nil || !bytes.Equal(there, body) {
		return "", fmt.Errorf("s3://%s/%s%s: %w", b.name, b.prefix, name, certs.ErrConflict)
	}
	return version, nil
}
