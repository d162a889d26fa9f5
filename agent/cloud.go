package agent

import (
	"context"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/batch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
)

// cloud makes the clients of AWS. They share one HTTP client, so that all
// connections can be dropped when the address moves. Endpoints, credentials and
// the Region's override come from the SDK's own settings.
type cloud struct {
	http *http.Client
	base aws.Config
}

// newCloud reads the SDK's settings. It makes no request: the Region comes later, from
// package discover, because asking for it here would block where there is none.
func newCloud(ctx context.Context) (*cloud, error) {
	base, err := awsconfig.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	// The SDK's client cannot close idle connections; one with a copy of its
	// transport can. The copy is made last, when AWS_CA_BUNDLE is in it.
	builder, ok := base.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		builder = awshttp.NewBuildableClient()
	}
	transport := builder.GetTransport()
	transport.MaxIdleConnsPerHost = 2 // a few calls a minute need no more
	c := &cloud{http: &http.Client{Transport: transport}, base: base}
	c.base.HTTPClient = c.http
	return c, nil
}

// metadata returns a client for instance metadata, version 2 only; nil where it is
// not wanted.
func (c *cloud) metadata(wanted bool) *imds.Client {
	if !wanted {
		return nil
	}
	cfg := c.base.Copy()
	cfg.HTTPClient = nil // the SDK's own for metadata gives up quickly where there is none
	return imds.NewFromConfig(cfg, func(o *imds.Options) { o.EnableFallback = aws.FalseTernary })
}

// in returns the configuration for a Region; a Region in the environment wins.
func (c *cloud) in(region string) aws.Config {
	cfg := c.base.Copy()
	if cfg.Region == "" {
		cfg.Region = region
	}
	return cfg
}

func (c *cloud) ec2(region string) *ec2.Client { return ec2.NewFromConfig(c.in(region)) }

// The callers of these three name the Region with each call.

func (c *cloud) cloudwatch() *cloudwatch.Client { return cloudwatch.NewFromConfig(c.base) }

func (c *cloud) ecs() *ecs.Client { return ecs.NewFromConfig(c.base) }

func (c *cloud) batch() *batch.Client { return batch.NewFromConfig(c.base) }

// dropConnections closes what is idle, so that the next call dials anew: a
// connection that was made from another public address is dead.
func (c *cloud) dropConnections() { c.http.CloseIdleConnections() }
