package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/pattern"
)

// Client is what is asked of S3.
type Client interface {
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
	ListObjectsV2(context.Context, *s3.ListObjectsV2Input, ...func(*s3.Options)) (*s3.ListObjectsV2Output, error)
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
	tries  = 3
	// conflictTries bounds how often a write is tried that met another one (409).
	conflictTries = 6
)

// regionForm is that of a Region, which becomes part of a host's name.
var regionForm = pattern.Of(40, `[a-z]{2}(-[a-z0-9]+)+`)

// ask makes a request, with the SDK's own retries, in the Region of the bucket.
func (b *bucket) ask(ctx context.Context, request func(context.Context, func(*s3.Options)) error) error {
	for n := 1; ; n++ {
		try, done := context.WithTimeout(ctx, perTry)
		region := b.likely(try)
		err := request(try, func(o *s3.Options) {
			o.DisableLogOutputChecksumValidationSkipped = true // not every object has one
			o.Region = region
		})
		if err == nil {
			b.region.Store(&region)
		}
		hung := try.Err() != nil && ctx.Err() == nil
		done()
		if err == nil || n == tries || ctx.Err() != nil || !hung && !b.movedFrom(region, err) {
			return err
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

// movedFrom reports whether S3 says that the bucket is in another Region, which it then is.
func (b *bucket) movedFrom(region string, err error) bool {
	answer, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok || answer.Response == nil {
		return false
	}
	there := answer.Response.Header.Get("X-Amz-Bucket-Region")
	if s := answer.HTTPStatusCode(); s/100 != 3 && s != http.StatusBadRequest || there == region || !regionForm.MatchString(there) {
		return false
	}
	b.region.Store(&there)
	return true
}

func (b *bucket) list(ctx context.Context, prefix string) (map[string]string, error) {
	all, seen := map[string]string{}, 0
	in := &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: aws.String(b.prefix + prefix)}
	for {
		var page *s3.ListObjectsV2Output
		err := b.ask(ctx, func(ctx context.Context, o func(*s3.Options)) (err error) {
			page, err = b.s3.ListObjectsV2(ctx, in, o)
			return err
		})
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
			name := strings.TrimPrefix(aws.ToString(o.Key), b.prefix)
			if version := tag(o.ETag); nameForm.MatchString(name) && version != "" {
				all[name] = version
			}
		}
		if !aws.ToBool(page.IsTruncated) {
			return all, nil
		}
		if aws.ToString(page.NextContinuationToken) == "" {
			return nil, b.wrong("s3:ListBucket", errors.New("a page that is not the last names no next one"))
		}
		in.ContinuationToken = page.NextContinuationToken
	}
}

// tag is an ETag without its quotation marks, which not all that speak the protocol write.
func tag(etag *string) string { return strings.Trim(aws.ToString(etag), `"`) }

func (b *bucket) get(ctx context.Context, name string) (body []byte, version string, err error) {
	err = b.ask(ctx, func(ctx context.Context, o func(*s3.Options)) error {
		out, err := b.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.name, Key: aws.String(b.prefix + name)}, o)
		if err != nil {
			return err
		}
		defer out.Body.Close()
		version = tag(out.ETag)
		if aws.ToInt64(out.ContentLength) > certs.MaxObject {
			return certs.ErrUnusable
		}
		if body, err = io.ReadAll(io.LimitReader(out.Body, certs.MaxObject+1)); err == nil && len(body) > certs.MaxObject {
			return certs.ErrUnusable
		}
		return err
	})
	missing := (*types.NoSuchKey)(nil)
	switch {
	case err == nil && version == "":
		err = b.wrong("s3:GetObject", errors.New("the answer has no ETag"))
	case errors.As(err, &missing):
		err = fmt.Errorf("s3://%s/%s%s: %w", b.name, b.prefix, name, certs.ErrNotFound)
	case errors.Is(err, certs.ErrUnusable):
		return nil, version, fmt.Errorf("s3://%s/%s%s: %w: it has more than %d bytes", b.name, b.prefix, name, err, certs.MaxObject)
	case err != nil:
		err = b.wrong("s3:GetObject", err)
	}
	if err != nil {
		return nil, "", err
	}
	return body, version, nil
}

func (b *bucket) put(ctx context.Context, name string, body []byte, version string) (string, error) {
	in := &s3.PutObjectInput{Bucket: &b.name, Key: aws.String(b.prefix + name), ContentType: aws.String("application/json")}
	if in.IfNoneMatch = aws.String("*"); version != "" {
		in.IfNoneMatch, in.IfMatch = nil, aws.String(`"`+version+`"`)
	}
	if b.kmsKey != "" {
		in.ServerSideEncryption, in.SSEKMSKeyId = types.ServerSideEncryptionAwsKms, &b.kmsKey
		in.BucketKeyEnabled = aws.Bool(true) // fewer requests to KMS, which each cost
	}
	again := backoff.Backoff{First: 100 * time.Millisecond, Most: 2 * time.Second}
	for n := 1; ; n++ {
		var out *s3.PutObjectOutput
		err := b.ask(ctx, func(ctx context.Context, o func(*s3.Options)) (err error) {
			in.Body = bytes.NewReader(body)
			out, err = b.s3.PutObject(ctx, in, o)
			return err
		})
		status := 0
		if answer, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
			status = answer.HTTPStatusCode()
		}
		switch {
		case err == nil && tag(out.ETag) != "":
			return tag(out.ETag), nil
		case err == nil:
			return "", b.wrong("s3:PutObject", errors.New("the answer has no ETag"))
		case status == http.StatusPreconditionFailed, status == http.StatusNotFound && code(err) != "NoSuchBucket":
			return b.ours(ctx, name, body)
		case status == http.StatusConflict && n < conflictTries && pause(ctx, again.Next()):
			continue
		case status == http.StatusConflict:
			return "", fmt.Errorf("s3://%s/%s%s: %w", b.name, b.prefix, name, certs.ErrConflict)
		}
		return "", b.wrong("s3:PutObject", err)
	}
}

// ours returns the version of an object if it is the one that was to be written: then an answer was lost, and
// the SDK made the request once more.
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

// pause waits, and reports whether ctx has not ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
