package brake

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// A pause that Docker refuses is a problem until it is tried again with success.
func TestARefusedPauseIsTriedAgain(t *testing.T) {
	id := strings.Repeat("a", 64)
	var refuse atomic.Bool
	var paused atomic.Bool
	refuse.Store(true)
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.51")
		_, call, _ := strings.Cut(r.URL.Path, id)
		switch call {
		case "/json":
			_ = json.NewEncoder(w).Encode(container.InspectResponse{
				ID: id, State: &container.State{Running: true, Paused: paused.Load()}, HostConfig: &container.HostConfig{Resources: container.Resources{CPUShares: leastWeight}},
			})
		case "/pause":
			if refuse.Load() {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			paused.Store(true)
			w.WriteHeader(http.StatusNoContent)
		case "/unpause":
			paused.Store(false)
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	defer engine.Close()
	ctx, cancel := context.WithCancel(t.Context())
	decisions, batches, problems, ended := make(chan gate.Decision, 1), make(chan []string, 1), make(chan []problem.Problem, 9), make(chan error, 1)
	batches <- []string{id}
	decisions <- decision(gate.SlowPause, 0)
	o := Options{
		Host: "tcp" + strings.TrimPrefix(engine.URL, "http"), File: filepath.Join(t.TempDir(), "brakes.json"),
		Batches: batches, Every: 10 * time.Millisecond,
	}
	go func() { ended <- Run(ctx, o, decisions, func(ps []problem.Problem) { problems <- ps }) }()
	if ps := <-problems; len(ps) != 1 || ps[0].Code != "batch-not-held" {
		t.Errorf("problems %+v", ps)
	}
	refuse.Store(false)
	if ps := <-problems; len(ps) != 0 || !paused.Load() {
		t.Errorf("paused %v, problems %+v", paused.Load(), ps)
	}
	cancel()
	if err := <-ended; err != nil || paused.Load() {
		t.Errorf("%v; paused at the end: %v", err, paused.Load())
	}
}

// A damaged file of records is told, and the brake begins without it.
func TestADamagedFileIsLogged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "brakes.json")
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Run(ctx, Options{File: file, Log: slog.New(slog.NewTextHandler(&out, nil))}, nil, func([]problem.Problem) {}); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Count(got, "event=memory-lost") != 1 || !strings.Contains(got, "file="+file) {
		t.Errorf("logged: %s", got)
	}
}
