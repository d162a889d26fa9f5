package simaws_test

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/batch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

// askAll makes one call of each service.
var askAll = map[string]func(*testing.T, aws.Config) error{
	"ec2": func(t *testing.T, cfg aws.Config) error {
		_, err := ec2.NewFromConfig(cfg).DescribeAddresses(t.Context(), nil)
		return err
	},
	"cloudwatch": func(t *testing.T, cfg aws.Config) error {
		_, err := cloudwatch.NewFromConfig(cfg).GetMetricStatistics(t.Context(), statistics("CPUCreditBalance", host, time.Now()))
		return err
	},
	"ecs": func(t *testing.T, cfg aws.Config) error {
		_, err := ecs.NewFromConfig(cfg).ListAttributes(t.Context(), &ecs.ListAttributesInput{TargetType: types.TargetTypeContainerInstance})
		return err
	},
	"batch": func(t *testing.T, cfg aws.Config) error {
		_, err := batch.NewFromConfig(cfg).DescribeComputeEnvironments(t.Context(), nil)
		return err
	},
	"s3": func(t *testing.T, cfg aws.Config) error {
		_, err := s3.NewFromConfig(cfg).ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(simaws.DefaultBucket)})
		return err
	},
	"route53": func(t *testing.T, cfg aws.Config) error {
		_, err := route53.NewFromConfig(cfg).GetHostedZone(t.Context(), &route53.GetHostedZoneInput{Id: aws.String(simaws.DefaultZone)})
		return err
	},
}

func TestWhoMayCall(t *testing.T) {
	stranger := credentials.NewStaticCredentialsProvider("AKIASTRANGER", "secret", "")
	for _, row := range []struct {
		name   string
		change func(*testing.T, *simaws.Cloud, *aws.Config)
		codes  map[string]string
	}{
		{
			name: "the role of an instance",
			codes: map[string]string{
				"ec2": "", "cloudwatch": "", "ecs": "", "batch": "", "s3": "", "route53": "",
			},
		},
		{
			name: "credentials that IMDS never gave",
			change: func(_ *testing.T, _ *simaws.Cloud, cfg *aws.Config) {
				cfg.Credentials = stranger
			},
			codes: map[string]string{
				"ec2": "AuthFailure", "cloudwatch": "InvalidClientTokenId",
				"ecs": "UnrecognizedClientException", "batch": "UnrecognizedClientException",
				"s3": "InvalidAccessKeyId", "route53": "InvalidClientTokenId",
			},
		},
		{
			name: "the role's key with another session token",
			change: func(t *testing.T, _ *simaws.Cloud, cfg *aws.Config) {
				v, err := cfg.Credentials.Retrieve(t.Context())
				must(t, err)
				cfg.Credentials = credentials.NewStaticCredentialsProvider(v.AccessKeyID, v.SecretAccessKey, "another")
			},
			codes: map[string]string{
				"ec2": "AuthFailure", "cloudwatch": "InvalidClientTokenId",
				"ecs": "UnrecognizedClientException", "batch": "UnrecognizedClientException",
				"s3": "InvalidAccessKeyId", "route53": "InvalidClientTokenId",
			},
		},
		{
			name:   "nothing",
			change: func(_ *testing.T, _ *simaws.Cloud, cfg *aws.Config) { cfg.Credentials = aws.AnonymousCredentials{} },
			codes: map[string]string{
				"ec2": "MissingAuthenticationToken", "cloudwatch": "MissingAuthenticationToken",
				"ecs": "MissingAuthenticationTokenException", "batch": "MissingAuthenticationTokenException",
				"s3": "AccessDenied", "route53": "MissingAuthenticationToken",
			},
		},
		{
			name:   "another Region",
			change: func(_ *testing.T, _ *simaws.Cloud, cfg *aws.Config) { cfg.Region = "us-east-1" },
			codes: map[string]string{
				"ec2": "SignatureDoesNotMatch", "cloudwatch": "SignatureDoesNotMatch",
				"ecs": "InvalidSignatureException", "batch": "InvalidSignatureException", "route53": "",
			},
		},
	} {
		for service, ask := range askAll {
			if _, asked := row.codes[service]; !asked {
				continue
			}
			t.Run(row.name+" asks "+service, func(t *testing.T) {
				c := serve(t, newHand())
				cfg := sdkOn(t, c, host)
				if row.change != nil {
					row.change(t, c, &cfg)
				}
				wantCode(t, ask(t, cfg), row.codes[service])
				log := c.Calls().Log
				last := log[len(log)-1]
				if last.Service != service || last.Error != row.codes[service] {
					t.Errorf("the last call is %+v", last)
				}
				if known := row.codes[service] == ""; (last.Instance == host) != known {
					t.Errorf("the caller is %q", last.Instance)
				}
			})
		}
	}
}

func TestRevokedAndExpiredCredentials(t *testing.T) {
	wall := &hand{at: time.Now()}
	w := simaws.New(simaws.Options{Wall: wall.now})
	_, err := w.Populate("default", simaws.ScenarioOptions{})
	must(t, err)
	c, err := simaws.Serve(w, simaws.ServeOptions{})
	must(t, err)
	t.Cleanup(c.Close)
	cfg := sdkOn(t, c, host)
	must(t, askAll["ec2"](t, cfg))
	wall.move(6 * time.Hour)
	wantCode(t, askAll["ec2"](t, cfg), "RequestExpired")
	wantCode(t, askAll["ecs"](t, cfg), "ExpiredTokenException")
	cfg = sdkOn(t, c, host)
	must(t, askAll["ec2"](t, cfg))
	c.RevokeCredentials(host)
	wantCode(t, askAll["ec2"](t, cfg), "AuthFailure")
}

func TestInstanceWithoutRole(t *testing.T) {
	c := serve(t, newHand())
	bare := addInstance(t, c, simaws.InstanceSpec{Role: "-"})
	if err := askAll["ec2"](t, sdkOn(t, c, bare)); err == nil || !strings.Contains(err.Error(), "no EC2 IMDS role found") {
		t.Errorf("error %v", err)
	}
}

// A signature for one service opens no other.
func TestScopeOfAnotherService(t *testing.T) {
	c := serve(t, newHand())
	cfg := sdkOn(t, c, host)
	var stolen http.Header
	cfg.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("Authorization") != "" {
			stolen = r.Header.Clone()
			return nil, errors.New("stopped")
		}
		return http.DefaultClient.Do(r)
	})
	_ = askAll["ecs"](t, cfg)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.Endpoints().EC2, bytes.NewReader([]byte("Action=DescribeAddresses&Version=2016-11-15")))
	must(t, err)
	r.Header = stolen
	answer, err := http.DefaultClient.Do(r)
	must(t, err)
	answer.Body.Close()
	if answer.StatusCode != http.StatusForbidden {
		t.Errorf("status %d, want 403", answer.StatusCode)
	}
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

func asStatus(err error, to *interface{ HTTPStatusCode() int }) bool { return errors.As(err, to) }
