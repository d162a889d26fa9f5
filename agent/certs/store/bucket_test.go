package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/awsclient"
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
			s := Open(Options{Setting: at, S3: clientOn(t, cloud)})
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
			s := Open(row.o)
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
	s := Open(Options{Setting: at, KMSKey: "alias/own", S3: clientOn(t, cloud)})
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
		s := Open(Options{Setting: "s3://far", S3: clientOn(t, cloud), Region: row.likely})
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

// A wrong clock of this host is corrected by S3's. Where that does not help, the clock is what is named.
func TestClockThatIsWrong(t *testing.T) {
	for _, off := range []time.Duration{-time.Hour, time.Hour} {
		cloud := serve(t, simaws.Options{Wall: func() time.Time { return time.Now().Add(off) }})
		s := Open(Options{Setting: at, S3: clientOn(t, cloud)})
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

// fake is a client by a function, which is told how many requests were before.
type fake struct {
	do    func(ctx context.Context, n int, r awsclient.S3Request) (awsclient.S3Answer, error)
	calls int
}

func (f *fake) Do(ctx context.Context, r awsclient.S3Request) (awsclient.S3Answer, error) {
	f.calls++
	return f.do(ctx, f.calls-1, r)
}

func answered(status int) error { return &awsclient.S3Error{Status: status} }

func TestS3ThatHangs(t *testing.T) {
	hang := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	ok := awsclient.S3Answer{ETag: "tag", Body: []byte("mine")}
	for _, row := range []struct {
		name   string
		answer func(ctx context.Context, n int, r awsclient.S3Request) (awsclient.S3Answer, error)
		do     func(context.Context, *Store) error
		fails  bool
		calls  int
		after  time.Duration
	}{
		{
			name: "always",
			answer: func(ctx context.Context, _ int, _ awsclient.S3Request) (awsclient.S3Answer, error) {
				return ok, hang(ctx)
			},
			do:    func(ctx context.Context, s *Store) error { _, err := s.List(ctx, ""); return err },
			fails: true, after: patience,
		},
		{
			name: "the first try of a write",
			answer: func(ctx context.Context, n int, _ awsclient.S3Request) (awsclient.S3Answer, error) {
				if n == 0 {
					return ok, hang(ctx)
				}
				return ok, nil
			},
			do:    func(ctx context.Context, s *Store) error { _, err := s.Put(ctx, "certs/a", nil, ""); return err },
			calls: 2, after: perTry,
		},
		{
			name: "a write that took effect and whose answer hangs",
			answer: func(ctx context.Context, n int, r awsclient.S3Request) (awsclient.S3Answer, error) {
				switch {
				case n == 0:
					return ok, hang(ctx)
				case r.Method == http.MethodPut:
					return ok, answered(http.StatusPreconditionFailed)
				}
				return ok, nil
			},
			do: func(ctx context.Context, s *Store) error {
				_, err := s.Put(ctx, "certs/a", []byte("mine"), "old")
				return err
			},
			calls: 3, after: perTry,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				started, f := time.Now(), &fake{do: row.answer}
				err := row.do(t.Context(), Open(Options{Setting: at, S3: f}))
				if (err != nil) != row.fails || row.calls != 0 && f.calls != row.calls || time.Since(started) != row.after {
					t.Errorf("%d calls, %s: %v", f.calls, time.Since(started), err)
				}
				if _, ok := errors.AsType[*certs.StoreError](err); err != nil && !ok {
					t.Errorf("it says nothing to do: %v", err)
				}
			})
		})
	}
}

// What passes is tried again, what does not is not.
func TestTries(t *testing.T) {
	for _, row := range []struct {
		name  string
		err   error
		calls int
	}{
		{"a connection that ends", io.ErrUnexpectedEOF, tries},
		{"an error of S3", answered(500), tries},
		{"too many requests", answered(503), tries},
		{"a clock that is wrong", &awsclient.S3Error{Status: 403, Skewed: true}, tries},
		{"no permission", answered(403), 1},
		{"another Region that is none", &awsclient.S3Error{Status: 301, Region: "evil.test/"}, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{do: func(context.Context, int, awsclient.S3Request) (awsclient.S3Answer, error) {
				return awsclient.S3Answer{}, row.err
			}}
			if _, err := Open(Options{Setting: at, S3: f}).List(t.Context(), ""); err == nil || f.calls != row.calls {
				t.Errorf("%s: %d calls, want %d: %v", row.name, f.calls, row.calls, err)
			}
		})
	}
}

// Who always meets other writes gives up, and has not written.
func TestEndlessConflicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{do: func(context.Context, int, awsclient.S3Request) (awsclient.S3Answer, error) {
			return awsclient.S3Answer{}, answered(http.StatusConflict)
		}}
		_, err := Open(Options{Setting: at, S3: f}).Put(t.Context(), "certs/a", nil, "")
		if !errors.Is(err, certs.ErrConflict) || f.calls != tries {
			t.Errorf("%d calls: %v", f.calls, err)
		}
	})
}

// An answer without what the protocol promises is an error.
func TestMalformedAnswers(t *testing.T) {
	for _, body := range []string{"", "{}", "<a>", "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", "<ListBucketResult><IsTruncated>maybe</IsTruncated></ListBucketResult>"} {
		s := Open(Options{Setting: at, S3: &fake{do: func(context.Context, int, awsclient.S3Request) (awsclient.S3Answer, error) {
			return awsclient.S3Answer{Body: []byte(body)}, nil
		}}})
		if v, err := s.Put(t.Context(), "certs/a", nil, ""); err == nil {
			t.Errorf("a write without an ETag: version %q", v)
		}
		if _, v, err := s.Get(t.Context(), "certs/a"); err == nil {
			t.Errorf("an object without an ETag: version %q", v)
		}
		if all, err := s.List(t.Context(), ""); err == nil {
			t.Errorf("%q was taken for a list: %v", body, all)
		}
	}
}

func FuzzList(f *testing.F) {
	f.Add([]byte("<ListBucketResult><Contents><Key>p/certs/a%20b</Key><ETag>&quot;x&quot;</ETag></Contents></ListBucketResult>"))
	f.Fuzz(func(t *testing.T, body []byte) {
		s := Open(Options{Setting: at, S3: &fake{do: func(_ context.Context, n int, _ awsclient.S3Request) (awsclient.S3Answer, error) {
			if n > 3 {
				return awsclient.S3Answer{}, answered(403)
			}
			return awsclient.S3Answer{Body: body}, nil
		}}})
		all, err := s.List(t.Context(), "")
		for name, version := range all {
			if err != nil || version == "" || !isName(name) {
				t.Errorf("object %q, version %q, %v", name, version, err)
			}
		}
	})
}
