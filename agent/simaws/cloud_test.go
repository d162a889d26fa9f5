package simaws_test

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go"

	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

const (
	host = simaws.DefaultInstance
	eip  = simaws.DefaultAllocation
)

// hand is a clock that the test moves.
type hand struct {
	mu sync.Mutex
	at time.Time
}

func newHand() *hand { return &hand{at: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)} }

func (h *hand) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at
}

func (h *hand) move(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = h.at.Add(d)
}

// serve opens a cloud with the default scenario whose world runs by the hand.
func serve(t *testing.T, clock *hand) *simaws.Cloud {
	t.Helper()
	w := simaws.New(simaws.Options{Now: clock.now})
	if _, err := w.Populate("default", simaws.ScenarioOptions{}); err != nil {
		t.Fatal(err)
	}
	c, err := simaws.Serve(w, simaws.ServeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// sdkOn makes the SDK believe that it runs on the instance, by its environment
// alone: endpoints, credentials and Region are found as on a real one.
func sdkOn(t *testing.T, c *simaws.Cloud, instance string) aws.Config {
	t.Helper()
	for _, line := range os.Environ() {
		if k, _, _ := strings.Cut(line, "="); strings.HasPrefix(k, "AWS_") {
			t.Setenv(k, "")
			os.Unsetenv(k)
		}
	}
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	for k, v := range c.Env(instance) {
		t.Setenv(k, v)
	}
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithEC2IMDSRegion(), config.WithRetryMaxAttempts(1))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Region != "ap-northeast-1" {
		t.Fatalf("Region %q, want the one of IMDS", cfg.Region)
	}
	return cfg
}

// wantCode checks that err is an API error with this code; an empty code is success.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if code == "" {
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		t.Fatalf("error %v, want the code %s", err, code)
	}
	if api.ErrorCode() != code {
		t.Fatalf("code %s (%s), want %s", api.ErrorCode(), api.ErrorMessage(), code)
	}
}

func addInstance(t *testing.T, c *simaws.Cloud, s simaws.InstanceSpec) string {
	t.Helper()
	id, err := c.AddInstance(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
