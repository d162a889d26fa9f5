package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

const at = "s3://" + simaws.DefaultBucket + "/p"

func TestAnswersOfS3(t *testing.T) {
	for _, row := range []struct {
		name   string
		faults []simaws.Fault
		wrong  error
	}{
		{name: "none"},
		{name: "a lost answer of a write that took effect", faults: []simaws.Fault{{Action: "PutObject", Drop: "after", Times: 1}}},
		{name: "an error for a write that took effect", faults: []simaws.Fault{{Action: "PutObject", Code: "InternalError", Applied: true, Times: 1}}},
		{name: "a refusal for a write that took effect", faults: []simaws.Fault{{Action: "PutObject", Code: "PreconditionFailed", Applied: true, Times: 1}}},
		{name: "a refusal by mistake", faults: []simaws.Fault{{Action: "PutObject", Code: "PreconditionFailed", Times: 1}}, wrong: certs.ErrConflict},
		{name: "a connection that ends", faults: []simaws.Fault{{Action: "PutObject", Drop: "before", Times: 1}}},
		{name: "another write at the same moment", faults: []simaws.Fault{{Action: "PutObject", Code: "ConditionalRequestConflict", Times: 2}}},
		{name: "too many requests", faults: []simaws.Fault{{Code: "SlowDown", Times: 1}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			cloud := serve(t, simaws.Options{})
			s := open(t, Options{Setting: at, S3: clientOn(t, cloud)})
			version := ""
			for n := range 2 { // as a new one, and over another
				for _, f := range row.faults {
					f.Service = "s3"
					_, err := cloud.AddFault(f)
					must(t, err)
				}
				next, err := s.Put(t.Context(), "certs/a", fmt.Appendf(nil, "body %d", n), version)
				if !errors.Is(err, row.wrong) || row.wrong == nil && err != nil {
					t.Fatalf("%v", err)
				}
				if cloud.ClearFaults(); row.wrong != nil {
					return
				}
				body, now, err := s.Get(t.Context(), "certs/a")
				if string(body) != fmt.Sprintf("body %d", n) || now != next || err != nil {
					t.Errorf("%q, version %s, want %s; %v", body, now, next, err)
				}
				version = next
			}
		})
	}
}

func TestRemedies(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*simaws.Cloud)
		o      Options
		want   []string // in the errors of List, Get and Put; empty is no error
	}{
		{name: "nothing", want: []string{"", "", ""}},
		{
			name:   "no permission",
			change: func(c *simaws.Cloud) { _ = c.SetAllow(host, []string{"s3:None"}) },
			want:   []string{"s3:ListBucket on the bucket nagaya-certs", "s3:GetObject", "allow the role of the instance s3:PutObject on nagaya-certs/p/*"},
		},
		{
			name:   "none for the key",
			change: func(c *simaws.Cloud) { _ = c.SetAllow(host, []string{"s3:*"}) },
			o:      Options{KMSKey: "alias/k"},
			want:   []string{"", "kms:Decrypt", "kms:GenerateDataKey"},
		},
		{name: "no such bucket", o: Options{Setting: "s3://nowhere"}, want: []string{"make the bucket", "make the bucket", "make the bucket"}},
		{name: "a policy that demands a key", o: Options{Setting: "s3://sealed"}, want: []string{"", "", "set certs.store-kms-key"}},
		{name: "a policy that demands a key, with one", o: Options{Setting: "s3://sealed", KMSKey: "alias/k"}, want: []string{"", "", ""}},
		{
			name: "a key that is not enabled", o: Options{KMSKey: "alias/k"},
			change: func(c *simaws.Cloud) {
				_, _ = c.AddFault(simaws.Fault{Service: "s3", Action: "PutObject", Code: "KMS.DisabledException"})
			},
			want: []string{"", "", "a KMS key of the bucket's Region that is enabled"},
		},
		{
			name:   "credentials that are no more",
			change: func(c *simaws.Cloud) { c.RevokeCredentials(host) },
			want:   []string{"look at the role", "look at the role", "look at the role"},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			cloud := serve(t, simaws.Options{})
			must(t, cloud.AddBucket(simaws.BucketSpec{Name: "sealed", DemandKMS: true}))
			row.o.S3 = clientOn(t, cloud)
			if row.o.Setting == "" {
				row.o.Setting = at
			}
			s := open(t, row.o)
			_, err := s.Put(t.Context(), "certs/there", []byte("x"), "")
			before := err
			_, _, _ = s.Get(t.Context(), "certs/there")
			if row.change != nil {
				must(t, before)
				row.change(cloud)
			}
			_, list := s.List(t.Context(), "")
			_, _, get := s.Get(t.Context(), "certs/there")
			if errors.Is(get, certs.ErrNotFound) {
				get = nil
			}
			_, put := s.Put(t.Context(), "certs/new", []byte("x"), "")
			for n, err := range []error{list, get, put} {
				e, ok := errors.AsType[*certs.StoreError](err)
				switch {
				case row.want[n] == "" && err != nil, row.want[n] != "" && !ok:
					t.Errorf("call %d: %v, want %q", n, err, row.want[n])
				case ok && (!strings.Contains(e.Remedy, row.want[n]) || !strings.Contains(e.Text, "s3:") || !strings.Contains(e.Text, strings.TrimSuffix(row.o.Setting, "/"))):
					t.Errorf("call %d: %v, want %q", n, err, row.want[n])
				}
			}
		})
	}
}

func TestEncryption(t *testing.T) {
	cloud := serve(t, simaws.Options{})
	s := open(t, Options{Setting: at, KMSKey: "alias/own", S3: clientOn(t, cloud)})
	version, err := s.Put(t.Context(), "certs/a", []byte("1"), "")
	must(t, err)
	_, err = s.Put(t.Context(), "certs/a", []byte("2"), version)
	must(t, err)
	if key := cloud.ObjectKey(simaws.DefaultBucket, "p/certs/a"); key != "alias/own" {
		t.Errorf("encrypted by %q", key)
	}
}

// A bucket in another Region than the one that is likely costs one request more, once.
func TestRegionOfTheBucket(t *testing.T) {
	in := func(region string, err error) func(context.Context) (string, error) {
		return func(context.Context) (string, error) { return region, err }
	}
	for _, row := range []struct {
		likely func(context.Context) (string, error)
		want   int
	}{{nil, 4}, {in("ap-northeast-1", nil), 4}, {in("", errors.New("no metadata")), 4}, {in("evil.test/", nil), 4}, {in("eu-west-1", nil), 3}} {
		cloud := serve(t, simaws.Options{})
		must(t, cloud.AddBucket(simaws.BucketSpec{Name: "far", Region: "eu-west-1"}))
		s := open(t, Options{Setting: "s3://far", S3: clientOn(t, cloud), Region: row.likely})
		for range 3 {
			if _, err := s.List(t.Context(), ""); err != nil {
				t.Fatal(err)
			}
		}
		if n := cloud.Count("s3", "ListObjectsV2"); n != row.want {
			t.Errorf("%d requests, want %d", n, row.want)
		}
	}
}

// The SDK corrects a wrong clock of this host by S3's. Where it cannot, the clock is what is named.
func TestClockThatIsWrong(t *testing.T) {
	for _, off := range []time.Duration{-time.Hour, time.Hour} {
		cloud := serve(t, simaws.Options{Wall: func() time.Time { return time.Now().Add(off) }})
		s := open(t, Options{Setting: at, S3: clientOn(t, cloud)})
		_, err := s.Put(t.Context(), "certs/a", []byte("1"), "")
		must(t, err)
		_, err = cloud.AddFault(simaws.Fault{Service: "s3", Code: "RequestTimeTooSkewed"})
		must(t, err)
		_, err = s.List(t.Context(), "")
		if e, ok := errors.AsType[*certs.StoreError](err); !ok || !strings.Contains(e.Remedy, "clock") {
			t.Errorf("%s: %v", off, err)
		}
	}
}

// fake is a client by functions.
type fake struct {
	get  func(context.Context) (*s3.GetObjectOutput, error)
	put  func(context.Context) (*s3.PutObjectOutput, error)
	list func(context.Context) (*s3.ListObjectsV2Output, error)
}

func (f fake) GetObject(ctx context.Context, _ *s3.GetObjectInput, o ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	return f.get(ctx)
}

func (f fake) PutObject(ctx context.Context, _ *s3.PutObjectInput, o ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	return f.put(ctx)
}

func (f fake) ListObjectsV2(ctx context.Context, _ *s3.ListObjectsV2Input, o ...func(*s3.Options)) (*s3.ListObjectsV2Output, error) {
	return f.list(ctx)
}

func answered(status int) error {
	return &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}}, Err: errors.New("no")}
}

// stuck is a body that hangs after its first byte.
type stuck struct{ ctx context.Context }

func (s stuck) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

func (s stuck) Close() error { return nil }

func TestS3ThatHangs(t *testing.T) {
	calls := 0
	hang := func(ctx context.Context) error {
		calls++
		<-ctx.Done()
		return ctx.Err()
	}
	ok := aws.String(`"tag"`)
	for _, row := range []struct {
		name  string
		f     fake
		do    func(context.Context, *Store) error
		fails bool
		calls int
		after time.Duration
	}{
		{
			name:  "list",
			f:     fake{list: func(ctx context.Context) (*s3.ListObjectsV2Output, error) { return nil, hang(ctx) }},
			do:    func(ctx context.Context, s *Store) error { _, err := s.List(ctx, ""); return err },
			fails: true, calls: 3, after: patience,
		},
		{
			name: "the body of an object",
			f: fake{get: func(ctx context.Context) (*s3.GetObjectOutput, error) {
				calls++
				return &s3.GetObjectOutput{ETag: ok, Body: stuck{ctx}}, nil
			}},
			do:    func(ctx context.Context, s *Store) error { _, _, err := s.Get(ctx, "certs/a"); return err },
			fails: true, calls: 3, after: patience,
		},
		{
			name: "the first try of a write",
			f: fake{put: func(ctx context.Context) (*s3.PutObjectOutput, error) {
				if calls == 0 {
					return nil, hang(ctx)
				}
				calls++
				return &s3.PutObjectOutput{ETag: ok}, nil
			}},
			do:    func(ctx context.Context, s *Store) error { _, err := s.Put(ctx, "certs/a", nil, ""); return err },
			calls: 2, after: perTry,
		},
		{
			name: "a write that took effect and whose answer hangs",
			f: fake{
				put: func(ctx context.Context) (*s3.PutObjectOutput, error) {
					if calls == 0 {
						return nil, hang(ctx)
					}
					calls++
					return nil, answered(http.StatusPreconditionFailed)
				},
				get: func(context.Context) (*s3.GetObjectOutput, error) {
					return &s3.GetObjectOutput{ETag: ok, Body: io.NopCloser(bytes.NewReader([]byte("mine")))}, nil
				},
			},
			do: func(ctx context.Context, s *Store) error {
				_, err := s.Put(ctx, "certs/a", []byte("mine"), "old")
				return err
			},
			calls: 2, after: perTry,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls = 0
				started := time.Now()
				err := row.do(t.Context(), open(t, Options{Setting: at, S3: row.f}))
				if (err != nil) != row.fails || calls != row.calls || time.Since(started) != row.after {
					t.Errorf("%d calls, %s: %v", calls, time.Since(started), err)
				}
				if _, ok := errors.AsType[*certs.StoreError](err); err != nil && !ok {
					t.Errorf("it says nothing to do: %v", err)
				}
			})
		})
	}
}

// Who always meets other writes gives up, and has not written.
func TestEndlessConflicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		f := fake{put: func(context.Context) (*s3.PutObjectOutput, error) {
			calls++
			return nil, answered(http.StatusConflict)
		}}
		_, err := open(t, Options{Setting: at, S3: f}).Put(t.Context(), "certs/a", nil, "")
		if !errors.Is(err, certs.ErrConflict) || calls != conflictTries {
			t.Errorf("%d calls: %v", calls, err)
		}
	})
}

// An answer without what the protocol promises is an error.
func TestMalformedAnswers(t *testing.T) {
	none := io.NopCloser(bytes.NewReader(nil))
	endless := io.NopCloser(io.LimitReader(zeros{}, 1<<40))
	s := open(t, Options{Setting: at, S3: fake{
		put: func(context.Context) (*s3.PutObjectOutput, error) { return &s3.PutObjectOutput{}, nil },
		get: func(context.Context) (*s3.GetObjectOutput, error) { return &s3.GetObjectOutput{Body: none}, nil },
		list: func(context.Context) (*s3.ListObjectsV2Output, error) {
			return &s3.ListObjectsV2Output{IsTruncated: aws.Bool(true)}, nil
		},
	}})
	if v, err := s.Put(t.Context(), "certs/a", nil, ""); err == nil {
		t.Errorf("a write without an ETag: version %q", v)
	}
	if _, v, err := s.Get(t.Context(), "certs/a"); err == nil {
		t.Errorf("an object without an ETag: version %q", v)
	}
	if _, err := s.List(t.Context(), ""); err == nil {
		t.Error("a list that goes on nowhere was taken for whole")
	}
	s = open(t, Options{Setting: at, S3: fake{get: func(context.Context) (*s3.GetObjectOutput, error) {
		return &s3.GetObjectOutput{Body: endless, ETag: aws.String("x")}, nil
	}}})
	if _, v, err := s.Get(t.Context(), "certs/a"); !errors.Is(err, certs.ErrUnusable) || v != "x" {
		t.Errorf("an endless object: version %q, %v", v, err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }
