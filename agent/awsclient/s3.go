package awsclient

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go"
)

// S3 makes single requests of S3. The SDK's own client is larger by a megabyte than the rest of what
// three operations need.
type S3 struct {
	http        *http.Client
	credentials aws.CredentialsProvider
	endpoint    string // empty is AWS's
	signer      *v4.Signer
	skew        atomic.Int64 // what is to be added to this host's clock, in ns
}

// S3 returns a client. Its endpoint is that of AWS_ENDPOINT_URL_S3, or of the SDK's settings for all services.
func (c *Clients) S3() *S3 {
	through := *c.HTTP
	// A redirect is for whoever signs again.
	through.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &S3{
		http: &through, credentials: c.Base.Credentials,
		endpoint: strings.TrimSuffix(cmp.Or(os.Getenv("AWS_ENDPOINT_URL_S3"), aws.ToString(c.Base.BaseEndpoint)), "/"),
		signer:   v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }),
	}
}

// S3Request is a request about a bucket, or about an object in it if Key is set.
type S3Request struct {
	Method, Region, Bucket, Key string

	Query  url.Values
	Header map[string]string
	Body   []byte
	// Most bounds the body of the answer: of a longer one Most bytes and one more are returned.
	Most int64
}

// S3Answer is an answer that is no error.
type S3Answer struct {
	ETag string // without quotation marks
	Body []byte
}

// S3Error is an answer that is one; it is a smithy.APIError.
type S3Error struct {
	Status        int
	Code, Message string
	// Region is the bucket's where S3 says that it is another one than the request's, and Skewed is true where
	// it says that the clock is wrong, which then is corrected.
	Region string
	Skewed bool
}

func (e *S3Error) Error() string {
	return fmt.Sprintf("S3 answers %d %s: %.300q", e.Status, e.Code, e.Message)
}

// ErrorCode is S3's code.
func (e *S3Error) ErrorCode() string { return e.Code }

// ErrorMessage is S3's text.
func (e *S3Error) ErrorMessage() string { return e.Message }

// ErrorFault is always unknown.
func (e *S3Error) ErrorFault() smithy.ErrorFault { return smithy.FaultUnknown }

// Do makes a request, once. The error is an *S3Error where S3 answers.
func (s *S3) Do(ctx context.Context, r S3Request) (S3Answer, error) {
	out, err := http.NewRequestWithContext(ctx, r.Method, s.url(r), bytes.NewReader(r.Body))
	if err != nil {
		return S3Answer{}, err
	}
	sum := sha256.Sum256(r.Body)
	hash := hex.EncodeToString(sum[:])
	out.Header.Set("X-Amz-Content-Sha256", hash)
	for name, value := range r.Header {
		out.Header.Set(name, value)
	}
	who, err := s.credentials.Retrieve(ctx)
	if err != nil {
		return S3Answer{}, fmt.Errorf("getting credentials: %w", err)
	}
	if err := s.signer.SignHTTP(ctx, who, out, hash, "s3", r.Region, time.Now().Add(time.Duration(s.skew.Load()))); err != nil {
		return S3Answer{}, err
	}
	in, err := s.http.Do(out)
	if err != nil {
		return S3Answer{}, err
	}
	defer in.Body.Close()
	if in.StatusCode/100 != 2 {
		return S3Answer{}, s.refusal(in, r.Region)
	}
	body, err := io.ReadAll(io.LimitReader(in.Body, r.Most+1))
	return S3Answer{ETag: strings.Trim(in.Header.Get("ETag"), `"`), Body: body}, err
}

// refusal reads an answer that is an error.
func (s *S3) refusal(in *http.Response, region string) error {
	var said struct{ Code, Message string }
	text, err := io.ReadAll(io.LimitReader(in.Body, 64<<10))
	if err != nil {
		return err
	}
	_ = xml.Unmarshal(text, &said) // what stands between it and S3 may answer otherwise
	e := &S3Error{Status: in.StatusCode, Code: cmp.Or(said.Code, "HTTP "+in.Status), Message: said.Message}
	if there := in.Header.Get("X-Amz-Bucket-Region"); there != region && (e.Status/100 == 3 || e.Status == http.StatusBadRequest) {
		e.Region = there
	}
	if at, err := http.ParseTime(in.Header.Get("Date")); err == nil && e.Code == "RequestTimeTooSkewed" {
		s.skew.Store(int64(time.Until(at)))
		e.Skewed = true
	}
	return e
}

// url names the bucket in the host where that is AWS's and its certificate fits.
func (s *S3) url(r S3Request) string {
	base, path := s.endpoint, "/"+r.Bucket+"/"+r.Key
	if base == "" {
		suffix := "amazonaws.com"
		if strings.HasPrefix(r.Region, "cn-") {
			suffix += ".cn"
		}
		base = "https://s3." + r.Region + "." + suffix
		if !strings.Contains(r.Bucket, ".") {
			base, path = "https://"+r.Bucket+".s3."+r.Region+"."+suffix, "/"+r.Key
		}
	}
	return base + escape(path) + "?" + r.Query.Encode()
}

// escape is how S3 wants a path to be written (S3 API reference, "Create a canonical request").
func escape(path string) string {
	var b strings.Builder
	for _, c := range []byte(path) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~/", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
