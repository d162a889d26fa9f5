package order

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"github.com/nagaya-ecs/nagaya/agent/awsclient"
	"github.com/nagaya-ecs/nagaya/agent/certs/store"
	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

// misfortunes are what S3 and the way to it may do with a request. A refusal is either a lie, or of a write
// that took effect.
var misfortunes = []simaws.Fault{
	{Drop: "before"},
	{Drop: "after"},
	{Code: "InternalError"},
	{Code: "InternalError", Applied: true},
	{Code: "SlowDown", Times: 4},
	{Code: "AccessDenied"},
	{Action: "PutObject", Code: "ConditionalRequestConflict"},
	{Action: "PutObject", Code: "PreconditionFailed", Applied: true},
	{Action: "PutObject", Code: "PreconditionFailed"},
	{Delay: simaws.Duration(3 * time.Second)},
	{Delay: simaws.Duration(time.Minute), Times: 4},
	{Delay: simaws.Duration(6 * time.Second), Late: true},
	{Delay: simaws.Duration(time.Minute), Late: true},
}

// tripper is an http.RoundTripper.
type tripper func(*http.Request) (*http.Response, error)

func (t tripper) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// inBucket keeps what the world stores in S3, by its protocol.
func inBucket(w *world, seed uint64, chance func(float64) bool) {
	network, draw := &simaws.Wire{}, rand.New(rand.NewPCG(seed, 53))
	sim := simaws.New(simaws.Options{Stored: func(_, key string, before, after []byte) {
		name := strings.TrimPrefix(key, "p/")
		w.store.mu.Lock()
		w.store.objects[name] = string(after)
		w.store.mu.Unlock()
		w.seen.put(name, string(before), string(after))
	}})
	if _, err := sim.Populate("default", simaws.ScenarioOptions{}); err != nil {
		w.t.Fatal(err)
	}
	cloud, err := simaws.Serve(sim, simaws.ServeOptions{Listen: network.Listen})
	if err != nil {
		w.t.Fatal(err)
	}
	transport := &http.Transport{DialContext: network.Dial, MaxIdleConnsPerHost: 2}
	w.t.Cleanup(func() {
		transport.CloseIdleConnections()
		cloud.Close()
	})
	role := ec2rolecreds.New(func(o *ec2rolecreds.Options) {
		o.Client = imds.New(imds.Options{Endpoint: cloud.Endpoints().IMDS[simaws.DefaultInstance], HTTPClient: &http.Client{Transport: transport}})
	})
	clients := awsclient.Clients{
		Base: aws.Config{Credentials: aws.NewCredentialsCache(role), BaseEndpoint: aws.String(cloud.Endpoints().S3)},
		HTTP: &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
			if chance(0.08) {
				w.store.mu.Lock()
				f := misfortunes[draw.IntN(len(misfortunes))]
				w.store.mu.Unlock()
				f.Service, f.Times = "s3", max(f.Times, 1)
				if _, err := cloud.AddFault(f); err != nil {
					w.t.Error(err)
				}
			}
			return transport.RoundTrip(r)
		})},
	}
	w.shared = store.Open(store.Options{Setting: "s3://" + simaws.DefaultBucket + "/p", S3: clients.S3()})
	w.calm, w.ca.takes = cloud.ClearFaults, 40*time.Second
}

// The same with the store that is shipped, on S3's protocol: it fails, hangs, lies about what it has
// written, and writes after it was given up.
func TestSchedulesInS3(t *testing.T) {
	for seed := range uint64(max(1, *seeds/4)) {
		synctest.Test(t, func(t *testing.T) { schedule(t, seed, inBucket) })
		if t.Failed() {
			return
		}
	}
}
