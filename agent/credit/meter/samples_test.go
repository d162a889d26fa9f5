package meter

import (
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/doctest"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

func TestDocsShowThatCloudWatchIsDenied(t *testing.T) {
	world := simaws.New(simaws.Options{})
	if _, err := world.Populate("default", simaws.ScenarioOptions{}); err != nil {
		t.Fatal(err)
	}
	sim, err := simaws.Serve(world, simaws.ServeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	if _, err := sim.AddFault(simaws.Fault{Service: "cloudwatch", Code: "AccessDenied", Message: "User: arn:aws:sts::123456789012:assumed-role/nagaya/i-0a1b2c3d4e5f60718 is not authorized to perform: cloudwatch:GetMetricStatistics"}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	for k, v := range sim.Env(simaws.DefaultInstance) {
		t.Setenv(k, v)
	}
	cfg, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	who := make(chan identity.Identity, 1)
	who <- identity.Identity{Instance: identity.Instance{
		Known: true, ID: simaws.DefaultInstance, Type: "t3.micro", Region: sim.Region(), StartedAt: time.Now().Add(-time.Hour),
	}}
	ctx, cancel := context.WithCancel(t.Context())
	found, ended := make(chan problem.Problem, 100), make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{CloudWatch: cloudwatch.NewFromConfig(cfg), EC2: &cloud{mode: "standard"}}, who, func(r credit.Reading) {
			if i := slices.IndexFunc(r.Problems, func(p problem.Problem) bool { return p.Code == "cloudwatch-denied" }); i >= 0 {
				select {
				case found <- r.Problems[i]:
				default:
				}
			}
		})
	}()
	select {
	case p := <-found:
		doctest.Logged(t, "cloudwatch-denied", doctest.Problem(t, p))
	case <-time.After(time.Minute):
		t.Error("CloudWatch is not found to be denied")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
