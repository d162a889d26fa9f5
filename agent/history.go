package agent

import (
	"context"
	"errors"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/awsclient"
	"github.com/nagaya-ecs/nagaya/agent/rehearsal"
	"github.com/nagaya-ecs/nagaya/agent/rehearsal/history"
)

// History reads from AWS, with the caller's credentials, what instances of a Region have used in so many days: ids, or
// all that have a tag (tag:KEY=VALUE). An empty Region is the one of the environment or the caller's profile. What was left
// out is returned with the reason.
func History(ctx context.Context, region string, which []string, days int) (tenants []rehearsal.Tenant, leftOut []string, err error) {
	c, err := awsclient.New(ctx)
	if err != nil {
		return nil, nil, err
	}
	if region != "" {
		c.Base.Region = region
	}
	if c.Base.Region == "" {
		return nil, nil, errors.New("no Region is known; give it with --region or AWS_REGION")
	}
	return history.Read(ctx, history.Options{CloudWatch: c.CloudWatch(), EC2: c.EC2(""), Which: which, Days: days, Now: time.Now()})
}
