package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"github.com/nagaya-ecs/nagaya/agent/awsclient"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

// inBubble is a simulated cloud with a client, both within the bubble of the test.
func inBubble(t *testing.T, seed uint64) (*simaws.Cloud, Client) {
	t.Helper()
	network := &simaws.Wire{}
	w := simaws.New(simaws.Options{Seed: seed + 1})
	_, err := w.Populate("default", simaws.ScenarioOptions{})
	must(t, err)
	cloud, err := simaws.Serve(w, simaws.ServeOptions{Listen: network.Listen})
	must(t, err)
	through := &http.Client{Transport: &http.Transport{DialContext: network.Dial, MaxIdleConnsPerHost: 2}}
	t.Cleanup(func() {
		through.CloseIdleConnections()
		cloud.Close()
	})
	role := ec2rolecreds.New(func(o *ec2rolecreds.Options) {
		o.Client = imds.New(imds.Options{Endpoint: cloud.Endpoints().IMDS[host], HTTPClient: through})
	})
	clients := awsclient.Clients{HTTP: through, Base: aws.Config{Credentials: aws.NewCredentialsCache(role), BaseEndpoint: aws.String(cloud.Endpoints().S3)}}
	return cloud, clients.S3()
}

// misfortunes are what S3 and the way to it may do with a request.
var misfortunes = []simaws.Fault{
	{Drop: "before"},
	{Drop: "after"},
	{Code: "InternalError"},
	{Code: "InternalError", Applied: true},
	{Code: "SlowDown"},
	{Code: "RequestTimeout", Status: 400, Applied: true},
	{Action: "PutObject", Code: "ConditionalRequestConflict"},
	{Action: "PutObject", Code: "PreconditionFailed", Applied: true},
	{Action: "PutObject", Code: "PreconditionFailed"},
	{Delay: simaws.Duration(3 * time.Second)},
	{Delay: simaws.Duration(time.Minute)},
	{Delay: simaws.Duration(time.Minute), Late: true},
	{Delay: simaws.Duration(7 * time.Second), Late: true},
}

// Two agents change the same objects while S3 fails, hangs and says that it has not written what it has. What one
// of them was told that it has written is never lost, and nobody waits longer than patience.
func TestSchedules(t *testing.T) {
	seeds := uint64(400)
	if testing.Short() {
		seeds = 40
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) { schedule(t, seed) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func schedule(t *testing.T, seed uint64) {
	const changes = 8
	cloud, client := inBubble(t, seed)
	var mu sync.Mutex
	var told []string
	var all sync.WaitGroup
	for agent := range uint64(2) {
		s, draw := Open(Options{Setting: at, S3: client}), rand.New(rand.NewPCG(seed, agent))
		all.Go(func() {
			for n := range changes {
				time.Sleep(time.Duration(draw.Int64N(int64(2 * time.Second))))
				if draw.IntN(2) == 0 {
					f := misfortunes[draw.IntN(len(misfortunes))]
					f.Service, f.Times = "s3", 1+draw.IntN(3)
					_, err := cloud.AddFault(f)
					must(t, err)
				}
				started, name := time.Now(), fmt.Sprintf("certs/%d", draw.IntN(2))
				body, version, err := s.Get(t.Context(), name)
				if err == nil || errors.Is(err, certs.ErrNotFound) {
					mark := fmt.Sprintf("%s:%d-%d", name, agent, n)
					if _, err = s.Put(t.Context(), name, fmt.Append(body, mark, " "), version); err == nil {
						mu.Lock()
						told = append(told, mark)
						mu.Unlock()
					}
				}
				if took := time.Since(started); took > 2*patience {
					t.Errorf("a change took %s", took)
				}
			}
		})
	}
	all.Wait()
	cloud.ClearFaults()
	var kept []string
	for _, body := range cloud.Objects(simaws.DefaultBucket) {
		kept = append(kept, strings.Fields(string(body))...)
	}
	for _, mark := range told {
		if !slices.Contains(kept, mark) {
			t.Errorf("%s was written, and is lost", mark)
		}
	}
	slices.Sort(kept)
	if d := len(kept) - len(slices.Compact(slices.Clone(kept))); d > 0 {
		t.Errorf("%d changes are there twice", d)
	}
}
