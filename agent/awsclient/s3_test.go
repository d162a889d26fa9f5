package awsclient

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// The SDK's own client would ask at the same place.
func TestWhereABucketIs(t *testing.T) {
	for _, row := range []struct{ endpoint, region, bucket string }{
		{"", "ap-northeast-1", "certs"},
		{"", "us-east-1", "certs"},
		{"", "us-gov-west-1", "certs"},
		{"", "cn-north-1", "certs"},
		{"", "eu-west-1", "certs.example.com"},
		{"http://127.0.0.1:9000", "eu-west-1", "certs"},
	} {
		in := s3.EndpointParameters{Region: &row.region, Bucket: &row.bucket}
		if row.endpoint != "" {
			in.Endpoint = &row.endpoint
		}
		want, err := s3.NewDefaultEndpointResolverV2().ResolveEndpoint(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		c := Clients{HTTP: http.DefaultClient, Base: aws.Config{BaseEndpoint: &row.endpoint}}
		t.Setenv("AWS_ENDPOINT_URL_S3", "")
		got := c.S3().url(S3Request{Region: row.region, Bucket: row.bucket, Key: "a/b c!.json", Query: url.Values{"x": {"y"}}})
		if want := want.URI.String() + "/a/b%20c%21.json?x=y"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
