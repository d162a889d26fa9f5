// Package awsclient makes the clients of AWS's services. They share one HTTP client, so
// that all connections can be dropped when the public address of this instance moves.
package awsclient

import (
	"cmp"
	"context"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/batch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/route53"
)

// Clients makes the clients. Endpoints, credentials and the Region's override come from the
// SDK's own settings.
type Clients struct {
	// HTTP is what all of them use but the one for instance metadata.
	HTTP *http.Client
	// Base are the SDK's settings.
	Base aws.Config
}

// New reads the SDK's settings. It makes no call: the Region comes later, from instance
// metadata, because asking for it here would block where there is none.
func New(ctx context.Context) (*Clients, error) {
	base, err := awsconfig.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the settings of the AWS SDK: %w", err)
	}
	// The SDK's client cannot close idle connections; one with a copy of its
	// transport can. The copy is made last, when AWS_CA_BUNDLE is in it.
	builder, ok := base.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		builder = awshttp.NewBuildableClient()
	}
	transport := builder.GetTransport()
	transport.MaxIdleConnsPerHost = 2 // a few calls a minute need no more
	c := &Clients{HTTP: &http.Client{Transport: transport}, Base: base}
	c.Base.HTTPClient = c.HTTP
	return c, nil
}

// Metadata returns a client for instance metadata, version 2 only; nil where it is
// not wanted.
func (c *Clients) Metadata(wanted bool) *imds.Client {
	if !wanted {
		return nil
	}
	cfg := c.Base.Copy()
	cfg.HTTPClient = nil // the SDK's own for metadata gives up quickly where there is none
	return imds.NewFromConfig(cfg, func(o *imds.Options) { o.EnableFallback = aws.FalseTernary })
}

// in returns the configuration for a Region; a Region in the environment wins.
func (c *Clients) in(region string) aws.Config {
	cfg := c.Base.Copy()
	if cfg.Region == "" {
		cfg.Region = region
	}
	return cfg
}

// EC2 returns a client for the Region.
func (c *Clients) EC2(region string) *ec2.Client { return ec2.NewFromConfig(c.in(region)) }

// CloudWatch returns a client; each of its calls names the Region.
func (c *Clients) CloudWatch() *cloudwatch.Client { return cloudwatch.NewFromConfig(c.Base) }

// ECS returns a client; each of its calls names the Region.
func (c *Clients) ECS() *ecs.Client { return ecs.NewFromConfig(c.Base) }

// Batch returns a client; each of its calls names the Region.
func (c *Clients) Batch() *batch.Client { return batch.NewFromConfig(c.Base) }

// Region returns the Region of the SDK's settings, else the one that the instance is in.
func (c *Clients) Region(ctx context.Context) (string, error) {
	if c.Base.Region != "" {
		return c.Base.Region, nil
	}
	out, err := c.Metadata(true).GetRegion(ctx, nil)
	if err != nil {
		return "", err
	}
	return out.Region, nil
}

// Route53 returns a client. Route 53 is one for all Regions of a partition, which the Region names; empty
// is AWS's own partition.
func (c *Clients) Route53(region string) *route53.Client {
	return route53.NewFromConfig(c.in(cmp.Or(region, "us-east-1")))
}

// DropConnections closes what is idle, so that the next call dials again: a
// connection that was made from another public address is dead.
func (c *Clients) DropConnections() { c.HTTP.CloseIdleConnections() }
